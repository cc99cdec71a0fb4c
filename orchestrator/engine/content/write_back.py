"""Write one file back into the original guest: recovery mode only, and once.

The intent is on disk before the request leaves, as the word that nobody knows what became of
it. That word is replaced by a better one only by an answer; a crash, a lost answer, a task
that is not seen to its end all leave it, and no later process sends the request again.
"""

from __future__ import annotations

from functools import partial

from orchestrator.core.errors import (
    EnterpriseManagerError,
    JournalError,
    MalformedResponse,
    RequestNotSent,
    ResponseLost,
    SessionLost,
)
from orchestrator.core.events import FileCopied
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Task
from orchestrator.core.names import PathRules
from orchestrator.core.proof import Download, DownloadOutcome, Fate
from orchestrator.core.text import counted
from orchestrator.engine.content.wanted_files import NotCopied, WantedFile
from orchestrator.engine.mount.attempt import Attempt
from orchestrator.engine.watcher import TaskVanished

IN_DOUBT = frozenset({408, 500, 502, 504})
"""Answers that something before or inside of the server gives, whether it began or not."""


class _WriteInDoubt(Exception):
    """The request may have taken effect; the message has what is known."""


async def restore_into_guest(attempt: Attempt, download: Download, file: WantedFile) -> None:
    """Write one file into the original guest, unless an entry or attempt may have done so before.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    said = partial(_say, attempt, file)
    if _is_said(attempt, file) or _tried_before(attempt, file):
        return
    said(Fate.UNKNOWN, "the order to write it was about to be sent; no answer is known")
    try:
        await attempt.ledger.durable()
    except JournalError as exc:
        said(Fate.FAILED, f"not written: {exc}")
        return
    try:
        task = await _ordered(attempt, download, file)
        said(Fate.UNKNOWN, f"the server took it as {task.id}; its end is not known")
        done = await attempt.connection.watcher.finished(task.id)
    except NotCopied as exc:
        said(Fate.FAILED, str(exc))
    except (_WriteInDoubt, TaskVanished) as exc:
        said(Fate.UNKNOWN, str(exc))
    else:
        if done.succeeded:
            said(Fate.RESTORED, None)
        elif done.unclear:
            said(Fate.UNKNOWN, f"{done.id} ended and said neither success nor failure")
        else:
            said(Fate.FAILED, _refusal(done.message))


def in_doubt(record: MountRecord) -> str | None:
    """Return in words which files may have been written into the guest, or None.

    A doubt stays, whatever later attempts at the target come to: nothing resolves it.
    """
    key = PathRules(record.os_kind).path_key
    doubts: dict[str, str] = {}
    for attempt in record.attempts:
        for copied in attempt.downloads:
            if copied.fate is Fate.UNKNOWN:
                words = f"{copied.path} may have been written: {copied.message}"
                doubts.setdefault(key(copied.path), words)
    if not doubts:
        return None
    first, *others = doubts.values()
    return first + (f" (and {counted(len(others), 'more file')} may have been)" if others else "")


def _is_said(attempt: Attempt, file: WantedFile) -> bool:
    """Return whether this attempt knows already what became of the file, whatever entry named it.

    An entry that writes its path in another way has the outcome of the first.
    """
    key = PathRules(attempt.os_kind).path_key
    for copied in attempt.record.attempts[-1].downloads:
        if copied.to is not None or key(copied.path) != key(file.path):
            continue
        if copied.path != file.path:
            why = f"it is the same file as {copied.path}"
            _say(attempt, file, copied.fate, "; ".join(filter(None, (why, copied.message))))
        return True
    return False


def _tried_before(attempt: Attempt, file: WantedFile) -> bool:
    """Return whether an earlier attempt has written the file, or may have; record it."""
    key = PathRules(attempt.os_kind).path_key
    own = {key(file.path), key(file.listed)}
    for earlier in attempt.record.attempts[:-1]:
        for copied in earlier.downloads:
            if copied.to is not None or key(copied.path) not in own:
                continue
            if copied.fate is Fate.UNKNOWN:
                why = "not sent again: an earlier attempt may have written it"
                _say(attempt, file, Fate.UNKNOWN, why)
                return True
            if copied.fate is Fate.RESTORED:
                fate, why = Fate.RESTORED, "an earlier attempt wrote it"
                if earlier.point != attempt.request.point.id:
                    fate, why = Fate.FAILED, f"not written: {why}, from another restore point"
                _say(attempt, file, fate, why)
                return True
    return False


async def _ordered(attempt: Attempt, download: Download, file: WantedFile) -> Task:
    """Send the one request. It is sent again only if nothing reached the server.

    Raises:
        NotCopied: the server refused it.
        _NobodyKnows: its answer is lost.
        SessionLost, ServerUnusable: nobody can say any more.
    """

    async def once() -> Task:
        try:
            return await attempt.session.restore_to_guest(file.href, overwrite=download.overwrite)
        except (RequestNotSent, SessionLost):
            raise
        except (ResponseLost, MalformedResponse) as exc:
            raise _WriteInDoubt(str(exc)) from exc
        except EnterpriseManagerError as exc:
            if exc.status in IN_DOUBT:
                raise _WriteInDoubt(str(exc)) from exc
            raise NotCopied(f"not written: {exc}") from exc

    return await attempt.server.persistently(attempt.connection, once)


def _refusal(words: str | None) -> str:
    if words is None:
        return "not written: the server gives no reason"
    if "credential" in words.casefold():
        return (
            f"not written: {words} (the guest credentials of the VM's job are used: set them "
            "there under guest processing)"
        )
    return f"not written: {words}"


def _say(attempt: Attempt, file: WantedFile, fate: Fate, message: str | None) -> None:
    """Record what became of one file."""
    size = file.size if fate is Fate.RESTORED else None
    outcome = DownloadOutcome(path=file.path, to=None, fate=fate, size=size, message=message)
    attempt.ledger.record(FileCopied(at=attempt.now, key=attempt.key, outcome=outcome))
