"""Rehearsals with real processes: the shipped plan, a scenario, the fixture for tests of plans."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import Result
from orchestrator.simulator.process import PASSWORD_VARIABLE
from tests.processes import PATIENCE_S, Place, ended, until_said

if TYPE_CHECKING:
    from orchestrator.testing import Rehearse  # pytest imports it as a plugin

pytestmark = pytest.mark.process
pytest_plugins = ["orchestrator.testing"]

PLANS = Path(__file__).parents[2] / "plans"
AT = datetime(2026, 11, 20, 2, 10, tzinfo=UTC)
SMALL = """\
version: 1
name: small
servers:
  hq: {url: 'https://em-hq.example.net:9398', username: x, password: {env: NOBODY_SETS_THIS}}
  dr: {url: 'https://em-dr.example.net:9398', username: x, password: {env: NOBODY_SETS_THIS}}
limits: {outage: 5s}
defaults: {server: hq, retries: {attempts: 2}}
checks:
  boot: [{path: 'C:\\Windows\\System32\\config\\SYSTEM', min_size: 1MiB}]
targets:
  - {vm: dc01, checks: [boot]}
  - {vm: dc02, server: dr}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a plan of two machines on two servers."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_the_complete_plan_goes_well(rehearse: Rehearse) -> None:
    """Every selector, check, program, copy and policy of it, to exit code 0."""
    outcome = rehearse(PLANS / "complete.yaml", at=AT)

    assert outcome.code == ExitCode.GOOD, [t.message for t in outcome.report.targets]
    assert outcome.report.totals["targets"] == 27
    assert "SIMULATED: dr, hq: nothing is said about a real server." in outcome.report.not_proven


@pytest.mark.parametrize("path", sorted((PLANS / "scenarios").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_shipped_scenario_ends_with_its_exit_code(rehearse: Rehearse, path: Path) -> None:
    """It is written in the scenario."""
    written = re.search(r"^# exit code: (\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert written is not None

    outcome = rehearse(PLANS / path.name, scenario=path, at=AT)

    assert outcome.code == int(written[1])
    results = {target.label: target.result for target in outcome.report.targets}
    assert (results["dc01"], results["sql01"]) == (Result.VERIFIED, Result.FAILED)
    assert (results["proxy01"], results["files01"]) == (Result.SKIPPED, Result.VERIFIED)


@pytest.mark.parametrize(
    ("scenario", "code", "results"),
    [
        ({"vm": "dc01", "fails": 1}, 0, ("verified", "mounted")),
        ({"vm": "dc01", "fails": "always"}, 1, ("failed", "mounted")),
        ({"vm": "dc02", "newest_bad": 1}, 1, ("verified", "failed")),
        ({"vm": "dc01", "busy": "1h"}, 1, ("failed", "mounted")),
        ({"server": "dr", "role": "Portal User"}, 1, ("verified", "skipped")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_goes_wrong_is_met(
    rehearse: Rehearse,
    small: Path,
    scenario: Mapping[str, Any],
    code: int,
    results: tuple[str, str],
) -> None:
    """One mishap at a time."""
    outcome = rehearse(small, scenario=[scenario])

    assert tuple(target.result for target in outcome.report.targets) == results
    assert outcome.code == code


@pytest.mark.parametrize(
    ("role", "conflict", "results", "shown"),
    [
        ("Portal Administrator", "skip", ("skipped", "mounted"), "seen"),
        ("Portal Administrator", "fail", ("failed", "mounted"), "seen"),
        ("File Restore Operator", "skip", ("failed", "mounted"), "not_visible"),
    ],
)
def test_a_busy_job_is_seen_as_the_role_sees_it(
    rehearse: Rehearse,
    small: Path,
    role: str,
    conflict: str,
    results: tuple[str, str],
    shown: str,
) -> None:
    """So a rehearsal shows what `conflict` does to the plan; nothing of the machine is mounted."""
    small.write_text(SMALL.replace("{server: hq,", f"{{server: hq, conflict: {conflict},"))
    scenario = [{"vm": "dc01", "busy": "1h"}, {"server": "hq", "role": role}]

    outcome = rehearse(small, scenario=scenario)

    (dc01, dc02) = outcome.report.targets
    assert (dc01.result, dc02.result) == results
    (hq,) = (each for each in outcome.report.servers if each.name == "hq")
    assert hq.replications == shown
    assert bool(dc01.attempts) == (shown == "not_visible")


def test_the_command_says_how_to_run_the_plan(small: Path, place: Place, tmp_path: Path) -> None:
    """What it prints is run as it is; a server said to be dead does not answer."""
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text("- {server: dr, dead: true}\n", encoding="utf-8")
    copy = tmp_path / "there" / "rehearsal.yaml"
    arguments = ("--plan", small, "--scenario", scenario, "-o", copy, "--speed", "1000")
    servers = place.start("simulate", *arguments)
    assert servers.stdout is not None
    exported, command = servers.stdout.readline(), servers.stdout.readline()
    password = re.fullmatch(rf"export {PASSWORD_VARIABLE}='(.*)'\n", exported)
    assert password is not None

    try:
        limits = place.call("validate", copy)
        ended = subprocess.run(
            [
                *place.arguments("validate")[:3],
                *command.split()[1:],
                "--yes",
                "--only",
                "default/hq/*",
            ],
            env={**os.environ, PASSWORD_VARIABLE: password[1]},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    finally:
        servers.send_signal(signal.SIGINT)
        _, said = servers.communicate()

    assert limits.returncode == 0
    assert ended.returncode == 0, ended.stderr
    assert json.loads((copy.parent / "report" / "report.json").read_text())["not_proven"][0] == (
        "SIMULATED: hq: nothing is said about a real server."
    )
    assert "1 machine, dead" in said
    assert "# 1 mount made, 0 still open" in said


def test_a_signal_to_its_whole_process_group_ends_it_with_what_was_counted(
    small: Path, place: Place, tmp_path: Path
) -> None:
    """Its servers answer to the end, and nothing of them is left."""
    for number in (signal.SIGTERM, signal.SIGINT):
        process = _rehearsal(small, place, tmp_path)
        until_said(process, "Ctrl-C ends the servers")
        os.killpg(process.pid, number)
        code, _, said = ended(process)  # its servers hold the same stderr: all have ended

        assert code == 0, said
        assert said.endswith("0 requests, 0 dangerous calls\n")


@pytest.mark.parametrize("after_s", [0.3, 0.6, 0.9, 1.2, 1.5, 2.0])
def test_a_signal_to_all_of_its_processes_while_they_start_is_no_error(
    small: Path, place: Place, tmp_path: Path, after_s: float
) -> None:
    """As a service manager ends them: wherever it meets them, nothing but the signal is named."""
    process = _rehearsal(small, place, tmp_path)
    time.sleep(after_s)
    for pid in [*_children(process.pid), process.pid]:
        os.kill(pid, signal.SIGTERM)
    code, _, said = ended(process)

    if code == 0:  # it served already
        assert said.endswith("0 requests, 0 dangerous calls\n")
    elif code == ExitCode.SIGTERM:
        assert said.endswith("bulk-restore: stopped by SIGTERM\n")
    else:  # the command had not begun to look for signals
        assert (code, said) == (-signal.SIGTERM, "")


def test_a_server_that_is_killed_is_named_at_the_end(
    small: Path, place: Place, tmp_path: Path
) -> None:
    """Its counts are gone: exit code 74."""
    process = _rehearsal(small, place, tmp_path)
    until_said(process, "Ctrl-C ends the servers")
    os.kill(_children(process.pid)[1], signal.SIGKILL)
    process.send_signal(signal.SIGINT)
    code, _, said = ended(process)

    assert code == ExitCode.LOCAL_IO
    assert said.endswith("server dr has ended (signal 9), with what it counted\n")


def test_a_signal_to_the_whole_process_group_of_a_demo_leaves_its_servers_to_it(
    place: Place, tmp_path: Path
) -> None:
    """They are still there to unmount what was mounted, and to say what they counted."""
    demo = place.start("demo", "--directory", tmp_path / "demo", start_new_session=True)
    until_said(demo, "wave ")
    os.killpg(demo.pid, signal.SIGTERM)
    code, shown, said = ended(demo)

    assert code == ExitCode.SIGTERM, said
    assert re.search(r"The servers counted: \d+ mounts? made, 0 still open", shown)


def _rehearsal(plan: Path, place: Place, directory: Path) -> subprocess.Popen[str]:
    """Start one as the leader of a process group."""
    copy = directory / "there" / "rehearsal.yaml"
    return place.start("simulate", "--plan", plan, "-o", copy, start_new_session=True)


def _children(parent: int) -> list[int]:
    """Return the processes that a process has started, the first of them first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return sorted(found)


def test_a_copy_replaces_no_other_file(small: Path, place: Place) -> None:
    """Least of all the plan itself."""
    ended = place.call("simulate", "--plan", small, "-o", small)

    assert ended.returncode == 74
    assert small.read_text(encoding="utf-8") == SMALL


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "x.yaml"], "--scenario goes with --plan"),
        (["--plan", "PLAN", "--servers", "2"], "--servers does not go with --plan"),
        (["--plan", "PLAN", "--at", "noon"], "--at: 'noon' is not a time"),
        (["--plan", "PLAN", "--scenario", "x.yaml"], "x.yaml:1:1: no scenario: there is no such"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    small: Path, place: Place, arguments: list[str], said: str
) -> None:
    """Before any server starts."""
    ended = place.call("simulate", *[str(small) if a == "PLAN" else a for a in arguments])

    assert ended.returncode == 2
    assert said in ended.stderr
