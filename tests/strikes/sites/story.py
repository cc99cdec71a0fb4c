"""One story: a run of two workers, and what strikes one of them or their database.

The instant is counted in records of the run, so that it falls as often between an intent and its
mount as into the unmounts; some milliseconds on top of it decide between which two instructions.
The number of a story makes the same choices each time; the milliseconds of a process are its own.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.database.private_server import PrivateServer, private_server
from tests.database.owner import Owner
from tests.database.template import make_template
from tests.processes import ended
from tests.strikes.sites.account import Account, account_of
from tests.strikes.sites.blows import BLOWS, LEAVES_WITHIN_S, OF_THE_DATABASE
from tests.strikes.sites.judge import Verdict, judge
from tests.strikes.sites.scene import Scene, Worker, scene, until_overdue

SETTINGS = {"max_connections": "300"}

RECORDS = (15, 190)
"""A strike falls at such a record of the servers' chains; an undisturbed run has about 280."""
WITHIN_RECORD_S = 0.05
"""It falls at most so long after that record."""

ENDS_WITHIN_S = 600.0
"""What is in doubt may be looked for, for three minutes; the rest is a busy machine's."""


@dataclass(frozen=True, slots=True)
class Struck:
    """What came of a story."""

    kind: str
    number: int
    verdict: Verdict
    code: int | None = None
    """Exit code of the run; None: it was not played to its end."""
    unknown: int = 0
    left: int = 0

    @property
    def again(self) -> str:
        """The command that makes the same choices."""
        return f"python -m tests.strikes.sites 1 --seed {self.number} --kind {self.kind}"


def story(kind: str, number: int, server: PrivateServer, keep: Path | None = None) -> Struck:
    """Play one story.

    `keep` is where its files are kept.
    """
    dice = random.Random(f"{kind}:{number}")
    try:
        with _server_for(kind, server) as used, scene(used, f"{kind}_{number}", dice) as where:
            with _kept(where, keep, f"{kind}-{number}"):
                account = _played(kind, where, dice)
            verdict = judge(account)
            totals = account.report["totals"]
            unknown, left = totals["unknown"], totals["left"]
            return Struck(kind, number, verdict, account.code, unknown, left)
    except Exception as exc:
        return Struck(kind, number, Verdict((f"{type(exc).__name__}: {exc}",)))


@contextmanager
def database_server() -> Iterator[PrivateServer]:
    """Start a PostgreSQL for many stories."""
    with private_server(settings=SETTINGS) as server:
        make_template(server)
        yield server


@contextmanager
def _server_for(kind: str, server: PrivateServer) -> Iterator[PrivateServer]:
    """Return the server of a story: one of its own if it is to be stopped."""
    if kind not in OF_THE_DATABASE:
        yield server
        return
    with database_server() as own:
        yield own


@contextmanager
def _kept(where: Scene, keep: Path | None, name: str) -> Iterator[None]:
    """Keep what a story has left: its files, its records, and what its servers saw."""
    try:
        yield
    finally:
        if keep is not None:
            _keep(where, keep / name)


def _keep(where: Scene, directory: Path) -> None:
    shutil.copytree(where.site.directory, directory, dirs_exist_ok=True)
    seen = [f"{r.at:.3f} {r.pid} {r.server} {r.method} {r.path}" for r in where.witness.requests]
    (directory / "requests.txt").write_text("\n".join(seen))
    rows = where.rows(
        "SELECT at + extract(epoch FROM submitted_at), chain, seq, epoch, kind, "
        "convert_from(body, 'UTF8') FROM event JOIN run ON run.id = run ORDER BY at"
    )
    (directory / "records.txt").write_text("\n".join(" ".join(map(str, row)) for row in rows))


def _played(kind: str, where: Scene, dice: random.Random) -> Account:
    """Play a story to its end; return an account of it."""
    workers, following = _begun(kind, where)
    wanted = dice.randint(*RECORDS)
    with Owner(where.url) as owner:
        for _ in until_overdue(f"record {wanted}"):
            if owner.one("SELECT count(*) FROM event WHERE chain <> ''") >= wanted:
                break
    time.sleep(dice.uniform(0, WITHIN_RECORD_S))
    victim, held = _victim(kind, where, workers)
    blow = BLOWS[kind](where, victim, dice)
    code, _, _ = ended(following, ENDS_WITHIN_S)
    ended_early = [each.pid for each in workers if each.process.poll() is not None]
    for each in workers:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGTERM)
    codes = [each.process.wait(LEAVES_WITHIN_S) for each in workers]
    return account_of(
        where,
        kind,
        blow,
        held=held,
        victim=victim.pid,
        code=code,
        left_with=[each for each in codes if each != -signal.SIGKILL],
        ended_early=ended_early,
    )


def _begun(kind: str, where: Scene) -> tuple[list[Worker], subprocess.Popen[str]]:
    """Begin a run; return its two workers, and the command that follows it.

    Whoever looks first serves all of it, except where one of them is to conduct it only: it is of
    a site that has no server.
    """
    if kind != "conductor":
        workers = [where.work(own_path=kind == "cut") for _ in range(2)]
        return workers, where.submit()
    conducting = where.work("elsewhere")
    following = where.submit()
    for _ in until_overdue("a conductor"):
        if where.one("SELECT count(worker) FROM lease WHERE server = ''"):
            break
    return [conducting, where.work()], following


def _victim(kind: str, where: Scene, workers: list[Worker]) -> tuple[Worker, frozenset[str]]:
    """Return who is struck, and which servers it serves: most of them, or none as conductor."""
    held: dict[int, set[str]] = {each.pid: set() for each in workers}
    for pid, server in where.rows(
        "SELECT pid, server FROM lease JOIN worker ON worker.id = lease.worker"
    ):
        held[pid].add(server)
    if kind == "conductor":
        victim = next(each for each in workers if "" in held[each.pid])
    else:
        victim = max(workers, key=lambda each: len(held[each.pid] - {""}))
    return victim, frozenset(held[victim.pid] - {""})
