"""Settings that a target inherits from its wave, and a wave from `defaults`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.model import (
    AttemptPolicy,
    Objectives,
    OsKind,
    PhaseTimeouts,
    ServerName,
    Source,
)
from orchestrator.plan.check_sets import NOTHING_ASKED, Asked, DeclaredSets, inherit_asked
from orchestrator.plan.document import Block
from orchestrator.plan.problems import Problems, did_you_mean
from orchestrator.plan.quantities import shown
from orchestrator.plan.schema import (
    ObjectivesFile,
    OverridableFile,
    PointFile,
    RetriesFile,
    TimeoutsFile,
)
from orchestrator.plan.servers import Servers
from orchestrator.plan.settings import PointPolicy, PolicyName


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What holds for a target that says nothing itself. `server` is None where none is known."""

    server: ServerName | None = None
    os_kind: OsKind = OsKind.WINDOWS
    source: Source = Source.REPLICA
    point: PointPolicy = PointPolicy()
    timeouts: PhaseTimeouts = PhaseTimeouts()
    retries: AttemptPolicy = AttemptPolicy()
    asked: Asked = NOTHING_ASKED


def inherit(
    above: Inherited,
    section: OverridableFile,
    node: Block,
    servers: Servers,
    declared: DeclaredSets,
    problems: Problems,
    *,
    one_point: bool = False,
) -> Inherited:
    """Return `above` with what `section` says instead; wrong values go to `problems`.

    A point or a list of checks replaces the inherited one as a whole, timeouts and retries are
    merged key by key. `one_point` says that a policy may name a single restore point here.
    """
    if not section.model_fields_set & _OVERRIDABLE:
        return above
    server, point, retries = above.server, above.point, above.retries
    if section.server is not None:
        server = ServerName(section.server)
        if server not in servers.names:
            advice = did_you_mean(server, servers.names, noun="servers")
            problems.add(node["server"].position, f"there is no server {shown(server)}: {advice}")
    try:
        if section.point is not None:
            point = point_policy(section.point, one_point=one_point)
    except ValueError as exc:
        problems.add(node["point"].position, str(exc))
    try:
        if section.retries is not None:
            retries = _retries(above.retries, section.retries)
    except ValueError as exc:
        problems.add(node["retries"].position, str(exc))
    return Inherited(
        server=server,
        os_kind=section.os or above.os_kind,
        source=section.source or above.source,
        point=point,
        timeouts=_timeouts(above.timeouts, section.timeouts),
        retries=retries,
        asked=inherit_asked(above.asked, section, node, declared, problems),
    )


_OVERRIDABLE = frozenset(OverridableFile.model_fields)


def point_policy(file: PointFile, *, one_point: bool) -> PointPolicy:
    """Return the policy that `file` describes.

    Raises:
        ValueError: its keys do not belong together, or `id` stands where many targets inherit.
    """
    policy = file.policy or PolicyName.LATEST
    if policy is PolicyName.BEFORE and file.time is None:
        raise ValueError("policy 'before' needs a 'time', such as 2026-11-20T02:00:00Z")
    if policy is not PolicyName.BEFORE and file.time is not None:
        raise ValueError("'time' belongs to 'policy: before'")
    if policy is PolicyName.ID and file.id is None:
        raise ValueError("policy 'id' needs an 'id', the restore point's GUID")
    if policy is not PolicyName.ID and file.id is not None:
        raise ValueError("'id' belongs to 'policy: id'")
    if policy is PolicyName.ID and not one_point:
        raise ValueError("policy 'id' names a single restore point: write it on one 'vm' target")
    return PointPolicy(policy=policy, time=file.time, point=file.id, max_age=file.max_age)


def _timeouts(above: PhaseTimeouts, file: TimeoutsFile | None) -> PhaseTimeouts:
    return above if file is None else replace(above, **file.said())


def _retries(above: AttemptPolicy, file: RetriesFile) -> AttemptPolicy:
    merged = replace(above, **file.said())
    if merged.delay > merged.max_delay:
        raise ValueError(
            f"delay ({merged.delay:g}s) is longer than max_delay ({merged.max_delay:g}s): "
            "raise max_delay"
        )
    return merged


def merge_objectives(above: Objectives, file: ObjectivesFile | None) -> Objectives:
    """Return `above` with what `file` says instead."""
    return above if file is None else replace(above, **file.said())
