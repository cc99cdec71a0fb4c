"""The mounts that the runs of one state directory have open, for the limits they share.

Every run claims a mount here, in one transaction with the look at everybody else's, before it
asks a server for it, and gives the claim back when the mount is known to be gone: two processes
never both take the last slot. Which servers are the same is decided in `core.same_server`; a run
records at each logon where the server answers, so both runs have done so before they claim.

The claims of a run whose process has ended count on while its mounts may be open: until
somebody releases them (`unmount`, `resume`), or its logon session must have been forgotten,
15 minutes after it was last seen. So nobody waits for ever for a run that is gone.

The file holds only what is true now, so nothing of it need survive a power cut: it is not
brought to the disk, and a claim costs a fraction of a millisecond.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.core.errors import JournalError
from orchestrator.core.model import BackupServerName, MountRequest, RunId, ServerName
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.core.records import server_address
from orchestrator.core.same_server import Identities
from orchestrator.core.text import counted, time_of_day
from orchestrator.journal.endpoints import ENDPOINTS, read_identities
from orchestrator.journal.locking import is_locked, journal_error
from orchestrator.journal.store import CACHE_KB, private_file
from orchestrator.log import Log

log = Log(__name__)

SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, plan TEXT NOT NULL, seen_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS claims (
    run TEXT NOT NULL, number INTEGER NOT NULL, address TEXT NOT NULL,
    backup_server TEXT NOT NULL, vm TEXT NOT NULL, PRIMARY KEY (run, number)
) WITHOUT ROWID;
{ENDPOINTS}
COMMIT;
"""

BUSY_MS = 100
"""Milliseconds for which the lock of the file is waited for; nobody holds it for as long."""

SEEN_EVERY = 10.0
"""Seconds between two signs of life of a run."""

LOOK_AGAIN_S = 60.0
"""Seconds after which runs that had ended are looked for again: a resume writes, if it can."""

Place = tuple[str, str, str]
"""Address of the server in this run's plan, backup server, machine; those in lower case."""


def in_work(run: str) -> str:
    """Name the other run that works on a machine; for `check` and for a run that waits."""
    return f"run {run} has not done with this machine yet"


def holds(run: str, mounts: int) -> str:
    """Describe what another run has open on a server; for `check` and for a run that waits."""
    return f"run {run} holds {counted(mounts, 'mount')}"


def may_have_sessions(seen_at: float, now: float) -> bool:
    """Return whether a server may still know the sessions of a run that was seen then."""
    return abs(now - seen_at) < SESSION_IDLE_LIMIT


class Claims:
    """This run's claims, and what the others have claimed; implements `ports.OtherRuns`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        run: RunId,
        plan: str,
        urls: Mapping[ServerName, str],
        *,
        clock: Callable[[], datetime],
        is_running: Callable[[str, RunId], bool],
        sessions: Callable[[], frozenset[str]] = frozenset,
        sessions_of: Callable[[RunId], Iterable[tuple[str, str]]] = lambda run: (),
    ) -> None:
        """`urls` by the plan's own names; `is_running` returns whether a run's process is alive.

        `sessions` are the ids of the sessions that the runs of the directory have kept,
        `sessions_of` those of one run with the addresses where they were opened.
        """
        self._connection = connection
        self._run, self._plan = run, plan
        self._addresses = {name: server_address(url) for name, url in urls.items()}
        self._identities = Identities({})
        self._clock, self._is_running = clock, is_running
        self.sessions, self._sessions_of = sessions, sessions_of
        self._elsewhere: dict[str, Counter[Place]] = {}
        self._claimed: dict[str, Counter[Place]] = {}
        """What each other run has claimed, whether it counts or not."""
        self._plans: dict[str, str] = {}
        self._living: dict[str, bool] = {}
        self._seen_at: dict[str, float] = {}
        self._read_at = 0.0
        self._servers: Counter[str] = Counter()
        self._behind: Counter[tuple[str, str]] = Counter()
        self._machines: Counter[Place] = Counter()
        self._late: list[tuple[str, tuple[object, ...]]] = []
        self._told_at = 0.0
        self._version = -1
        self.is_unsure = False
        """True while it cannot be known what others have open: nothing may be claimed."""
        self.trouble: str | None = None
        """Why the others cannot be known any more; from then on only this run's own count."""
        self.earlier_seen_at = self._sign_of_earlier()
        """When an earlier process of this run was last seen alive; None: not known."""
        found = connection.execute("SELECT max(number) FROM claims WHERE run = ?", (run,))
        self._number = self._earlier = int(found.fetchone()[0] or 0)
        self.look()
        for each in self._long_ended():
            self._write("DELETE FROM claims WHERE run = ?", (each,))
            self._forget(each)

    # --- what others have open -----------------------------------------------------------

    def on_server(self, server: ServerName) -> int:
        """Return how many mounts of other runs are, or may be, open on a server."""
        return self._servers[self._addresses[server]]

    def behind(self, server: ServerName, backup_server: BackupServerName) -> int:
        """Return how many of them a backup server carries."""
        return self._behind[self._addresses[server], backup_server.casefold()]

    def of_machine(self, server: ServerName, backup_server: BackupServerName, vm: str) -> int:
        """Return how many of them are of one machine."""
        return self._machines[self._addresses[server], backup_server.casefold(), vm.casefold()]

    @property
    def is_present(self) -> bool:
        """True while others have something open."""
        return bool(self._elsewhere)

    def look(self) -> bool:
        """Read what the other runs have open now, and record that this run is alive.

        Returns whether that has changed. Cheap: nothing is read while nobody has written.
        """
        before = self._elsewhere
        if not self._is_worth_a_look() or self._within(lambda: True) is None:
            return False
        return self._elsewhere != before

    def _is_worth_a_look(self) -> bool:
        if self.trouble is not None:
            return False
        if self._late or self.is_unsure or self._elsewhere or self._is_sign_due():
            return True  # what is open elsewhere may end without a word
        try:
            return self._version_now() != self._version
        except sqlite3.Error:
            return True

    def meet(self, server: ServerName, endpoints: frozenset[str]) -> None:
        """Record where a server answers: other runs may know it by another name."""
        at = self._addresses[server]
        for each in sorted(endpoints - self._identities.of(self._run, at)):
            self._version = -1  # others' claims may be of this server, too
            self._write("INSERT OR IGNORE INTO endpoints VALUES (?, ?, ?)", (self._run, at, each))

    def sharing_sessions(self, server: ServerName) -> frozenset[str]:
        """Return the kept sessions on a server of this run, and of those whose mounts count here.

        A run that has ended counts as long as its mounts would.
        """
        identities, runs = self._identities, list[str]()
        with suppress(sqlite3.Error):
            identities = read_identities(self._connection)
            runs = [each[0] for each in self._others() if self._counts(*each)]
        return frozenset(
            session
            for run in (str(self._run), *runs)
            for session, url in self._sessions_of(RunId(run))
            if identities.is_same((self._run, self._addresses[server]), (run, url))
        )

    def why_waiting(self, request: MountRequest) -> str:
        """Describe which run a request has to wait for, and why."""
        address_, backup, vm = self._place(request)
        told: list[str] = []
        for run, places in self._elsewhere.items():
            if places[address_, backup, vm]:
                told.append(in_work(run) + self._how_it_ended(run))
                continue
            carried = sum(n for place, n in places.items() if place[:2] == (address_, backup))
            there = sum(n for place, n in places.items() if place[0] == address_)
            behind = f", {carried} of them behind {request.backup_server}" if carried else ""
            if there:
                told.append(f"{holds(run, there)} there{behind}{self._how_it_ended(run)}")
        return "; ".join(told) or "other runs have used up its limits"

    def _how_it_ended(self, run: str) -> str:
        if self._living.get(run, True):
            return ""
        until = datetime.fromtimestamp(self._seen_at[run] + SESSION_IDLE_LIMIT, UTC)
        return (
            f" (it has ended, and they may be open until {time_of_day(until)}; "
            f"release them: bulk-restore unmount {run})"
        )

    # --- claiming --------------------------------------------------------------------------

    def claim(self, request: MountRequest, fits: Callable[[], bool]) -> int | None:
        """Claim a mount if it `fits` beside the mounts that the other runs have open now.

        Returns the claim's number; None: it does not fit, or nobody can say now.
        """
        if self.trouble is not None:
            return 0
        number = self._number + 1
        row = (self._run, number, *self._place(request))

        def work() -> bool:
            if not fits():
                return False
            self._connection.execute("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", row)
            return True

        if not self._within(work):
            return None
        self._number = number
        return number

    def occupy(self, request: MountRequest) -> int:
        """Claim a mount that may be open already, whatever the limits."""
        self._number += 1
        row = (self._run, self._number, *self._place(request))
        self._write("INSERT INTO claims VALUES (?, ?, ?, ?, ?)", row)
        return self._number

    def release(self, number: int) -> None:
        """Give a claim back: its mount is known to be gone. Repeatable."""
        self._write("DELETE FROM claims WHERE run = ? AND number = ?", (self._run, number))

    def forget_earlier(self) -> None:
        """Give back the claims of earlier processes of this run: open mounts are claimed again."""
        row = (self._run, self._earlier)
        self._write("DELETE FROM claims WHERE run = ? AND number <= ?", row)

    def leave(self) -> None:
        """Record for the last time that the run is alive; its open claims still count."""
        self._told_at = 0.0
        self.look()
        self._forget(self._run)

    def _forget(self, run: str) -> None:
        """Remove what is known of a run that has nothing open."""
        nothing_open = "run = ? AND run NOT IN (SELECT run FROM claims)"
        self._write(f"DELETE FROM endpoints WHERE {nothing_open}", (run,))  # noqa: S608 - constant
        self._write(f"DELETE FROM runs WHERE {nothing_open}", (run,))  # noqa: S608 - constant

    def _place(self, request: MountRequest) -> Place:
        backup, vm = request.backup_server.casefold(), request.vm.casefold()
        return self._addresses[request.server], backup, vm

    # --- the file --------------------------------------------------------------------------

    def _write(self, sql: str, row: tuple[object, ...]) -> None:
        """Change the claims now, or with the next look if another process holds the lock."""
        self._late.append((sql, row))
        self._within(lambda: True)

    def _within(self, work: Callable[[], bool]) -> bool | None:
        """Do `work` in one transaction that knows what the others have open; None: not now.

        That is read anew if somebody else has written since. Else those runs are looked at that
        lived: what is open elsewhere may end without a word.
        """
        if self.trouble is not None:
            return None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for sql, row in self._late:
                    self._connection.execute(sql, row)
                self._show_life()
                version = self._version_now()
                if self.is_unsure or version != self._version or self._is_read_due():
                    self._read()
                elif self._elsewhere:
                    self._look_at_living()
                self._version = version
                done = work()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as exc:
            self.is_unsure = True
            if not is_locked(exc):
                self._go_on_alone(exc)
            return None
        self._late.clear()
        self.is_unsure = False
        return done

    def _version_now(self) -> int:
        """Return a number that changes whenever another connection writes."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _go_on_alone(self, exc: sqlite3.Error) -> None:
        self.trouble = f"what other runs have open cannot be known any more: {exc}"
        log.warning("claims.broken", why=str(exc))
        self.is_unsure = False
        self._count({})

    def _show_life(self) -> None:
        now = self._now()
        if self._is_sign_due():
            row = (self._run, self._plan, now)
            self._connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", row)
            self._told_at = now

    def _is_sign_due(self) -> bool:
        return abs(self._now() - self._told_at) >= SEEN_EVERY

    def _is_read_due(self) -> bool:
        """Return whether runs that had ended are to be looked at again: one may be resumed."""
        return bool(self._elsewhere) and abs(self._now() - self._read_at) >= LOOK_AGAIN_S

    def _now(self) -> float:
        return self._clock().timestamp()

    def _read(self) -> None:
        self._read_at = self._now()
        self._plans, self._seen_at = {}, {}
        found: dict[str, Counter[Place]] = {}
        same: dict[tuple[str, str], Iterable[str]] = {}
        rows = self._connection.execute(
            "SELECT claims.run, plan, seen_at, address, backup_server, vm, count(*) FROM claims "
            "JOIN runs ON runs.run = claims.run WHERE claims.run <> ? GROUP BY 1, 4, 5, 6",
            (self._run,),
        ).fetchall()
        if rows:  # nearly always there is no other run
            self._identities = read_identities(self._connection)
        for run, plan, seen_at, *place, count in rows:
            self._plans[run], self._seen_at[run] = plan, seen_at
            url, backup, vm = map(str, place)
            if (run, url) not in same:
                same[run, url] = self._same_here(run, url)
            for here in same[run, url]:
                found.setdefault(run, Counter())[here, backup, vm] += count
        self._claimed = found
        self._living = dict.fromkeys(found, True)
        self._look_at_living()

    def _look_at_living(self) -> None:
        """Find out which runs still live, and count what is claimed by those that count."""
        for run in [run for run, lived in self._living.items() if lived]:
            self._living[run] = self._is_running(self._plans[run], RunId(run))
        now = self._now()
        counting = {
            run: places
            for run, places in self._claimed.items()
            if self._living[run] or may_have_sessions(self._seen_at[run], now)
        }
        if counting != self._elsewhere:
            self._count(counting)

    def _same_here(self, run: str, url: str) -> Iterable[str]:
        """Return by which addresses this run knows another run's server; else that run's own."""
        here = {
            each
            for each in self._addresses.values()
            if self._identities.is_same((self._run, each), (run, url))
        }
        return here or (url,)

    def _others(self) -> list[tuple[str, str, float]]:
        sql = "SELECT run, plan, seen_at FROM runs WHERE run <> ?"
        return self._connection.execute(sql, (self._run,)).fetchall()

    def _sign_of_earlier(self) -> datetime | None:
        sql = "SELECT seen_at FROM runs WHERE run = ?"
        row = self._connection.execute(sql, (self._run,)).fetchone()
        return datetime.fromtimestamp(row[0], UTC) if row else None

    def _counts(self, run: str, plan: str, seen_at: float) -> bool:
        return may_have_sessions(seen_at, self._now()) or self._is_running(plan, RunId(run))

    def _long_ended(self) -> list[str]:
        try:
            return [each[0] for each in self._others() if not self._counts(*each)]
        except sqlite3.Error:
            return []

    def _count(self, elsewhere: dict[str, Counter[Place]]) -> None:
        self._elsewhere = elsewhere
        self._servers, self._behind, self._machines = Counter(), Counter(), Counter()
        for places in elsewhere.values():
            for place, count in places.items():
                self._servers[place[0]] += count
                self._behind[place[:2]] += count
                self._machines[place] += count


@contextmanager
def opened_claims(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file of a state directory's claims, and make it if it is not there.

    Raises:
        JournalError: it cannot be used.
    """
    try:
        private_file(path)
        connection = sqlite3.connect(path, isolation_level=None)
    except (OSError, sqlite3.Error) as exc:
        raise JournalError(f"{path} cannot be written: {exc}") from exc
    with closing(connection):
        try:
            connection.execute("PRAGMA busy_timeout = 5000")
            connection.execute(f"PRAGMA cache_size = {-CACHE_KB}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        except sqlite3.Error as exc:
            raise journal_error(path, exc, "written") from exc
        yield connection
