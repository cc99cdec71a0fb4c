"""Copy files out of a mounted guest, or, if the plan asks for it, back into the original one.

Only what passed its checks is copied: a file that stands where the plan wants it is from a
restore point that was good. Sizes and numbers are judged by the listing before the server is
asked to stage anything; then one file at a time is staged, fetched piece by piece and named
once it is whole. What goes wrong with a file is its outcome, and never more than that.

The word of this attempt on a file stands: a copy that begins again (after an outage, or in
the process that resumes the run) goes on with the files that nothing is said of yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import anyio

from orchestrator.core.errors import FileNotSaved, MalformedResponse, NotFound, ResponseLost
from orchestrator.core.events import FileCopied
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Href, RestorePoint
from orchestrator.core.ports.local import FileStore, SavedFile, StoredFile
from orchestrator.core.proof import Download, DownloadOutcome, Fate
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.content.wanted_files import NotCopied, WantedFile, asked, wanted_files
from orchestrator.engine.content.write_back import restore_into_guest
from orchestrator.engine.mount.attempt import Attempt
from orchestrator.engine.watcher import TaskVanished

T = TypeVar("T")

TRIES = 3
"""How often one file is staged, and how often it is fetched from the start."""
PAUSE = 2.0
"""Seconds before a file is fetched once more; doubled each time."""


class _CutOff(Exception):
    """The received bytes are not the file; the message has the reason."""


async def copy_out(guest: Guest) -> None:
    """Copy every file that the target asks for, and record each outcome.

    Writes into the original guest come last, once everything else is decided.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    downloads = guest.attempt.request.downloads
    for download in sorted(downloads, key=lambda each: each.writes_into_guest):
        await _copy(guest, download)


async def _copy(guest: Guest, download: Download) -> None:
    attempt = guest.attempt
    if _is_decided(attempt, download.path, download.to):
        return
    try:
        _require_good(attempt, download)
        files = await wanted_files(guest, download)
        if download.to is None:
            for file in files:
                await restore_into_guest(attempt, download, file)
                await attempt.ledger.saved()
        else:
            await _save_all(attempt, download, download.to, files)
    except NotCopied as exc:
        _say(attempt, download.path, download.to, Fate.FAILED, message=str(exc))


def _is_decided(attempt: Attempt, path: str, to: str | None) -> bool:
    """Return whether this attempt has recorded already what became of a file."""
    return any((said.path, said.to) == (path, to) for said in attempt.record.attempts[-1].downloads)


def _require_good(attempt: Attempt, download: Download) -> None:
    """Require that the restore point passed its checks, and that the run may write.

    Raises:
        NotCopied: it did not, or may not.
    """
    if download.writes_into_guest and not attempt.context.may_write:
        raise NotCopied("nothing was written: it takes `mode: recovery` and --yes-write")
    made = attempt.record.attempts[-1].checks
    missing = set(attempt.request.checks) - {check.name for check in made}
    if missing or not all(check.passed for check in made):
        what = "written into the guest" if download.writes_into_guest else "saved"
        raise NotCopied(f"nothing was {what}: a check of this restore point did not pass")


async def _save_all(
    attempt: Attempt, download: Download, to: str, files: Sequence[WantedFile]
) -> None:
    file_store = attempt.context.file_store
    if file_store is None:
        raise NotCopied("nothing is saved here")
    paths = file_store.layout(
        to,
        [file.name for file in files],
        many=download.glob is not None or files[0].path != download.path,
        tag=tag_of(attempt.record, attempt.request.point),
    )
    for file in files:
        path = paths[file.name]
        if not _is_decided(attempt, file.path, path):
            await _save(attempt, file_store, download, file, path)
            await attempt.ledger.saved()  # the process that resumes need not fetch it again


def tag_of(record: MountRecord, point: RestorePoint) -> str:
    """Return the mark that separates this point's files from those of another point's attempt.

    Those are what the report says of the other point, so they stay as they are.
    """
    saved_before = any(
        copied.fate is Fate.SAVED
        for earlier in record.attempts[:-1]
        if earlier.point != point.id
        for copied in earlier.downloads
    )
    return f"{point.created_at:%Y%m%dT%H%M%SZ}" if saved_before else ""


async def _save(
    attempt: Attempt, file_store: FileStore, download: Download, file: WantedFile, path: str
) -> None:
    try:
        with file_store.place(
            path,
            file.size,
            owner=_owner(attempt.record, attempt.request.point.id, file.path),
            overwrite=download.overwrite,
        ) as place:
            await fetched(attempt, file, place)
            kept = await place.keep()
    except (NotCopied, FileNotSaved, NotFound) as exc:  # it was listed a moment ago
        _say(attempt, file.path, path, Fate.FAILED, message=str(exc))
    else:
        _say(attempt, file.path, path, Fate.SAVED, kept=kept)


def _owner(record: MountRecord, point: str, path: str) -> str:
    return f"{path} of {record.planned.key} ({point})"


def remember_saved(file_store: FileStore, records: Iterable[MountRecord]) -> None:
    """Tell the file store which files an earlier process of the run saved for which target."""
    for record in records:
        for attempt in record.attempts:
            for copied in attempt.downloads:
                if copied.fate is Fate.SAVED and copied.to is not None:
                    file_store.remember(copied.to, _owner(record, attempt.point, copied.path))


# --- one file ------------------------------------------------------------------------------


async def fetched(attempt: Attempt, file: WantedFile, place: StoredFile) -> None:
    """Stage the file and fetch it into `place`, from the start as often as it takes.

    Raises:
        NotCopied: not all of it arrived, or the server does not hand it out.
        FileNotSaved: this machine cannot take it.
    """
    address = await _staged(attempt, file)
    why = ""
    for number in range(TRIES):
        if number:
            await anyio.sleep(PAUSE * 2 ** (number - 1))
        try:
            await asked(attempt, lambda: _one_fetch(attempt, address, file, place))
        except _CutOff as exc:
            why = str(exc)
        else:
            return
    raise NotCopied(f"{why} (tried {TRIES} times)")


async def _one_fetch(attempt: Attempt, address: Href, file: WantedFile, place: StoredFile) -> None:
    """Fetch the file once. A broken transfer does not count against the server.

    Raises:
        _CutOff: what arrived is not what the listing promises.
    """
    place.restart()
    try:
        got = await attempt.session.fetch(address, place.take, limit=file.limit)
    except MalformedResponse as exc:
        raise _CutOff(str(exc)) from exc
    except ResponseLost as exc:
        if not place.size:
            raise
        raise _CutOff(f"the connection broke after {place.size} bytes") from exc
    if file.size is not None and got != file.size:
        raise _CutOff(f"{got} bytes arrived, and the listing says {file.size}")


async def _staged(attempt: Attempt, file: WantedFile) -> Href:
    """Return the address at which the server hands the file out.

    Raises:
        NotCopied: it does not, and its own words if it has any.
    """
    why = ""
    for _ in range(TRIES):
        task = await asked(attempt, lambda: attempt.session.stage(file.href))
        try:
            done = await attempt.connection.watcher.finished(task.id)
        except TaskVanished:
            why = "the server forgot the task that was to stage it"
            continue
        if not done.succeeded:
            raise NotCopied(f"not staged: {done.message or 'the server gives no reason'}")
        if not done.downloads:
            raise NotCopied("staged, but the server names no address to fetch it from")
        return done.downloads[0]
    raise NotCopied(f"{why} (tried {TRIES} times)")


def _say(
    attempt: Attempt,
    path: str,
    to: str | None,
    fate: Fate,
    *,
    kept: SavedFile | None = None,
    message: str | None = None,
) -> None:
    if kept is not None and kept.was_there:
        message = "it was there already, with the same content"
    attempt.ledger.record(
        FileCopied(
            at=attempt.now,
            key=attempt.key,
            outcome=DownloadOutcome(
                path=path,
                to=to,
                fate=fate,
                size=kept.size if kept else None,
                sha256=kept.sha256 if kept else None,
                message=message,
            ),
        )
    )
