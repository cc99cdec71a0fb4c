"""A broken plan never reaches a server, whichever command is given it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import command
from tests.cli.wiretap import listening
from tests.plan.test_broken import BROKEN, expected_problems

PLAN = """version: 1
name: unreachable
servers:
  hq: {url: 'https://127.0.0.1:9', username: u, password: {env: CLI_TEST_PASSWORD}}
targets:
  - vm: dc01
"""


def invoke(*arguments: str | Path) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(command, [str(each) for each in arguments])


def places(output: str, path: Path) -> list[tuple[int, int]]:
    """Return every `file:line:column` of the output."""
    found = re.findall(rf"^{re.escape(str(path))}:(\d+):(\d+): ", output, re.MULTILINE)
    return [(int(line), int(column)) for line, column in found]


def test_validate_shows_every_problem_of_every_plan_and_sends_nothing() -> None:
    """Over a hundred broken plans at once: each problem at its line and column, exit code 2."""
    with listening() as heard:
        done = invoke("validate", *BROKEN)

    assert done.exit_code == 2
    assert heard == []
    for path in BROKEN:
        expected = [(line, column) for line, column, _message in expected_problems(path)]
        assert places(done.stderr, path) == expected
    total = sum(len(expected_problems(path)) for path in BROKEN)
    assert done.stderr.endswith(f"{total} problems; nothing was sent.\n")


@pytest.mark.parametrize("verb", ["run --yes", "plan"])
def test_a_broken_plan_ends_before_the_first_request(verb: str, tmp_path: Path) -> None:
    """run and plan refuse it with the same words; no name is resolved, no journal is made."""
    state = tmp_path / "state"
    extra = ["--state", str(state)] if verb.startswith("run") else []
    for path in BROKEN[:40]:
        with listening() as heard:
            done = invoke(*verb.split(), path, *extra)

        assert done.exit_code == 2
        assert places(done.stderr, path)
        assert heard == []
    assert not state.exists()


def test_the_wiretap_hears_a_plan_that_is_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two tests above could fail: a good plan does reach out."""
    monkeypatch.setenv("CLI_TEST_PASSWORD", "x")
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)

    with listening() as heard:
        done = invoke("plan", path)

    assert done.exit_code == 4
    assert heard


def test_a_missing_plan_says_so(tmp_path: Path) -> None:
    """No traceback for a path that is wrong."""
    done = invoke("validate", tmp_path / "no-such.yaml")

    assert done.exit_code == 2
    assert "there is no such file" in done.stderr


def test_validate_passes_on_good_plans_and_is_quiet_on_request(tmp_path: Path) -> None:
    """One line per plan with its waves and entries; -q prints nothing."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)

    loud, quiet = invoke("validate", path), invoke("validate", "-q", path)

    assert (loud.exit_code, loud.stdout) == (0, f"{path}: valid (waves: 1, target entries: 1)\n")
    assert (quiet.exit_code, quiet.output) == (0, "")


def test_a_variable_from_the_command_line_reaches_the_plan(tmp_path: Path) -> None:
    """--set overrides a variable; one that the plan does not declare is refused."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("dc01", "${vm}") + "variables: {vm: dc01}\n")

    assert invoke("validate", path, "--set", "vm=dc02").exit_code == 0
    assert invoke("validate", path, "--set", "nobody=dc02").exit_code == 2
    assert invoke("validate", path, "--set", "no-sign").exit_code == 2


@pytest.mark.parametrize(
    ("password", "port", "why", "advice"),
    [
        (None, 9, "CLI_TEST_PASSWORD is not set", "change the reference"),
        ("x", 9, "cannot be reached", "check `url` and its port"),
    ],
    ids=["no secret", "nobody listens"],
)
def test_an_error_says_what_to_do_next(
    password: str | None,
    port: int,
    why: str,
    advice: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What failed, where, why, and the next step; nothing was mounted, so the code is 4."""
    monkeypatch.delenv("CLI_TEST_PASSWORD", raising=False)
    if password is not None:
        monkeypatch.setenv("CLI_TEST_PASSWORD", password)
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace(":9'", f":{port}'"))

    done = invoke("plan", path)

    assert done.exit_code == 4
    assert why in done.stderr
    assert f"next: {advice}" in done.stderr or advice in done.stderr


def test_a_run_that_cannot_begin_says_so_in_json_too(tmp_path: Path) -> None:
    """A program that reads the events gets the error there, not only on stderr."""
    path = tmp_path / "plan.yaml"
    path.write_text("version: 1\nname: x\n")

    done = invoke("run", path, "--yes", "--json", "--state", tmp_path / "state")

    event = json.loads(done.stdout)
    assert done.exit_code == 2
    assert (event["v"], event["type"], event["seq"]) == (1, "error", 1)
    assert "servers" in event["message"]


def test_a_reason_that_cannot_be_written_down_is_refused(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are a usage error, not an internal one."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)

    done = invoke("run", path, "--yes", "--reason", "\udcff")

    assert done.exit_code == 2
    assert "UTF-8" in done.stderr
