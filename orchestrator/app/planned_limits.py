"""The limits of a plan, as the engine keeps them."""

from __future__ import annotations

from orchestrator.engine.limits import Limits
from orchestrator.plan.file.settings import RestorePlan


def limits_of(plan: RestorePlan, max_mounts: int | None = None) -> Limits:
    """Return the plan's limits; `max_mounts` can only lower the run's."""
    named = [limit for limit in (plan.limits.mounts, max_mounts) if limit is not None]
    return Limits(
        run=min(named) if named else None,
        per_vm=plan.limits.mounts_per_vm,
        waves={wave.name: wave.mounts_limit for wave in plan.waves if wave.mounts_limit},
        servers={
            name: server.mounts_limit
            for name, server in plan.servers.items()
            if server.mounts_limit is not None
        },
        backup_servers={
            (name, backup): mounts
            for name, server in plan.servers.items()
            for backup, mounts in server.backup_server_mounts.items()
        },
        counting_others=frozenset(
            (name, each) for name, server in plan.servers.items() for each in server.counting_others
        ),
        start_interval=plan.limits.start_interval or 0.0,
        ramp=plan.limits.ramp,
    )
