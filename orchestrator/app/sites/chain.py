"""The chain of one shard as its worker writes it: the journal of that shard's engine.

Events wait here until the commit stream takes them; their hashes are made only then, because an
intent that is not granted never was in the chain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

import anyio
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.errors import Fenced, JournalDamaged
from orchestrator.core.events import (
    ChainPinned,
    Event,
    MountForgotten,
    MountReleased,
    RunFinished,
    RunHalted,
    SessionEnded,
    ShardDamaged,
    ShardFinished,
    ShardHolding,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    TaskFailed,
    WaveSkipped,
    WaveStarted,
    to_json,
)
from orchestrator.core.model import MountKey, MountState, SessionId, WaveName
from orchestrator.core.records import Record, chain_hash
from orchestrator.core.sites import (
    Appended,
    ChainHead,
    Effect,
    Ended,
    Entry,
    Freed,
    Halted,
    Intent,
    Lease,
    Misfit,
    OnlyHolds,
    Outcome,
    Piece,
    Refusal,
    ShardDone,
    WaveOpened,
)
from orchestrator.core.sites import WaveSkipped as Skipped

MOST = 1000
"""Records that one piece has at most."""

KEPT_S, KEPT_LEAST = 60.0, 100
"""Seconds for which written records are kept here: a database that failed over may have lost
them, and takes them again. The newest are kept for longer: while the database is away no time
passes for a standby that has not got them."""

REFUSED = {
    Refusal.CLOSED: "the run is over",
    Refusal.HALTED: "the run has halted",
    Refusal.STOPPED: "the run was stopped",
    Refusal.DEADLINE: "the run's time is over",
    Refusal.WAVE: "its wave is not open",
    Refusal.WAVE_LIMIT: "its wave has as many mounts open as it may, over all servers",
    Refusal.ADDRESS: "another run mounts on this server",
    Refusal.SETTLING: "the database has failed over, and is told again what is mounted",
    Refusal.QUOTA: "the run's other servers have its limit",
}
"""Why an intent is not granted, in words."""

PASSING = frozenset({Refusal.WAVE, Refusal.SETTLING, Refusal.QUOTA})
"""What the conductor gives again that has lost records, too."""


async def _at_once() -> None:
    """Wait for nothing."""


class _Pending(Struct):
    """An event that is not known to be in the database."""

    event: Event
    effect: Effect | None = None
    taken: Callable[[], None] | None = None
    """Called when an intent has its place in the chain."""
    answer: anyio.Event | None = None
    """Set when it is known whether an intent is granted."""
    refusal: str | None = None

    def settle(self) -> None:
        """Tell who waits for an intent; one that is granted is applied at once."""
        if self.taken is not None and self.refusal is None:
            self.taken()
        if self.answer is not None:
            self.answer.set()


class Chain:
    """The end of one chain, open for writing; implements `ports.Journal`."""

    def __init__(
        self,
        lease: Lease,
        head: ChainHead,
        *,
        wake: Callable[[], None],
        shortly: Callable[[], None],
        soon: Callable[[], None],
        waves: Mapping[MountKey, WaveName],
        wave_limits: Mapping[WaveName, int],
        slots: Iterable[MountKey] = (),
        over: Iterable[SessionId] = (),
        times: MountTimes,
        on_fenced: Callable[[], None] = lambda: None,
        on_damaged: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` has the stream write what waits here: an intent. `shortly` does so for who waits
        for something else, `soon` for what nobody waits for.

        `on_fenced` is called at once when a commit says that another worker has the lease,
        `on_damaged` when the database has lost what cannot be written again, or what a pin covers.

        `waves` are those of the targets that are planned already, `slots` the targets that
        count against the run's limit, `over` the sessions in which nothing is left. `times` knows
        how long mounts have been open.
        """
        self.lease, self.head = lease, head
        self._wake, self._shortly, self._soon = wake, shortly, soon
        self._on_fenced, self._on_damaged = on_fenced, on_damaged
        self._waves, self._wave_limits = dict(waves), wave_limits
        self._slots, self._over, self._times = set(slots), set(over), times
        self._waiting: deque[_Pending] = deque()
        self._sent: list[_Pending] = []
        self._written: deque[tuple[float, Entry]] = deque()
        self._again: list[Entry] = []
        """What the database had, and has lost."""
        self.is_put_off = False
        """Whether that is to be written again only after a while."""
        self._appended = self._durable = 0
        self._last_at = 0.0
        self._moved = anyio.Event()
        self._compared = 0
        self._is_closed = False
        self._is_cut = False
        """Whether the newest piece had no room for all that waited."""
        self.has_granted = False
        """Whether an intent was granted."""
        self.before_intents: Callable[[], Awaitable[None]] = _at_once
        """Awaited before an intent is sent to the database."""
        self._lost: Fenced | JournalDamaged | None = None

    # --- what the engine does ------------------------------------------------------------------

    def append(self, event: Event) -> None:
        """Take an event; it is in the database after the next `durable()`, or soon.

        What a worker says that has lost the lease is not kept: its successor knows better.
        """
        if self._lost is None:
            self._add(_Pending(event, self._effect_of(event)))
            self._soon()

    async def durable(self) -> None:
        """Return when everything appended so far is in the database, however long it is away.

        Raises:
            Fenced: another worker has the lease; it is not, and never will be.
        """
        wanted = self._appended
        while self._durable < wanted:
            self._require_lease()
            self._shortly()
            await self._moved.wait()
        self._require_lease()

    async def granted(self, intent: SubmissionStarted, taken: Callable[[], None]) -> str | None:
        """Take an intent, unless the run may not mount now; return when it is in the database.

        It cannot be cancelled: whether the intent is there must be known to whoever goes on.

        Raises:
            Fenced: as `durable`.
        """
        await self.before_intents()
        while self._is_closed:
            self._require_lease()
            await self._moved.wait()
        self._require_lease()
        wave = self._waves[intent.key]
        effect = Intent(key=intent.key, wave=wave, wave_limit=self._wave_limits.get(wave))
        pending = _Pending(intent, effect, taken, anyio.Event())
        self._add(pending)
        self._wake()
        assert pending.answer is not None  # noqa: S101 - made above
        with anyio.CancelScope(shield=True):
            await pending.answer.wait()
        self._require_lease()
        return pending.refusal

    @property
    def damage(self) -> str | None:
        """What the database has lost of it that cannot be written again; None: nothing."""
        return str(self._lost) if isinstance(self._lost, JournalDamaged) else None

    async def moves(self) -> None:
        """Return when something more is written, or the lease is lost."""
        if self._lost is None:
            await self._moved.wait()

    def close_to_intents(self) -> None:
        """Take no further intent: whoever has one waits until the lease is lost."""
        self._is_closed = True

    def counts(self, key: MountKey) -> bool:
        """Return whether a target still takes a slot of the run, as far as is written."""
        return key in self._slots

    def _add(self, pending: _Pending) -> None:
        event = pending.event
        if event.at < self._last_at:  # an intent: it had to wait for its turn
            pending.event = replace(event, at=self._last_at)
        self._last_at = pending.event.at
        self._waiting.append(pending)
        self._appended += 1

    def _require_lease(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _effect_of(self, event: Event) -> Effect | None:
        """Return what an event changes beside the chain."""
        time = self._times.take(event)
        match event:
            case TargetPlanned(key=key):
                self._waves[key] = event.wave
            case WaveStarted(wave=wave):
                return WaveOpened(wave=wave)
            case WaveSkipped(wave=wave, reason=reason):
                return Skipped(wave=wave, reason=reason)
            case RunHalted(detail=detail) if not self.lease.server:
                return Halted(reason=detail)
            case RunFinished():
                return Ended()
            case ShardHolding():
                return OnlyHolds()
            case SessionEnded(session=session) if event.is_over:
                self._over.add(session)
            case SessionEnded(session=session):
                self._over.discard(session)
            case ShardFinished():
                return ShardDone(over=tuple(sorted(self._over)))
            case ShardDamaged() if self.lease.server:
                return ShardDone(over=tuple(sorted(self._over)))
            case MountReleased(key=key) if key in self._slots:
                self._slots.discard(key)
                if time is None:
                    return Freed(key=key)
                return Freed(key=key, vm=time.vm, seconds=time.seconds, simulated=time.simulated)
            case MountForgotten(key=key) if key in self._slots:
                self._slots.discard(key)
                return Freed(key=key)
            case (
                SubmissionNotSent(key=key)
                | SubmissionRefused(key=key)
                | TaskFailed(key=key)
                | TargetConcluded(key=key, mount=MountState.NONE | MountState.RELEASED)
            ) if key in self._slots:
                self._slots.discard(key)
                return Freed(key=key)
            case _:
                pass
        return None

    # --- what the stream does ------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """True while something waits to be written."""
        return bool(self._again or self._waiting or self._sent) and self._lost is None

    @property
    def is_owed(self) -> bool:
        """True while something is left of what was to be written before.

        Who waits for something newer has woken the stream.
        """
        return bool(self._again or self._sent or self._is_cut) and self._lost is None

    @property
    def owed(self) -> int:
        """How many intents the database has to grant once more: it has lost that it did."""
        return sum(isinstance(each.effect, Intent) for each in self._again)

    def piece(self) -> Piece | None:
        """Return what is to be written next, or None; the same again until it is `answered`."""
        if self._lost is not None:
            return None
        if self._again:
            return Piece(lease=self.lease, entries=tuple(self._again))
        while self._waiting and len(self._sent) < MOST:
            self._sent.append(self._waiting.popleft())
        self._is_cut = bool(self._waiting)
        entries = tuple(self._entries())
        return Piece(lease=self.lease, entries=entries) if entries else None

    def _entries(self) -> Iterator[Entry]:
        """Yield what is sent, chained to what is in the database."""
        seq, head = self.head
        for pending in self._sent:
            event, seq = pending.event, seq + 1
            run, kind, body = self.lease.run, type(event).__name__, to_json(event)
            head = chain_hash(head, run, seq, kind, body)
            record = Record(run=run, seq=seq, kind=kind, at=event.at, body=body, hash=head)
            yield Entry(record=record, effect=pending.effect)

    def compare(self, head: ChainHead) -> None:
        """Look whether the database has lost what it had said it has; `head` is its end of this.

        Harmless where it has not: what is written again is found there.
        """
        if head.seq < self._compared and not self._again:
            self._give_again(head)
            self._wake()
        self._compared = self.head.seq

    def answered(self, piece: Piece, answer: Appended, now: float) -> None:
        """Take in what became of a piece, at `now` seconds on this machine's clock."""
        if self._lost is not None:
            return
        if answer.outcome is Outcome.FENCED:
            self.lose()
            self._on_fenced()
        elif answer.outcome is Outcome.UNFIT:
            self._mend(answer)
        elif not self._again and _is_refused_pin(piece, answer):  # a failover has lost its records
            self.lose()
            self._on_damaged()
        elif answer.outcome is not Outcome.STALE and answer.head is not None:
            if self._again:
                self._given_again(answer, now)
            else:
                self._settle(piece, answer, answer.head, now)
        self._has_moved()

    def _settle(self, piece: Piece, answer: Appended, head: ChainHead, now: float) -> None:
        """Let those go that waited for what is written by now, and one that is refused."""
        written = head.seq - self.head.seq
        done, rest = self._sent[:written], self._sent[written:]
        if answer.outcome is Outcome.REFUSED:
            refused, *rest = rest
            refused.refusal = REFUSED[answer.refusal or Refusal.CLOSED]
            done.append(refused)
        self.head, self._sent = head, rest
        self._durable += len(done)
        self._written.extend((now, entry) for entry in piece.entries[:written])
        while len(self._written) > KEPT_LEAST and self._written[0][0] < now - KEPT_S:
            self._written.popleft()
        for pending in done:
            pending.settle()
            if isinstance(pending.event, SubmissionStarted) and pending.refusal is None:
                self._slots.add(pending.event.key)
                self.has_granted = True

    def _mend(self, answer: Appended) -> None:
        """Write once more what the database said it has: it failed over, and has lost that."""
        if answer.misfit is not Misfit.GAP or answer.head is None:
            what = f"the chain of {self.lease.server or 'the run'}"
            self.lose(JournalDamaged(f"{what} is not what was written ({answer.misfit})"))
        else:
            self._give_again(answer.head)

    def _give_again(self, head: ChainHead) -> None:
        """Write everything behind `head` again, if it is still known."""
        lost = [entry for _, entry in self._written if entry.record.seq > head.seq]
        if not lost or lost[0].record.seq != head.seq + 1:
            what = f"the chain of {self.lease.server or 'the run'}"
            self.lose(JournalDamaged(f"{what} has lost records that nobody knows any more"))
        else:
            self._again = [_granted(entry) for entry in lost]

    def _given_again(self, answer: Appended, now: float) -> None:
        self.is_put_off = answer.refusal in PASSING
        if answer.head == self.head:
            first = self._again[0].record.seq  # it may be lost once more: known from now on
            self._written = deque(
                (now if each.record.seq >= first else at, each) for at, each in self._written
            )
            self._again = []
        elif not self.is_put_off:  # an intent was acted on, and cannot be recorded any more
            what = f"the chain of {self.lease.server or 'the run'}"
            self.lose(JournalDamaged(f"{what} has lost records that cannot be written again"))

    def _has_moved(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    def lose(self, why: JournalDamaged | None = None) -> None:
        """Write nothing more, and tell whoever waits. Safe to repeat."""
        if self._lost is None:
            self._lost = why or Fenced(f"another worker serves {self.lease.server or 'the run'}")
            for pending in (*self._sent, *self._waiting):
                if pending.answer is not None:
                    pending.answer.set()
            self._sent, self._again = [], []
            self._waiting.clear()
            self._has_moved()
            if why is not None:
                self._on_damaged()


def _is_refused_pin(piece: Piece, answer: Appended) -> bool:
    if answer.outcome is not Outcome.REFUSED or answer.head is None:
        return False
    refused = next(each for each in piece.entries if each.record.seq == answer.head.seq + 1)
    return refused.record.kind == ChainPinned.__name__


def _granted(entry: Entry) -> Entry:
    """Return a record to be written again: an intent was granted, and has been acted on."""
    if isinstance(entry.effect, Intent):
        return replace(entry, effect=replace(entry.effect, granted=True))
    return entry
