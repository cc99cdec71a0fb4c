"""The chains in the simulated database: who may continue one, with what, and what that changes.

As `orchestrator/database/schema/chains.sql`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from orchestrator.core.events import ChainPinned, SubmissionStarted, from_json
from orchestrator.core.model import MountKey, ServerName
from orchestrator.core.records import chain_hash
from orchestrator.core.sites import (
    CONDUCTOR,
    Appended,
    ChainHead,
    Effect,
    Ended,
    Entry,
    Freed,
    Halted,
    Intent,
    Misfit,
    OnlyHolds,
    Outcome,
    Piece,
    Refusal,
    ShardDone,
    ShardState,
    WaveOpened,
    WaveSkipped,
    WorkerId,
)
from tests.simulation.sites.tables import Head, Shard, Tables

OF_RUN = (WaveOpened, WaveSkipped, Halted, Ended)
OF_SHARD = (Intent, Freed, OnlyHolds, ShardDone)


def append(
    tables: Tables, worker: WorkerId, attempt: int, pieces: Sequence[Piece], now: float
) -> Sequence[Appended]:
    """Continue several chains at once; pieces without records have no answer."""
    written = [piece for piece in pieces if piece.entries]
    for run in {piece.lease.run for piece in written} & tables.runs.keys():
        tables.is_settling(run, now)  # notes a failover before anything is locked
    answers: dict[int, Appended] = {}
    order = sorted(
        range(len(written)), key=lambda place: (written[place].lease.run, _chain(written[place]))
    )
    for place in order:
        answers[place] = _append_chain(tables, worker, attempt, written[place], now)
    return [answers[place] for place in range(len(written))]


def _chain(piece: Piece) -> ServerName:
    return piece.lease.server


def _append_chain(
    tables: Tables, worker: WorkerId, attempt: int, piece: Piece, now: float
) -> Appended:
    lease, shard = piece.lease, (piece.lease.run, piece.lease.server)
    row = tables.shards.get(shard)
    if row is None or not row.is_held(worker, lease.epoch):
        return Appended(lease=lease, outcome=Outcome.FENCED)
    head = tables.heads[shard]
    last = head.attempt if head.epoch == lease.epoch else 0
    is_late = head.epoch == lease.epoch and last >= attempt
    outcome, refusal, misfit = (Outcome.STALE if is_late else Outcome.REPEATED), None, None
    for entry in () if is_late else piece.entries:
        if _is_there(tables, shard, head, entry):
            continue
        misfit = _misfit(shard, head, entry)
        if misfit is not None:
            outcome = Outcome.UNFIT
            break
        if _is_true(tables, shard, entry):
            refusal = _take_effect(tables, shard, entry.effect, now)
        else:
            refusal = Refusal.SETTLING
        if refusal is not None:
            outcome = Outcome.REFUSED
            break
        tables.events[shard].append((entry.record, lease.epoch))
        head = replace(head, seq=entry.record.seq, hash=entry.record.hash)
        outcome = Outcome.WRITTEN
    tables.heads[shard] = replace(head, epoch=lease.epoch, attempt=max(attempt, last))
    end = ChainHead(head.seq, head.hash)
    return Appended(lease=lease, outcome=outcome, head=end, refusal=refusal, misfit=misfit)


def _is_there(tables: Tables, shard: Shard, head: Head, entry: Entry) -> bool:
    record = entry.record
    if not 0 < record.seq <= head.seq:
        return False
    return tables.events[shard][record.seq - 1][0].hash == record.hash


def _is_true(tables: Tables, shard: Shard, entry: Entry) -> bool:
    """Return False for a pin of records that are not there."""
    if entry.record.kind != ChainPinned.__name__:
        return True
    pin = from_json(entry.record.kind, entry.record.body)
    assert isinstance(pin, ChainPinned)
    covered = tables.events[shard[0], pin.chain]
    return len(covered) >= pin.seq and covered[pin.seq - 1][0].hash.hex() == pin.hash


def _misfit(shard: Shard, head: Head, entry: Entry) -> Misfit | None:
    record = entry.record
    if record.seq <= head.seq:
        return Misfit.FORK
    if record.seq > head.seq + 1:
        return Misfit.GAP
    if record.hash != chain_hash(head.hash, shard[0], record.seq, record.kind, record.body):
        return Misfit.HASH
    is_intent = isinstance(entry.effect, Intent)
    if (record.kind == SubmissionStarted.__name__) != is_intent:
        return Misfit.EFFECT
    allowed = OF_RUN if shard[1] == CONDUCTOR else OF_SHARD
    return None if entry.effect is None or isinstance(entry.effect, allowed) else Misfit.EFFECT


def _take_effect(tables: Tables, shard: Shard, effect: Effect | None, now: float) -> Refusal | None:
    """Do what a record changes beside its chain; return why an intent is refused."""
    run, row = tables.runs[shard[0]], tables.shards[shard]
    match effect:
        case Intent(key=key, granted=True):
            tables.slots[(*shard, key)] = effect.wave
        case Intent(key=key):
            return _refusal(tables, shard, effect, key, now)
        case Freed(key=key):
            tables.slots.pop((*shard, key), None)
            if effect.seconds is not None:
                tables.durations.append(
                    (shard[0], row.address, effect.vm, effect.seconds, effect.simulated)
                )
        case WaveOpened(wave=wave):
            tables.gates[shard[0], wave] = None
        case WaveSkipped(wave=wave, reason=reason):
            tables.gates[shard[0], wave] = reason
        case Halted(reason=reason):
            tables.runs[shard[0]] = replace(run, halted=run.halted or reason)
        case Ended():
            tables.runs[shard[0]] = replace(run, is_open=False, unmount=False)
            _end(tables, shard, ShardState.DONE, now)
            for place, address in tables.addresses.items():
                if address.poster is not None and address.poster[0] == shard[0]:
                    tables.addresses[place] = replace(address, poster=None)
        case OnlyHolds():
            _end(tables, shard, ShardState.HOLDING, now)
        case ShardDone(over=over):
            _end(tables, shard, ShardState.DONE, now)
            for session in over:
                tables.tokens.pop((*shard, session), None)
        case None:
            pass
    return None


def _end(tables: Tables, shard: Shard, state: ShardState, now: float) -> None:
    """Note that a shard posts no more, and let others post on its server."""
    done_at = now if state is ShardState.DONE else None
    row = tables.shards[shard] = replace(tables.shards[shard], state=state, done_at=done_at)
    address = tables.addresses[row.address]
    if address.poster == shard:
        tables.addresses[row.address] = replace(address, poster=None)


def _refusal(
    tables: Tables, shard: Shard, intent: Intent, key: MountKey, now: float
) -> Refusal | None:
    """Return why an intent is refused; None: it is granted, and its slot taken."""
    checks = _checks(tables, shard, intent, now)
    refusal = next((why for is_so, why in checks if is_so), None)
    if refusal is not None or (*shard, key) in tables.slots:
        return refusal
    limit, quota = intent.wave_limit, tables.shards[shard].quota
    if (limit is not None or quota is not None) and tables.is_settling(shard[0], now):
        return Refusal.SETTLING
    if quota is not None and tables.runs[shard[0]].failed_over_at is not None:
        return Refusal.SETTLING  # the parts may be those from before the last change of them
    of_wave = (slot[0] == shard[0] and wave == intent.wave for slot, wave in tables.slots.items())
    if limit is not None and limit <= sum(of_wave):
        return Refusal.WAVE_LIMIT
    if quota is not None and quota <= tables.used(shard, now):
        return Refusal.QUOTA
    tables.slots[(*shard, key)] = intent.wave
    return None


def _checks(
    tables: Tables, shard: Shard, intent: Intent, now: float
) -> Iterator[tuple[bool, Refusal]]:
    run, row = tables.runs[shard[0]], tables.shards[shard]
    yield not run.is_open, Refusal.CLOSED
    yield run.halted is not None, Refusal.HALTED
    yield run.stopped is not None, Refusal.STOPPED
    yield run.deadline_at is not None and run.deadline_at <= now, Refusal.DEADLINE
    yield tables.gates.get((shard[0], intent.wave), "closed") is not None, Refusal.WAVE
    yield tables.addresses[row.address].poster != shard, Refusal.ADDRESS
