"""Which machines of a plan were proven lately, which longer ago, and which never.

A machine is proven by a run of any plan that ended with it verified or mounted. A later run
that failed takes nothing from that proof, and is told beside it, for whoever restores tomorrow.
A machine is known by the address of its server, its name without regard to case, and its backup
server where the plan or an earlier run says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct, field

from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord
from orchestrator.core.model import Result, ServerName
from orchestrator.core.records import server_address
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import Entry, RestorePlan


class PlannedMachine(Struct, frozen=True, kw_only=True):
    """One machine that the plan selects, and how that is known.

    `vm` is None for a selector whose machines nobody knows: it counts as never proven.
    """

    server: ServerName
    url: str
    name: str
    vm: str | None
    backup_server: str | None
    source: str


class MachineResult(Struct, frozen=True, kw_only=True):
    """The result of a machine in one run, and when it had it."""

    run: str
    at: datetime
    result: Result
    message: str | None
    point_created_at: datetime | None


class MachineHistory(Struct):
    """The newest proof of a machine, the newest attempt, and the newest end that was not good.

    A run that found no restore point for the machine failed without an attempt.
    """

    proof: MachineResult | None = None
    newest: MachineResult | None = None
    failure: MachineResult | None = None

    def merge(self, other: MachineHistory) -> None:
        """Take over what is newer in the history from another run or backup server."""
        self.proof = _newest(self.proof, other.proof)
        self.newest = _newest(self.newest, other.newest)
        self.failure = _newest(self.failure, other.failure)


Proofs = Mapping[tuple[str, str], Mapping[str, MachineHistory]]
"""By address of the server and folded name of the machine, then by backup server."""


class CoverageState(StrEnum):
    """Whether a machine was proven in time, worst first."""

    NEVER = "never"
    LONGER_AGO = "longer ago"
    PROVEN = "proven"


class Row(Struct, frozen=True, kw_only=True):
    """One machine of the plan and its proof; `failed_since` is newer than that."""

    wanted: PlannedMachine
    state: CoverageState
    proof: MachineResult | None
    newest: MachineResult | None
    failed_since: MachineResult | None


class Coverage(Struct, frozen=True, kw_only=True):
    """All machines of a plan, the worst first. `notes` are limits of what is known."""

    plan: str
    days: float
    now: datetime
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def is_whole(self) -> bool:
        """True if every machine was proven in time, and there is one."""
        return bool(self.rows) and len(self.proven) == len(self.rows)

    @property
    def proven(self) -> list[Row]:
        """The machines that were proven in time, those that failed since included."""
        return [row for row in self.rows if row.state is CoverageState.PROVEN]


# --- which machines --------------------------------------------------------------------------


def planned_machines(
    plan: RestorePlan, sha256: str, earlier: Iterable[RunState], *, only_newest: bool = False
) -> tuple[list[PlannedMachine], list[str]]:
    """Return the machines that a plan selects, without asking a server, and notes on that.

    Machines that the plan names are known from it alone. Those of its selectors are the ones
    that the newest whole run of the plan found; of a sample, those that any such run drew from
    the very same plan. `earlier` are the plan's runs, the newest first. With `only_newest`, that
    run counts alone, and only if it had this very plan; it says which rows of a file it drew.
    """
    entries = plan.entries()
    drawn = {id(each) for each in entries if only_newest and each.sample is not None}
    machines = [
        _machine(entry, plan, entry.value, entry.backup_server, "the plan names it")
        for entry in entries
        if is_named(entry) and id(entry) not in drawn
    ]
    selectors = [entry for entry in entries if not is_named(entry) or id(entry) in drawn]
    if not selectors:
        return machines, []
    whole = (each for each in earlier if _is_whole(each) and not _is_simulation_of(each, plan))
    run = next(whole, None)
    if run is None or (only_newest and not _is_of(run, sha256)):
        note = "no run has expanded this plan's selectors yet: --ask asks the servers"
        return machines + [_unknown(entry, plan) for entry in selectors], [note]
    unchanged = _is_of(run, sha256)
    notes = [
        f"the machines of {counted(len(selectors), 'selector')} are those that run "
        f"{run.started.run} found on {run.started.started_at:%Y-%m-%d}"
        + ("" if unchanged else ", when the plan was another one; --ask asks the servers")
    ]
    runs = [run]
    if not only_newest and any(entry.sample is not None for entry in selectors):
        notes.append("of samples, only what runs have drawn is known; --ask asks for all of it")
        runs += [each for each in whole if unchanged and _is_of(each, sha256)]
    for entry in selectors:
        looked_at = runs if entry.sample is not None else runs[:1]
        machines += [
            _machine(
                entry,
                plan,
                each.planned.vm,
                each.planned.backup_server or None,
                f"run {run.started.run} found it",
            )
            for run in looked_at
            for each in run.records.values()
            if each.planned.point is not None and _belongs(each, entry, exactly=unchanged)
        ] or ([] if is_named(entry) else [_unknown(entry, plan)])
    return machines, notes


def is_named(entry: Entry) -> bool:
    """Return whether an entry names one machine; a name on every backup server may be many."""
    return entry.kind is SelectorKind.VM and not entry.all_backup_servers


def _is_of(state: RunState, sha256: str) -> bool:
    return sha256 in {state.started.plan_sha256, state.started.locked_sha256}


def _is_whole(state: RunState) -> bool:
    """Return whether a run took all targets of its plan, and planned them."""
    return state.started.is_whole and bool(state.records)


def _is_simulation_of(state: RunState, plan: RestorePlan) -> bool:
    """Return whether a run asked simulated servers in place of those of the plan."""
    simulated = state.simulated_servers
    known = {server_address(each.url) for each in state.started.servers if each.name in simulated}
    return bool(known - {server_address(each.url) for each in plan.servers.values()})


def _belongs(record: MountRecord, entry: Entry, *, exactly: bool) -> bool:
    """Return whether a target is of an entry; where the plan was changed, by wave and server."""
    planned = record.planned
    if exactly:
        return planned.place == entry.place
    return (planned.wave, planned.server) == (entry.wave, entry.server)


def _machine(
    entry: Entry, plan: RestorePlan, vm: str | None, backup_server: str | None, source: str
) -> PlannedMachine:
    return PlannedMachine(
        server=entry.server,
        url=plan.servers[entry.server].url,
        name=vm if vm is not None else f"{entry.kind}:{entry.value}",
        vm=vm,
        backup_server=backup_server,
        source=source,
    )


def _unknown(entry: Entry, plan: RestorePlan) -> PlannedMachine:
    why = "which machines it means is not known"
    return _machine(entry, plan, None, entry.backup_server, why)


# --- which proofs ----------------------------------------------------------------------------


def proofs_of(states: Iterable[RunState]) -> Proofs:
    """Return the history of every machine that any run, of any plan, has mounted or tried to.

    What was found on a simulated server says nothing of a real one at the same address.
    """
    known: dict[tuple[str, str], dict[str, MachineHistory]] = {}
    states = list(states)
    places = {place for state in states for place in _servers_of(state).values()}
    real = {at for at, simulated in places if simulated is False}
    for state in states:
        servers = _servers_of(state)
        for record in state.records.values():
            tried = _machine_result(record, state)
            planned = record.planned
            at, simulated = servers.get(planned.server, ("", None))
            if tried is None or (simulated and at in real):
                continue
            machine = (at, planned.vm.casefold())
            known.setdefault(machine, {}).setdefault(planned.backup_server, MachineHistory()).merge(
                MachineHistory(
                    proof=tried if tried.result in FIRM_RESULTS else None,
                    newest=tried if record.ever_submitted else None,
                    failure=tried if tried.result in _FAILURES else None,
                )
            )
    return known


def _servers_of(state: RunState) -> dict[ServerName, tuple[str, bool | None]]:
    """Return the address of each server of a run, and whether it was simulated, if that is known.

    It is known from the first logon on; old journals knew no simulated servers.
    """
    servers: dict[ServerName, tuple[str, bool | None]] = {}
    for facts in state.started.servers:
        known = state.servers.get(facts.name)
        sessions = known.sessions if known is not None else []
        simulated = any(each.simulated for each in sessions) if sessions else None
        servers[facts.name] = server_address(facts.url), simulated
    return servers


_FAILURES = frozenset({Result.FAILED, Result.UNKNOWN})
"""Results that count as a failure of the machine; skipped and cancelled ones do not."""


def _machine_result(record: MountRecord, state: RunState) -> MachineResult | None:
    """Return a target's result, or None if it is no result of the machine."""
    if record.result is None or not (record.ever_submitted or record.result in _FAILURES):
        return None
    proven = record.proven
    at = proven.verdict_at if proven is not None and record.result in FIRM_RESULTS else None
    if at is None:
        at = record.concluded_at or 0.0
    return MachineResult(
        run=state.started.run,
        at=state.moment(at),
        result=record.result,
        message=record.message,
        point_created_at=record.point.created_at if record.point else None,
    )


def _newest(one: MachineResult | None, other: MachineResult | None) -> MachineResult | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda tried: tried.at)


# --- how they stand --------------------------------------------------------------------------


def coverage_of(
    plan: str,
    wanted: Sequence[PlannedMachine],
    proofs: Proofs,
    *,
    days: float,
    now: datetime,
    notes: Sequence[str] = (),
) -> Coverage:
    """Return the coverage `now`: proven is a machine whose newest proof is at most `days` old."""
    once = {(each.url, each.name, each.vm, each.backup_server): each for each in wanted}
    rows = [_row(each, proofs, now - timedelta(days=days)) for each in once.values()]
    order = list(CoverageState)
    rows.sort(
        key=lambda row: (
            order.index(row.state),
            row.failed_since is None,
            row.proof.at if row.proof else now,
            row.wanted.server,
            row.wanted.name,
        )
    )
    return Coverage(plan=plan, days=days, now=now, rows=tuple(rows), notes=tuple(notes))


def _row(wanted: PlannedMachine, proofs: Proofs, since: datetime) -> Row:
    known = _known(wanted, proofs)
    proof = known.proof
    if proof is None:
        state = CoverageState.NEVER
    else:
        state = CoverageState.PROVEN if proof.at >= since else CoverageState.LONGER_AGO
    failure = known.failure
    return Row(
        wanted=wanted,
        state=state,
        proof=proof,
        newest=known.newest,
        failed_since=failure if proof and failure and failure.at > proof.at else None,
    )


def _known(wanted: PlannedMachine, proofs: Proofs) -> MachineHistory:
    if wanted.vm is None:
        return MachineHistory()
    together = MachineHistory()
    for backup_server, known in proofs.get(
        (server_address(wanted.url), wanted.vm.casefold()), {}
    ).items():
        # Where no restore point was found, the run could not say behind which backup server.
        if wanted.backup_server in (None, backup_server) or not backup_server:
            together.merge(known)
    return together
