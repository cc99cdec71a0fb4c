"""Which machines of a plan were proven lately, which longer ago, and which never.

A machine is proven by a run of any plan that ended with it verified or mounted. A later run
that failed takes nothing from that proof, and is told beside it, for whoever restores tomorrow.
A machine is known by the address of its server, its name without regard to case, and its backup
server where the plan or an earlier run says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from orchestrator.lifecycle import FIRM_RESULTS, MountRecord
from orchestrator.model import Result, ServerName, counted
from orchestrator.plan.settings import Entry, RestorePlan, SelectorKind
from orchestrator.runstate import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One machine that the plan means, and how that is known.

    `vm` is None for a selector whose machines nobody knows: it counts as never proven.
    """

    server: ServerName
    url: str
    name: str
    vm: str | None
    backup_server: str | None
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a run had to say of a machine, and when. `result` is the run's own."""

    run: str
    at: datetime
    result: Result
    message: str | None
    point_created_at: datetime | None


@dataclass(slots=True)
class Known:
    """The newest proof of a machine, the newest attempt, and the newest end that was not good.

    A run that found no restore point for the machine failed without an attempt.
    """

    proof: Tried | None = None
    newest: Tried | None = None
    failure: Tried | None = None

    def learn(self, other: Known) -> None:
        """Take over what is newer in what another run, or another backup server, knows."""
        self.proof = _newer(self.proof, other.proof)
        self.newest = _newer(self.newest, other.newest)
        self.failure = _newer(self.failure, other.failure)


Proofs = Mapping[tuple[str, str], Mapping[str, Known]]
"""By address of the server and folded name of the machine, then by backup server."""


class Standing(StrEnum):
    """How a machine stands, worst first."""

    NEVER = "never"
    LONGER_AGO = "longer ago"
    PROVEN = "proven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One machine of the plan and how it stands; `failed_since` is newer than its proof."""

    wanted: Wanted
    standing: Standing
    proof: Tried | None
    newest: Tried | None
    failed_since: Tried | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """All machines of a plan, the worst first. `notes` say what one must know of it."""

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
        return [row for row in self.rows if row.standing is Standing.PROVEN]


# --- which machines --------------------------------------------------------------------------


def wanted_by(
    plan: RestorePlan, sha256: str, earlier: Iterable[RunState]
) -> tuple[list[Wanted], list[str]]:
    """Return the machines that a plan means, without asking a server, and notes on that.

    Machines that the plan names are known from it alone. Those of its selectors are the ones
    that the newest whole run of the plan found; of a sample, those that any such run drew from
    the very same plan. `earlier` are the plan's runs, the newest first.
    """
    entries = plan.entries()
    found = [
        _named(entry, plan, entry.value, entry.backup_server, "the plan names it")
        for entry in entries
        if is_named(entry)
    ]
    selectors = [entry for entry in entries if not is_named(entry)]
    if not selectors:
        return found, []
    whole = (each for each in earlier if _is_whole(each))
    run = next(whole, None)
    if run is None:
        note = "no run has expanded this plan's selectors yet: --ask asks the servers"
        return found + [_unknown(entry, plan) for entry in selectors], [note]
    unchanged = _is_of(run, sha256)
    notes = [
        f"the machines of {counted(len(selectors), 'selector')} are those that run "
        f"{run.started.run} found on {run.started.started_at:%Y-%m-%d}"
        + ("" if unchanged else ", when the plan was another one; --ask asks the servers")
    ]
    runs = [run]
    if any(entry.sample is not None for entry in selectors):
        notes.append("of samples, only what runs have drawn is known; --ask asks for all of it")
        runs += [each for each in whole if unchanged and _is_of(each, sha256)]
    for entry in selectors:
        looked_at = runs if entry.sample is not None else runs[:1]
        found += [
            _named(entry, plan, each.planned.vm, each.planned.backup_server or None, source)
            for each, source in _of(entry, looked_at, exactly=unchanged)
        ] or [_unknown(entry, plan)]
    return found, notes


def is_named(entry: Entry) -> bool:
    """Tell whether an entry names its one machine; a name on every backup server may be many."""
    return entry.kind is SelectorKind.VM and not entry.all_backup_servers


def _is_of(state: RunState, sha256: str) -> bool:
    return sha256 in {state.started.plan_sha256, state.started.locked_sha256}


def _of(
    entry: Entry, runs: Sequence[RunState], *, exactly: bool
) -> Iterator[tuple[MountRecord, str]]:
    """Yield the targets that runs made of an entry, and how that is known."""
    for run in runs:
        for record in run.records.values():
            if record.planned.point is not None and _belongs(record, entry, exactly=exactly):
                yield record, f"run {run.started.run} found it"


def _is_whole(state: RunState) -> bool:
    """Tell whether a run took all targets of its plan, and came to plan them."""
    return not state.started.only and state.started.keys is None and bool(state.records)


def _belongs(record: MountRecord, entry: Entry, *, exactly: bool) -> bool:
    """Tell whether a target came from an entry; where the plan was changed, by wave and server."""
    planned = record.planned
    if exactly:
        return planned.place == entry.place
    return (planned.wave, planned.server) == (entry.wave, entry.server)


def _named(
    entry: Entry, plan: RestorePlan, vm: str, backup_server: str | None, source: str
) -> Wanted:
    return Wanted(
        server=entry.server,
        url=plan.servers[entry.server].url,
        name=vm,
        vm=vm,
        backup_server=backup_server,
        source=source,
    )


def _unknown(entry: Entry, plan: RestorePlan) -> Wanted:
    return Wanted(
        server=entry.server,
        url=plan.servers[entry.server].url,
        name=f"{entry.kind}:{entry.value}",
        vm=None,
        backup_server=entry.backup_server,
        source="which machines it means is not known",
    )


# --- which proofs ----------------------------------------------------------------------------


def proofs_of(states: Iterable[RunState]) -> Proofs:
    """Return what runs, of whatever plans, say of every machine that they came to."""
    known: dict[tuple[str, str], dict[str, Known]] = {}
    for state in states:
        urls = {facts.name: facts.url for facts in state.started.servers}
        for record in state.records.values():
            tried = _tried(record, state)
            if tried is None:
                continue
            planned = record.planned
            machine = (urls.get(planned.server, ""), planned.vm.casefold())
            known.setdefault(machine, {}).setdefault(planned.backup_server, Known()).learn(
                Known(
                    proof=tried if tried.result in FIRM_RESULTS else None,
                    newest=tried if record.ever_submitted else None,
                    failure=tried if tried.result in _FAILURES else None,
                )
            )
    return known


_FAILURES = frozenset({Result.FAILED, Result.UNKNOWN})
"""Ends that say something of the machine; skipped and cancelled targets say nothing."""


def _tried(record: MountRecord, state: RunState) -> Tried | None:
    """Return what a run says of a target, or None if that says nothing of the machine."""
    if record.result is None or not (record.ever_submitted or record.result in _FAILURES):
        return None
    proven = record.proven
    at = proven.verdict_at if proven is not None and record.result in FIRM_RESULTS else None
    if at is None:
        at = record.concluded_at or 0.0
    return Tried(
        run=state.started.run,
        at=state.moment(at),
        result=record.result,
        message=record.message,
        point_created_at=record.point.created_at if record.point else None,
    )


def _newer(one: Tried | None, other: Tried | None) -> Tried | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda tried: tried.at)


# --- how they stand --------------------------------------------------------------------------


def covered(
    plan: str,
    wanted: Sequence[Wanted],
    proofs: Proofs,
    *,
    days: float,
    now: datetime,
    notes: Sequence[str] = (),
) -> Coverage:
    """Return how every machine stands `now`: proven if its newest proof is `days` old at most."""
    once = {(each.url, each.name, each.vm, each.backup_server): each for each in wanted}
    rows = [_row(each, proofs, now - timedelta(days=days)) for each in once.values()]
    order = list(Standing)
    rows.sort(
        key=lambda row: (
            order.index(row.standing),
            row.failed_since is None,
            row.proof.at if row.proof else now,
            row.wanted.server,
            row.wanted.name,
        )
    )
    return Coverage(plan=plan, days=days, now=now, rows=tuple(rows), notes=tuple(notes))


def _row(wanted: Wanted, proofs: Proofs, since: datetime) -> Row:
    known = _known(wanted, proofs)
    proof = known.proof
    if proof is None:
        standing = Standing.NEVER
    else:
        standing = Standing.PROVEN if proof.at >= since else Standing.LONGER_AGO
    failure = known.failure
    return Row(
        wanted=wanted,
        standing=standing,
        proof=proof,
        newest=known.newest,
        failed_since=failure if proof and failure and failure.at > proof.at else None,
    )


def _known(wanted: Wanted, proofs: Proofs) -> Known:
    if wanted.vm is None:
        return Known()
    together = Known()
    for backup_server, known in proofs.get((wanted.url, wanted.vm.casefold()), {}).items():
        # Where no restore point was found, the run could not say behind which backup server.
        if wanted.backup_server in (None, backup_server) or not backup_server:
            together.learn(known)
    return together
