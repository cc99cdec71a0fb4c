"""The ledger: each event is legal, durable, visible, and only then shown to observers.

The one synchronous place where state changes. There is no await between deciding and
recording, so a coroutine that reads a record sees everything that was decided before.

When the journal breaks, nothing is durable any more, and nothing that needs it may begin; but
the rest goes on in memory, so that what is mounted is still unmounted and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import anyio

from orchestrator.core.errors import JournalError
from orchestrator.core.events import (
    Event,
    PlaceholderReplaced,
    RunNoted,
    SubmissionStarted,
    TargetEvent,
)
from orchestrator.core.lifecycle import MountRecord, advance
from orchestrator.core.model import MountKey
from orchestrator.core.ports.journal import Journal, Observer
from orchestrator.log import Log

log = Log(__name__)


class Ledger:
    """Every event of one run passes through `record`; the ledger holds all records of targets."""

    def __init__(
        self,
        journal: Journal,
        observers: Sequence[Observer],
        clock: Callable[[], float],
        records: Iterable[MountRecord] = (),
    ) -> None:
        """`clock` gives seconds on the run's own clock; `records` are an earlier process's."""
        self.now = clock
        self._journal = journal
        self._observers = list(observers)
        self._records = {record.planned.key: record for record in records}
        self._broke = anyio.Event()
        self.broken: str | None = None
        """Why the journal takes nothing any more, or None."""

    def __getitem__(self, key: MountKey) -> MountRecord:
        """Return the record of a planned target."""
        return self._records[key]

    def __contains__(self, key: MountKey) -> bool:
        """Return whether the target was planned in this run."""
        return key in self._records

    def __len__(self) -> int:
        """Return how many targets were planned."""
        return len(self._records)

    @property
    def records(self) -> Sequence[MountRecord]:
        """All records, in the order in which the targets were planned."""
        return list(self._records.values())

    def record(self, event: Event) -> MountRecord | None:
        """Make `event` a fact: legal by the table, in the journal, applied, shown to observers.

        Returns the target's record after a target event, else None. A broken journal keeps
        nothing, but what happened is still visible and told.

        Raises:
            IllegalTransition: the table forbids it; nothing was recorded.
        """
        after = advance(self._records, event) if isinstance(event, TargetEvent) else None
        trouble = self._not_kept(event)
        self._apply(event, after)
        if trouble is not None:
            self._go_on_without(trouble)
        return after

    def take_in(self, event: Event) -> MountRecord | None:
        """Apply an event that another process has recorded; return the target's record, if any.

        Raises:
            IllegalTransition: the table forbids it.
        """
        after = advance(self._records, event) if isinstance(event, TargetEvent) else None
        self._apply(event, after)
        return after

    async def intend(self, intent: SubmissionStarted) -> str | None:
        """Record an intent, unless the run may not mount now, and return when it is on disk.

        Returns why it may not; then nothing was recorded.

        Raises:
            IllegalTransition: the table forbids it; nothing was recorded.
            JournalError: it is recorded, and cannot be kept; it must not be acted on.
        """
        after = advance(self._records, intent)
        if self.broken is not None:
            self._apply(intent, after)
            raise JournalError(self.broken)
        try:
            return await self._journal.granted(intent, lambda: self._apply(intent, after))
        except JournalError as exc:
            self._go_on_without(exc)
            raise

    def _apply(self, event: Event, after: MountRecord | None) -> None:
        if after is not None:
            self._records[after.planned.key] = after
        elif isinstance(event, PlaceholderReplaced):
            del self._records[event.key]
        self._tell_all(event, after)

    def watch(self, observer: Observer) -> None:
        """Tell one more observer, of what comes from now on."""
        self._observers = [*self._observers, observer]

    def note(self, message: str) -> None:
        """Record a line for the report that belongs to no target."""
        self.record(RunNoted(at=self.now(), message=message))

    async def durable(self) -> None:
        """Return when everything recorded so far is on disk.

        Raises:
            JournalError: it is not; the effect that waited for it must not happen.
        """
        if self.broken is not None:
            raise JournalError(self.broken)
        try:
            await self._journal.durable()
        except JournalError as exc:
            self._go_on_without(exc)
            raise

    async def saved(self) -> bool:
        """Bring everything recorded so far to disk, and return whether that worked.

        For what must happen in any case: an unmount does not wait for a broken journal.
        """
        with suppress(JournalError):
            await self.durable()
        return self.broken is None

    async def breaks(self) -> str:
        """Return why the journal takes nothing any more, as soon as that is so."""
        await self._broke.wait()
        assert self.broken is not None  # noqa: S101 - set before the event is
        return self.broken

    def _not_kept(self, event: Event) -> JournalError | None:
        """Give the journal the event; return the error, the first time that one occurs."""
        if self.broken is None:
            try:
                self._journal.append(event)
            except JournalError as exc:
                return exc
        return None

    def _go_on_without(self, trouble: JournalError) -> None:
        """Record nothing in the journal any more, and inform everything that waits, once."""
        if self.broken is None:
            self.broken = str(trouble)
            log.error("journal.broken", why=self.broken)
            message = (
                f"the journal is INCOMPLETE: {trouble}; nothing more was submitted, and what "
                "happened from here on stands in this report only"
            )
            self._tell_all(RunNoted(at=self.now(), message=message), None)
            self._broke.set()

    def _tell_all(self, event: Event, record: MountRecord | None) -> None:
        for observer in self._observers:
            self._tell(observer, event, record)

    def _tell(self, observer: Observer, event: Event, record: MountRecord | None) -> None:
        """Show the event to one observer; its errors are logged and change nothing."""
        try:
            observer.observe(event, record)
        except Exception:
            log.warning("observer.failed", observer=type(observer).__name__, exc_info=True)
            # A new list: `record` still goes through the old one, and skips nobody.
            self._observers = [other for other in self._observers if other is not observer]
