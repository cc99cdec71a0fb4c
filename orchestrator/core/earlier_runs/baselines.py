"""What earlier runs measured in the directories of machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from orchestrator.core.earlier_runs.naming import NO_NAMING, Known, Naming, address_of, urls_of
from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import (
    CheckMade,
    RunStarted,
    SessionOpened,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    VerdictReached,
)
from orchestrator.core.model import MountKey, RestorePointId, Result, RunId, ServerName
from orchestrator.core.proof import Measured
from orchestrator.core.records import read_event

BASELINE_RUNS = 50
"""How many runs back a measurement is looked for."""

MEASURING = (
    RunStarted,
    SessionOpened,
    TargetPlanned,
    SubmissionStarted,
    CheckMade,
    VerdictReached,
    TargetConcluded,
)
"""The events from which measurements follow."""


class Measurements:
    """What earlier runs found in the directories of machines; implements `ports.Baselines`."""

    def __init__(
        self, measured: Mapping[tuple[Known, str, str], Measured], naming: Naming = NO_NAMING
    ) -> None:
        """`measured` by server, machine and path."""
        self._measured, self._naming = measured, naming
        self._known = {server for server, _vm, _path in measured}

    def measured(self, server: ServerName, vm: str, path: str) -> Measured | None:
        """Return what the last verified run found at `path`, or None if none ever looked."""
        return self._measured.get((self._naming.known(server, self._known), vm, path))


def measurements_of(
    runs: Iterable[tuple[RunId, Iterable[tuple[str, bytes]]]],
    naming: Naming,
    on_damage: Callable[[RunId, JournalDamaged], None],
) -> Measurements:
    """Return what runs have measured: of two that measured the same, the first one counts.

    `runs` come with their records of `MEASURING` as type and body, in order. A run of which one
    cannot be read is passed over, and `on_damage` is told.
    """
    measured: dict[tuple[Known, str, str], Measured] = {}
    for run, records in runs:
        try:
            older = _measured_in(run, records)
        except JournalDamaged as exc:
            on_damage(run, exc)
            continue
        measured = older | measured
    return Measurements(measured, naming)


def _measured_in(
    run: RunId, records: Iterable[tuple[str, bytes]]
) -> dict[tuple[Known, str, str], Measured]:
    """Return what one run measured in the attempts whose points are its verified results."""
    targets: dict[MountKey, _TargetMeasurements] = {}
    measured: dict[tuple[Known, str, str], Measured] = {}
    urls: dict[ServerName, str] = {}
    simulated: set[ServerName] = set()
    for kind, body in records:
        event = read_event(kind, body, f"a record of run {run}")
        match event:
            case RunStarted(servers=facts):
                urls = urls_of(facts)
            case SessionOpened(server=server, simulated=True):
                simulated.add(server)
            case TargetPlanned(key=key):
                targets[key] = _TargetMeasurements(event.server, event.vm)
            case TargetConcluded(key=key, result=Result.VERIFIED) if key in targets:
                target = targets[key]
                where = address_of(urls, target.server), target.server in simulated
                for path, found in target.of(event.point).items():
                    measured[where, target.vm, path] = found
            case TargetEvent(key=key) if key in targets:
                targets[key].take(event)
    return measured


class _TargetMeasurements:
    """What the attempts of one target measured, by the restore points that were verified."""

    def __init__(self, server: ServerName, vm: str) -> None:
        self.server, self.vm = server, vm
        self._point: RestorePointId | None = None
        self._now: dict[str, Measured] = {}
        self._verified: dict[RestorePointId | None, dict[str, Measured]] = {}

    def take(self, event: TargetEvent) -> None:
        match event:
            case SubmissionStarted():
                self._point, self._now = event.point, {}
            case CheckMade(outcome=outcome) if outcome.measured is not None:
                self._now[outcome.path] = outcome.measured
            case VerdictReached(result=Result.VERIFIED):
                self._verified[self._point] = self._now
            case _:
                return

    def of(self, point: RestorePointId | None) -> Mapping[str, Measured]:
        """Return what was measured at a point; None: at the last one that was tried."""
        return self._verified.get(self._point if point is None else point, {})
