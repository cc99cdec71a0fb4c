"""This machine's part: other runs in progress, the journal, free space on its disks."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.app.readiness.findings import Finding, Subject
from orchestrator.core import text
from orchestrator.core.errors import JournalError
from orchestrator.core.lifecycle import HOLDING_PHASES
from orchestrator.core.model import MountKey, MountRequest, ServerName
from orchestrator.core.parts import Part
from orchestrator.core.paths import nearest_existing
from orchestrator.core.ports.store import Store
from orchestrator.core.run_state import RunState
from orchestrator.core.same_server import Identities
from orchestrator.journal import in_work

Place = tuple[str, frozenset[str]]
"""A server's address in the plan, and the endpoints where it answered."""


def living_runs(store: Store) -> list[RunState]:
    """Return what the journal knows of runs that a process on this machine works on now.

    Raises:
        JournalError: the journal cannot be read.
    """
    return [store.replay(each.run) for each in store.runs() if store.is_running(each)]


def same_plan(about: Subject, runs: Iterable[RunState], part: Part | None) -> Finding:
    """Check that this plan is not running already: it would be refused with exit code 6.

    Other parts of it may run.
    """
    for run in runs:
        other = run.started.part
        is_beside = part and other and part.of == other.of and part.number != other.number
        if run.started.plan == about.name and not is_beside:
            return about.problem(
                "same_plan",
                f"run {run.started.run} of this plan is running (process {run.started.pid}); "
                "a second one is refused",
            )
    return about.ok("same_plan", "no other run of this plan is running with this --state")


def machines_elsewhere(
    runs: Iterable[RunState],
    requests: Iterable[MountRequest],
    places: Mapping[ServerName, Place],
    identities: Identities,
) -> dict[MountKey, str]:
    """Return the targets whose machine another living run has not done with yet, and which run."""
    busy: dict[tuple[ServerName, str], str] = {}
    for run in runs:
        for name, place in places.items():
            there = _names_of(run, place, identities)
            for record in run.records.values():
                if not record.is_final and record.planned.server in there:
                    busy[name, record.planned.vm.casefold()] = run.started.run
    return {
        each.key: in_work(busy[machine])
        for each in requests
        if (machine := (each.server, each.vm.casefold())) in busy
    }


def _names_of(run: RunState, place: Place, identities: Identities) -> set[ServerName]:
    """Return by which names a run knows the server at a place."""
    started = run.started
    return {
        facts.name
        for facts in started.servers
        if identities.is_at((started.run, facts.url), *place)
    }


def mounts_elsewhere(
    runs: Iterable[RunState], place: Place, identities: Identities
) -> dict[str, int]:
    """Return how many mounts each living run holds, or may hold, on the server at a place."""
    held: dict[str, int] = {}
    for run in runs:
        there = _names_of(run, place, identities)
        count = sum(
            1
            for record in run.records.values()
            if record.planned.server in there
            and (record.phase in HOLDING_PHASES or record.may_be_open)
        )
        if count:
            held[run.started.run] = count
    return held


# --- disks -----------------------------------------------------------------------------------


def journal_findings(about: Subject, store: Store, trouble: JournalError | None) -> Finding:
    """Check whether a run could keep its journal here; nothing is written to find out."""
    if trouble is not None:
        return about.problem("journal", str(trouble))
    why = store.why_not_writable()
    if why is not None:
        return about.problem("journal", f"{store.place} cannot be written: {why}")
    return about.ok("journal", f"{store.place} can be written")


def disk_findings(about: Subject, requests: Sequence[MountRequest]) -> Iterator[Finding]:
    """Compare what downloads may take in all with what their file systems have free."""
    wanted: defaultdict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    refused: dict[Path, None] = {}
    for request in requests:
        for download in request.downloads:
            if download.to is None:
                continue
            standing = nearest_existing(Path(download.to))
            folder = standing if standing.is_dir() else standing.parent
            try:
                device = folder.stat().st_dev
            except OSError:
                refused[folder] = None
                continue
            if not os.access(folder, os.W_OK | os.X_OK):
                refused[folder] = None
            places.setdefault(device, folder)
            wanted[device] += download.max_size
    for folder in refused:
        yield about.problem("disk", f"downloads cannot be written below {folder}")
    for device, size in wanted.items():
        yield _room(about, places[device], size)


def _room(about: Subject, folder: Path, size: int) -> Finding:
    try:
        facts = os.statvfs(folder)
    except OSError as exc:
        return about.not_visible("disk", f"{folder}: {exc.strerror}")
    free = facts.f_bavail * facts.f_frsize
    detail = f"downloads may take {text.size(size)} below {folder}, {text.size(free)} are free"
    if size > free:
        return about.problem("disk", f"{detail}: lower max_size, or make room")
    return about.ok("disk", detail)
