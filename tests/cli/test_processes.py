"""The command as people run it: real processes, HTTPS, signals, a journal on disk."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.app.planned_limits import limits_of
from orchestrator.plan.file.loading import load_plan
from tests.cli.sites.site import until
from tests.invariants import assert_invariants
from tests.processes import (
    PASSWORD,
    PATIENCE_S,
    Place,
    Servers,
    ended,
    kill,
    servers,
    until_running,
    until_said,
    until_stopping,
)

pytestmark = pytest.mark.process


def check(running: Servers, place: Place, plan: Path) -> None:
    """Compare the written report with what the servers say."""
    assert_invariants(running.truth(), place.values(), limits_of(load_plan(plan).plan, None))


def test_a_plan_is_mounted_proved_unmounted_and_reported(quick: Servers, place: Place) -> None:
    """Exit code 0, everything mounted once and removed; the journal alone tells it again."""
    plan = quick.plan(place.directory, targets=30)

    done = place.call("run", plan, "--yes", "--reason", "quarterly drill")

    assert done.returncode == 0, done.stderr
    check(quick, place, plan)
    truth = quick.truth()
    assert len(truth.mounts) == 30
    assert not truth.still_open()
    assert truth.sessions_closed == truth.logons == 2
    assert place.values()["run"]["reason"] == "quarterly drill"
    assert "30" in done.stdout
    written = (place.report / "report.json").read_bytes()
    rebuilt = place.directory / "rebuilt"
    assert place.call("report", "last", "--report", rebuilt).returncode == 0
    assert (rebuilt / "report.json").read_bytes() == written
    status = json.loads(place.call("status", "--json").stdout)
    assert [(row["state"], row["exit_code"]) for row in status] == [("finished", 0)]


def test_nothing_written_can_be_read_by_others_or_holds_the_password(
    quick: Servers, place: Place
) -> None:
    """Files 0600 and directories 0700 whatever the umask; the password is in none of them."""
    plan = quick.plan(place.directory, targets=4)
    process = place.start("run", plan, "--yes", "-vv", umask=0)

    code, out, err = ended(process)

    assert code == 0
    assert PASSWORD not in out + err
    for root in (place.directory / "state", place.report):
        for path in (root, *root.rglob("*")):
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path
            assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()


def test_a_locked_plan_runs_exactly_and_needs_no_question(quick: Servers, place: Place) -> None:
    """`plan -o` then `run`: the same targets and points, no --yes."""
    plan = quick.plan(place.directory, targets=6)
    locked = place.directory / "locked.json"

    made = place.call("plan", plan, "-o", locked)
    same = place.call("plan", plan, "--against", locked)
    done = place.call("run", locked)

    assert (made.returncode, same.returncode, done.returncode) == (0, 0, 0), done.stderr
    assert "no difference" in same.stdout
    shown = json.loads(place.call("plan", plan, "--json").stdout)
    chosen = {row["key"]: row["point"]["id"] for row in shown["targets"]}
    mounted = {t["key"]: t["attempts"][0]["point_id"] for t in place.values()["targets"]}
    assert mounted == chosen


def test_a_plan_is_compared_with_a_run_although_it_has_changed(
    quick: Servers, place: Place
) -> None:
    """Targets are known by their keys; a run that took a part is compared with that part."""
    plan = quick.plan(place.directory, targets=6)
    text = plan.read_text()
    state = ("--state", place.directory / "state")
    last = text.splitlines()[-1]
    place.call("run", plan, "--yes")

    same = place.call("plan", plan, "--against", "last", *state)
    plan.write_text(text.replace(f"{last}\n", ""))
    fewer = place.call("plan", plan, "--against", "last", *state)
    values = json.loads(place.call("plan", plan, "--against", "last", "--json", *state).stdout)
    plan.write_text(text)
    place.call("run", plan, "--yes", "--only", "directory/*")
    part = place.call("plan", plan, "--against", "last", *state)
    unknown = place.call("plan", plan, "--against", "nobody", *state)

    assert (same.returncode, fewer.returncode, part.returncode) == (0, 0, 0), same.stderr
    assert "no difference to run " in same.stdout
    assert "has changed" not in same.stdout
    assert "has changed since run " in fewer.stdout
    assert re.search(r"^- rest/.*: no longer selected$", fewer.stdout, re.MULTILINE)
    assert values["against"]["plan_changed"] is True
    assert len(values["against"]["differences"]) == 1
    assert "took a part of its plan, and only that is compared" in part.stdout
    assert "no difference to run " in part.stdout
    assert unknown.returncode == 2
    assert "--against nobody: there is no such file, and no run starts with" in unknown.stderr


def test_files_of_values_are_recorded_as_set_values_are(quick: Servers, place: Place) -> None:
    """`run --vars`, then `list` and `unmount` without the file: the run has the values."""
    plan = quick.plan(place.directory, targets=2, name="${site:-nowhere}-drill")
    values = place.directory / "berlin.yaml"
    values.write_text("site: berlin\n")

    done = place.call("run", plan, "--yes", "--vars", values)
    values.write_text("sight: berlin\n")
    refused = place.call("validate", plan, "--vars", values)
    listed = place.call("list", "last", "-o", place.directory / "locked.json")

    assert (done.returncode, listed.returncode) == (0, 0), done.stderr + listed.stderr
    assert place.values()["run"]["plan"] == "berlin-drill"
    assert place.call("unmount", "last").returncode == 0
    assert refused.returncode == 2
    assert "berlin.yaml:1:1: the plan has no variable 'sight': did you mean 'site'?" in (
        refused.stderr
    )


def test_without_a_terminal_a_run_wants_yes(quick: Servers, place: Place) -> None:
    """Nobody can be asked, so nothing is sent."""
    done = place.call("run", quick.plan(place.directory, targets=2))

    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert quick.truth().logons == 0


@pytest.mark.parametrize(("answer", "mounts"), [("n", 0), ("y", 3)])
def test_on_a_terminal_a_run_asks_first(
    answer: str, mounts: int, quick: Servers, place: Place
) -> None:
    """The question names how many restore points; only yes mounts them."""
    plan = quick.plan(place.directory, targets=3)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w") as keyboard, os.fdopen(theirs, "rb") as terminal:
        process = place.start("run", plan, stdin=terminal)
        said = until_said(process, "Mount them now?")
        keyboard.write(f"{answer}\n")
        keyboard.flush()
        code, _out, _err = ended(process)

    assert "3 restore points will be mounted and removed" in said
    assert len(quick.truth().mounts) == mounts
    assert (code == 0) == (answer == "y")


def test_what_was_typed_before_the_question_is_no_answer_to_it(
    quick: Servers, place: Place
) -> None:
    """A y that was meant for something else mounts nothing; the answer to the question counts."""
    plan = quick.plan(place.directory, targets=3)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w") as keyboard, os.fdopen(theirs, "rb") as terminal:
        keyboard.write("y\n")
        keyboard.flush()
        process = place.start("run", plan, stdin=terminal)
        until_said(process, "Mount them now?")
        time.sleep(1.0)
        assert process.poll() is None
        keyboard.write("n\n")
        keyboard.flush()
        code = ended(process)[0]

    report = place.values()
    assert (code, len(quick.truth().mounts)) == (130, 0)
    assert "declined at the question, nothing was mounted" in report["run"]["reasons"]
    assert {each["message"] for each in report["targets"]} == {
        "the run was declined, and nothing was mounted"
    }
    assert "SIGINT" not in json.dumps(report)


def test_whoever_looks_on_sees_that_a_run_waits_for_its_answer(
    quick: Servers, place: Place
) -> None:
    """From a second terminal too; then it goes on as always."""
    plan = quick.plan(place.directory, targets=3)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w") as keyboard, os.fdopen(theirs, "rb") as terminal:
        process = place.start("run", plan, stdin=terminal)
        until_said(process, "Mount them now?")
        watching = place.start("watch", "last")
        shown = until_said(watching, "waiting for confirmation")
        keyboard.write("y\n")
        keyboard.flush()
        codes = [ended(process)[0], ended(watching)[0]]

    assert "0/3 done, 0 open, 3 waiting, waiting for confirmation" in shown
    assert codes == [0, 0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_can_be_stopped_while_it_asks(
    number: signal.Signals, code: int, quick: Servers, place: Place
) -> None:
    """A signal is an answer too: nobody needs to type anything, and nothing is mounted."""
    plan = quick.plan(place.directory, targets=3)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "w"), os.fdopen(theirs, "rb") as terminal:
        process = place.start("run", plan, stdin=terminal)
        until_said(process, "Mount them now?")
        process.send_signal(number)
        done = ended(process)[0]

    assert done == code
    assert not quick.truth().mounts
    assert {target["result"] for target in place.values()["targets"]} == {"cancelled"}


def test_options_can_be_set_by_environment_variables(quick: Servers, tmp_path: Path) -> None:
    """BULK_RESTORE_<COMMAND>_<OPTION> stands for the option."""
    place = Place(tmp_path, {"BULK_RESTORE_RUN_YES": "1", "BULK_RESTORE_RUN_REASON": "from CI"})

    done = place.call("run", quick.plan(tmp_path, targets=2))

    assert done.returncode == 0, done.stderr
    assert place.values()["run"]["reason"] == "from CI"


def test_only_and_retry_failed_narrow_a_run(quick: Servers, place: Place) -> None:
    """--only takes matching targets; --retry-failed finds nothing to repeat after success."""
    plan = quick.plan(place.directory, targets=12)

    done = place.call("run", plan, "--yes", "--only", "hq-*")
    again = place.call("run", plan, "--yes", "--retry-failed", "last")

    assert done.returncode == 0, done.stderr
    assert {target["server"] for target in place.values()["targets"]} == {"hq"}
    facts = place.values()["run"]
    assert (facts["only"], facts["retry_of"]) == (["hq-*"], None)
    assert re.fullmatch(
        r"by --only hq-\*: only \d+ targets, of (\d+) of the plan's \d+ entries", facts["narrowed"]
    )
    assert again.returncode == 2
    assert "nothing to retry" in again.stderr


def test_what_was_not_good_for_want_of_checks_is_retried(quick: Servers, place: Place) -> None:
    """A target without checks is not good if the earlier run or this one requires checks."""
    plan = quick.plan(place.directory, targets=2)

    def retried(run: str, *options: str) -> int:
        done = place.call("run", plan, "--yes", "--retry-failed", run, *options)
        assert place.values()["run"]["retry_of"] == run, done.stderr
        assert place.values()["totals"]["mounted"] == 2
        return done.returncode

    assert place.call("run", plan, "--yes").returncode == 0
    good = place.values()["run"]["id"]
    assert place.call("run", plan, "--yes", "--retry-failed", good).returncode == 2
    assert retried(good, "--require-checks") == 1
    assert retried(place.values()["run"]["id"]) == 0


@pytest.mark.parametrize(
    ("pattern", "wrong", "words", "asked"),
    [
        (r"fingerprint_sha256: \['\w{64}'\]", f"fingerprint_sha256: ['{'0' * 64}']", "pin", 0),
        (r"password: \{env: \w+\}", "password: {env: PATH}", "password is incorrect", 1),
    ],
    ids=["wrong certificate", "wrong password"],
)
def test_servers_that_cannot_be_used_end_with_code_4(
    pattern: str, wrong: str, words: str, asked: int, quick: Servers, place: Place
) -> None:
    """Nothing is mounted, the report says why, and a refused logon is not repeated."""
    plan = quick.plan(place.directory, targets=4)
    plan.write_text(re.sub(pattern, wrong, plan.read_text()))

    done = place.call("run", plan, "--yes")

    truth = quick.truth()
    assert done.returncode == 4, done.stderr
    assert (len(truth.mounts), truth.logons) == (0, 0)
    assert words in json.dumps(place.values())
    assert truth.requests["POST /api/sessionMngr/"] == asked * 2


def test_json_events_end_with_a_summary(quick: Servers, place: Place) -> None:
    """One object per line, seq rises by one, the last is the summary with the exit code."""
    done = place.call("run", quick.plan(place.directory, targets=5), "--yes", "--json")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["v"] for event in events} == {1}
    assert events[-1]["type"] == "summary"
    assert events[-1]["exit_code"] == done.returncode == 0
    assert events[-1]["totals"]["mounted"] == 5


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_one_signal_lets_open_mounts_end_and_unmounts(
    name: str, code: int, stalled: Servers, place: Place
) -> None:
    """Nothing new is submitted; nothing is left; a report is there."""
    plan = stalled.plan(place.directory, targets=40)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 2)

    process.send_signal(signal.Signals[name])
    until_stopping(process)
    stalled.go_on()
    ended_with, _, err = ended(process)

    assert ended_with == code, err
    check(stalled, place, plan)
    assert not stalled.truth().still_open()
    assert 0 < place.values()["totals"]["mounted"] < 40


def test_two_signals_leave_named_mounts_that_unmount_releases(
    stalled: Servers, place: Place
) -> None:
    """The second signal does not wait for mounts in the making: it names them, code 3."""
    plan = stalled.plan(place.directory, targets=40)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 2)

    process.send_signal(signal.SIGTERM)
    until_stopping(process)
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)

    assert code == 3, err
    check(stalled, place, plan)
    assert place.call("status", "last").returncode == 3
    stalled.go_on()
    released = place.call("unmount", "last")
    assert released.returncode == 0, released.stdout
    assert not stalled.truth().still_open()
    assert place.call("status", "last").returncode == 0


@pytest.fixture
def stalled_later() -> Iterator[Servers]:
    """Serve two servers that finish one mount, and no other until `go_on`."""
    with servers(stall_after=1) as running:
        yield running


def test_after_kill_9_status_names_what_may_be_mounted_and_unmount_releases_it(
    stalled_later: Servers, place: Place
) -> None:
    """The journal and the session's side file are enough; the session is closed at the end.

    Every request is answered before the death: one in doubt would be waited for, for 3 minutes.
    Of the plan only the servers are read: its targets and checks may be broken meanwhile.
    """
    plan = stalled_later.plan(place.directory, targets=8)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 6)  # the first and the second wave

    kill(process)
    plan.write_text(plan.read_text() + "checks: {gone: [{path: gone, no_such_key: 1}]}\n")
    assert place.call("validate", plan).returncode == 2

    status = place.call("status", "last")
    assert status.returncode == 3
    assert ": dead" in status.stdout
    assert "May still be mounted; until about " in status.stdout
    for fate in stalled_later.truth().still_open():
        assert fate.vm in status.stdout
    place.call("report", "last", "--report", str(place.report))
    assert place.values()["totals"]["may_be_mounted"] >= 5
    stalled_later.go_on()
    released = place.call("unmount", "last")
    assert released.returncode == 0, released.stdout
    assert f"reports updated: {place.report}" in released.stdout
    assert place.values()["totals"]["may_be_mounted"] == 0
    truth = stalled_later.truth()
    assert not truth.still_open()
    assert truth.sessions_closed == truth.logons == 2


def test_a_second_run_of_the_same_plan_is_refused(stalled: Servers, place: Place) -> None:
    """Code 6 while the first one runs; the first one is not disturbed, and can be watched."""
    plan = stalled.plan(place.directory, targets=20)
    first = place.start("run", plan, "--yes", "--json")
    until_running(first, 1)

    second = place.call("run", plan, "--yes")
    until(lambda: ": running; " in place.call("status", "last").stdout)  # it is in the journal
    status = place.call("status", "last")

    assert second.returncode == 6
    assert "running" in status.stdout
    assert ": running; " in status.stdout.split("Open now:")[1]
    assert "mount " not in status.stdout  # what would be left of it if it died now
    stalled.go_on()
    assert ended(first)[0] == 0
    assert len(stalled.truth().mounts) == 20


def test_closed_streams_never_end_a_run(stalled: Servers, place: Place) -> None:
    """Whoever reads stdout and stderr may go away; the run ends, unmounts and reports."""
    plan = stalled.plan(place.directory, targets=8)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 1)

    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    stalled.go_on()
    code = process.wait(PATIENCE_S)

    assert code == 0
    check(stalled, place, plan)
    assert place.values()["totals"]["mounted"] == 8
