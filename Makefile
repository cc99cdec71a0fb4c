# Every target sets up what it needs by itself: python3.11 or newer, pip and make are enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
# Tests wait for processes much of their time, so there is work for four more.
TESTERS ?= $(shell expr $(WORKERS) + 4)

# Tests start the command some hundred times: it is compiled once, and not each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint types imports bench simulate-seeds simulate-sites simulate-crashes simulate-deaths strikes strikes-sites mutants docs pictures lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with the locked packages and the bulk-restore command

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "bulk-restore needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Mount, prove and unmount 200 restore points over three simulated servers
	$(BIN)/bulk-restore demo

# In a new clone one process compiles all tests before the others begin: else each of them does.
test: $(STAMP) ## Run every test
	@test -n "$$(find tests -name '*-pytest-*.pyc' -print -quit)" || \
		$(BIN)/python -m pytest -q --collect-only >/dev/null || true
	$(BIN)/python -m pytest -q -n $(TESTERS) --dist worksteal

check: format lint types imports test ## Format, lint, types, import contract, tests

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

bench: $(STAMP) ## Measure the figures of docs/reference/figures.md (some minutes)
	$(BIN)/python -m tests.bench

SEEDS ?= 1-1000
simulate-seeds: $(STAMP) ## Hunt for violations: make simulate-seeds SEEDS=1-5000
	$(BIN)/python -m tests.simulation $(SEEDS) --workers $(WORKERS)

SITES ?= 1-2000
simulate-sites: $(STAMP) ## The same over several workers and one database: SITES="1-5000 --briefly"
	$(BIN)/python -m tests.simulation.sites $(SITES) --workers $(WORKERS)

simulate-crashes: $(STAMP) ## Let a run die at every step and resume it; AT=SHAPE:STEP for one
	$(BIN)/python -m tests.simulation.crashes $(AT)

DEATHS ?= 1-2000
simulate-deaths: $(STAMP) ## Let runs die at random, and resume or unmount after them: DEATHS=1-5000
	$(BIN)/python -m tests.simulation.deaths $(DEATHS)

strikes: $(STAMP) ## Kill and stop real processes at random instants; AT=kill:NUMBER for one
	$(BIN)/python -m tests.strikes $(AT)

STRIKES ?= 200
strikes-sites: $(STAMP) ## Kill, freeze and cut off workers of runs over several machines: STRIKES=20
	$(BIN)/python -m tests.strikes.sites $(STRIKES)

mutants: $(STAMP) ## Plant known bugs into a copy and see the tests catch them; ONLY="NAME..."
	$(BIN)/python -m tests.mutants $(ONLY) --workers $(WORKERS)

# Tried in November 2026: zensical, ProperDocs, Sphinx with MyST, MkDocs with Material. All four find
# broken links and anchors. Material and MkDocs are in maintenance only. Sphinx wants a toctree in the
# pages, and 35 packages. zensical reads plain Markdown and MkDocs' settings, shows where a link is
# broken, builds in 2 s, and is maintained; ProperDocs reads the same settings, should it end.
docs: $(VENV)/docs/.installed ## Build docs/ as pages into build/docs; a broken link or anchor fails
	$(VENV)/docs/bin/zensical build --clean --strict -f mkdocs.yml

$(VENV)/docs/.installed: requirements/docs.txt
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

pictures: $(STAMP) ## Draw the pictures of the README from a demo run (needs Chromium)
	$(BIN)/python -m tests.documents.pictures

lock: $(STAMP) ## Resolve the locked packages anew
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --python-version 3.11 pyproject.toml -o requirements/run.txt
	$(VENV)/lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --python-version 3.11 --extra sites --group dev pyproject.toml -o requirements/dev.txt
	$(VENV)/lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --python-version 3.11 --group docs -o requirements/docs.txt

clean: ## Remove .venv, caches and reports
	rm -rf $(VENV) build dist reports .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
