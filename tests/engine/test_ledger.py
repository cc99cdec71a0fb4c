"""The ledger: legal, durable, visible, told, in this order, and each step can stop the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from orchestrator.core.errors import IllegalTransition, JournalError
from orchestrator.core.events import (
    Event,
    MountFound,
    RunNoted,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TaskAccepted,
    TaskSucceeded,
    VerdictReached,
)
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import (
    Href,
    MountKey,
    MountState,
    OsKind,
    RestorePointId,
    Result,
    ServerName,
    SessionId,
    TaskId,
    WaveName,
)
from orchestrator.engine.ledger import Ledger

KEY, OTHER = MountKey("w/hq/dc01"), MountKey("w/hq/dc02")
TASK = TaskId("task-1")


def planned(key: MountKey = KEY) -> TargetPlanned:
    """Return the first event of a target."""
    return TargetPlanned(
        at=0,
        key=key,
        wave=WaveName("w"),
        server=ServerName("hq"),
        label="dc01",
        os_kind=OsKind.WINDOWS,
    )


STARTED = SubmissionStarted(
    at=1, key=KEY, attempt=1, session=SessionId("s"), point=RestorePointId("p")
)
ACCEPTED = TaskAccepted(at=2, key=KEY, task=TASK)
SUCCEEDED = TaskSucceeded(at=3, key=KEY, task=TASK, mount=Href("/m/1"))
NO_ROOTS = MountFound(at=4, key=KEY, mount=Href("/m/1"))
VERDICT = VerdictReached(at=5, key=KEY, result=Result.MOUNTED)
CONCLUDED = TargetConcluded(at=6, key=KEY, result=Result.MOUNTED, mount=MountState.RELEASED)
SKIPPED = TargetConcluded(at=6, key=KEY, result=Result.SKIPPED, mount=MountState.NONE)


@dataclass(slots=True)
class ListJournal:
    """Keeps events in a list; from `full_at` events on it takes no more."""

    events: list[Event] = field(default_factory=list)
    full_at: int = 1000
    refusal: str | None = None
    synced: int = 0

    def append(self, event: Event) -> None:
        """Keep the event, or say that it cannot be kept."""
        if len(self.events) >= self.full_at:
            raise JournalError("no space left")
        self.events.append(event)

    async def durable(self) -> None:
        """Count how much is on disk, or say that it is not."""
        if len(self.events) >= self.full_at:
            raise JournalError("no space left")
        self.synced = len(self.events)

    async def granted(self, intent: SubmissionStarted, taken: Callable[[], None]) -> str | None:
        """Refuse while there is a reason to; else keep it, have it applied, and sync."""
        if self.refusal is not None:
            return self.refusal
        try:
            self.append(intent)
        finally:
            taken()
        await self.durable()
        return None


@dataclass(slots=True)
class Listener:
    """Remembers what it was told; raises after `patience` events."""

    patience: int = 1000
    told: list[tuple[Event, MountRecord | None]] = field(default_factory=list)

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note, or fail."""
        self.told.append((event, record))
        if len(self.told) > self.patience:
            raise RuntimeError("the view is broken")


def ledger(journal: ListJournal, *listeners: Listener) -> Ledger:
    """Return a ledger on a clock that stands still."""
    return Ledger(journal, listeners, lambda: 0.0)


def test_what_is_recorded_is_in_the_journal_visible_and_told() -> None:
    """All three hold the same after each event, and the caller gets the new record."""
    journal, listener = ListJournal(), Listener()
    book = ledger(journal, listener)

    results = [book.record(event) for event in (planned(), RunNoted(at=0, message="x"), STARTED)]

    assert journal.events == [planned(), RunNoted(at=0, message="x"), STARTED]
    assert [event for event, _ in listener.told] == journal.events
    assert [record for _, record in listener.told] == results
    assert results[1] is None
    assert results[2] is book[KEY]
    assert book[KEY].phase is Phase.SUBMITTING


def test_each_step_comes_after_the_one_before() -> None:
    """While the journal takes an event nobody sees it yet; when somebody is told, all see it."""
    seen: list[str] = []

    class Watching(ListJournal):
        def append(self, event: Event) -> None:
            super().append(event)
            seen.append(f"journal: {book[KEY].phase if KEY in book else None}")

    class Looking(Listener):
        def observe(self, event: Event, record: MountRecord | None) -> None:
            assert record is book[KEY]
            seen.append(f"told: {book[KEY].phase}, {len(journal.events)} kept")

    journal = Watching()
    book = ledger(journal, Looking())

    book.record(planned())
    book.record(STARTED)

    assert seen == [
        "journal: None",
        "told: queued, 1 kept",
        "journal: queued",
        "told: submitting, 2 kept",
    ]


@pytest.mark.parametrize(
    ("history", "illegal"),
    [
        ([], STARTED),
        ([planned(OTHER)], STARTED),
        ([planned()], planned()),
        ([planned()], ACCEPTED),
        ([planned()], SUCCEEDED),
        ([planned()], CONCLUDED),
        ([planned(), STARTED], STARTED),
        ([planned(), STARTED], SKIPPED),
        ([planned(), STARTED, ACCEPTED], VERDICT),
        ([planned(), STARTED, ACCEPTED, SUCCEEDED, NO_ROOTS], VERDICT),
        ([planned(), SKIPPED], STARTED),
        ([planned(), SKIPPED], SKIPPED),
    ],
    ids=[
        *("never planned", "another planned", "planned twice", "accepted unasked", "no task"),
        *("success without a mount", "submitted twice", "skipped while submitting"),
        *("verdict while running", "verdict without a volume", "after the end", "two results"),
    ],
)
def test_an_illegal_event_leaves_no_trace(history: list[TargetEvent], illegal: TargetEvent) -> None:
    """It raises, and neither journal nor records nor observers know of it."""
    journal, listener = ListJournal(), Listener()
    book = ledger(journal, listener)
    for event in history:
        book.record(event)
    records = book.records

    with pytest.raises(IllegalTransition):
        book.record(illegal)

    assert journal.events == history
    assert book.records == records
    assert [event for event, _ in listener.told] == history


@pytest.mark.anyio
async def test_a_broken_journal_stops_what_needs_it_and_nothing_else() -> None:
    """Events go on being legal, visible and told; nothing is durable; all are told, once."""
    journal, listener = ListJournal(full_at=1), Listener()
    book = ledger(journal, listener)
    book.record(planned())

    book.record(STARTED)
    book.record(ACCEPTED)

    assert journal.events == [planned()]
    assert book[KEY].phase is Phase.RUNNING
    told = [type(event) for event, _ in listener.told]
    assert told == [TargetPlanned, SubmissionStarted, RunNoted, TaskAccepted]
    assert await book.breaks() == "no space left"
    assert not await book.saved()
    with pytest.raises(JournalError, match="no space left"):
        await book.durable()
    with pytest.raises(IllegalTransition):
        book.record(STARTED)


@pytest.mark.anyio
async def test_a_journal_that_broke_is_not_asked_again() -> None:
    """What it says later, when there is room once more, would have a gap before it."""
    journal = ListJournal(full_at=0)
    book = ledger(journal)
    book.record(planned())

    journal.full_at = 1000
    book.record(STARTED)

    assert journal.events == []
    assert not await book.saved()


@pytest.mark.anyio
async def test_durable_is_as_good_as_the_journal() -> None:
    """It returns once everything is on disk, and raises where it is not."""
    journal = ListJournal(full_at=2)
    book = ledger(journal)
    book.record(planned())

    await book.durable()
    assert journal.synced == 1
    book.record(STARTED)

    with pytest.raises(JournalError, match="no space left"):
        await book.durable()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_observer_that_fails_changes_nothing_for_anybody_else(place: int) -> None:
    """Event, record and every other observer are as if it had not been there; it is let go."""
    journal, others = ListJournal(), [Listener(), Listener()]
    broken = Listener(patience=1)
    listeners = [*others[:place], broken, *others[place:]]
    book = ledger(journal, *listeners)
    events = [planned(), STARTED, ACCEPTED, RunNoted(at=3, message="x")]

    for event in events:
        book.record(event)

    assert journal.events == events
    assert book[KEY].phase is Phase.RUNNING
    for listener in others:
        assert [event for event, _ in listener.told] == events
    assert len(broken.told) == 2


def test_all_observers_may_fail_at_once() -> None:
    """A run without any view is still a run."""
    book = ledger(ListJournal(), *(Listener(patience=0) for _ in range(3)))

    book.record(planned())
    book.record(STARTED)

    assert book[KEY].phase is Phase.SUBMITTING


def test_a_continued_ledger_knows_its_targets_and_tells_nobody() -> None:
    """A later process goes on where the journal ends, under the same rules."""
    first = ledger(ListJournal())
    first.record(planned())
    first.record(planned(OTHER))
    journal = ListJournal()

    book = Ledger(journal, (), lambda: 7.0, first.records)
    book.record(STARTED)

    assert journal.events == [STARTED]
    assert [record.planned.key for record in book.records] == [KEY, OTHER]
    assert (len(book), KEY in book, MountKey("x") in book) == (2, True, False)
    assert first[KEY].phase is Phase.QUEUED
    assert book.now() == 7.0
    with pytest.raises(IllegalTransition, match="planned twice"):
        book.record(planned())


@pytest.mark.anyio
async def test_an_intent_is_applied_once_it_is_granted() -> None:
    """It is on disk, visible and told when `intend` returns."""
    journal, listener = ListJournal(), Listener()
    book = ledger(journal, listener)
    book.record(planned())

    assert await book.intend(STARTED) is None

    assert book[KEY].phase is Phase.SUBMITTING
    assert journal.synced == 2
    assert [event for event, _ in listener.told] == [planned(), STARTED]


@pytest.mark.anyio
async def test_an_intent_that_is_not_granted_leaves_no_trace() -> None:
    """The target waits as before, and may be tried again."""
    journal, listener = ListJournal(refusal="the wave is not open"), Listener()
    book = ledger(journal, listener)
    book.record(planned())

    assert await book.intend(STARTED) == "the wave is not open"

    assert book[KEY].phase is Phase.QUEUED
    assert journal.events == [planned()]
    assert len(listener.told) == 1


@pytest.mark.anyio
async def test_an_intent_that_cannot_be_kept_is_said_to_be_there() -> None:
    """What failed may have been written: the record must not say that nothing was begun."""
    journal = ListJournal(full_at=1)
    book = ledger(journal)
    book.record(planned())

    with pytest.raises(JournalError):
        await book.intend(STARTED)

    assert book[KEY].phase is Phase.SUBMITTING
    assert book.broken == "no space left"


def test_what_another_process_has_recorded_is_applied_and_not_journaled_again() -> None:
    """It changes the records, and observers are told."""
    journal, listener = ListJournal(), Listener()
    book = ledger(journal, listener)

    book.take_in(planned())
    book.take_in(STARTED)

    assert book[KEY].phase is Phase.SUBMITTING
    assert journal.events == []
    assert [event for event, _ in listener.told] == [planned(), STARTED]
