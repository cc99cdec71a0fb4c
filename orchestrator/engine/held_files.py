"""Look into a mount while it is held: `browse` lists its directories and copies its files out.

The run's own logon session reads, for nobody else can: a mount belongs to its session. It reads
only what is asked for, writes nothing into the guest, and delays nothing: where a hold ends in
the middle, the reading does, and the mount is removed as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from msgspec import Struct, field

from orchestrator.core.controls import Answer, Control, Look, SeenEntry
from orchestrator.core.errors import FileNotSaved, NotFound
from orchestrator.core.model import FileSystemEntry, Mount, MountKey, ServerName
from orchestrator.core.ports.controls import Controls
from orchestrator.core.text import printable
from orchestrator.engine.bounded import before
from orchestrator.engine.content.download import fetched
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.content.wanted_files import NotCopied, WantedFile, asked, seen
from orchestrator.engine.mount.attempt import OUT_OF_KNOWLEDGE, Attempt

UNLISTED = 1024**3
"""Bytes that are read at most of a file whose size the listing does not tell."""

GLANCE = 1.0
"""Seconds between looks whether somebody still waits for the answer."""

FILES_AT_ONCE = 2
"""Files that are fetched from a server at the same time: each keeps one of the few connections
that the looks at tasks and mounts need, too."""


class _Held(Struct):
    attempt: Attempt
    over: anyio.Event = field(default_factory=anyio.Event)


class HeldFiles:
    """The mounts that are held now, as far as their files can be read."""

    def __init__(self) -> None:
        """Nothing is held yet."""
        self._held: dict[MountKey, _Held] = {}
        self._turns: dict[ServerName, anyio.Semaphore] = {}

    @contextmanager
    def readable(self, attempt: Attempt) -> Iterator[None]:
        """Let the mount of an attempt be read; whatever still reads it in the end is broken off."""
        held = self._held[attempt.key] = _Held(attempt)
        try:
            yield
        finally:
            del self._held[attempt.key]
            held.over.set()

    def __contains__(self, key: MountKey) -> bool:
        """Return whether the mount of a target can be read now."""
        return key in self._held

    async def answer(self, control: Control, controls: Controls) -> Answer:
        """Read what is asked for, as long as the mount is held and somebody waits."""
        key = MountKey(control.words[0])
        held = self._held.get(key)
        if held is None:
            return Answer(id=control.id, refused=f"{printable(key)} is not held any more")
        over, server = held.over, held.attempt.request.server
        turns = self._turns.setdefault(server, anyio.Semaphore(FILES_AT_ONCE))

        async def until_over() -> None:
            await before(over.wait, lambda: _until_nobody_waits(control, controls))

        try:
            answer = await before(until_over, lambda: _read(held.attempt, control, controls, turns))
        except NotCopied as exc:
            return Answer(id=control.id, refused=str(exc))
        except FileNotSaved as exc:
            return Answer(id=control.id, refused=str(exc), is_not_saved=True)
        except NotFound:
            return Answer(id=control.id, refused="the server does not show it any more")
        except OUT_OF_KNOWLEDGE as exc:
            return Answer(id=control.id, refused=f"the server cannot be asked now: {exc}")
        return answer or Answer(
            id=control.id, refused=f"the hold of {printable(key)} ended before all was read"
        )


async def _until_nobody_waits(control: Control, controls: Controls) -> None:
    while controls.is_awaited(control.id):  # noqa: ASYNC110 - a lock of another process tells it
        await anyio.sleep(GLANCE)


async def _read(
    attempt: Attempt, control: Control, controls: Controls, turns: anyio.Semaphore
) -> Answer:
    """Read a directory, or a file once it is its turn.

    Raises:
        NotCopied, FileNotSaved: it is not there, not readable, or cannot be kept.
        NotFound: the mount is gone.
        SessionLost, ServerUnusable: nobody can say any more.
    """
    guest = Guest(attempt, await _mount_of(attempt))
    path = control.words[1] if len(control.words) > 1 else ""
    if control.verb == Look.GET:
        async with turns:
            return await _copied(guest, path, control, controls)
    entries = sorted(await _listed(guest, path), key=_place)
    return Answer(id=control.id, entries=tuple(map(_shown, entries)))


async def _mount_of(attempt: Attempt) -> Mount:
    href = attempt.record.mount
    if href is None:
        raise NotCopied("its mount point has no address")
    return await asked(attempt, lambda: attempt.session.mount(href))


async def _listed(guest: Guest, path: str) -> list[FileSystemEntry]:
    """Return what is in a directory; the file itself where it is one; the volumes without a path.

    Raises:
        NotCopied: it cannot be read.
    """
    if not path or (not path.strip("/\\") and len(guest.roots) != 1):
        return list(guest.mount.roots)
    entry = seen(await guest.entry(path)) if path.strip("/\\") else None
    if entry is not None and not entry.is_directory:
        return [entry]
    return list(seen(await guest.listing(path)))


async def _copied(guest: Guest, path: str, control: Control, controls: Controls) -> Answer:
    """Put the bytes of a file beside the answer.

    Raises:
        NotCopied: it is no file, or not all of it arrived.
        FileNotSaved: this machine cannot take it.
    """
    entry = seen(await guest.entry(path))
    if entry.is_directory:
        raise NotCopied("it is a directory: name one file of it")
    store = guest.attempt.context.file_store
    if store is None:
        raise NotCopied("nothing is saved here")
    file = WantedFile(
        path=path,
        listed=entry.path,
        name=entry.name,
        href=entry.href,
        size=entry.size,
        limit=entry.size if entry.size is not None else UNLISTED,
    )
    where = controls.content_path(control.id)
    with store.place(where, file.limit, owner=control.id, overwrite=False) as place:
        await fetched(guest.attempt, file, place)
        kept = await place.keep()
    return Answer(id=control.id, size=kept.size, sha256=kept.sha256)


def _place(entry: FileSystemEntry) -> tuple[bool, str]:
    return not entry.is_directory, entry.name.casefold()


def _shown(entry: FileSystemEntry) -> SeenEntry:
    """Return an entry as it is told; half of a surrogate pair could not be written."""
    name = (entry.name or entry.path).encode("utf-8", "replace").decode()
    return SeenEntry(
        name=name,
        is_directory=entry.is_directory,
        size=entry.size,
        modified_at=entry.modified_at,
    )
