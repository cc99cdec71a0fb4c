"""What the expanded plan means target by target: its point, its age, what cannot be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from orchestrator.app.readiness.findings import Finding, Scope, Subject
from orchestrator.core.model import (
    MountKey,
    MountRequest,
    OsKind,
    RestorePointId,
    ServerName,
    Source,
    UnresolvedTarget,
)
from orchestrator.core.policy import FUTURE_SLACK
from orchestrator.core.text import duration, moment
from orchestrator.plan.choose.expansion import Expansion

Points = Collection[tuple[str, Source, RestorePointId]]
"""Restore points that were listed: server, family, id."""


def target_findings(
    expansion: Expansion,
    unasked: Sequence[UnresolvedTarget],
    listed: Points,
    elsewhere: Mapping[MountKey, str],
    clocks: Mapping[ServerName, datetime],
) -> Iterator[Finding]:
    """Yield the answers about every target; `clocks` are what the servers' clocks show now.

    `unasked` stand for the entries of servers that did not answer; `elsewhere` names the
    living run that has the same machine in work.
    """
    for target in unasked:
        yield _about(target).not_visible("point", target.reason)
    for target in expansion.unresolved:
        yield _about(target).problem("point", target.reason)
    for request in expansion.requests:
        about = Subject(Scope.TARGET, request.key, request.critical)
        now = clocks[request.server]
        yield _point(about, request, listed, now)
        if request.objectives.rpo is not None:
            yield _objective(about, request, request.objectives.rpo, now)
        if request.point.source is Source.REPLICA:
            yield about.not_visible(
                "replica_state",
                "the API does not show whether the replica is running (failover), and not to "
                "every role whether its job is active; a mount fails then",
            )
        if request.os_kind is OsKind.LINUX:
            yield about.warning(
                "helper_host",
                f"not visible: needs a helper host configured for {request.backup_server}",
            )
        if request.key in elsewhere:
            yield about.warning("other_run", elsewhere[request.key])


def machine_findings(about: Subject, requests: Sequence[MountRequest], per_vm: int) -> Finding:
    """Return how many machines are mounted more than once, and how many mounts each bears."""
    machines = Counter((each.server, each.backup_server, each.vm) for each in requests)
    several = [machine for machine, count in machines.items() if count > 1]
    if not several:
        return about.ok("mounts_per_vm", "every machine has one target")
    most = max(machines.values())
    detail = f"{len(several)} of {len(machines)} machines have several targets (at most {most})"
    if per_vm > 1:
        return about.warning(
            "mounts_per_vm",
            f"{detail}, {per_vm} open at once: "
            "a repository that locks its files refuses all but one",
        )
    return about.ok("mounts_per_vm", f"{detail}, one open at a time")


def _about(target: UnresolvedTarget) -> Subject:
    return Subject(Scope.TARGET, target.key, target.critical)


def _point(about: Subject, request: MountRequest, listed: Points, now: datetime) -> Finding:
    """A point is "ok" only if the server lists it now; a locked one may not have been asked for."""
    point = request.point
    age = (now - point.created_at).total_seconds()
    if age < -FUTURE_SLACK:
        ahead = f"made in {duration(-age)} by the server's own clock"
        return about.warning(
            "point",
            f"of {moment(point.created_at)}, from the future ({ahead}), on {point.backup_server}: "
            "its age is not known",
        )
    age = max(0.0, age)
    detail = f"of {moment(point.created_at)}, {duration(age)} old, on {point.backup_server}"
    if (request.server, point.source, point.id) not in listed:
        return about.not_visible("point", f"{detail}: the server was not asked for it")
    return about.ok("point", f"{detail}: {request.policy}")


def _objective(about: Subject, request: MountRequest, rpo: float, now: datetime) -> Finding:
    since = request.incident_at or now
    actual = (since - request.point.created_at).total_seconds()
    if actual < -FUTURE_SLACK and request.incident_at is None:
        return about.problem("rpo", "not known, so missed: the point is from the future")
    actual = max(0.0, actual)
    detail = f"{duration(actual)} of {duration(rpo)}"
    if actual > rpo:
        return about.problem("rpo", f"would be missed now: {detail}")
    return about.ok("rpo", f"would be met now: {detail}")
