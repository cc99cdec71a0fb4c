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
from orchestrator.plan.points import point_policy
from orchestrator.plan.problems import Problems, did_you_mean
from orchestrator.plan.quantities import shown
from orchestrator.plan.schema import (
    ObjectivesFile,
    OverridableFile,
    RetriesFile,
    TimeoutsFile,
)
from orchestrator.plan.servers import Servers
from orchestrator.plan.settings import PointPolicy


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
    if section.point is not None:
        own = point_policy(section.point, node["point"], problems, one_point=one_point)
        point = own or point
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
