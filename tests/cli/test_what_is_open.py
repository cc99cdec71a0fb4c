"""What may be open of a run: status, list, watch and report give one answer.

Also of mounts that belong to no target, and of sessions that nobody has read a last time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.core.events import Event, SessionEnded, StrayFound, StrayReleased
from orchestrator.core.model import ServerName, TaskId
from orchestrator.journal import State
from tests.report.builders import SESSION, Fate, life
from tests.report.history.runs import beginning, called, keep, run_id

HQ = ServerName("hq")
STRAY = StrayFound(at=50.0, server=HQ, session=SESSION, task=TaskId("task-13"), reason="sent twice")
GONE = StrayReleased(at=51.0, server=HQ, session=SESSION, task=TaskId("task-13"))
NO_ANSWER = "hq answered GET /api/tasks with 503"


def ended(unaudited: str | None = None) -> SessionEnded:
    """Return the end of the only session."""
    return SessionEnded(
        at=55.0,
        server=HQ,
        session=SESSION,
        lost=False,
        reason="logged off" if unaudited is None else "left open",
        unaudited=unaudited,
        left_open=unaudited is not None,
    )


CASES: dict[str, tuple[list[Event], bool, str]] = {
    "stray": ([STRAY, ended()], True, "a mount of no target: hq: task-13: sent twice"),
    "unaudited": ([ended(NO_ANSWER)], True, f"is open on hq is not known ({NO_ANSWER})"),
    "killed": ([], False, "is open on hq is not known (its process ended before the tasks"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bool, str]:
    """Return a state directory whose one run has released its target, and what is open."""
    events, has_ended, words = CASES[request.param]
    kept(tmp_path, events, has_ended=has_ended)
    return tmp_path, has_ended, words


def kept(directory: Path, events: Sequence[Event], *, has_ended: bool) -> None:
    """Write a run that has mounted and released one target, and these events."""
    first = beginning(1, report_dir=str(directory / "report"))
    keep(directory, first, [life("sql01", Fate.MOUNTED), events], ended=has_ended, exit_code=3)


def test_status_ends_with_3_and_names_it(case: tuple[Path, bool, str]) -> None:
    """Exit code 3 if a mount may still be open and no process works on the run."""
    directory, has_ended, words = case

    told, as_json = (
        called(directory, "status", "last"),
        called(directory, "status", "last", "--json"),
    )

    assert (told.exit_code, as_json.exit_code) == (3, 3)
    title = "May still be mounted; since about " if has_ended is False else "MOUNTED by no target"
    _, _, open_now = told.output.partition(title)
    assert words.removeprefix("a mount of no target: ") in open_now
    assert told.output.count(words.removeprefix("a mount of no target: ")) == 1 + has_ended
    is_reached = "sent twice" not in words  # the session of a stray that ended took it along
    assert (f"bulk-restore unmount {run_id(1)}" in told.output) is is_reached
    assert json.loads(as_json.stdout)["run"]["reasons"]


def test_the_list_of_runs_warns(case: tuple[Path, bool, str]) -> None:
    """Who looks at the list only must see it."""
    directory, _, words = case

    (row,) = json.loads(called(directory, "status", "--json").output)

    assert "MAY BE MOUNTED" in called(directory, "status").output
    assert (row["may_be_mounted"], row["unaudited"]) == (
        (1, []) if "sent twice" in words else (0, ["hq"])
    )


def test_the_list_of_targets_names_it(case: tuple[Path, bool, str]) -> None:
    """Beside the targets, what belongs to none."""
    directory, _, words = case

    assert f"MAY BE MOUNTED: {words}" in called(directory, "list", "last").output.replace(
        "MAY BE MOUNTED: whether a mount of no target is", "MAY BE MOUNTED: is"
    )


def test_watch_says_so_in_its_last_line(case: tuple[Path, bool, str]) -> None:
    """Of a run that ended, and of one whose process is gone."""
    directory, has_ended, _ = case

    seen = called(directory, "watch", "last")

    assert seen.exit_code == (0 if has_ended else 3)
    assert "MAY BE MOUNTED" in seen.output


def test_a_rebuilt_report_says_so_and_is_verified(case: tuple[Path, bool, str]) -> None:
    """In its reasons and its warnings; and the records of the run give the same report."""
    directory, _, _ = case

    rebuilt = called(directory, "report", "last")
    verified = called_alone("report", "--verify", directory / "report")

    report = json.loads((directory / "report" / "report.json").read_text())
    assert rebuilt.exit_code == 0
    assert any("no target" in reason for reason in report["run"]["reasons"])
    assert verified == 0


def called_alone(*arguments: str | Path) -> int:
    """Return how a command without a state directory ends."""
    from click.testing import CliRunner

    from orchestrator.cli import command

    return CliRunner().invoke(command, [str(each) for each in arguments]).exit_code


def test_a_killed_run_warns_in_every_rendering(tmp_path: Path) -> None:
    """Text, Markdown and HTML name the server whose session nobody has read."""
    kept(tmp_path, [], has_ended=False)

    called(tmp_path, "report", "last")

    for name in ("report.txt", "report.md", "report.html"):
        text = (tmp_path / "report" / name).read_text()
        assert "its session was not ended" in text, name


def test_the_open_session_of_a_living_run_is_no_trouble(tmp_path: Path) -> None:
    """Its process will read its tasks before it ends."""
    kept(tmp_path, [], has_ended=False)

    with State(tmp_path).plan_lock("payments-tier1", run_id(1)):
        told = called(tmp_path, "status", "last")
        row = called(tmp_path, "status")
        called(tmp_path, "report", "last")
        verified = called_alone("report", "--verify", tmp_path / "report")

    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert told.exit_code == 0
    assert "is not known" not in told.output
    assert "MAY BE MOUNTED" not in row.output
    assert not any("is not known" in reason for reason in report["run"]["reasons"])
    assert verified == 0


@pytest.mark.parametrize(
    ("lived", "events"),
    [
        (life("sql01", Fate.MOUNTED), [STRAY, GONE, ended()]),
        (life("sql01", Fate.MOUNTED), [ended()]),
        (life("sql01", Fate.WAITING), []),
    ],
    ids=["removed", "logged off", "nothing asked for"],
)
def test_what_is_known_to_be_gone_is_no_trouble(
    lived: Sequence[Event], events: Sequence[Event], tmp_path: Path
) -> None:
    """Killed after its logoff, or before its first mount request: exit code 0."""
    keep(tmp_path, beginning(1), [lived, events], ended=False)

    told, row = called(tmp_path, "status", "last"), called(tmp_path, "status")

    assert told.exit_code == 0
    assert "MAY BE MOUNTED" not in row.output
