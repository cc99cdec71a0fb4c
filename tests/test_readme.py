"""What the README says is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import COMMANDS, command
from orchestrator.core.errors import PlanError
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.policy import DEADLINE
from orchestrator.plan.file.json_schema import plan_json_schema
from orchestrator.plan.file.loading import load_plan_text

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
WORDS = " ".join(README.split())


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


def test_it_is_read_in_one_sitting() -> None:
    """What does not fit in 200 lines is in docs/."""
    assert len(README.splitlines()) <= 200


def test_the_test_command_is_the_one_that_there_is() -> None:
    """Two commands, both of them of the Makefile."""
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ make (\w+)$", README, re.MULTILINE)

    assert commands == ["demo", "test"]
    assert all(f"\n{name}: " in makefile for name in commands)


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
    """The table has each command once."""
    named = re.findall(r"^\| `(\w+)[^`]*` \|", README.partition("## Commands")[2], re.MULTILINE)

    assert named == list(COMMANDS)


@pytest.mark.parametrize("link", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    """Every relative link names a file of the repository."""
    assert (Path(__file__).parents[1] / link).exists()


def test_what_a_deadline_does_is_said_once_and_everywhere() -> None:
    """Help, schema and README agree, and with the engine: all is unmounted by then."""
    help_text = " ".join(CliRunner().invoke(command, ["run", "--help"]).output.split())
    schema = plan_json_schema()["$defs"]["Limits"]["properties"]["deadline"]

    assert DEADLINE in help_text
    assert schema["description"] == DEADLINE
    assert DEADLINE.startswith("By when everything is unmounted")
    assert (
        "By its deadline a run has unmounted everything, unless a server is out of reach" in WORDS
    )


def test_no_help_promises_that_nothing_is_ever_written() -> None:
    """A plan in recovery mode writes into guests; who reads only the first page must know."""
    helps = [["--help"], ["run", "--help"], ["resume", "--help"]]

    for arguments in helps:
        said = " ".join(CliRunner().invoke(command, arguments).output.split())
        assert "Nothing is ever restored" not in said
        assert "recovery mode" in said
        assert "--yes-write" in said


def test_what_unmount_cannot_do_is_said_by_help_and_readme() -> None:
    """After a lost session, only a person can."""
    said = " ".join(CliRunner().invoke(command, ["unmount", "--help"]).output.split())

    assert "Once the session is lost, no command can remove the mount." in said
    assert "the session is gone; then remove all that it had mounted by hand in the Veeam" in WORDS
