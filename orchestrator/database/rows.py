"""Rows of the database as values, and values as the arrays that its functions take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, LiteralString

import msgspec

from orchestrator.core.model import RunId, ServerName, WaveName
from orchestrator.core.sites import (
    Appended,
    ChainHead,
    Effect,
    Held,
    Holder,
    Lease,
    Misfit,
    Outcome,
    Piece,
    Refusal,
    RunRow,
    ShardRow,
    ShardState,
    Standing,
    Stop,
    Taken,
    WorkerId,
)

RUNS: LiteralString = (
    "SELECT run, plan, submitted_at, state, halted, stopped, unmount FROM bulk_restore.runs "
)

SHARDS: LiteralString = (
    "SELECT s.server, s.site, s.address, s.state, s.epoch, s.worker, s.since, s.lease_s, "
    "s.takeovers, s.quota, s.used, s.wants, s.waits_for FROM bulk_restore.shards s "
)

WORKERS: LiteralString = (
    "SELECT worker, host, pid, version, sites, seen_s FROM bulk_restore.workers "
)


def run_row(row: Sequence[Any]) -> RunRow:
    """Return a row of `RUNS`."""
    run, plan, at, state, halted, stopped, unmount = row
    return RunRow(
        run=RunId(run),
        plan=plan,
        submitted_at=at.astimezone(UTC),
        is_open=state == "open",
        halted=halted,
        stopped=None if stopped is None else Stop(stopped),
        unmount=unmount,
    )


def shard(row: Sequence[Any]) -> ShardRow:
    """Return a row of `SHARDS`."""
    server, site, address, state, epoch, worker, since, lease_s, takeovers, *counts = row
    quota, used, wants, waits_for = counts
    return ShardRow(
        server=ServerName(server),
        site=site,
        address=address,
        state=ShardState(state),
        epoch=epoch,
        worker=worker,
        since=None if since is None else since.astimezone(UTC),
        lease_s=lease_s,
        takeovers=takeovers,
        quota=quota,
        used=used,
        wants=wants,
        waits_for=waits_for,
    )


def holder(row: Sequence[Any]) -> Holder:
    """Return a row of `WORKERS`."""
    worker, host, pid, version, sites, seen_s = row
    return Holder(
        worker=WorkerId(worker),
        host=host,
        pid=pid,
        version=version,
        sites=tuple(sites),
        seen_s=seen_s,
    )


RENEW: LiteralString = """
SELECT run, server, epoch, at, waves, posts, halted, stopped, unmount, quota, deadline_s, asked,
       seq, hash
FROM bulk_restore.renew(%(worker)s::text, %(runs)s::text[], %(servers)s::text[],
                        %(epochs)s::bigint[], %(wants)s::int[])
"""


def renewal(worker: WorkerId, held: Sequence[Held]) -> Mapping[str, Any]:
    """Return the values that `RENEW` takes."""
    return {
        "worker": worker,
        **leases(each.lease for each in held),
        "wants": [each.wants for each in held],
    }


def leases(each_lease: Iterable[Lease]) -> dict[str, Any]:
    """Return leases as one array per field."""
    every = list(each_lease)
    return {
        "runs": [each.run for each in every],
        "servers": [each.server for each in every],
        "epochs": [each.epoch for each in every],
    }


def standing(row: Sequence[Any]) -> Standing:
    """Return the standing in a row of `RENEW`."""
    run, server, epoch, at, waves, posts, halted, stopped, unmount, quota, left_s, asked = row[:12]
    seq, hash_ = row[12:]
    return Standing(
        lease=Lease(run=RunId(run), server=ServerName(server), epoch=epoch),
        at=at,
        waves=frozenset(WaveName(wave) for wave, why in waves.items() if why is None),
        skipped={WaveName(wave): why for wave, why in waves.items() if why is not None},
        posts=posts,
        halted=halted,
        stopped=None if stopped is None else Stop(stopped),
        unmount=unmount,
        quota=quota,
        deadline_s=left_s,
        asked=asked,
        head=ChainHead(seq, hash_),
    )


def taken(row: Sequence[Any]) -> Taken:
    """Return a row of `take`: a standing, and what the shard is."""
    site, address, state, seq, hash_, taken_from = row[12:]
    return Taken(
        standing=standing([*row[:12], seq, hash_]),
        site=site,
        address=address,
        state=ShardState(state),
        head=ChainHead(seq, hash_),
        taken_from=taken_from,
    )


APPEND: LiteralString = """
SELECT place, outcome, seq, hash, why
FROM bulk_restore.append(
    %(worker)s::text, %(attempt)s::bigint, %(runs)b::text[], %(servers)b::text[],
    %(epochs)b::bigint[], %(of)b::int[], %(seqs)b::bigint[], %(ats)b::double precision[],
    %(kinds)b::text[], %(bodies)b::bytea[], %(hashes)b::bytea[], %(effects)b::text[]::jsonb[])
"""
"""All arrays go in binary form: nothing has to be escaped, which is slow."""


def batch(worker: WorkerId, attempt: int, pieces: Sequence[Piece]) -> Mapping[str, Any]:
    """Return the values that `APPEND` takes; places count from 1."""
    entries = [(place, entry) for place, piece in enumerate(pieces, 1) for entry in piece.entries]
    return {
        "worker": worker,
        "attempt": attempt,
        **leases(each.lease for each in pieces),
        "of": [place for place, _ in entries],
        "seqs": [entry.record.seq for _, entry in entries],
        "ats": [float(entry.record.at) for _, entry in entries],
        "kinds": [entry.record.kind for _, entry in entries],
        "bodies": [entry.record.body for _, entry in entries],
        "hashes": [entry.record.hash for _, entry in entries],
        "effects": [_effect(entry.effect) for _, entry in entries],
    }


def _effect(effect: Effect | None) -> str | None:
    """Return an effect as JSON; the database's text cannot hold the character NUL."""
    if effect is None:
        return None
    return msgspec.json.encode(effect).decode().replace("\\u0000", "\\ufffd")


def appended(pieces: Sequence[Piece], rows: Iterable[Sequence[Any]]) -> list[Appended]:
    """Return what became of each piece, in the order of the pieces."""
    found = {place: rest for place, *rest in rows}
    answers = []
    for place, piece in enumerate(pieces, 1):
        outcome, seq, hash_, why = found[place]
        answers.append(
            Appended(
                lease=piece.lease,
                outcome=Outcome(outcome),
                head=None if seq is None else ChainHead(seq, hash_),
                refusal=Refusal(why) if outcome == Outcome.REFUSED else None,
                misfit=Misfit(why) if outcome == Outcome.UNFIT else None,
            )
        )
    return answers
