"""`browse`: looks into a held mount through the living process of its run.

That process alone can read the mount: it belongs to its logon session. It puts a file that is asked
for into the state directory, where it may always write; from there this process brings it to where
the person wants it, as its own user and in its own view of the disk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from orchestrator.app.controlling import (
    ControlOutcome,
    answer_to,
    asked_for,
    does_not_move,
    refused_at_once,
)
from orchestrator.core.controls import Answer, Control, Look
from orchestrator.core.errors import FileNotSaved
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.ports.local import SavedFile, StoredFile
from orchestrator.core.records import RunSummary
from orchestrator.core.text import printable
from orchestrator.journal import State
from orchestrator.local.files.naming import folded
from orchestrator.local.files.store import DiskFileStore

PIECE = 1024 * 1024


class Seen(Struct, frozen=True, kw_only=True):
    """What a listing has shown."""

    answer: Answer


class Got(Struct, frozen=True, kw_only=True):
    """A file of the guest that is on this machine now."""

    path: str
    file: SavedFile


def wanted(verb: Look, key: str, path: str | None) -> Control:
    """Return a request of this user to list a directory, or to get a file."""
    return asked_for(verb, (key,) if path is None else (key, path))


async def listed(state: State, summary: RunSummary, control: Control) -> Seen | ControlOutcome:
    """List a directory of a held guest, or its volumes. Safe to repeat.

    Raises:
        JournalError: the state directory cannot be read or written.
    """
    why = refused_at_once(state, summary, control)
    if why is not None:
        return _not_read(summary, why)
    with state.controls(summary.run).waiting(control.id):
        answer = await _answered(state, summary, control, lambda: None)
    return Seen(answer=answer) if isinstance(answer, Answer) else answer


async def got(
    state: State,
    summary: RunSummary,
    control: Control,
    path: str,
    *,
    overwrite: bool,
    tell: Callable[[int], None],
) -> Got | ControlOutcome:
    """Copy a file of a held guest to a path of `places`. Safe to repeat.

    It is there whole, and its hash is that of the bytes that the server sent, or it is not there.
    `tell` hears now and then how many bytes are there so far.

    Raises:
        FileNotSaved: this machine cannot take it.
        JournalError: the state directory cannot be read or written.
    """
    files, store = state.controls(summary.run), DiskFileStore(inline=True)
    why = refused_at_once(state, summary, control)
    if why is not None:
        return _not_read(summary, why)
    with (
        store.place(path, None, owner=control.id, overwrite=overwrite) as place,
        files.waiting(control.id),
    ):
        answer = await _answered(
            state, summary, control, lambda: tell(files.content_size(control.id))
        )
        if isinstance(answer, ControlOutcome):
            return answer
        store.expect(place, answer.size or 0)
        _copy(Path(files.content_path(control.id)), place)
        kept = await place.keep()
    if kept.sha256 != answer.sha256:
        raise FileNotSaved(f"{path} is not what the server sent: its bytes changed on this machine")
    return Got(path=path, file=kept)


async def _answered(
    state: State, summary: RunSummary, control: Control, meanwhile: Callable[[], None]
) -> Answer | ControlOutcome:
    """Return the answer of the run's process, however long it reads, or why there is none.

    Raises:
        FileNotSaved: the state directory cannot take the file.
    """
    answer, is_taken = await answer_to(
        state, summary, control, after_taking=math.inf, meanwhile=meanwhile
    )
    if answer is None:
        if not state.is_running(summary):
            return _not_read(summary, "its process ended first")
        return _stalled(summary) if is_taken else does_not_move(summary.run)
    if answer.refused is None:
        return answer
    if answer.is_not_saved:
        raise FileNotSaved(answer.refused)
    return _not_read(summary, answer.refused)


def places(directory: str, paths: Iterable[str]) -> Mapping[str, str]:
    """Return where each of the guest's files is to be saved in an absolute directory.

    Raises:
        ValueError: two of them would have the same name there.
    """
    store, found = DiskFileStore(inline=True), dict[str, str]()
    taken: dict[str, str] = {}
    for path in paths:
        name = _last_name(path)
        found[path] = store.layout(f"{directory}/", [name], many=True)[name]
        other = taken.setdefault(folded(found[path]), path)
        if other != path:
            raise ValueError(
                f"{printable(other)} and {printable(path)} have the same name: get them one after "
                "the other, into different directories"
            )
    return found


def _stalled(summary: RunSummary) -> ControlOutcome:
    return ControlOutcome(
        line=f"{summary.run}: not read: its process has begun and does not move any more",
        code=ExitCode.LOCKED,
    )


def _not_read(summary: RunSummary, why: str) -> ControlOutcome:
    return ControlOutcome(
        line=f"{summary.run}: not read: {printable(why, 1000)}", code=ExitCode.USAGE
    )


def _last_name(path: str) -> str:
    """Return the name of the file that a path of any system ends with."""
    names: Sequence[str] = [name for name in re.split(r"[/\\]", path) if name]
    return names[-1] if names else path


def _copy(content: Path, place: StoredFile) -> None:
    try:
        with content.open("rb") as file:
            while piece := file.read(PIECE):
                place.take(piece)
    except OSError as exc:
        raise FileNotSaved(f"{content} cannot be read: {exc.strerror}") from exc
