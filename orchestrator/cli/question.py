"""What a person reads before a run is confirmed: everything it will do beyond looking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from orchestrator.core.model import MountRequest, ServerName, Unmount
from orchestrator.core.proof import Download
from orchestrator.core.text import counted, duration, printable
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.file.settings import RestorePlan

NAMED = 10
"""How many targets or places are named before it says how many more there are."""


def lines_before(
    plan: RestorePlan,
    expansion: Expansion,
    silent: Sequence[ServerName],
    *,
    hold: float | None = None,
) -> list[str]:
    """Return the lines above the question; `silent` are the servers that do not answer yet.

    `hold` is how long every mount is held open, in seconds.
    """
    requests = expansion.requests
    lines = [f"Plan {printable(plan.name)} on {', '.join(plan.servers)}: {plan.mode}"]
    removed = "mounted" if plan.cleanup.unmount is Unmount.NEVER else "mounted and removed"
    lines.append(f"{counted(len(requests), 'restore point')} will be {removed}.")
    lines += _checked(requests)
    lines += _copied(requests)
    lines += _written(requests)
    lines += _held(plan, hold)
    if expansion.unresolved:
        lines.append(f"{counted(len(expansion.unresolved), 'target')} without a restore point:")
        lines += [
            f"  {printable(target.key)}: {printable(target.reason)}"
            for target in expansion.unresolved[:NAMED]
        ]
    lines += [printable(note) for note in expansion.notes]
    if silent:
        lines.append(f"Not answering yet, will be waited for: {', '.join(silent)}")
    return lines


def _checked(requests: Sequence[MountRequest]) -> Iterator[str]:
    checked = sum(1 for request in requests if request.checks)
    if checked:
        rest = len(requests) - checked
        others = f", {rest} only mounted and read" if rest else ""
        yield f"With checks: {checked}{others}."


def _copied(requests: Sequence[MountRequest]) -> Iterator[str]:
    """Yield how many files are copied out of how many guests, and where to."""
    copies = _downloads(requests, into_guests=False)
    if not copies:
        return
    guests = len({request.key for request, _ in copies})
    places = [printable(str(download.to)) for _, download in copies]
    count = _count(download for _, download in copies)
    yield f"To be copied out of {guests} guests: {count}, to {_named(places)}"


def _written(requests: Sequence[MountRequest]) -> Iterator[str]:
    """Name the files that are written into guests, in capitals."""
    writes = _downloads(requests, into_guests=True)
    if not writes:
        return
    guests = len({request.key for request, _ in writes})
    count = _count(download for _, download in writes)
    yield f"WILL WRITE INTO GUESTS: {count}; original machines written to: {guests}"
    for request, download in writes[:NAMED]:
        what = download.path if download.glob is None else f"{download.path} ({download.glob})"
        instead = ", replacing what is there" if download.overwrite else ""
        yield f"  {printable(request.key)}: {printable(what)}{instead}"
    if len(writes) > NAMED:
        yield f"  and {len(writes) - NAMED} more"


def _downloads(
    requests: Sequence[MountRequest], *, into_guests: bool
) -> list[tuple[MountRequest, Download]]:
    """Return the downloads that write into original guests, or the others."""
    return [
        (request, download)
        for request in requests
        for download in request.downloads
        if download.writes_into_guest is into_guests
    ]


def _held(plan: RestorePlan, hold: float | None) -> Iterator[str]:
    """Yield which mounts stay open after their verdict, and until when."""
    unmount, keep = plan.cleanup.unmount, plan.cleanup.keep_failed
    until = "until you end it with 'bulk-restore unmount last'"
    if unmount is Unmount.NEVER:
        yield f"No mount is removed automatically: each stays open {until}."
        return
    if hold is not None:
        yield f"Every mount is held open for {duration(hold)} after its verdict."
    if unmount is Unmount.ON_SUCCESS:
        yield f"A mount whose verdict is not good stays open {until}."
    elif keep is not None:
        yield f"A mount whose checks failed is held open for {duration(keep)}."


def _count(downloads: Iterable[Download]) -> str:
    """Return how many files are meant, as far as it is known before a guest is mounted."""
    downloads = tuple(downloads)
    single = sum(1 for download in downloads if download.glob is None)
    chosen = sum(download.max_files for download in downloads if download.glob is not None)
    counts = [counted(single, "file")] if single else []
    counts += [f"up to {counted(chosen, 'file')} chosen by name"] if chosen else []
    return " and ".join(counts)


def _named(names: Iterable[str]) -> str:
    """Return different names in one line, the first of many."""
    different = list(dict.fromkeys(names))
    more = len(different) - NAMED
    return ", ".join(different[:NAMED]) + (f" and {more} more places" if more > 0 else "")
