"""Why a mount does not succeed. Source: reference 15.7; the words are ours: nobody saw others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.simulator.manager import SimMount, SimulatedManager


def failure_of(manager: SimulatedManager, mount: SimMount) -> str | None:
    """Return why a mount cannot succeed. Causes: reference section 9; texts are ours."""
    point, machine = mount.point, mount.point.machine
    if point.gone:
        return "Failed to mount restore point: it was removed by retention."
    if machine.running and point.family == "vmReplicaPoints":
        return "Failed to mount restore point: the replica VM is running."
    at_work = {each.kind for each in manager.activities_on(machine)}
    if "restore" in at_work:
        return "Failed to mount restore point: the machine is being restored."
    is_replicated = machine.job_active or "replication" in at_work
    if is_replicated and point.family == "vmReplicaPoints":
        return "Failed to mount restore point: the replication job is processing this VM."
    if mount.os_kind == "Linux" and not machine.backup_server.helper_host:
        return "Failed to mount restore point: no helper host is configured."
    is_held = "file_restore" in at_work or _held_by_another(manager, mount)
    if machine.backup_server.exclusive and is_held:
        return "Failed to mount restore point: the backup file is locked by another mount."
    if machine.mounts_to_fail > 0:
        machine.mounts_to_fail -= 1
        return "Failed to mount restore point: the mount service did not answer."
    return point.fails


def _held_by_another(manager: SimulatedManager, mount: SimMount) -> bool:
    """Tell whether another mount of the same machine is open, of any session."""
    return any(
        fate.succeeded and fate.is_open and fate.backup_server == mount.fate.backup_server
        for fate in manager.truth.mounts
        if fate is not mount.fate and (fate.server, fate.vm) == (manager.name, mount.fate.vm)
    )
