"""plan --against: what a plan means now, beside a locked plan or an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.cli.ending import fail
from orchestrator.core.errors import RunNotFound
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import printable

if TYPE_CHECKING:
    from orchestrator.app.preview import Preview
    from orchestrator.core.events import RunStarted
    from orchestrator.core.ports.store import Store
    from orchestrator.plan.choose.locked import LockedPlan
    from orchestrator.plan.choose.targets import Narrowing
    from orchestrator.plan.file.loading import LoadedPlan


class Earlier(Struct, frozen=True, kw_only=True):
    """What is compared with: its targets, what to call it, and what is to be known before.

    Only what `took` takes is compared: a run may have been for a part of its plan.
    """

    name: str
    locked: LockedPlan
    has_changed: bool
    took: Narrowing
    notes: Sequence[str] = ()


def earlier(text: str, loaded: LoadedPlan, journal: Store, overrides: Mapping[str, str]) -> Earlier:
    """Return the locked plan in the file `text`, or the run of this name; else end."""
    from orchestrator.plan.choose.locked import LockedPlan, load_any
    from orchestrator.plan.choose.targets import Narrowing

    path = Path(text)
    if not path.exists():
        return _run(text, loaded, journal, overrides)
    locked = load_any(path)
    if not isinstance(locked, LockedPlan):
        fail(
            ExitCode.USAGE,
            f"{path} is not a locked plan; create one with: bulk-restore plan PLAN -o FILE",
        )
    has_changed = locked.source_sha256 != loaded.sha256 or (
        dict(locked.inventory_sha256) != dict(loaded.inventory_sha256)
    )
    return Earlier(
        name=text,
        locked=locked,
        has_changed=has_changed,
        took=Narrowing(),
        notes=[_changed(loaded, f"{text} was made")] if has_changed else [],
    )


def _run(text: str, loaded: LoadedPlan, journal: Store, overrides: Mapping[str, str]) -> Earlier:
    from orchestrator.core.events import TargetPlanned
    from orchestrator.plan.choose.targets import Narrowing
    from orchestrator.report.history.earlier_targets import targets_of_run

    try:
        run = journal.summary(text).run
    except RunNotFound as exc:
        fail(ExitCode.USAGE, f"--against {printable(text)}: there is no such file, and {exc}")
    state = journal.replay(run)
    planned = {
        event.key: event.point  # the last one counts: a resume may have found a point
        for event in journal.events(run)
        if isinstance(event, TargetPlanned)
    }
    pointless = {key for key, point in planned.items() if point is None}
    started = state.started
    has_changed = started.plan_sha256 != loaded.sha256 or (
        started.locked_sha256 is None
        and started.inventory_sha256 not in {None, tuple(loaded.inventory_sha256.values())}
    )
    notes = _notes(started, loaded, overrides)
    if has_changed:
        notes.insert(0, _changed(loaded, f"run {run} began"))
    return Earlier(
        name=f"run {run}",
        locked=targets_of_run(state, loaded, pointless=pointless),
        has_changed=has_changed,
        took=Narrowing(
            only=started.only, keys=frozenset(started.keys) if started.keys is not None else None
        ),
        notes=notes,
    )


def _changed(loaded: LoadedPlan, since: str) -> str:
    return f"{loaded.path}, or a file that it names, has changed since {since}: keys are compared"


def _notes(started: RunStarted, loaded: LoadedPlan, overrides: Mapping[str, str]) -> list[str]:
    """Return what else was otherwise when the run began."""
    notes = []
    if started.plan != loaded.plan.name:
        notes.append(f"run {started.run} is of the plan {started.plan!r}")
    differing = sorted(
        name
        for name in {*started.overrides, *overrides}
        if started.overrides.get(name) != overrides.get(name)
    )
    if differing:
        notes.append(f"run {started.run} had other values of variables: {', '.join(differing)}")
    if started.only or started.keys is not None:
        notes.append(f"run {started.run} took a part of its plan, and only that is compared")
    return notes


def differences_of(before: Earlier, preview: Preview, only: tuple[str, ...]) -> list[str]:
    """Return a line for each target that is new, gone or has another restore point."""
    from orchestrator.plan.choose.locked import differences
    from orchestrator.plan.choose.targets import Narrowing

    wanted = Narrowing(only=only)
    asked = [
        each
        for each in before.locked.requests
        if each.server not in preview.missing and wanted.takes(each)
    ]
    now = [each for each in preview.expansion.requests if before.took.takes(each)]
    expansion = replace(preview.expansion, requests=tuple(now))
    lines = [f"! {gone.key}: {gone.reason}" for gone in preview.gone]
    lines += differences(replace(before.locked, requests=tuple(asked)), expansion)
    return lines


def shown(before: Earlier, lines: Sequence[str]) -> list[str]:
    """Return what a person reads of a comparison."""
    found = [printable(line, 1000) for line in before.notes] + [printable(line) for line in lines]
    return found if lines else [*found, f"no difference to {printable(before.name, 1000)}"]


def as_values(before: Earlier, lines: Sequence[str]) -> dict[str, Any]:
    """Return a comparison as plain data."""
    return {
        "of": before.name,
        "plan_changed": before.has_changed,
        "notes": list(before.notes),
        "differences": list(lines),
    }
