"""Asking one server for the restore points that the plan speaks of.

A refusal is an answer about the question and not about the server: what was refused is noted
with the server's words, only the targets that rest on it fail, and the rest is asked all the
same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio

from orchestrator.engine.orders import Needs
from orchestrator.engine.site import PATIENCE, Connection, Site
from orchestrator.errors import (
    AccessDenied,
    EnterpriseManagerError,
    ForbiddenAction,
    NotFound,
    OrchestratorError,
    RequestRefused,
    ServerUnusable,
    ServiceBusy,
    SessionLost,
)
from orchestrator.model import RestorePoint, RestorePointId, Source, printable
from orchestrator.plan.inventory import Listing, Question
from orchestrator.plan.settings import SelectorKind
from orchestrator.ports import InventorySession

AT_ONCE = 4
"""Points read by id at the same time; as many connections as a site keeps."""

NEVER_ASKED = (
    "never asked for: with this name or text the request could be taken for one that acts, or it "
    "holds control characters"
)

Asking = Callable[[Callable[[], Awaitable[RestorePoint | Sequence[RestorePoint]]]], Awaitable[Any]]


async def gather_once(session: InventorySession, needs: Needs) -> Listing:
    """Return the points like `gather`, without waiting out any trouble of the server."""

    async def ask(read: Callable[[], Awaitable[Any]]) -> Any:
        return await read()

    return await _Gathering(session, ask).everything(needs)


async def listing_of(site: Site, needs: Needs) -> Listing | None:
    """Return a server's points, with whichever session it takes, or None if it is given up."""
    while True:
        try:
            await site.gate.passed()
            connection = site.open_connection()
            if connection is not None:
                return await gather(connection, site, needs)
        except SessionLost:
            continue
        except ServerUnusable:
            return None
        except EnterpriseManagerError as exc:
            site.refuse(f"it does not list its restore points: {exc}")
            return None


async def gather(connection: Connection, site: Site, needs: Needs) -> Listing:
    """Return every restore point that the plan's selectors could mean on this server.

    Reads only, waits out the server's trouble, and may be repeated. A point that is named
    by id and does not exist is simply not in the answer; what the server refuses to list is
    in the answer as a refusal.

    Raises:
        SessionLost: the session is gone; ask again with the next one.
        ServerUnusable: the server was given up.
        EnterpriseManagerError: a fault that is neither trouble nor a refusal.
    """

    async def ask(read: Callable[[], Awaitable[Any]]) -> Any:
        return await site.persistently(connection, read, patience=PATIENCE)

    return await _Gathering(connection.session, ask).everything(needs)


class _Gathering:
    """One pass over everything that must be asked of a server."""

    def __init__(self, session: InventorySession, ask: Asking) -> None:
        self._session = session
        self._ask = ask
        self._found: dict[tuple[Source, RestorePointId], RestorePoint] = {}
        self._returned: dict[Question, tuple[RestorePointId, ...]] = {}
        self._refused: dict[Question, str] = {}

    async def everything(self, needs: Needs) -> Listing:
        """Return the answers to all questions; a family that is listed whole first."""
        session = self._session
        for source, behind in needs.listings.items():
            for name in behind:
                asked = Question(SelectorKind.MATCH, source, name)
                await self._list([asked], partial(session.points_of_family, source, name or None))
        for source, names in needs.machines.items():
            await self._list_machines(source, names)
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
            points=tuple(self._found.values()), returned=self._returned, refused=self._refused
        )

    async def _list_machines(self, source: Source, names: Sequence[str]) -> None:
        """List the points of many machines at once; a name that cannot be asked for fails alone."""
        if not names:
            return
        questions = [Question(SelectorKind.VM, source, name) for name in names]
        try:
            await self._list(questions, partial(self._session.points_of_machines, names, source))
        except ForbiddenAction:
            half = len(names) // 2
            await self._list_machines(source, names[:half])
            await self._list_machines(source, names[half:])

    async def _keep(
        self, asked: Question, read: Callable[[], Awaitable[Sequence[RestorePoint]]]
    ) -> None:
        """List and remember which points this very question returned."""
        points = await self._list([asked], read)
        self._returned[asked] = tuple(point.id for point in points)

    async def _list(
        self, questions: Sequence[Question], read: Callable[[], Awaitable[Sequence[RestorePoint]]]
    ) -> Sequence[RestorePoint]:
        """Keep what one listing returns, or why it was refused.

        Raises:
            ForbiddenAction: one of several questions must not be asked; which is not known.
        """
        try:
            points: Sequence[RestorePoint] = await self._ask(read)
        except ServiceBusy:
            raise
        except ForbiddenAction:
            if len(questions) > 1:
                raise
            self._refused[questions[0]] = NEVER_ASKED
            return ()
        except RequestRefused as exc:
            why = _refusal(exc, questions[0].source)
            self._refused.update(dict.fromkeys(questions, why))
            return ()
        for point in points:
            self._found.setdefault((point.source, point.id), point)
        return points

    async def _read_by_id(self, points: Sequence[tuple[Source, RestorePointId]]) -> None:
        """Read the points named by id that no listing has shown, a few at a time."""
        room = anyio.CapacityLimiter(AT_ONCE)
        failed: list[OrchestratorError] = []

        async def one(source: Source, point: RestorePointId) -> None:
            async with room:
                try:
                    await self._read_one(source, point)
                except OrchestratorError as exc:  # not as a group: the caller tells them apart
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


def _refusal(exc: RequestRefused, source: Source) -> str:
    """Return why the server did not answer, in words that are safe to show."""
    words = f": {printable(exc.words)!r}" if exc.words else ""
    if isinstance(exc, AccessDenied):
        return f"not visible to this role: the account may not list {source} restore points{words}"
    if exc.words:
        return f"the server refused to list the restore points{words}"
    return f"the restore points cannot be listed: {printable(str(exc))}"
