"""What strikes a worker or the database, by kind."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.processes import kill
from tests.strikes.sites.scene import Scene, Worker, until_overdue

FROZEN_S = (9.0, 14.0)
"""Longer than the life of a lease, with the second until another worker looks."""
SHORT_S = 2.0
"""Shorter than the life of a lease."""
CUT_S = (12.0, 20.0)
STOPPED_S = (2.0, 8.0)
"""How long a database stays away that is stopped."""
OUTAGE_S = 60.0
"""How long one stays away for long: ten times the life of a lease."""
LEAVES_WITHIN_S = 60.0
"""Bounds what would be waited for otherwise; nothing is measured by it."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One strike, by this machine's wall clock."""

    began_at: float
    over_at: float
    """When the worker, its path or the database was there again; or another conductor."""
    away: tuple[float, float] | None = None
    """From when until when the database was certainly not there."""


def _kill(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    now = time.time()
    kill(victim.process)
    return Blow(now, now)


def _freeze(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    return _frozen(victim, dice.uniform(*FROZEN_S))


def _short(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    return _frozen(victim, SHORT_S)


def _frozen(victim: Worker, seconds: float) -> Blow:
    now = time.time()
    victim.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    over_at = time.time()
    victim.process.send_signal(signal.SIGCONT)
    return Blow(now, over_at)


def _cut(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    assert victim.path is not None
    now = time.time()
    where.servers.portal.call(victim.path.cut_off)
    time.sleep(dice.uniform(*CUT_S))
    over_at = time.time()
    where.servers.portal.call(victim.path.let_through)
    return Blow(now, over_at)


def _leave(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    now = time.time()
    victim.process.send_signal(signal.SIGTERM)
    victim.process.wait(LEAVES_WITHIN_S)
    return Blow(now, time.time())


def _conductor(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    """Kill who conducts; return once another worker does."""
    blow = _kill(where, victim, dice)
    for _ in until_overdue("another conductor"):
        ((taken,),) = where.rows(
            "SELECT count(*) FROM shard JOIN lease USING (run, server) "
            "LEFT JOIN worker ON worker.id = worker "
            "WHERE server = '' AND (state = 'done' OR pid <> %s)",
            victim.pid,
        )
        if taken:
            break
    return Blow(blow.began_at, time.time())


def _database(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    immediate = dice.random() < 0.5
    return _stopped(where, immediate, dice.uniform(*STOPPED_S) if dice.random() < 0.5 else 0.0)


def _outage(where: Scene, victim: Worker, dice: random.Random) -> Blow:
    return _stopped(where, dice.random() < 0.5, OUTAGE_S)


def _stopped(where: Scene, immediate: bool, seconds: float) -> Blow:
    began_at = time.time()
    where.server.stop(immediate=immediate)
    away_from = time.time()
    time.sleep(seconds)
    away_until = time.time()
    where.server.start()
    return Blow(began_at, time.time(), (away_from, away_until))


BLOWS: Mapping[str, Callable[[Scene, Worker, random.Random], Blow]] = {
    "kill": _kill,
    "freeze": _freeze,
    "short": _short,
    "cut": _cut,
    "leave": _leave,
    "conductor": _conductor,
    "database": _database,
    "outage": _outage,
}
OF_THE_DATABASE = frozenset({"database", "outage"})
"""Kinds that strike the database, and no worker."""
