"""Counting along: at every event the numbers add up, and at the end they are the results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.events import (
    DeadlinePassed,
    Event,
    MountLeft,
    MountReleased,
    OutOfReach,
    RunFinished,
    RunHalted,
    ServerGivenUp,
    ServerParked,
    ServerResumed,
    SessionEnded,
    StopRequested,
    StrayFound,
    StrayReleased,
    SubmissionInDoubt,
    SubmissionNotSent,
)
from orchestrator.core.left_open import DIED
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import Href, MountState, Result, ServerName, SessionId, TaskId
from orchestrator.core.run_state import fold
from orchestrator.views.picture import picture
from orchestrator.views.statistics import RECENT_FAILURES, RunStatistics
from tests.report.builders import SESSION, journals
from tests.views.story import (
    accepted,
    concluded,
    failed,
    finished,
    key,
    planned,
    started,
    submitted,
    told,
    verified,
    wave,
)

HQ, LAB = ServerName("hq"), ServerName("lab")

STORY: list[Event] = [
    started("hq", "lab"),
    *[planned(vm) for vm in ("a", "b", "c")],
    planned("d", "lab"),
    wave(0),
    *verified("a", 1),
    submitted("b", 8),
    SubmissionNotSent(at=9, key=key("b"), reason="connection refused"),
    *failed("b", 10),
    concluded("c", 13, Result.SKIPPED),
    submitted("d", 14, "lab"),
    SubmissionInDoubt(at=15, key=key("d", "lab"), reason="no answer"),
    accepted("d", 16, "lab"),
]


def tallied(*events: Event) -> RunStatistics:
    """Return the statistics after a whole story."""
    stats = RunStatistics()
    for event, record in told(events):
        stats.observe(event, record)
    return stats


def test_the_numbers_add_up_at_every_event() -> None:
    """Done, open and waiting make the targets, and each target is in exactly one phase."""
    stats, at = RunStatistics(), 0.0

    for event, record in told(STORY):
        stats.observe(event, record)
        at = max(at, event.at)

        assert sum(stats.phases.values()) == stats.targets
        assert min(stats.phases.values(), default=0) >= 0
        assert stats.phases[Phase.DONE] == stats.done == sum(stats.done_by_server.values())
        assert sum(stats.held.values()) == len(stats.running)
        assert stats.phases[Phase.QUEUED] == stats.targets - stats.done - len(stats.running)
        assert stats.now == at


def test_results_and_servers_are_counted_apart() -> None:
    """Each server has its own targets, done and slots; each result its own number."""
    stats = tallied(*STORY)

    assert stats.results == {Result.VERIFIED: 1, Result.FAILED: 1, Result.SKIPPED: 1}
    assert (stats.by_server[HQ], stats.by_server[LAB]) == (3, 1)
    assert (stats.done_by_server[HQ], stats.done_by_server[LAB]) == (3, 0)
    assert (stats.held[HQ], stats.held[LAB]) == (0, 1)
    assert stats.counts() == (
        "3/4 done, 1 verified, 1 failed, 1 skipped, 1 open, 0 waiting, 1 check"
    )


def test_what_may_be_mounted_is_counted_until_it_is_released() -> None:
    """Whatever the result is: a verified target's mount needs a person too."""
    *until_unmount, _released, _concluded = verified("a", 1)
    events = [
        *(started("hq"), planned("a"), *until_unmount),
        MountLeft(at=7, key=key("a"), mount=Href("/m/a"), reason="refused"),
        concluded("a", 7, Result.VERIFIED, MountState.LEFT),
    ]
    stats = tallied(*events)

    assert set(stats.left) == {key("a")}
    assert "1 MAY BE MOUNTED" in stats.counts()
    assert any("1 MAY BE MOUNTED" in span.text for row in picture(stats, 80, 5) for span in row)
    assert stats.open_on(HQ) == 1
    released = tallied(*events, MountReleased(at=9, key=key("a")))
    assert not released.left
    assert released.open_on(HQ) == 0


def test_what_nobody_can_know_keeps_its_slot() -> None:
    """From the moment it is out of reach, and after the target's conclusion."""
    events = [started("hq"), planned("a"), submitted("a", 1), accepted("a", 2)]
    lost = OutOfReach(at=3, key=key("a"), reason="the session was lost")
    over = concluded("a", 4, Result.UNKNOWN, MountState.UNKNOWN)

    for story in (events, [*events, lost], [*events, lost, over]):
        assert tallied(*story).open_on(HQ) == 1


def test_a_slot_is_held_from_the_intent_on() -> None:
    """A submission counts as open before the server said anything, and while in doubt."""
    stats, held = RunStatistics(), []

    for event, record in told(STORY):
        stats.observe(event, record)
        if getattr(event, "key", None) == key("d", "lab"):
            held.append(stats.held[LAB])

    assert held == [0, 1, 1, 1]
    assert stats.running[key("d", "lab")].phase is Phase.RUNNING


def test_what_runs_is_shown_as_it_is_now() -> None:
    """A change within one phase replaces the record that is shown."""
    late = DeadlinePassed(at=1300, key=key("a"), phase="mount", allowed_s=1200)

    stats = tallied(started(), planned("a"), submitted("a", 1), accepted("a", 2), late)

    assert stats.running[key("a")].overdue


def test_only_the_newest_failures_are_kept() -> None:
    """Failed and unknown targets are failures; skipped, cancelled and good ones are not."""
    vms = [f"f{number}" for number in range(RECENT_FAILURES + 3)]
    events: list[Event] = [started(), planned("good"), planned("skip"), *map(planned, vms)]
    events += [*verified("good", 1), concluded("skip", 8, Result.SKIPPED)]
    for number, vm in enumerate(vms):
        events += failed(vm, 10.0 + number * 5)

    stats = tallied(*events)

    assert [record.planned.label for record in stats.failures] == vms[-RECENT_FAILURES:]


@pytest.mark.parametrize(
    ("events", "trouble"),
    [
        ([ServerParked(at=1, server=HQ, reason="503")], {HQ: "waiting: 503"}),
        (
            [
                ServerParked(at=1, server=HQ, reason="503"),
                ServerResumed(at=9, server=HQ, waited_s=8),
            ],
            {},
        ),
        ([ServerResumed(at=9, server=LAB, waited_s=8)], {}),
        (
            [
                ServerParked(at=1, server=HQ, reason="503"),
                ServerGivenUp(at=9, server=HQ, reason="silent", refused=False),
            ],
            {HQ: "given up: silent"},
        ),
    ],
    ids=["parked", "resumed", "never parked", "given up"],
)
def test_a_server_in_trouble_says_why_until_it_is_over(
    events: list[Event], trouble: dict[ServerName, str]
) -> None:
    """The newest word on each server counts."""
    stats = tallied(started("hq", "lab"), *events)

    assert stats.trouble == trouble


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (StopRequested(at=1, signal="SIGINT", forced=False), "stopping (SIGINT)"),
        (RunHalted(at=1, reason="budget", detail="3 of 4 failed"), "halted: 3 of 4 failed"),
    ],
    ids=["stopped", "halted"],
)
def test_a_run_that_ends_early_says_so(event: Event, words: str) -> None:
    """Nothing is said before; afterwards the reason is."""
    stats = RunStatistics()
    stats.observe(started(), None)
    assert stats.ending is None

    stats.observe(event, None)

    assert stats.ending is not None
    assert stats.ending.startswith(words)


def test_the_end_of_the_run_changes_no_number() -> None:
    """Targets without a result are not counted as done because the run is over."""
    stats = tallied(started(), planned("a"), submitted("a", 1), finished(5, 3))

    assert (stats.done, stats.targets, len(stats.running)) == (0, 1, 1)


def test_a_mount_of_no_target_uses_a_slot_until_it_is_gone() -> None:
    """It counts on its server and among what may be mounted."""
    stray = StrayFound(at=2, server=HQ, session=SessionId("s"), task=TaskId("t"), reason="x")
    gone = StrayReleased(at=3, server=HQ, session=SessionId("s"), task=TaskId("t"))
    events = [started("hq", "lab"), planned("a"), stray]
    stats = tallied(*events)

    assert (stats.open_on(HQ), stats.open_on(LAB), stats.may_be_mounted) == (1, 0, 1)
    assert "1 MAY BE MOUNTED" in stats.counts()
    released = tallied(*events, gone)
    assert (released.open_on(HQ), released.may_be_mounted) == (0, 0)


LATER: list[Event] = [
    StrayFound(at=70, server=HQ, session=SESSION, task=TaskId("t"), reason="sent twice"),
    StrayReleased(at=71, server=HQ, session=SESSION, task=TaskId("t")),
    SessionEnded(at=72, server=HQ, session=SESSION, lost=True, reason="401", unaudited="no answer"),
    SessionEnded(at=73, server=HQ, session=SESSION, lost=False, reason="logged off"),
]


@given(journals(), st.lists(st.sampled_from(LATER)), st.booleans())
def test_what_may_be_open_is_what_status_says(
    events: list[Event], later: list[Event], ended: bool
) -> None:
    """Of a run that ended, and of one whose process is gone: one answer, however it is counted."""
    story = [*(each for each in events if not isinstance(each, RunFinished)), *later]
    story += [finished(80, 3)] if ended else []
    state, stats = fold(story), tallied(*story)
    state.process_gone = True
    stats.abandoned = not ended

    shown, known = stats.left_open, state.left_open

    assert {each.planned.key for each in shown.records} == {
        each.planned.key for each in known.records
    }
    assert (shown.strays, shown.unaudited) == (known.strays, known.unaudited)
    assert (shown.mounts, shown.short()) == (known.mounts, known.short())
    assert shown.out_of_reach(stats.ends, stats.now) == state.out_of_reach


def test_a_session_that_nobody_has_read_is_shown() -> None:
    """In the live view and in lines, once its process is gone; not while it lives."""
    stats = tallied(started("hq"), planned("a"), wave(0), *verified("a", 1))
    words = "mounts of no target MAY BE MOUNTED on hq"
    living = (words in stats.counts(), bool(stats.left_open))
    stats.abandoned = True
    rows = ["".join(span.text for span in row) for row in picture(stats, 80, 20)]

    assert living == (False, False)
    assert stats.left_open.unaudited == {HQ: DIED}
    assert stats.counts().endswith(f", {words}")
    assert f"{words}: try bulk-restore unmount r-1" in rows
