"""Which files a download means, by the listing of the mounted guest; and asking for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from orchestrator.engine.attempt import Attempt
from orchestrator.engine.guest import Guest
from orchestrator.errors import (
    ForbiddenAction,
    MalformedResponse,
    NotFound,
    RequestRefused,
    ResponseLost,
    ServiceBusy,
)
from orchestrator.model import FileSystemEntry, Href, OsKind
from orchestrator.proof import Download

T = TypeVar("T")

PATIENCE = 6
"""Answers that cannot be used, to one request about one file, before the file is given up."""


class NotCopied(Exception):
    """A file is not copied; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file of the guest. At most `limit` bytes of it are read."""

    path: str
    name: str
    href: Href
    size: int | None
    limit: int


async def wanted_files(guest: Guest, download: Download) -> list[Wanted]:
    """Return the files that a download means; at least one.

    A directory means its files that match `glob`, in the order of their names, and never
    those below it.

    Raises:
        NotCopied: there are none, or more or larger ones than the plan allows.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    attempt = guest.attempt
    above = attempt.session.guest_href(guest.mount.href, download.path)
    try:
        single = await _single(attempt, above, download)
        found = [single] if single else await _listed(attempt, above, download)
    except NotFound:
        raise NotCopied("there is no such path in the guest") from None
    files = sorted((entry for entry in found if not entry.is_directory), key=lambda each: each.path)
    if not files:
        raise NotCopied(f"no file there matches {download.glob or '*'}")
    _require_within(download, files)
    return [
        Wanted(
            path=download.path if single else entry.path,
            name=entry.name,
            href=entry.href,
            size=entry.size,
            limit=entry.size if entry.size is not None else download.max_size,
        )
        for entry in files
    ]


async def _single(attempt: Attempt, address: Href, download: Download) -> FileSystemEntry | None:
    """Return the one file that is meant, or None if a directory is."""
    if download.glob is not None:
        return None
    entry = await asked(attempt, lambda: attempt.session.entry(address))
    return None if entry.is_directory else entry


async def _listed(attempt: Attempt, address: Href, download: Download) -> list[FileSystemEntry]:
    listed = await asked(attempt, lambda: attempt.session.browse(address))
    glob = download.glob or "*"
    if attempt.request.os_kind is OsKind.LINUX:
        return [entry for entry in listed if fnmatchcase(entry.name, glob)]
    glob = glob.casefold()
    return [entry for entry in listed if fnmatchcase(entry.name.casefold(), glob)]


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
        return await attempt.site.persistently(attempt.connection, counted)
    except NotFound:
        raise
    except (RequestRefused, ForbiddenAction) as exc:
        raise NotCopied(str(exc)) from exc
