"""The mounted guest of one attempt: reading its files, each thing only once.

A path of the plan becomes an address: its volume is one of the roots that the mount shows.
What cannot be read comes back as `Unreadable` with the reason, because that says something
about the guest and nothing about the mount; a server in trouble is waited for, as ever.
Source: reference 6.2 for addresses; the roots of a Linux guest are not documented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import unquote

from msgspec import Struct, field

from orchestrator.checks.content import Content
from orchestrator.checks.outcomes import ABSENT, Unreadable
from orchestrator.core.errors import (
    AccessDenied,
    AnsweredByPage,
    EnterpriseManagerError,
    ForbiddenAction,
    MalformedResponse,
    NotFound,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
)
from orchestrator.core.model import FileSystemEntry, Href, Mount, OsKind, Task
from orchestrator.core.names import PathRules
from orchestrator.core.text import printable
from orchestrator.engine.content.volumes import windows_volume
from orchestrator.engine.mount.attempt import Attempt
from orchestrator.engine.watcher import TaskVanished

T = TypeVar("T")

READS = 4
"""How often an answer about one thing may be lost or unreadable while the server is well.

Between two of them the server has answered a probe, so in the end it is about the thing.
"""

BUSY_READS = 30
"""The same for answers that it is too busy: those may well be about the server for a while."""

STAGINGS = 2
"""How often a file is staged whose task the server then forgets."""

STAGING_S = 30.0
"""Seconds that staging is expected to take; only the pace of watching depends on it."""

OVER = 1024 * 1024
"""Bytes read beyond a limit before a download is broken off: then it is certainly too large."""

Listing = Sequence[FileSystemEntry]


class Guest(Struct):
    """A mount whose roots were read, and what has been read of it since."""

    attempt: Attempt
    mount: Mount
    _listings: dict[str, Listing | Unreadable] = field(default_factory=dict)
    _entries: dict[str, FileSystemEntry | Unreadable] = field(default_factory=dict)
    _usual_root: str | None = None
    """On Linux: the root below which the last path was found."""

    @property
    def names(self) -> PathRules:
        """The guest's rules for names."""
        return PathRules(self.attempt.os_kind)

    @property
    def roots(self) -> list[str]:
        """The names of its volumes, as a path begins with them."""
        return [(root.path or root.name).strip("/\\") for root in self.mount.roots]

    # --- reading ---------------------------------------------------------------------------

    async def shows_something(self) -> bool:
        """Return whether a volume can be listed, be it empty; False: the service denies all.

        An answer that says nothing of the guest does not count against it.

        Raises:
            SessionLost, ServerUnusable: nobody can say any more.
        """
        for root in self.roots:
            found = await self._listing((root,))
            if not isinstance(found, Unreadable) or not (found.absent or found.refused):
                return True
        return False

    async def entry(self, path: str) -> FileSystemEntry | Unreadable:
        """Return the file or directory at `path`, or why it cannot be seen.

        Raises:
            SessionLost, ServerUnusable: nobody can say any more.
        """
        return await self._first(path, self._entry)

    async def listing(self, path: str) -> Listing | Unreadable:
        """Return the entries of the directory at `path`, all of them, or why they cannot be seen.

        Raises:
            SessionLost, ServerUnusable: nobody can say any more.
        """
        return await self._first(path, self._listing)

    async def download(
        self, file: FileSystemEntry, limit: int, fresh: Callable[[], Content]
    ) -> Content | Unreadable:
        """Return the content of a file of at most `limit` bytes, in an object of `fresh`.

        It is staged on the server first; `fresh` is called again where a download is repeated.

        Raises:
            SessionLost, ServerUnusable: nobody can say any more.
        """
        if file.size is not None and file.size > limit:
            return Unreadable(f"it has {file.size} bytes, more than {limit}")
        staged = await self.staged(file)
        if isinstance(staged, Unreadable):
            return staged
        if not staged.downloads:
            return Unreadable("the server staged the file and named no download")
        return await self._ask(lambda: self._fetched(file, staged.downloads[0], limit, fresh))

    async def staged(self, file: FileSystemEntry) -> Task | Unreadable:
        """Return the finished task that made a file ready to be fetched.

        Staging changes nothing in the guest, so it is asked for again where an answer is lost.

        Raises:
            SessionLost, ServerUnusable: nobody can say any more.
        """
        watcher = self.attempt.connection.watcher
        for _ in range(STAGINGS):
            task = await self._ask(lambda: self._stage(file.href))
            if isinstance(task, Unreadable):
                return task
            try:
                if not (done := task).is_final:
                    done = await watcher.finished(task.id, expected=STAGING_S)
            except TaskVanished:
                continue
            if done.succeeded:
                return done
            words = printable(done.message or "the server gave no reason")
            return Unreadable(f"it could not be staged for download: {words}")
        return Unreadable("the server forgot that it was to stage the file")

    # --- addresses -------------------------------------------------------------------------

    def places(self, path: str) -> list[tuple[str, ...]] | Unreadable:
        """Return the meanings of `path`, as names from a root on, the likeliest first."""
        segments = self.names.segments(path)
        roots, request = self.roots, self.attempt.request
        if not segments:
            return [(root,) for root in roots]
        if self.attempt.os_kind is OsKind.WINDOWS:
            volume = windows_volume(segments[0], roots, dict(request.volumes))
            return volume if isinstance(volume, Unreadable) else [(volume, *segments[1:])]
        named = [root for root in roots if self.names.same(root, segments[0])]
        if "\\" in path:
            return Unreadable("a name with a backslash cannot be asked for")
        roots.sort(key=lambda root: root != self._usual_root)
        below = [(root, *segments) for root in roots]
        return [(root, *segments[1:]) for root in named] + below

    async def _first(
        self, path: str, read: Callable[[tuple[str, ...]], Awaitable[T | Unreadable]]
    ) -> T | Unreadable:
        """Read the first of the places that `path` may mean where there is anything."""
        places = self.places(path)
        if isinstance(places, Unreadable):
            return places
        found: T | Unreadable = ABSENT
        for place in places:
            found = await read(place)
            if not (isinstance(found, Unreadable) and found.absent):
                self._usual_root = place[0]
                return found
        return found

    def _key(self, place: tuple[str, ...]) -> str:
        return self.names.folded("/".join(place))

    async def _addresses(self, place: tuple[str, ...]) -> AsyncIterator[Href]:
        """Yield where a place may be read, the likeliest first.

        A volume at the address the server itself named, then at the one that is built. What is
        below it at the built one, then, where the server's own for the volume is another, at what
        its listing names. Source: reference 18.1, trap 51.
        """
        session, root = self.attempt.session, self._root(place[0])
        own = None if isinstance(root, Unreadable) else root.href
        built = session.guest_href(self.mount.href, "/".join(place))
        if len(place) == 1:
            for address in dict.fromkeys((own or built, built)):
                yield address
            return
        yield built
        usual = session.guest_href(self.mount.href, place[0])
        if own and own != usual:
            top = self._listed(await self._listing(place[:1]), place[1])
            if isinstance(top, FileSystemEntry) and top.href:
                below = "/".join(place[2:])
                yield session.guest_href(top.href, below) if below else top.href

    async def _read(
        self, place: tuple[str, ...], read: Callable[[Href], Awaitable[T | Unreadable]]
    ) -> T | Unreadable:
        """Read a place at the first of its addresses where there is anything."""
        found: T | Unreadable = ABSENT
        tried: set[Href] = set()
        async for href in self._addresses(place):
            if href not in tried:
                tried.add(href)
                found = await read(href)
                if not (isinstance(found, Unreadable) and found.absent):
                    break
        return found

    # --- each thing once -------------------------------------------------------------------

    async def _entry(self, place: tuple[str, ...]) -> FileSystemEntry | Unreadable:
        if len(place) == 1:
            return self._root(place[0])
        above = self._listings.get(self._key(place[:-1]))
        if above is not None:
            return self._listed(above, place[-1])
        key = self._key(place)
        if key not in self._entries:
            self._entries[key] = await self._read(place, partial(self._read_entry, place))
        return self._entries[key]

    def _root(self, name: str) -> FileSystemEntry | Unreadable:
        same = (root for root in self.mount.roots if (root.path or root.name).strip("/\\") == name)
        return next(same, ABSENT)

    def _listed(self, above: Listing | Unreadable, name: str) -> FileSystemEntry | Unreadable:
        if isinstance(above, Unreadable):
            return above
        return next((entry for entry in above if self.names.same(entry.name, name)), ABSENT)

    async def _read_entry(self, place: tuple[str, ...], href: Href) -> FileSystemEntry | Unreadable:
        found = await self._ask(lambda: self.attempt.session.entry(href))
        if isinstance(found, Unreadable):
            return found
        asked = self.names.folded(_below_mount(href)) + "/"
        if self.names.folded(_below_mount(found.href)).startswith(asked):
            # The listing of a directory with one entry, which has the directory's own name.
            return FileSystemEntry(
                path="/".join(place), name=place[-1], href=href, is_directory=True
            )
        if self.attempt.os_kind is OsKind.LINUX and found.name != place[-1]:
            return ABSENT  # a server that finds /etc/hosts for /etc/HOSTS has found something else
        return found

    async def _listing(self, place: tuple[str, ...]) -> Listing | Unreadable:
        key = self._key(place)
        if key not in self._listings:
            self._listings[key] = await self._read(place, self._read_listing)
        return self._listings[key]

    async def _read_listing(self, href: Href) -> Listing | Unreadable:
        rows = await self._ask(lambda: self.attempt.session.browse(href))
        if isinstance(rows, Unreadable):
            return rows
        asked = self.names.folded(_below_mount(href))
        if any(row.href and self.names.folded(_below_mount(row.href)) == asked for row in rows):
            return Unreadable("a file, not a directory")
        return tuple(rows)

    # --- requests --------------------------------------------------------------------------

    async def _stage(self, file: Href) -> Task:
        task = await self.attempt.session.stage(file)
        self.attempt.connection.watcher.claimed.add(task.id)  # never taken for a mount in doubt
        return task

    async def _fetched(
        self, file: FileSystemEntry, download: Href, limit: int, fresh: Callable[[], Content]
    ) -> Content | Unreadable:
        content = fresh()
        try:
            await self.attempt.session.fetch(download, content.feed, limit=limit + OVER)
        except MalformedResponse:
            if content.size <= limit:
                raise
        content.close()
        if content.size > limit:
            return Unreadable(f"the download is larger than {limit} bytes")
        if file.size is not None and content.size != file.size:
            raise MalformedResponse(
                f"the download has {content.size} bytes, and the file {file.size}",
                server=self.attempt.session.server,
            )
        return content

    async def _ask(self, ask: Callable[[], Awaitable[T | Unreadable]]) -> T | Unreadable:
        """Return the answer of `ask`, or why the server gave none."""
        borne: Counter[bool] = Counter()

        async def once() -> T | Unreadable:
            try:
                return await ask()
            except (MalformedResponse, ResponseLost, ServiceBusy) as exc:
                busy = isinstance(exc, ServiceBusy)
                borne[busy] += 1
                if borne[busy] < (BUSY_READS if busy else READS):
                    raise
                return Unreadable(_useless(exc))
            except (ForbiddenAction, UnicodeError) as exc:
                return Unreadable(f"not a path that can be asked for: {printable(str(exc))}")

        try:
            return await self.attempt.server.persistently(self.attempt.connection, once)
        except NotFound:
            return ABSENT
        except RequestRefused as exc:
            is_own = exc.status is not None and not isinstance(exc, AccessDenied | AnsweredByPage)
            return Unreadable(_words(exc), refused=is_own)


def _words(exc: RequestRefused) -> str:
    if isinstance(exc, AccessDenied):
        return "the server does not let this account read it"
    if exc.status is None or isinstance(exc, AnsweredByPage):
        return _useless(exc)
    return f"the server answered {exc.status}" + (f": {printable(exc.words)}" if exc.words else "")


def _useless(exc: EnterpriseManagerError) -> str:
    return f"the server's answer cannot be used: {printable(str(exc))}"


def _below_mount(href: Href) -> str:
    """Return the path within the mount that an address names, decoded."""
    below = href.partition("?")[0].partition("/mounts/")[2].partition("/")[2]
    return unquote(below).strip("/")
