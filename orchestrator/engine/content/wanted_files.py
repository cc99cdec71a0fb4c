"""Which files a download means, by the listing of the mounted guest; and asking for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from orchestrator.checks.outcomes import UNDECIDED, Unreadable
from orchestrator.core.errors import (
    ForbiddenAction,
    MalformedResponse,
    NotFound,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
)
from orchestrator.core.model import FileSystemEntry, Href
from orchestrator.core.proof import Download
from orchestrator.core.text import counted
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.mount.attempt import Attempt

T = TypeVar("T")

PATIENCE = 6
"""Answers that cannot be used, to one request about one file, before the file is given up."""


class NotCopied(Exception):
    """A file is not copied; the message has the reason."""


class WantedFile(Struct, frozen=True, kw_only=True):
    """One file of the guest. At most `limit` bytes of it are read.

    `listed` is the path that the server's listing claims. `path` is the same, or where the plan
    says that the file is; for a file that is written into the guest always the latter's meaning.
    """

    path: str
    listed: str
    name: str
    href: Href
    size: int | None
    limit: int


async def wanted_files(guest: Guest, download: Download) -> list[WantedFile]:
    """Return the files that a download means; at least one.

    A directory means its files that match `glob`, in the order of their names, and never
    those below it.

    Raises:
        NotCopied: there are none, or more or larger ones than the plan allows.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    single = None if download.glob is not None else seen(await guest.entry(download.path))
    if single is not None and not single.is_directory:
        found: Sequence[FileSystemEntry] = [single]
    else:
        single, glob = None, download.glob or "*"
        listed = seen(await guest.listing(download.path))
        found = [entry for entry in listed if guest.names.matches(entry.name, glob)]
    files = sorted((entry for entry in found if not entry.is_directory), key=lambda each: each.path)
    if not files:
        raise NotCopied(f"no file there matches {download.glob or '*'}")
    nameless = sum(not entry.name for entry in files)
    if nameless:
        raise NotCopied(f"{counted(nameless, 'file')} there has no name that can be read")
    _require_within(download, files)
    return [
        WantedFile(
            path=download.path if single else _path_of(guest, download, entry),
            listed=entry.path,
            name=entry.name,
            href=entry.href,
            size=entry.size,
            limit=entry.size if entry.size is not None else download.max_size,
        )
        for entry in files
    ]


def _path_of(guest: Guest, download: Download, entry: FileSystemEntry) -> str:
    """Return the path of a file of a directory.

    What is written into the guest is known by the plan's directory and the file's name: two
    entries that mean one file must not be told apart by what a listing claims.
    """
    if not download.writes_into_guest:
        return entry.path
    planned, key = f"{download.path.rstrip('/')}/{entry.name}", guest.names.path_key
    return entry.path if key(entry.path) == key(planned) else planned


def seen(found: T | Unreadable) -> T:
    """Return what was read of the guest, by the same rules as for checks.

    Raises:
        NotCopied: it was not read.
    """
    if not isinstance(found, Unreadable):
        return found
    why = found.why.removeprefix(f"{UNDECIDED}: ")
    raise NotCopied("there is no such path in the guest" if found.absent else why)


def _require_within(download: Download, files: list[FileSystemEntry]) -> None:
    if len(files) > download.max_files:
        raise NotCopied(f"{len(files)} files match; `max_files` allows {download.max_files}")
    size = sum(entry.size or 0 for entry in files)
    if size > download.max_size:
        raise NotCopied(f"{size} bytes in all; `max_size` allows {download.max_size}")


async def asked(attempt: Attempt, ask: Callable[[], Awaitable[T]]) -> T:
    """Return an answer about one file. A server out of reach is waited for, as long as need be.

    One that can be reached, and answers only this request with what cannot be used, is not.

    Raises:
        NotCopied: it does not answer this.
        NotFound: there is no such path.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    useless = 0

    async def counted() -> T:
        nonlocal useless
        try:
            return await ask()
        except (ResponseLost, ServiceBusy, MalformedResponse) as exc:
            useless += 1
            if useless == PATIENCE:
                raise NotCopied(f"given up after {PATIENCE} tries: {exc}") from exc
            raise

    try:
        return await attempt.server.persistently(attempt.connection, counted)
    except NotFound:
        raise
    except (RequestRefused, ForbiddenAction) as exc:
        raise NotCopied(str(exc)) from exc
