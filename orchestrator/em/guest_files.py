"""The requests of a logon session for the files of a mounted guest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from orchestrator.core.errors import ForbiddenAction, GuestUnreadable, MalformedResponse, Unreadable
from orchestrator.core.model import FileSystemEntry, Href, ServerName, Task
from orchestrator.em import guests, limits
from orchestrator.em.decoding import REPLACED
from orchestrator.em.requests import SessionRequests
from orchestrator.em.wire import Codec

T = TypeVar("T")


class GuestFiles:
    """The part of `ports.GuestSession` that is about files."""

    server: ServerName
    _requests: SessionRequests
    _codec: Codec
    _may_write: bool

    def guest_href(self, mount: Href, path: str) -> Href:
        """Return the address of a guest path below a mount, as a plan writes it.

        A backslash is a separator here; a Linux name that holds one has its own Href in the
        listing of its directory.
        Source: reference 6.2: slashes forward, `:` and `$` literal, the rest percent-encoded.
        """
        return guests.address(mount, path)

    async def entry(self, file: Href) -> FileSystemEntry:
        """Read one file or directory; some servers answer for a directory with its listing.

        Raises:
            GuestUnreadable: the answer is about something else, or cannot be read.
        """
        asked = guests.bare(file)

        async def once() -> FileSystemEntry:
            return guests.itself(
                asked, await self._requests.get(asked, self._codec.entries, large=True)
            )

        return await self._readable(once)

    async def stage(self, file: Href) -> Task:
        """Stage a file for download; nothing in the guest changes, so it may be repeated."""
        return await self._restore(file, self._codec.staging_spec())

    async def restore_to_guest(self, file: Href, *, overwrite: bool) -> Task:
        """Write a file into the original guest; sent once, never repeated here."""
        if not self._may_write:
            raise ForbiddenAction("this run may not write into a guest", server=self.server)
        spec = self._codec.original_location_spec(overwrite=overwrite)
        return await self._restore(file, spec, once=True)

    async def _restore(self, file: Href, body: bytes, *, once: bool = False) -> Task:
        """Ask for a restore; one that is sent `once` is in doubt after any 500.

        Source: POST .../mounts/{n}/{path}?action=restore answers 202 with a task.
        """
        target = f"{file.partition('?')[0]}?action=restore"
        _, task = await self._requests.send(
            "POST",
            target,
            self._codec.task,
            body=body,
            timeout=limits.POST,
            mount_post=once,
        )
        return task

    async def fetch(self, download: Href, take: Callable[[bytes], None], *, limit: int) -> int:
        """Read a staged file in pieces; its size in bytes. Source: GET ...?action=download."""
        return await self._requests.stream(download, take, limit=limit)

    async def browse(self, directory: Href) -> Sequence[FileSystemEntry]:
        """List a directory of a mounted guest, all pages. `directory` is an entry's own Href.

        Each entry's Href lies below `directory` and means the entry's name, whatever host, mount
        or action the server's own named. A path that is no directory is its only entry.

        Raises:
            GuestUnreadable: the pages are not the listing of this directory, or cannot be read.
        """
        return await self._readable(lambda: self._browse(guests.bare(directory)))

    async def _browse(self, directory: Href) -> Sequence[FileSystemEntry]:
        found: list[FileSystemEntry] = []
        shown: set[Href] = set()
        async for page in self._requests.pages(f"{directory}?action=listAll", self._codec.entries):
            if page.is_itself:
                return [guests.itself(directory, page)]
            if page.has_next and not page.rows:
                raise MalformedResponse("the listing says that there is more, and shows nothing")
            for row in page.rows:
                entry = guests.listed_in(directory, row)
                if entry.href in shown and REPLACED not in entry.name:
                    # a mounted guest does not change: a page came twice
                    raise MalformedResponse("the listing shows an entry twice")
                if entry.href:
                    shown.add(entry.href)
                found.append(entry)
        return found

    async def _readable(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask about a guest, a second time if the answer cannot be read.

        One odd file name can make the answer about its directory unreadable for ever. That
        must not look like the server's trouble, for which everything on it would wait: if
        the server answers well in between, it is the guest's.

        Raises:
            GuestUnreadable: both answers could not be read.
            EnterpriseManagerError: as for any request.
        """
        try:
            return await ask()
        except MalformedResponse:
            await self._requests.keep_alive()
        except Unreadable:  # it answers well
            pass
        try:
            return await ask()
        except (MalformedResponse, Unreadable) as exc:
            raise GuestUnreadable(str(exc), server=self.server, request=exc.request) from exc
