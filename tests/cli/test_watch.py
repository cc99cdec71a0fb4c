"""`watch` as people use it: a second process beside a real run, before, during and after it."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.processes import (
    Place,
    Servers,
    ended,
    kill,
    servers,
    until_running,
    until_said,
    until_stopping,
)
from tests.views.screen import Drawn

pytestmark = pytest.mark.process


@pytest.fixture
def stalled_later() -> Iterator[Servers]:
    """Two servers that finish two mounts, and no other until `go_on`."""
    with servers(stall_after=2) as these:
        yield these


def watching(place: Place, *more: str, rows: int = 24, columns: int = 80) -> Drawn:
    """Start `watch` on a terminal."""
    return Drawn(place.arguments("watch", *more), rows=rows, columns=columns)


def journal(place: Place) -> sqlite3.Connection:
    """Open the journal behind everybody's back."""
    path = place.directory / "state" / "journal.sqlite"
    return sqlite3.connect(path, isolation_level=None, timeout=10)


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (10, 40)], ids=str)
def test_a_run_is_watched_from_before_it_begins_to_its_end(
    stalled_later: Servers, place: Place, rows: int, columns: int
) -> None:
    """It waits, shows what goes on, never scrolls, and ends with the run."""
    watch = watching(place, "last", "--wait", rows=rows, columns=columns)
    watch.until("waiting for a run"[: columns - 1])
    plan = stalled_later.plan(place.directory, targets=20)
    run = place.start("run", plan, "--yes", "--json")

    screen = watch.until("/20 done")
    assert len(screen.lines) <= rows
    assert not any("done" in line for line in screen.scrolled)  # no part of a picture
    stalled_later.go_on()
    code, _, _ = ended(run)
    _, out, watched = watch.to_its_end()

    assert (code, watched) == (0, 0)
    assert out.startswith("run 20")
    assert out.endswith("ended with exit code 0: 20 targets, 20 mounted\n")
    assert any("20/20 done" in line for line in watch.screen().lines)
    assert watch.screen().cursor_shown


def test_a_journal_that_is_just_being_made_is_waited_for(quick: Servers, place: Place) -> None:
    """The first run makes the file a moment before there is anything in it."""
    state = place.directory / "state"
    state.mkdir()
    (state / "journal.sqlite").touch()
    watch = watching(place, "last", "--wait")
    watch.until("waiting for a run to begin")

    run = place.start("run", quick.plan(place.directory, targets=2), "--yes", "--json")
    _, out, code = watch.to_its_end()

    assert (code, ended(run)[0]) == (0, 0)
    assert "ended with exit code 0: 2 targets" in out


def test_a_journal_that_stays_unreadable_is_not_waited_for(place: Place) -> None:
    """It is damage then, and said to be: exit code 74."""
    state = place.directory / "state"
    state.mkdir()
    (state / "journal.sqlite").write_bytes(b"no journal at all " * 400)

    seen = place.call("watch", "last", "--wait")

    assert seen.returncode == 74
    assert "cannot be read" in seen.stderr


def test_a_run_is_joined_in_the_middle_and_seen_as_it_sees_itself(
    stalled_later: Servers, place: Place
) -> None:
    """Without a terminal: where it stands, then lines for what changes, and the end."""
    plan = stalled_later.plan(place.directory, targets=50)
    run = place.start("run", plan, "--yes", "--json")
    until_running(run, 4)

    watch = place.start("watch", "last")
    began = until_said(watch, "/50 done")
    stalled_later.go_on()
    assert ended(run)[0] == 0
    code, _, err = ended(watch)

    first, *lines = (began + err).splitlines()
    assert code == 0
    assert "of process-drill: " in first
    assert "/50 done" in first
    assert not any("logged on" in line for line in lines)  # that was before
    assert sum("mount released" in line for line in lines) >= 8
    assert "run finished, exit code 0: every required target" in lines[-1]


def test_what_has_ended_is_shown_once(stalled: Servers, place: Place) -> None:
    """The last picture, the last line, code 0 however the run ended."""
    plan = stalled.plan(place.directory, targets=20)
    run = place.start("run", plan, "--yes", "--json")
    until_running(run, 1)
    run.send_signal(signal.SIGINT)
    until_stopping(run)
    stalled.go_on()
    assert ended(run)[0] == 130

    seen = place.call("watch", "last")
    _, out, code = watching(place, "last").to_its_end()

    assert (seen.returncode, code) == (0, 0)
    assert "ended with exit code 130: 20 targets" in seen.stdout
    assert out == seen.stdout


def test_a_killed_run_is_told_and_its_resume_is_watched_on(
    stalled_later: Servers, place: Place
) -> None:
    """Who does not wait gets code 3 and what to do; who waits sees the other process's part."""
    plan = stalled_later.plan(place.directory, targets=20)
    run = place.start("run", plan, "--yes", "--json")
    until_running(run, 3)
    patient = watching(place, "last", "--wait")
    patient.until("/20 done")
    kill(run)
    stalled_later.go_on()

    seen = place.call("watch", "last")
    assert seen.returncode == 3
    assert "is gone" in seen.stderr
    assert "bulk-restore resume" in seen.stderr
    screen = patient.until("its process is gone")
    assert any("bulk-restore resume" in line for line in screen.lines)
    assert not any(" left" in line for line in screen.lines)

    resumed = place.start("resume", "last", "--json")
    _, out, _ = ended(resumed)
    _, last, code = patient.to_its_end()

    assert code == 0
    assert f"ended with exit code {resumed.returncode}: 20 targets" in last
    assert any("20/20 done" in line for line in patient.screen().lines), out


def test_a_journal_that_is_cut_off_meanwhile_is_not_believed(
    stalled_later: Servers, place: Place
) -> None:
    """The watcher says which record is gone, and ends with the code for a local fault."""
    plan = stalled_later.plan(place.directory, targets=20)
    run = place.start("run", plan, "--yes", "--json")
    until_running(run, 3)
    watch = watching(place, "last")
    watch.until("/20 done")
    watch.process.send_signal(signal.SIGSTOP)  # it looks again when both has happened
    kill(run)

    with closing(journal(place)) as connection:
        connection.execute("DELETE FROM events WHERE seq > 20")
    watch.process.send_signal(signal.SIGCONT)
    written, _, code = watch.to_its_end()

    assert code == 74
    assert "is gone: the journal was cut off" in " ".join(written.split())
    assert watch.screen().cursor_shown


@pytest.mark.parametrize(("number", "wanted"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_watching_and_not_the_run(
    stalled: Servers, place: Place, number: signal.Signals, wanted: int
) -> None:
    """The terminal is as it was, the code says which signal, and the run goes on to its end."""
    run = place.start("run", stalled.plan(place.directory, targets=12), "--yes", "--json")
    until_running(run, 1)
    watch = watching(place, "last")
    watch.until("/12 done")

    watch.process.send_signal(number)
    written, _, code = watch.to_its_end()

    assert code == wanted
    assert number != signal.SIGINT or "stopped watching; the run goes on" in written
    assert watch.screen().cursor_shown
    stalled.go_on()
    assert ended(run)[0] == 0


def test_nothing_to_watch_is_a_usage_error(place: Place) -> None:
    """Without --wait nobody waits for a run that may never come."""
    seen = place.call("watch", "last")

    assert seen.returncode == 2
    assert "there are no runs" in seen.stderr


def test_status_watch_ends_with_the_status(stalled: Servers, place: Place) -> None:
    """The older option shows the same, then what `status` says."""
    run = place.start("run", stalled.plan(place.directory, targets=12), "--yes", "--json")
    until_running(run, 1)

    watch = place.start("status", "last", "--watch")
    until_said(watch, "/12 done")
    stalled.go_on()

    assert ended(run)[0] == 0
    code, out, err = ended(watch)
    assert code == 0
    assert "mount released" in err
    assert ": finished" in out


@pytest.fixture
def slow() -> Iterator[Servers]:
    """Two servers whose mounts take a second or two."""
    with servers(seconds=(1.0, 2.0)) as these:
        yield these


def test_watching_costs_next_to_nothing(slow: Servers, place: Place) -> None:
    """A watcher that waits for a long run uses at most a few hundredths of a core."""
    run = place.start("run", slow.plan(place.directory, targets=60), "--yes", "--json")
    until_running(run, 2)
    watch = watching(place, "last")
    watch.until("/60 done")

    before, began = _cpu_s(watch.process.pid), time.monotonic()
    time.sleep(4.0)
    used = (_cpu_s(watch.process.pid) - before) / (time.monotonic() - began)

    run.send_signal(signal.SIGINT)
    ended(run)
    watch.to_its_end()
    assert used < 0.1  # measured: 0.02; the test's machine may be busy


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    import os

    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
