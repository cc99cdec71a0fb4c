"""Counting along: at every event the numbers add up, and at the end they are the results."""

from __future__ import annotations

import pytest

from orchestrator.events import (
    DeadlinePassed,
    Event,
    MountLeft,
    MountReleased,
    RunHalted,
    ServerGivenUp,
    ServerParked,
    ServerResumed,
    StopRequested,
    SubmissionInDoubt,
    SubmissionNotSent,
)
from orchestrator.lifecycle import Phase
from orchestrator.model import Href, MountState, Result, ServerName
from orchestrator.progress.picture import picture
from orchestrator.runstate import fold
from orchestrator.tally import RECENT_FAILURES, Tally
from tests.progress.story import (
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


def tallied(*events: Event) -> Tally:
    """Return the tally after a whole story."""
    tally = Tally()
    for event, record in told(events):
        tally.take(event, record)
    return tally


def test_the_numbers_add_up_at_every_event() -> None:
    """Done, open and waiting make the targets, and each target is in exactly one phase."""
    tally, at = Tally(), 0.0

    for event, record in told(STORY):
        tally.take(event, record)
        at = max(at, event.at)

        assert sum(tally.phases.values()) == tally.targets
        assert min(tally.phases.values(), default=0) >= 0
        assert tally.phases[Phase.DONE] == tally.done == sum(tally.done_by_server.values())
        assert sum(tally.held.values()) == len(tally.running)
        assert tally.phases[Phase.QUEUED] == tally.targets - tally.done - len(tally.running)
        assert tally.now == at


def test_results_and_servers_are_counted_apart() -> None:
    """Each server has its own targets, done and slots; each result its own number."""
    tally = tallied(*STORY)

    assert tally.results == {Result.VERIFIED: 1, Result.FAILED: 1, Result.SKIPPED: 1}
    assert (tally.by_server[HQ], tally.by_server[LAB]) == (3, 1)
    assert (tally.done_by_server[HQ], tally.done_by_server[LAB]) == (3, 0)
    assert (tally.held[HQ], tally.held[LAB]) == (0, 1)
    assert tally.counts() == (
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
    tally = tallied(*events)
    anew = Tally()
    anew.take_over(fold(events))

    assert tally.left == anew.left == {key("a")}
    assert "1 MAY BE MOUNTED" in tally.counts()
    assert any("1 MAY BE MOUNTED" in span.text for row in picture(tally, 80, 5) for span in row)
    assert not tallied(*events, MountReleased(at=9, key=key("a"))).left


def test_a_slot_is_held_from_the_intent_on() -> None:
    """A submission counts as open before the server said anything, and while in doubt."""
    tally, held = Tally(), []

    for event, record in told(STORY):
        tally.take(event, record)
        if getattr(event, "key", None) == key("d", "lab"):
            held.append(tally.held[LAB])

    assert held == [0, 1, 1, 1]
    assert tally.running[key("d", "lab")].phase is Phase.RUNNING


def test_what_runs_is_shown_as_it_is_now() -> None:
    """A change within one phase replaces the record that is shown."""
    late = DeadlinePassed(at=1300, key=key("a"), phase="mount", allowed_s=1200)

    tally = tallied(started(), planned("a"), submitted("a", 1), accepted("a", 2), late)

    assert tally.running[key("a")].overdue


def test_only_the_newest_failures_are_kept() -> None:
    """Failed and unknown targets are failures; skipped, cancelled and good ones are not."""
    vms = [f"f{number}" for number in range(RECENT_FAILURES + 3)]
    events: list[Event] = [started(), planned("good"), planned("skip"), *map(planned, vms)]
    events += [*verified("good", 1), concluded("skip", 8, Result.SKIPPED)]
    for number, vm in enumerate(vms):
        events += failed(vm, 10.0 + number * 5)

    tally = tallied(*events)

    assert [record.planned.label for record in tally.failures] == vms[-RECENT_FAILURES:]


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
    tally = tallied(started("hq", "lab"), *events)

    assert tally.trouble == trouble


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
    tally = Tally()
    tally.take(started(), None)
    assert tally.ending is None

    tally.take(event, None)

    assert tally.ending is not None
    assert tally.ending.startswith(words)


def test_a_limit_is_known_once_the_run_began() -> None:
    """It is the plan's limit, and None where the plan sets none."""
    tally = Tally()
    assert tally.limit_of(HQ) is None

    tally.take(started("hq", limit=7), None)

    assert tally.limit_of(HQ) == 7
    assert tally.limit_of(LAB) is None


def test_the_end_of_the_run_changes_no_number() -> None:
    """Targets without a result are not counted as done because the run is over."""
    tally = tallied(started(), planned("a"), submitted("a", 1), finished(5, 3))

    assert (tally.done, tally.targets, len(tally.running)) == (0, 1, 1)
