"""The report's values: what the events say, nothing more and nothing less."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from msgspec import convert
from msgspec.structs import replace

from orchestrator.core.events import (
    MountReleased,
    RunHalted,
    RunNoted,
    RunResumed,
    ServerGivenUp,
    ServerMeasured,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionStarted,
    TargetPlanned,
    TaskAccepted,
    WaveFinished,
    WaveStarted,
)
from orchestrator.core.model import (
    MountKey,
    MountState,
    OsKind,
    RestorePointId,
    Result,
    ServerName,
    TaskId,
    WaveName,
)
from orchestrator.core.proof import DownloadOutcome
from orchestrator.core.proof import Fate as Copied
from orchestrator.core.run_state import RunState
from orchestrator.report import as_json
from orchestrator.report.summary import summarize
from orchestrator.report.values import CopyReport
from tests.report.builders import (
    ENDS,
    SESSION,
    STARTED_AT,
    Fate,
    finished,
    life,
    run_of,
    runs,
    started,
)

HQ = ServerName("hq")


@pytest.mark.parametrize("fate", Fate)
def test_every_fate_is_reported_as_what_it_was(fate: Fate) -> None:
    """Result and mount are two facts, and each is the one that was recorded."""
    (target,) = summarize(run_of(life("sql01", fate))).targets

    assert (target.result, target.mount) == ENDS[fate]


@given(runs())
@settings(deadline=None, max_examples=30)
def test_totals_are_sums_over_the_targets(state: RunState) -> None:
    """The totals sum to the targets, and every name of a result has its total."""
    report = summarize(state)

    counts = Counter(target.result for target in report.targets)
    assert dict(report.totals) == {
        "targets": len(state.records),
        **{result.value: counts[result] for result in Result},
        "left": sum(target.mount is MountState.LEFT for target in report.targets),
        "may_be_mounted": sum(target.mount is MountState.UNKNOWN for target in report.targets),
    }
    assert sum(report.totals[result] for result in Result) == report.totals["targets"]
    assert sum(wave.targets for wave in report.waves) == report.totals["targets"]


def test_the_phases_are_the_seconds_between_the_events() -> None:
    """Every phase is named and holds the time that was spent in it."""
    (target,) = summarize(run_of(life("sql01"))).targets

    assert target.phases_s == {
        "queued": 3.0,
        "busy": 0.0,
        "submitting": 0.5,
        "running": 40.0,
        "collecting": 1.5,
        "verifying": 2.0,
        "held": 0.0,
        "unmounting": 1.0,
    }
    assert target.verdict_s == 47.0


def test_time_in_doubt_is_time_of_submitting() -> None:
    """A lost answer that was found again stays visible in the phases and as an adoption."""
    planned, submitted, *_ = life("sql01")
    assert isinstance(submitted, SubmissionStarted)
    key = submitted.key
    doubt = SubmissionInDoubt(at=5.0, key=key, reason="the answer was lost")
    found = TaskAccepted(at=9.0, key=key, task=TaskId("task-3"), adopted=True)

    (target,) = summarize(run_of([planned, submitted, doubt, found])).targets

    assert target.phases_s["submitting"] == 6.0
    assert (target.attempts[0].adopted, target.attempts[0].task_id) == (True, "task-3")


def test_a_submission_that_was_never_sent_leaves_the_target_cancelled() -> None:
    """Nothing is unknown about a target when nothing of it ever reached the server."""
    planned, submitted, *_ = life("sql01")
    assert isinstance(submitted, SubmissionStarted)
    not_sent = SubmissionNotSent(at=4.0, key=submitted.key, reason="no connection")

    (target,) = summarize(run_of([planned, submitted, not_sent])).targets

    assert (target.result, target.mount) == (Result.CANCELLED, MountState.NONE)
    assert target.attempts[0].outcome == "not_sent"


def test_an_unfinished_target_says_where_it_was_last_seen() -> None:
    """A killed run's open target is unknown, and its message names the phase."""
    (target,) = summarize(run_of(life("sql01", Fate.RUNNING))).targets

    assert target.message == "not concluded: last seen running"


def test_a_target_without_a_point_has_none() -> None:
    """What was not chosen is null, not invented: no point, no backup server, no attempts."""
    planned = TargetPlanned(
        at=0.0,
        key=MountKey("databases/hq/gone"),
        wave=WaveName("databases"),
        server=HQ,
        label="gone",
        os_kind=OsKind.LINUX,
    )

    (target,) = summarize(run_of([planned])).targets

    assert (target.point, target.backup_server, target.attempts) == (None, None, ())
    assert (target.vm, target.os) == ("gone", "linux")


def test_the_point_s_age_counts_back_from_the_start() -> None:
    """Ages are seconds between the point's creation and the start of the run."""
    (target,) = summarize(run_of(life("sql01", age_s=39_761.25))).targets

    assert target.point is not None
    assert (target.point.id, target.point.age_s) == (RestorePointId("0f3c"), 39_761.25)


def test_a_server_is_what_it_said_and_what_was_measured() -> None:
    """The last session tells the API version and the clock; the measurement the rest."""
    session = SessionOpened(
        at=1.0,
        server=HQ,
        session=SESSION,
        user="LAB\\drill",
        api_version="v1_6",
        clock_offset_s=0.4,
    )
    measured = ServerMeasured(
        at=50.0, server=HQ, requests=1234, retries=3, peak_mounts=11, sessions=1
    )

    (server,) = summarize(run_of([session, measured], life("sql01"))).servers

    assert (server.api_version, server.clock_offset_s, server.user) == ("v1_6", 0.4, "LAB\\drill")
    assert (server.requests, server.retries, server.peak_mounts) == (1234, 3, 1)
    assert (server.sessions, server.mounts_limit, server.problem) == (1, 12, None)


def test_a_server_that_nobody_reached_has_no_measurements() -> None:
    """What was not measured is null, never zero."""
    (server,) = summarize(run_of()).servers

    assert (server.requests, server.retries, server.peak_mounts) == (None, None, None)
    assert (server.clock_offset_s, server.user, server.sessions) == (None, None, 0)


def test_a_server_s_problem_lasts_as_long_as_the_problem() -> None:
    """A parked server that answered again has no problem; one given up keeps its reason."""
    parked = ServerParked(at=1.0, server=HQ, reason="503")
    resumed = ServerResumed(at=9.0, server=HQ, waited_s=8.0)
    given_up = ServerGivenUp(at=20.0, server=HQ, reason="outage", refused=False)

    def problem(*events: ServerParked | ServerResumed | ServerGivenUp) -> str | None:
        return summarize(run_of(events)).servers[0].problem

    assert problem(parked) == "503"
    assert problem(parked, resumed) is None
    assert problem(parked, resumed, given_up) == "outage"


def test_a_server_s_outages_and_paces_are_kept_from_begin_to_end() -> None:
    """Another process asks anew: what troubled the earlier one ends there, at the latest."""
    state = run_of(
        [
            ServerParked(at=5, server=HQ, reason="no answer"),
            ServerResumed(at=65, server=HQ, waited_s=60),
            ServerPaced(at=70, server=HQ, allowed=3),
            ServerPaced(at=80, server=HQ, allowed=None),
            ServerPaced(at=85, server=HQ, allowed=5),
            ServerParked(at=90, server=HQ, reason="503"),
            RunResumed(at=200, resumed_at=STARTED_AT, version="1"),
            ServerParked(at=210, server=HQ, reason="again"),
        ]
    )

    (server,) = summarize(state).servers
    (told,) = json.loads(as_json.render(summarize(state)))["servers"]

    outages = [(each.start_s, each.end_s, each.reason) for each in server.outages]
    assert outages == [(5, 65, "no answer"), (90, 200, "503"), (210, None, "again")]
    paces = tuple((each.at_s, each.mounts) for each in server.paces)
    assert paces == ((70, 3), (80, None), (85, 5), (200, None))
    assert told["outages"][2] == {"start_s": 210, "end_s": None, "reason": "again"}
    assert told["paces"][0] == {"at_s": 70, "mounts": 3}


def test_waves_have_the_times_that_were_recorded() -> None:
    """A wave that never began has no times, and one that ended has both."""
    wave = WaveName("directory")
    events = [WaveStarted(at=1.0, wave=wave), WaveFinished(at=8.5, wave=wave)]

    directory, databases = summarize(run_of(events)).waves

    assert directory.started_at is not None
    assert directory.finished_at is not None
    assert (directory.finished_at - directory.started_at).total_seconds() == 7.5
    assert (databases.started_at, databases.finished_at) == (None, None)


def test_a_run_without_its_end_is_interrupted_and_has_no_exit_code() -> None:
    """A killed run's report does not pretend to an end; its duration is what was seen."""
    run = summarize(run_of([RunNoted(at=33.0, message="x")]), chain_head="c0ffee").run

    assert (run.interrupted, run.finished_at, run.exit_code) == (True, None, None)
    assert (run.duration_s, run.journal_head) == (33.0, "c0ffee")


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_run_with_its_end_tells_how_it_ended(interrupted: bool) -> None:
    """Halt, interruption, duration and exit code are those that were recorded."""
    halted = RunHalted(at=10.0, reason="budget", detail="6 of 20 failed")

    run = summarize(run_of([halted, finished(60.5, 5, interrupted=interrupted)])).run

    assert (run.halted, run.exit_code, run.duration_s) == ("budget: 6 of 20 failed", 5, 60.5)
    assert run.interrupted is interrupted


def test_warnings_name_what_a_green_report_would_hide() -> None:
    """An unchecked certificate, a lost session, a lost server and every note are warnings."""
    lost = SessionEnded(at=1.0, server=HQ, session=SESSION, lost=True, reason="401")
    ours = SessionEnded(at=2.0, server=HQ, session=SESSION, lost=False, reason="logoff")
    gone = ServerGivenUp(at=3.0, server=HQ, reason="outage", refused=False)
    note = RunNoted(at=4.0, message="the clock differs by 90 s")

    warnings = summarize(run_of([lost, ours, gone, note], first=started(tls="insecure"))).warnings

    assert len(warnings) == 4
    for said, warning in zip(("NOT checked", "401", "outage", "90 s"), warnings, strict=True):
        assert said in warning


@pytest.mark.parametrize("fate", [Fate.TASK_FAILED, Fate.VANISHED, Fate.SKIPPED])
def test_the_report_says_what_it_does_not_prove(fate: Fate) -> None:
    """Beyond what no run proves, targets without a good result prove less."""
    good = summarize(run_of(life("a"))).not_proven
    bad = summarize(run_of(life("a"), life("b", fate))).not_proven

    assert any("not booted" in line for line in good)
    assert set(good) < set(bad)


def test_a_mount_released_by_hand_is_released_in_a_rebuilt_report() -> None:
    """What the `unmount` command released after the run is not called left any more."""
    lived = life("sql01", Fate.LEFT)
    planned = lived[0]
    assert isinstance(planned, TargetPlanned)
    by_hand = MountReleased(at=90.0, key=planned.key, by_hand=True)

    report = summarize(run_of(lived, [finished(60.0, 3)], [by_hand]))

    assert (report.targets[0].mount, report.totals["left"]) == (MountState.RELEASED, 0)
    assert report.run.exit_code == 3


@pytest.mark.parametrize(("ages_s", "warned"), [((90_000, 86_000), False), ((90_000,), True)])
def test_a_stale_inventory_is_told(ages_s: tuple[float, ...], warned: bool) -> None:
    """A server where even the newest point is older than a day: is data still collected?"""
    lives = [life(f"vm{n}", age_s=age) for n, age in enumerate(ages_s)]

    warnings = summarize(run_of(*lives, [finished()])).warnings

    assert any("hq: even the newest restore point of this run" in w for w in warnings) is warned


def test_what_an_earlier_attempt_wrote_is_not_forgotten() -> None:
    """A file in a guest stays changed, whatever the attempts after it did."""
    written = DownloadOutcome(path="D:\\a.txt", to=None, fate=Copied.RESTORED)
    state = run_of(life("sql01"))
    (record,) = state.records.values()
    earlier = replace(record.attempts[0], number=0, downloads=(written,), verdict=None)
    state.records[record.planned.key] = replace(record, attempts=(earlier, *record.attempts))

    (target,) = summarize(state).targets

    assert target.downloads == ()
    assert target.written == (convert(written, CopyReport, from_attributes=True),)
