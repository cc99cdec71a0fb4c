"""One server's sessions in the journal: how each begins and ends, and what may be open in it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable

import anyio

from orchestrator.core.errors import (
    EnterpriseManagerError,
    JournalError,
    ServerUnusable,
    SessionLost,
)
from orchestrator.core.events import (
    LOGGED_OFF,
    ServerMeasured,
    SessionEnded,
    SessionOpened,
    SessionTakenUp,
    StrayFound,
    TasksAttributed,
)
from orchestrator.core.lifecycle import AttemptRecord, MountRecord
from orchestrator.core.model import Href, SessionId, TaskId, same_fields
from orchestrator.core.ports.fence import NoFence
from orchestrator.core.ports.server import EnterpriseManager, GuestSession
from orchestrator.core.text import counted
from orchestrator.engine.accounting import is_accounted, last_asked, may_hold
from orchestrator.engine.adopted import is_any_unproven
from orchestrator.engine.availability import Availability, Terms
from orchestrator.engine.connection import Connection, EarlierSession
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.overdue import ends_at, may_have_a_double, may_mount_yet
from orchestrator.engine.watcher import Watcher
from orchestrator.log import Log
from orchestrator.plan.choose.inventory import set_aside_words

log = Log(__name__)

PATIENCE = 180.0
"""Seconds for which a read is repeated that the server, alive and well, fails inside."""

LAST_LOOK = 10.0
"""Seconds for reading the tasks of a session whose server was given up, before it is ended."""

FORGOTTEN = "the server forgot the session"

LEFT_OPEN = "left open, so that its mounts can still be released"

DENIED = "the server denied the session before its tasks were read a last time"
"""Why nobody knows what is open in a session that was lost."""

UNKEPT = "its process ended before its tasks were read a last time, and its token is not kept"
"""Why nobody knows what is open in the session of an earlier process that no process can use."""

PROBE_ALLOWANCE = 20.0
"""Seconds that a probe may take: one swallowed by a dead link must not hide its recovery."""

END_WITHIN = 2.0
"""Seconds for which one process waits until the record of a session's end is on disk."""

UNAUDITED = "whether a mount of no target is open there is not known"


class Sessions(Availability):
    """The sessions of one server, one at a time."""

    def __init__(
        self, client: EnterpriseManager, ledger: Ledger, terms: Terms, moved: Callable[[], None]
    ) -> None:
        """None was opened yet."""
        super().__init__(client.server, ledger, terms, moved)
        self._client = client
        self._watch = terms.watch
        self._known_sessions = terms.known_sessions
        self._on_met = terms.on_met
        self._taken_up: Connection | None = None
        self.forgotten = False
        """True once the server has said that it does not know the kept session any more."""
        self._decided = anyio.Event()
        self._closing = anyio.Event()
        self.is_resting = False
        """Whether its session ends although it is not done: another process goes on with it."""
        self.ended = anyio.Event()
        self._requests = 0
        self._retries = 0
        self.peak_mounts = 0
        self._hiding: set[SessionId] = set()
        self._lost: list[Connection] = []

    @property
    def is_fenced(self) -> bool:
        """True once another worker has the server: nothing is sent, cleaned up or recorded here."""
        return self._client.fence.lost

    @property
    def stops_tasks(self) -> bool:
        """Whether the plan lets the tasks of mounts be asked to stop here."""
        return self._client.stops_tasks

    @property
    def left_open(self) -> bool:
        """Whether a session ended, or was not reached, in which something may be mounted."""
        return bool(self._hiding)

    @property
    def own(self) -> set[SessionId]:
        """The run's sessions here: those that are open, and all with a mount request."""
        live = (self._connection, self._taken_up)
        asked = {
            attempt.session
            for record in self._ledger.records
            if record.planned.server == self.name
            for attempt in record.attempts
        }
        return asked | {SessionId(each.session.id) for each in live if each is not None}

    def attribute(self, connection: Connection, tasks: Iterable[TaskId], mount: Href) -> None:
        """Note that tasks belong to the target whose `mount` was found by its point's list."""
        found = tuple(sorted(tasks))
        if found:
            connection.watcher.claimed.update(found)
            self._ledger.record(
                TasksAttributed(
                    at=self._ledger.now(),
                    server=self.name,
                    session=SessionId(connection.session.id),
                    tasks=found,
                    mount=mount,
                )
            )

    def stray(self, connection: Connection, found: StrayFound) -> None:
        """Note that a task of the session belongs to no target, and may have left a mount."""
        connection.strays[found.task] = found
        self._ledger.record(found)

    def sent_by(self, tried: AttemptRecord) -> float:
        """Return when the request of an attempt was sent at the latest, on the run's clock.

        In one process, when it was intended. Behind a fence it may have waited after that: for
        its record to be in the database, and for the lease to be sure.
        """
        if isinstance(self._client.fence, NoFence) or tried.doubted_at is None:
            return tried.submitted_at
        return max(tried.submitted_at, tried.doubted_at)

    async def until_sure(self) -> None:
        """Return when something that changes the server may be sent; at once in one process.

        Raises:
            Fenced: another worker serves it now.
        """
        await self._client.fence.until_sure()

    def is_unused(self, connection: Connection) -> bool:
        """Return whether no mount was ever asked for in a session: nothing can be open there."""
        asked_at = last_asked(self._ledger, connection.session.id)
        return connection is not self._taken_up and asked_at == -math.inf

    async def _last_look(self, connection: Connection) -> None:
        """Read the tasks of a session that ends before its audit: its server was given up.

        Nothing is awaited or removed; what is found, or not answered, keeps the session open.
        """
        connection.audited = False
        connection.unaudited = "no answer in time"
        with anyio.move_on_after(LAST_LOOK):
            try:
                await self._see_tasks(connection, connection.session)
            except EnterpriseManagerError as exc:
                log.warning("audit.not_made", server=self.name, why=str(exc))
                connection.unaudited = str(exc)

    async def _see_tasks(self, connection: Connection, session: GuestSession) -> None:
        """Read the tasks of a connection's session, once; name those that belong to no target.

        An adopted one that the list does not prove to be its target's is read alone.

        Raises:
            EnterpriseManagerError: as for any request.
        """
        tasks, unread = await session.tasks(), session.unread_tasks
        found = [task for task in tasks if connection.is_nobodys(task)]
        found = [task for task in found if task.may_be_mounted or not task.is_final]
        for task in found:
            stray = StrayFound(
                at=self._ledger.now(),
                server=self.name,
                session=connection.session.id,
                task=task.id,
                reason="a mount task of no target, found in the last look at its session",
                mount=task.mount.href if task.mount is not None else None,
            )
            self.stray(connection, stray)
        why = f"{counted(unread, 'task')} of its session cannot be read" if unread else None
        if await is_any_unproven(self._ledger, session, tasks):
            why = why or "a task that was taken for a lost request's may be another's"
        for record in self._ledger.records:
            if may_mount_yet(record, session.id) and await self._may_come(session, record):
                why = "a task that was asked to stop may have mounted something"
        connection.unaudited, connection.audited = why, not found and why is None

    async def _may_come(self, session: GuestSession, record: MountRecord) -> bool:
        """Return whether a mount of a stopped task, or of its double, is there or may come.

        Raises:
            EnterpriseManagerError: as for any request.
        """
        ends = ends_at(record, record.planned.timeouts)
        if may_have_a_double(record) and self._ledger.now() < ends:
            return True
        point = record.open_point
        return point is not None and bool(await session.mounts(point.id, point.source))

    def _end_found(self, connection: Connection) -> None:
        """Record that a denied session has answered, and what may be open there."""
        connection.denied_at = self._ledger.now()
        session = connection.session.id
        left = not connection.audited or may_hold(self._ledger, session)
        if not left:
            self._hiding.discard(session)
        reason = LEFT_OPEN if left else "it answered once more, and nothing is open there"
        self._record_end(session, reason, connection.unaudited, lost=False, left_open=left)

    def _record_end(
        self, session: SessionId, reason: str, unaudited: str | None, *, lost: bool, left_open: bool
    ) -> None:
        self._ledger.record(
            SessionEnded(
                at=self._ledger.now(),
                server=self.name,
                session=session,
                lost=lost,
                reason=reason,
                unaudited=unaudited,
                left_open=left_open,
            )
        )

    def _note_unreached(self) -> None:
        """Record that the run ends without having reached the session of an earlier process."""
        left = self._left
        if left is None or left.over or self._taken_up is not None or self.forgotten:
            return
        self._hiding.add(left.session)
        if left.unended:
            why = self.gate.given_up or "the run ended before it was reached"
            self._end_unseen(left, f"not reached: {why}", lost=False)

    def end_unkept(self, session: SessionId) -> None:
        """Record that a session of an earlier process cannot be read: its token is not kept."""
        self._record_end(session, LEFT_OPEN, UNKEPT, lost=False, left_open=True)
        self._ledger.note(f"{self.name}: the session of an earlier process: {UNAUDITED} ({UNKEPT})")

    def _end_unseen(self, left: EarlierSession, why: str, *, lost: bool) -> None:
        """Record that the open mounts of a session that no process has ended are not known."""
        self._hiding.add(left.session)
        reason = FORGOTTEN if lost else LEFT_OPEN
        self._record_end(left.session, reason, why, lost=lost, left_open=not lost)
        self._ledger.note(f"{self.name}: the session of an earlier process: {UNAUDITED} ({why})")

    def _end_forgotten(self, left: EarlierSession) -> None:
        """Record that the session of an earlier process is gone, or denied and may live."""
        if left.unended:
            self._end_unseen(left, DENIED, lost=True)
        elif left.end is None:  # nothing was mounted in it: it is over
            self._record_end(left.session, FORGOTTEN, None, lost=True, left_open=False)
        elif not left.over:
            may_live = left.may_live(self._ledger.now())
            why = left.end.unaudited
            self._record_end(left.session, FORGOTTEN, why, lost=True, left_open=may_live)

    async def _log_off_if_recorded(self, connection: Connection) -> None:
        """Return once the record of a session's end is durable; without it, let there be no logoff.

        A later process must not take a session that was logged off for one that was lost: it
        could not know that nothing was left there. One that is not logged off it can ask.
        Without a journal, one process logs off all the same: its report is all that will tell.

        Raises:
            Fenced: another worker uses it now.
        """
        is_alone = isinstance(self._client.fence, NoFence)
        may_log_off = False
        try:
            with anyio.move_on_after(END_WITHIN if is_alone else math.inf):
                await self._ledger.durable()
                may_log_off = True
        except JournalError:
            may_log_off = is_alone
        finally:
            if not may_log_off:
                connection.session.leave_open()

    def _open(self, session: GuestSession) -> Connection:
        """Begin to use a session that was just logged on."""
        self._sessions += 1
        at, server = self._ledger.now(), self.name
        self._ledger.record(
            same_fields(SessionOpened, session, at=at, server=server, session=session.id)
        )
        connection = self._connected(session)
        if self._sessions == 1 and self._down_since is None:
            self._recover()  # whoever asks the first question learns whether it is a session
        return connection

    def _take_up(self, session: GuestSession, left: EarlierSession) -> Connection:
        """Begin to use the session of an earlier process, with all that belongs to it."""
        self._ledger.record(
            SessionTakenUp(at=self._ledger.now(), server=self.name, session=session.id)
        )
        connection = self._connected(session)
        connection.watcher.claimed.update(left.tasks)
        connection.mounts.update(left.mounts)
        connection.strays.update({stray.task: stray for stray in left.strays})
        connection.counts = False  # others post here while a doubt of that process is settled
        connection.answered = True  # it was asked whether it still lives
        self._recover()
        self._taken_up = connection
        self._left_known.set()
        return connection

    def _connected(self, session: GuestSession) -> Connection:
        self._on_met(self.name, session.endpoints)

        async def persistently(ask: Callable[[], Awaitable[None]]) -> None:
            await self.persistently(connection, ask, patience=PATIENCE)

        watcher = Watcher(session, self._watch, persistently)
        connection = Connection(session, watcher, opened_at=self._ledger.now())
        if self._closing.is_set():  # the run ended while this logon was on its way
            connection.over.set()
        self._connection = connection
        self._decided.set()
        return connection

    def _end(self, connection: Connection) -> None:
        self._connection = None
        self.gate.close()
        if self._client.fence.lost:
            return  # it has not ended: another worker uses it
        self._requests += connection.session.requests
        self._retries += connection.session.retries
        unread = set_aside_words("task", connection.session.set_aside_tasks)
        if unread is not None:
            self._ledger.note(f"{self.name}: {unread}")
        reason, left_open, unaudited = LOGGED_OFF, False, None
        if connection.lost:
            reason = FORGOTTEN
            if not (self.is_unused(connection) or is_accounted(connection, self._ledger)):
                unaudited = connection.unaudited = connection.unaudited or DENIED
                connection.session.leave_open()  # it may be denied for a while only
                self._hiding.add(connection.session.id)
                self._lost.append(connection)
        elif connection.audited is False or connection.strays or self.is_any_open(connection):
            # a mount may be left, and a logoff would lose it
            unaudited = connection.unaudited
            connection.session.leave_open()
            self._hiding.add(connection.session.id)
            left_open = True
            reason = LEFT_OPEN
            self._note_unaudited(connection)
        session = connection.session.id
        self._record_end(session, reason, unaudited, lost=connection.lost, left_open=left_open)

    def _note_unaudited(self, connection: Connection) -> None:
        if connection.unaudited is not None:
            how = "was lost" if connection.lost else "was left open"
            why = f"{UNAUDITED} ({connection.unaudited})"
            self._ledger.note(f"{self.name}: its session {how}: {why}")

    def is_any_open(self, connection: Connection) -> bool:
        """Return whether a mount of a target may be open in a session."""
        return may_hold(self._ledger, connection.session.id)

    def _measure(self) -> None:
        self._ledger.record(
            ServerMeasured(
                at=self._ledger.now(),
                server=self.name,
                requests=self._requests,
                retries=self._retries,
                peak_mounts=self.peak_mounts,
                sessions=self._sessions,
            )
        )

    async def _ask_denied(self, _connection: Connection) -> None:
        """Ask sessions that the server has denied once more, each once, now that it answers."""
        while self._lost:
            try:
                await self.gate.passed()
            except ServerUnusable:
                return
            connection = self._lost[0]
            await self._ask_once_more(connection)
            self._lost.remove(connection)
            self._note_unaudited(connection)

    async def _ask_once_more(self, connection: Connection) -> None:
        """Read the tasks of a session that was denied; if it answers, record its state.

        It is never logged off: what may be open there is released in it, or in none.
        """
        connection.unaudited = "no answer in time"
        with anyio.move_on_after(PROBE_ALLOWANCE):
            try:
                async with self._client.take_up(connection.session.id) as session:
                    session.leave_open()
                    try:
                        await self._see_tasks(connection, session)
                    finally:
                        self._requests += session.requests
                        self._retries += session.retries
            except SessionLost:
                connection.unaudited = DENIED
            except EnterpriseManagerError as exc:
                connection.unaudited = str(exc)
            else:
                self._end_found(connection)

    async def _look_for_neighbours(self, connection: Connection) -> None:
        """Note for the report that others use the account: their mounts count in no limit here.

        One request per server and run, at its first logon; refused or failed, nothing is known.
        """
        known, self._known_sessions = self._known_sessions, None
        if known is None:
            return
        try:
            with anyio.move_on_after(PROBE_ALLOWANCE):
                others = await connection.session.other_sessions(known())
                if others:
                    self._ledger.note(
                        f"{self.name}: {counted(others, 'other session')} of this account open at "
                        "logon, of no run that is known to share limits with this one; what they "
                        "have mounted is not known and counts in no limit"
                    )
        except EnterpriseManagerError as exc:
            log.info("sessions.not_known", server=self.name, why=str(exc))

    async def _watch_activity(self, connection: Connection) -> None:
        """Ask what else happens on the backup servers, as long as a target may wait for it."""
        if self.activity is not None:
            await self.activity.serve(connection.session)
