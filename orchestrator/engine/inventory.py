"""Ask one server for the restore points that the plan names.

A refusal is an answer about the question and not about the server: what was refused is noted
with the server's words, only the targets that rest on it fail, and the rest is asked all the
same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import anyio
from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.core.errors import (
    AccessDenied,
    EnterpriseManagerError,
    ForbiddenAction,
    NotFound,
    RequestRefused,
    ServerUnusable,
    ServiceBusy,
    SessionLost,
)
from orchestrator.core.model import BackupServerName, RestorePoint, RestorePointId, Source
from orchestrator.core.ports.server import InventorySession
from orchestrator.core.text import duration, printable
from orchestrator.engine.connection import Connection
from orchestrator.engine.server_connection import ServerConnection
from orchestrator.engine.sessions import PATIENCE
from orchestrator.plan.choose.inventory import InventoryNeeds, Listing, Question
from orchestrator.plan.file.selectors import SelectorKind

AT_ONCE = 4
"""Points read by id at the same time."""

NEVER_ASKED = (
    "never asked for: with this name or text the request could be taken for one that acts, or it "
    "holds control characters"
)

NAMES_AT_ONCE = 40
"""Machines whose points are asked for together: what is wrong with one costs the others little."""
BRIEFLY = 15.0
"""Seconds for which a question about several machines is repeated that the server fails inside.

It may be the fault of one of them, and then only smaller questions help.
"""
MOST_REFUSED = 20
"""Names refused one after another, before any was answered, that speak for all the others."""


class ServerQuestion(Protocol):
    """Asks something of the server; `patience` as for `Availability.persistently`."""

    async def __call__(
        self, read: Callable[[], Awaitable[Any]], *, patience: float = PATIENCE
    ) -> Any:
        """Return the result of `read`."""


async def gather_once(session: InventorySession, needs: InventoryNeeds) -> Listing:
    """Return the points like `gather`, without waiting out any trouble of the server."""

    async def ask(read: Callable[[], Awaitable[Any]], *, patience: float = PATIENCE) -> Any:
        _ = patience
        return await read()

    return await _Gathering(session, ask).everything(needs)


async def listing_of(server: ServerConnection, needs: InventoryNeeds) -> Listing | None:
    """Return a server's points, with whichever session it takes, or None if it is given up.

    Given up, too, once it was usable for as long as an outage may last and has not listed them.
    """
    try:
        found = await server.within(server.outage, partial(_listed, server, needs))
    except ServerUnusable:
        return None
    except MayNotMount as exc:
        server.refuse(f"the account may not mount: {exc}")
        return None
    except EnterpriseManagerError as exc:
        server.refuse(f"it does not list its restore points: {exc}")
        return None
    if found is None:
        server.give_up(f"it did not list its restore points within {duration(server.outage)}")
        return None
    return replace(found, after_s=server.now)


async def _listed(server: ServerConnection, needs: InventoryNeeds) -> Listing:
    while True:
        await server.gate.passed()
        connection = server.open_connection()
        if connection is None:  # its session ends just now
            await anyio.sleep(1.0)
            continue
        try:
            found = await gather(connection, server, needs)
            await _see_role(connection, server, found)
        except SessionLost:
            continue
        return found


class MayNotMount(AccessDenied):
    """The account's role may not mount any restore point that the plan asks for."""


async def _see_role(connection: Connection, server: ServerConnection, found: Listing) -> None:
    """Ask of each family for the mounts of one point: a role that may not list may not mount.

    Nothing is asked for before, so the account is seen to be the wrong one before anything begins.
    Source: reference 2.7.

    Raises:
        MayNotMount: it may not, whatever the family.
        SessionLost, ServerUnusable: the server cannot be asked.
    """
    denials: list[AccessDenied] = []
    points = {point.source: point for point in found.points}
    for source, point in points.items():
        see = partial(connection.session.see_mounts, point.id, source)
        try:
            await server.persistently(connection, see)
        except AccessDenied as exc:
            denials.append(exc)
        except RequestRefused:
            pass  # nothing is said of the role
    if denials and len(denials) == len(points):
        raise MayNotMount(str(denials[0]), server=server.name, status=denials[0].status)


async def gather(
    connection: Connection, server: ServerConnection, needs: InventoryNeeds
) -> Listing:
    """Return every restore point that the plan's selectors could mean on this server.

    Reads only, waits out the server's trouble, and may be repeated. A point that is named
    by id and does not exist is simply not in the answer; what the server refuses to list is
    in the answer as a refusal.

    Raises:
        SessionLost: the session is gone; ask again with the next one.
        ServerUnusable: the server was given up.
        EnterpriseManagerError: a fault that is neither trouble nor a refusal.
    """

    async def ask(read: Callable[[], Awaitable[Any]], *, patience: float = PATIENCE) -> Any:
        return await server.persistently(connection, read, patience=patience)

    return await _Gathering(connection.session, ask).everything(needs)


class _Gathering:
    """One pass over everything that must be asked of a server."""

    def __init__(self, session: InventorySession, ask: ServerQuestion) -> None:
        self._session = session
        self._ask = ask
        self._found: dict[tuple[Source, RestorePointId], RestorePoint] = {}
        self._returned: dict[Question, tuple[RestorePointId, ...]] = {}
        self._refused: dict[Question, str] = {}
        self._names = _NameQueries()

    async def everything(self, needs: InventoryNeeds) -> Listing:
        """Return the answers to all questions; a family that is listed whole first."""
        session = self._session
        for source, behind in needs.listings.items():
            for name in behind:
                asked = Question(SelectorKind.MATCH, source, name)
                await self._list([asked], partial(session.points_of_family, source, name or None))
        for source, names in needs.machines.items():
            self._names = _NameQueries()
            for start in range(0, len(names), NAMES_AT_ONCE):
                await self._list_machines(source, names[start : start + NAMES_AT_ONCE])
        for source, jobs in needs.jobs.items():
            for job in jobs:
                asked = Question(SelectorKind.JOB, source, job)
                await self._keep(asked, partial(session.points_of_job, job, source))
        for source, texts in needs.queries.items():
            for text in texts:
                asked = Question(SelectorKind.QUERY, source, text)
                await self._keep(asked, partial(session.points_of_query, text, source))
        await self._read_by_id(needs.points)
        return Listing(
            points=tuple(self._found.values()),
            returned=self._returned,
            refused=self._refused,
            set_aside=tuple(session.set_aside_points),
            clock_offset_s=session.clock_offset_s,
            backup_servers=await self._backup_servers(needs.backup_servers, needs.sources),
        )

    async def _backup_servers(
        self, limited: Sequence[BackupServerName], sources: Iterable[Source]
    ) -> frozenset[BackupServerName]:
        """Return those of the limited ones that no point found here names, and another point does.

        One small request for each of them; a plan may limit more servers than it selects from.
        One that the server does not answer for counts as known: nothing is said against it.
        """
        named = {point.backup_server.casefold() for point in self._found.values()}
        known: set[BackupServerName] = set()
        for name in limited:
            if name.casefold() not in named and await self._is_known(name, sources):
                known.add(name)
        return frozenset(known)

    async def _is_known(self, name: BackupServerName, sources: Iterable[Source]) -> bool:
        for source in sorted(sources):
            try:
                if await self._ask(partial(self._session.has_points_behind, name, source)):
                    return True
            except ServiceBusy:
                raise
            except RequestRefused:
                return True
        return False

    async def _list_machines(self, source: Source, names: Sequence[str]) -> None:
        """List the points of many machines at once; a name that is refused fails alone."""
        questions = [Question(SelectorKind.VM, source, name) for name in names]
        if self._names.speak_for_all is not None:
            self._refused.update(dict.fromkeys(questions, self._names.speak_for_all))
            return
        read = partial(self._session.points_of_machines, names, source)
        patience = BRIEFLY if len(names) > 1 or self._names.refused else PATIENCE
        try:
            await self._list(questions, read, patience=patience)
        except ServiceBusy:
            raise
        except (ForbiddenAction, RequestRefused):  # of several names
            half = len(names) // 2
            await self._list_machines(source, names[:half])
            await self._list_machines(source, names[half:])
            return
        self._names.answered |= questions[0] not in self._refused
        if len(names) == 1 and questions[0] in self._refused:
            self._names.refused.append(self._refused[questions[0]])

    async def _keep(
        self, asked: Question, read: Callable[[], Awaitable[Sequence[RestorePoint]]]
    ) -> None:
        """List and remember which points this very question returned."""
        points = await self._list([asked], read)
        self._returned[asked] = tuple(point.id for point in points)

    async def _list(
        self,
        questions: Sequence[Question],
        read: Callable[[], Awaitable[Sequence[RestorePoint]]],
        *,
        patience: float = PATIENCE,
    ) -> Sequence[RestorePoint]:
        """Keep the points of one listing, or why it was refused.

        Raises:
            ForbiddenAction: one of several questions must not be asked; which is not known.
            RequestRefused: the server refuses one of several questions, or all.
        """
        try:
            points: Sequence[RestorePoint] = await self._ask(read, patience=patience)
        except ServiceBusy:
            raise
        except ForbiddenAction:
            if len(questions) > 1:
                raise
            self._refused[questions[0]] = NEVER_ASKED
            return ()
        except RequestRefused as exc:
            if len(questions) > 1 and not isinstance(exc, AccessDenied):
                raise
            why = _refusal(exc, questions[0].source)
            self._refused.update(dict.fromkeys(questions, why))
            return ()
        for point in points:
            self._found.setdefault((point.source, point.id), point)
        return points

    async def _read_by_id(self, points: Sequence[tuple[Source, RestorePointId]]) -> None:
        """Read the points named by id that no listing has shown, a few at a time."""
        room = anyio.CapacityLimiter(AT_ONCE)
        failed: list[Exception] = []

        async def one(source: Source, point: RestorePointId) -> None:
            async with room:
                try:
                    await self._read_one(source, point)
                except Exception as exc:  # noqa: BLE001 - raised below, and not as a group
                    failed.append(exc)
                    tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for source, point in points:
                if (source, point) not in self._found:
                    tasks.start_soon(one, source, point)
        if failed:
            raise failed[0]

    async def _read_one(self, source: Source, point: RestorePointId) -> None:
        try:
            read = await self._ask(partial(self._session.point, point, source))
        except NotFound:
            return
        except ServiceBusy:
            raise
        except ForbiddenAction:
            self._refused[Question(SelectorKind.ID, source, point)] = NEVER_ASKED
        except RequestRefused as exc:
            self._refused[Question(SelectorKind.ID, source, point)] = _refusal(exc, source)
        else:
            self._found.setdefault((source, point), read)


class _NameQueries(Struct):
    """How the questions about machines of one family went so far."""

    answered: bool = False
    refused: list[str] = field(default_factory=list)
    """Why single names were refused."""

    @property
    def speak_for_all(self) -> str | None:
        """The reason that is taken for that of all other names, too; None if there is none."""
        if self.answered or len(self.refused) < MOST_REFUSED:
            return None
        return self.refused[-1]


def _refusal(exc: RequestRefused, source: Source) -> str:
    """Return why the server did not answer, in words that are safe to show."""
    words = f": {printable(exc.words)!r}" if exc.words else ""
    if isinstance(exc, AccessDenied):
        return f"not visible to this role: the account may not list {source} restore points{words}"
    if exc.words:
        return f"the server refused to list the restore points{words}"
    return f"the restore points cannot be listed: {printable(str(exc))}"
