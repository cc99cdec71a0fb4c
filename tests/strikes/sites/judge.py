"""What must be true of every story, and how soon another worker had taken over."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.core.events import (
    SessionTakenUp,
    ShardFinished,
    ShardTaken,
    SubmissionStarted,
    TargetConcluded,
    TargetPlanned,
    WaveStarted,
)
from orchestrator.core.sites import LEASE_LIFE_S
from tests.invariants import assert_invariants
from tests.strikes.sites.account import Account, Told
from tests.strikes.sites.blows import OF_THE_DATABASE
from tests.strikes.sites.witness import Request

TAKEN_OVER = frozenset({"kill", "freeze", "cut"})
"""Kinds after which the shards are another worker's, whose leases had expired."""
TAKEN = TAKEN_OVER | {"leave"}
"""Kinds after which they are another worker's."""

SILENT_WITHIN_S = 15.0
"""A worker that is there again learns so soon that it is fenced; until then it may still read."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was wrong, and how long a takeover took."""

    wrong: tuple[str, ...]
    """What may never be."""
    untimely: tuple[str, ...] = ()
    """What may be only where the machine had no time for a process for some seconds."""
    takeover_s: float | None = None
    """From the strike until the last session was taken up, or another worker conducted; None:
    nothing was to be taken over."""
    next_mount_s: float | None = None
    """Until the last server was asked for another mount, from the strike, or from the return of the
    database; None: none could begin there."""


def judge(account: Account) -> Verdict:
    """Return what was wrong in a story, and its figures."""
    wrong = [*_of_the_run(account), *_of_requests(account)]
    wrong += [*_of_doubles(account), *of_the_database(account), *account.complaints]
    untimely = [*_of_takings(account), *_of_silence(account)]
    blow = account.blow
    found = [taking for server in account.held for taking in _taking(account, server)]
    takeovers = [each.taken_up_at for each in found]
    mounts = [at for each in found if (at := _next_mount(account, each)) is not None]
    began = blow.began_at
    if account.kind == "conductor":
        takeovers = [blow.over_at]
    if account.kind in OF_THE_DATABASE:
        began, mounts = blow.over_at, _mounts_after(account)
    return Verdict(
        tuple(wrong),
        tuple(untimely),
        max(takeovers) - began if takeovers else None,
        max(mounts) - began if mounts else None,
    )


def _of_the_run(account: Account) -> Iterator[str]:
    """Compare the report with the servers, and the exit codes with the report."""
    try:
        assert_invariants(account.truth, account.report, account.limits)
    except AssertionError as exc:
        yield f"{exc}" or "an invariant is broken"
    totals, code = account.report["totals"], account.code
    in_doubt = bool(totals["unknown"] or totals["left"])
    if code != (3 if in_doubt else 0):
        yield f"exit code {code}, and {totals}"
    if any(account.left_with):
        yield f"workers that were to leave ended with {account.left_with}"


def of_the_database(account: Account) -> Iterator[str]:
    """Check that nothing is changed at a server while no lease can be renewed, and none is lost."""
    if account.blow.away is None:
        return
    away_from, away_until = account.blow.away
    for each in account.requests:
        if each.changes and away_from + LEASE_LIFE_S < each.at < away_until:
            yield f"{each.at - away_from:.1f} s after the database was gone: {each}"
    if account.ended_early:
        yield f"workers ended by themselves: {account.ended_early}"
    if account.code:
        yield f"exit code {account.code}"
    servers = len({each.server for each in account.truth.mounts})
    if account.truth.logons != servers:
        yield f"{account.truth.logons} logons at {servers} servers: a session was given up"


def _of_takings(account: Account) -> Iterator[str]:
    """Check that the shards were taken by whom and as often as they must be."""
    for server, epoch in _epochs(account).items():
        later = _takings_after(account, server, epoch)
        if server in account.held and account.kind in TAKEN and not _was_done(account, server):
            expected = 1
        else:
            expected = 0
        if len(later) != expected:
            yield f"{server} was taken {len(later)} times after the strike, not {expected}"
        for each in later:
            expired = isinstance(each.event, ShardTaken) and each.event.taken_over is not None
            if expired != (account.kind in TAKEN_OVER):
                yield f"{server} was {'taken over' if expired else 'given back'}"


def _of_requests(account: Account) -> Iterator[str]:
    """Check that the struck worker changed nothing once another one was at work."""
    for first, each in _late(account):
        if each.changes:
            yield f"{each.at - first:.3f} s after its successor's first request: {each}"


def _of_silence(account: Account) -> Iterator[str]:
    """Check that it reads nothing either, once it can have learnt that it is fenced."""
    over_at = account.blow.over_at
    for _, each in _late(account):
        if each.at > over_at + SILENT_WITHIN_S:
            yield f"{each.at - over_at:.1f} s after the strike was over: {each}"


def _late(account: Account) -> Iterator[tuple[float, Request]]:
    """Yield what the struck worker sent to a server behind its successor's first request there."""
    for server in account.held:
        later = [each for each in account.requests if each.server == server]
        later = [each for each in later if each.at > account.blow.began_at]
        first = min((each.at for each in later if each.pid != account.victim), default=math.inf)
        for each in later:
            if each.pid == account.victim and each.at > first:
                yield first, each


def _of_doubles(account: Account) -> Iterator[str]:
    """Check that no point had two mounts at once."""
    mounts = defaultdict(list)
    for fate in account.truth.mounts:
        if fate.succeeded is not False and not fate.is_excused:
            mounts[fate.server, fate.point].append(fate)
    for place, fates in mounts.items():
        fates.sort(key=lambda fate: fate.requested_at)
        for one, other in pairwise(fates):
            if one.closed_at is None or one.closed_at > other.requested_at:
                yield f"{place} was mounted twice at once: {one} {other}"


# --- from the chains ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Taking:
    """A server that another worker took after the strike."""

    server: str
    epoch: int
    taken_at: float
    taken_up_at: float
    """When the session of the struck worker was taken up; where none lived, as `taken_at`."""


def _taking(account: Account, server: str) -> Iterator[_Taking]:
    """Yield how a server was taken after the strike, if it was."""
    before = _epochs(account).get(server)
    if before is None:
        return
    for each in _takings_after(account, server, before):
        ups = [
            told.at
            for told in account.told
            if (told.chain, told.epoch) == (server, each.epoch)
            and isinstance(told.event, SessionTakenUp)
        ]
        yield _Taking(server, each.epoch, each.at, min(ups, default=each.at))


def _epochs(account: Account) -> dict[str, int]:
    """Return the epoch of each server's shard when the strike began."""
    return {
        told.chain: told.epoch
        for told in account.told
        if isinstance(told.event, ShardTaken) and told.at <= account.blow.began_at
    }


def _takings_after(account: Account, server: str, epoch: int) -> list[Told]:
    return [
        told
        for told in account.told
        if told.chain == server and told.epoch > epoch and isinstance(told.event, ShardTaken)
    ]


def _was_done(account: Account, server: str) -> bool:
    """Return whether the struck worker had finished a shard, or was just doing so."""
    epoch = _epochs(account).get(server)
    return any(
        isinstance(told.event, ShardFinished) and (told.chain, told.epoch) == (server, epoch)
        for told in account.told
    )


def _next_mount(account: Account, taking: _Taking) -> float | None:
    """Return when a server was asked for another mount; None: none could begin when it was taken.

    One that waits for its wave cannot.
    """
    chain = [told for told in account.told if told.chain == taking.server]
    open_waves = {
        told.event.wave
        for told in account.told
        if isinstance(told.event, WaveStarted) and told.at <= taking.taken_at
    }
    before = [told.event for told in chain if told.at < taking.taken_at]
    planned = {each.key: each.wave for each in before if isinstance(each, TargetPlanned)}
    begun = {e.key for e in before if isinstance(e, SubmissionStarted | TargetConcluded)}
    could = {key for key, wave in planned.items() if key not in begun and wave in open_waves}
    mounts = [
        told.at
        for told in chain
        if told.epoch == taking.epoch
        and isinstance(told.event, SubmissionStarted)
        and told.event.key in could
    ]
    return min(mounts) if could and mounts else None


def _mounts_after(account: Account) -> list[float]:
    """Return when each server was asked for its first mount after the strike was over."""
    firsts: dict[str, float] = {}
    for told in account.told:
        if isinstance(told.event, SubmissionStarted) and told.at > account.blow.over_at:
            firsts.setdefault(told.chain, told.at)
    return list(firsts.values())
