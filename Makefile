# Every target sets up what it needs by itself: python3.11 or newer, pip and make are enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
# Tests wait for processes about half of their time, so there is work for one more.
TESTERS ?= $(shell expr $(WORKERS) + 1)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lint types imports bench simulate-seeds simulate-crashes strikes mutants lock clean

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

test: $(STAMP) ## Run every test
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

bench: $(STAMP) ## Measure the figures of the README (some minutes)
	$(BIN)/python -m tests.bench

SEEDS ?= 1-1000
simulate-seeds: $(STAMP) ## Hunt for violations: make simulate-seeds SEEDS=1-5000
	$(BIN)/python -m tests.simulation $(SEEDS) --workers $(WORKERS)

simulate-crashes: $(STAMP) ## Let a run die at every step and resume it; AT=SHAPE:STEP for one
	$(BIN)/python -m tests.simulation.crashes $(AT)

strikes: $(STAMP) ## Kill and stop real processes at random instants; AT=kill:NUMBER for one
	$(BIN)/python -m tests.strikes $(AT)

mutants: $(STAMP) ## Plant known bugs into a copy and see the tests catch them; ONLY="NAME..."
	$(BIN)/python -m tests.mutants $(ONLY) --workers $(WORKERS)

lock: $(STAMP) ## Resolve the locked packages anew
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --python-version 3.11 pyproject.toml -o requirements/run.txt
	$(VENV)/lock/bin/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --python-version 3.11 --group dev pyproject.toml -o requirements/dev.txt

clean: ## Remove .venv, caches and reports
	rm -rf $(VENV) build dist reports .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
