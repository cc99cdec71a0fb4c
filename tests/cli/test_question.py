"""What stands above "Mount them now?": everything a run will do beyond looking."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.cli.question import lines_before
from orchestrator.core.model import ServerName, Unmount
from orchestrator.journal import State
from orchestrator.plan.file.settings import Cleanup, RestorePlan
from tests.cli.test_broken_plans import invoke
from tests.cli.wiretap import listening
from tests.plan.builders import expanded, load, point

CHECKS = "checks: {a: [{exec: [x]}]}\n"


def lines(body: str, *vms: str, hold: float | None = None) -> list[str]:
    """Return what is said before a run of a plan whose machines all have a point."""
    plan = load(body).plan
    expansion = expanded(body, *(point(vm, job="j") for vm in vms))
    return lines_before(plan, expansion, [], hold=hold)


def test_a_run_that_only_looks_says_just_that() -> None:
    """No word about what does not happen."""
    assert lines("targets: [{vm: a}, {vm: b}]\n", "a", "b") == [
        "Plan test on hq: drill",
        "2 restore points will be mounted and removed.",
    ]


def test_checks_and_copies_are_counted_and_their_places_named() -> None:
    """How many targets are checked; how many files go where."""
    body = CHECKS + (
        "targets:\n"
        "  - {vm: a, checks: [a], download: "
        "[{path: 'C:\\x', to: /o/x}, {path: 'C:\\y', to: /o/}]}\n"
        "  - {vm: b, download: [{path: 'C:\\', glob: '*', to: /p, max_files: 7}]}\n"
        "  - vm: c\n"
    )

    assert lines(body, "a", "b", "c")[1:] == [
        "3 restore points will be mounted and removed.",
        "With checks: 1, 2 only mounted and read.",
        "To be copied out of 2 guests: 2 files and up to 7 files chosen by name, to /o/x, /o/, /p/",
    ]


def test_writing_into_guests_is_said_in_capital_letters() -> None:
    """Each file and its machine; whoever answers yes has read it."""
    body = (
        "mode: recovery\ntargets:\n"
        "  - {vm: a, download: [{path: 'C:\\x', write: original, overwrite: true}]}\n"
        "  - {vm: b, download: [{path: 'C:\\y', write: original}]}\n"
    )

    assert lines(body, "a", "b") == [
        "Plan test on hq: recovery",
        "2 restore points will be mounted and removed.",
        "WILL WRITE INTO GUESTS: 2 files; original machines written to: 2",
        "  default/hq/a: C:\\x, replacing what is there",
        "  default/hq/b: C:\\y",
    ]


def test_many_writes_are_counted_and_the_first_are_named() -> None:
    """The question stays on one screen."""
    body = (
        "mode: recovery\n"
        "targets: [{job: j, download: [{path: 'C:\\x', glob: '*', write: original}]}]\n"
    )

    said = lines(body, *(f"vm{n:02}" for n in range(30)))

    assert said[2] == (
        "WILL WRITE INTO GUESTS: up to 30000 files chosen by name; original machines written to: 30"
    )
    assert len(said) == 14
    assert said[-1] == "  and 20 more"


ENDLESS = "until you end it with 'bulk-restore unmount last'"


@pytest.mark.parametrize(
    ("cleanup", "hold", "expected"),
    [
        (Cleanup(), None, []),
        (Cleanup(), 5400, ["Every mount is held open for 1 h 30 min after its verdict."]),
        (Cleanup(keep_failed=1800), None, ["A mount whose checks failed is held open for 30 min."]),
        (
            Cleanup(keep_failed=86400),
            90.5,
            [
                "Every mount is held open for 1 min 30 s after its verdict.",
                "A mount whose checks failed is held open for 1 d.",
            ],
        ),
        (
            Cleanup(unmount=Unmount.ON_SUCCESS),
            None,
            [f"A mount whose verdict is not good stays open {ENDLESS}."],
        ),
        (
            Cleanup(unmount=Unmount.NEVER),
            None,
            [f"No mount is removed automatically: each stays open {ENDLESS}."],
        ),
    ],
)
def test_how_long_mounts_stay_open_is_said(
    cleanup: Cleanup, hold: float | None, expected: list[str]
) -> None:
    """A held mount keeps its slot and its session: nobody shall be surprised by it."""
    plan: RestorePlan = replace(load("targets: [{vm: a}]\n").plan, cleanup=cleanup)
    expansion = expanded("targets: [{vm: a}]\n", point("a"))

    said = lines_before(plan, expansion, [ServerName("dr")], hold=hold)

    removed = cleanup.unmount is not Unmount.NEVER
    assert said[1] == f"1 restore point will be mounted{' and removed' if removed else ''}."
    assert said[2:-1] == expected
    assert said[-1] == "Not answering yet, will be waited for: dr"


def test_names_from_a_server_cannot_steer_the_terminal() -> None:
    """The question is what it looks like, and what it warns of stays to be seen."""
    said = lines(
        "mode: recovery\ntargets:\n"
        "  - {job: j, download: [{path: 'C:\\x', to: o/}, {path: 'C:\\x', write: original}]}\n",
        "a\x1b[2Jb",
        "c\u202ed",
    )

    assert len(said) == 6
    assert all(line.isprintable() for line in said)


PLAN = """version: 1
name: writes
mode: recovery
servers:
  hq: {url: 'https://127.0.0.1:9', username: u, password: {env: CLI_TEST_PASSWORD}}
targets:
  - {vm: dc01, download: [{path: 'C:\\x', write: original}]}
"""


def test_without_its_own_word_a_plan_that_writes_sends_nothing(tmp_path: Path) -> None:
    """Exit code 2 with the target and the option; no name is resolved, no journal is made."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)

    with listening() as heard:
        done = invoke("run", plan, "--yes", "--state", tmp_path / "state")

    assert done.exit_code == 2
    assert heard == []
    assert "vm 'dc01' (7:5)" in done.stderr
    assert "--yes-write" in done.stderr
    assert not (tmp_path / "state").exists()


def test_with_its_own_word_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option is read: the same plan gets as far as its server, which is not there."""
    monkeypatch.setenv("CLI_TEST_PASSWORD", "not-a-real-password")
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN + "limits: {outage: 0s}\n")
    where: list[str | Path] = ["--state", tmp_path / "state", "--report", tmp_path / "report"]

    done = invoke("run", plan, "--yes", "--yes-write", "--hold", "30m", *where)

    assert done.exit_code == 4
    state = State(tmp_path / "state")
    started = state.replay(state.find("last")).started
    assert (started.mode, started.hold_s) == ("recovery", 1800)


@pytest.mark.parametrize(
    ("text", "words"),
    [("30", "such as 30m"), ("0s", "no time at all"), ("-5m", "not a duration"), ("", "duration")],
)
def test_a_hold_is_a_duration_and_some_time(tmp_path: Path, text: str, words: str) -> None:
    """Anything else is a mistake of the command line, told before anything is read or sent."""
    with listening() as heard:
        done = invoke("run", tmp_path / "missing.yaml", "--yes", f"--hold={text}")

    assert done.exit_code == 2
    assert heard == []
    assert done.stderr.startswith("bulk-restore: --hold: ")
    assert words in done.stderr
