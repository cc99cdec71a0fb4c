"""What the README says is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import COMMANDS, LATER, command
from orchestrator.errors import PlanError
from orchestrator.plan.loading import load_plan_text
from orchestrator.report import ExitCode

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_exit_codes_are_those_of_the_program() -> None:
    """The README's table and the help of `run` are the one table in the code."""
    wanted = {int(code): code.about for code in ExitCode}

    told = {
        int(code): text for code, text in re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE)
    }
    help_text = " ".join(CliRunner().invoke(command, ["run", "--help"]).output.split())

    assert told == wanted
    for code, about in wanted.items():
        assert f"{code} {about}" in help_text


def test_the_first_plan_is_valid() -> None:
    """A newcomer's first copy and paste works."""
    plan = README.partition("```yaml\n")[2].partition("```")[0]

    loaded = load_plan_text(plan.encode(), Path("tier1.yaml"))

    assert [entry.value for entry in loaded.plan.entries()] == ["dc01", "sql01", "Web Replication"]


def test_the_checks_that_are_shown_are_valid() -> None:
    """Pasted into the first plan and asked for, they load."""
    first, checks = (block.partition("```")[0] for block in README.split("```yaml\n")[1:3])

    loaded = load_plan_text(
        f"{first}{checks}defaults: {{checks: [sql-data]}}\n".encode(), Path("x")
    )

    assert len(loaded.plan.checks["sql-data"]) == 6
    assert all(entry.checks == ("sql-data",) for entry in loaded.plan.entries())


def test_the_mistake_that_is_shown_is_the_one_that_is_made() -> None:
    """The broken plan's message stands in the README word for word."""
    plan = README.partition("```yaml\n")[2].partition("```")[0]
    broken = re.sub(r" +#.*", "", plan).replace("- vm: dc01", "- vmm: dc01")

    with pytest.raises(PlanError) as caught:
        load_plan_text(broken.encode(), Path("tier1.yaml"))

    assert str(caught.value) in README


def test_every_command_is_named() -> None:
    """The table has each command once; those that are missing are said to be."""
    named = re.findall(r"^\| `(\w+)[^`]*` \|", README.partition("## Commands")[2], re.MULTILINE)

    assert named == list(COMMANDS)
    missing = README.partition("## Not there yet")[2].partition("##")[0]
    assert all(f"`{name}`" in missing for name in LATER)


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    """Every relative link names a file of the repository."""
    assert (Path(__file__).parents[1] / link).exists()
