"""What the documents tell people to type is what the program takes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from orchestrator.cli import COMMANDS, command
from orchestrator.plan.file.json_schema import plan_json_schema
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.rehearsal.planned import rehearsed
from orchestrator.simulator.rehearsal.scenario import apply_scenario
from tests.documents.made import MARKED, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
YAML = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`(bulk-restore [^`]+)`")

BASE: dict[str, Any] = {
    "version": 1,
    "name": "shown",
    "servers": {
        "hq": {"url": "https://em.example.net:9398", "username": "u", "password": {"env": "P"}}
    },
}


def blocks(*, scenarios: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield every YAML block of the documents that is of a plan, or each that is a scenario."""
    for page in PAGES:
        for match in YAML.finditer(page.read_text(encoding="utf-8")):
            if match[1].startswith("- ") is scenarios:
                yield page, match[1]


def lines() -> Iterator[tuple[Path, str]]:
    """Yield every call of the program, in blocks and in text."""
    for page in PAGES:
        text = MARKED.sub("", page.read_text(encoding="utf-8"))
        for match in CONSOLE.finditer(text):
            for line in match[1].splitlines():
                if line.startswith("$ bulk-restore"):
                    yield page, line.removeprefix("$ ")
        for match in SPAN.finditer(text):
            yield page, match[1]


@pytest.mark.parametrize(("page", "block"), list(blocks()), ids=lambda value: str(value)[-30:])
def test_a_plan_or_a_part_of_one_that_is_shown_is_valid(page: Path, block: str) -> None:
    """A part is put into a small plan: keys of a target into its target."""
    part: dict[str, Any] = yaml.load(block, Loader=yaml.BaseLoader)
    keys = set(plan_json_schema()["properties"])
    plan = {**BASE, **{key: value for key, value in part.items() if key in keys}}
    target = {key: value for key, value in part.items() if key not in keys}
    asked = {name for each in plan.get("targets", ()) for name in each.get("checks", ())}
    plan.setdefault(
        "checks", {name: [{"path": "C:\\x"}] for name in asked} or {"a": [{"path": "C:\\x"}]}
    )
    if "waves" not in plan:
        plan.setdefault("targets", [{"vm": "dc01", **target}])

    loaded = load_plan_text(json.dumps(plan).encode(), Path(page.name))

    assert loaded.plan.entries()


@pytest.mark.parametrize(("page", "block"), list(blocks(scenarios=True)))
def test_a_scenario_that_is_shown_is_valid(page: Path, block: str, tmp_path: Path) -> None:
    """For a plan with the machines that it names."""
    other = {**BASE["servers"]["hq"], "url": "https://dr.example.net:9398"}
    servers = {**BASE["servers"], "dr": other}
    targets = [{"vm": vm, "server": "hq"} for vm in ("sql01", "web-1", "dc01")]
    plan = {**BASE, "servers": servers, "targets": targets}
    loaded = load_plan_text(json.dumps(plan).encode(), Path(page.name))
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(block, encoding="utf-8")

    mishaps = apply_scenario(scenario, rehearsed(loaded.plan, datetime.now(UTC)))

    assert mishaps["dr"].dead


@pytest.mark.parametrize(("page", "line"), list(lines()), ids=lambda value: str(value)[-50:])
def test_a_command_that_is_shown_exists_with_its_options(page: Path, line: str) -> None:
    """Options too."""
    words = shlex.split(line, comments=True)[1:]
    name = words[0]
    if name.startswith("-") or name == "COMMAND":
        return
    assert name in COMMANDS, f"{page.name}: {line}"
    found = command.get_command(click.Context(command), name)
    assert found is not None
    if isinstance(found, click.Group):
        found = found.commands[words[1]]
    known = {opt for each in found.params for opt in (*each.opts, *each.secondary_opts)}
    known |= {"-h", "--help"}

    used = {word.partition("=")[0] for word in words[1:] if re.match(r"-{1,2}[a-z]", word)}

    assert used <= known, f"{page.name}: {line}"
