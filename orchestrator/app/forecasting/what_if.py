"""Other limits than the plan's, by name: `hq.mounts=8`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from orchestrator.core.model import BackupServerName, MountRequest, ServerName
from orchestrator.engine.forecast.binding import (
    PER_VM,
    RUN_MOUNTS,
    backup_limit_name,
    server_limit_name,
    wave_limit_name,
)
from orchestrator.engine.limits import Limits
from orchestrator.plan.file.problems import did_you_mean
from orchestrator.plan.file.settings import RestorePlan

Changes = Mapping[str, int]
"""A limit's name and the mounts that it allows instead."""

MOST = 1_000_000


class LimitUnknown(ValueError):
    """There is no limit of this name; the message says which ones there are."""


def changes_of(texts: Iterable[str]) -> dict[str, int]:
    """Return what `NAME=N` texts ask for; the last one of a name counts.

    Raises:
        ValueError: one of them is no name and number.
    """
    found = {}
    for text in texts:
        name, sign, number = text.rpartition("=")
        is_number = number.isascii() and number.isdigit() and len(number) < 8
        if not sign or not name or not is_number or not 1 <= int(number) <= MOST:
            raise ValueError(f"{text!r} is not NAME=N, such as hq.mounts=8")
        found[name] = int(number)
    return found


def changed(
    limits: Limits, plan: RestorePlan, requests: Sequence[MountRequest], changes: Changes
) -> Limits:
    """Return the limits with `changes`.

    Raises:
        LimitUnknown: there is no limit of such a name.
    """
    servers = {server_limit_name(name): name for name in plan.servers}
    waves = {wave_limit_name(wave.name): wave.name for wave in plan.waves}
    backups = _backup_servers(plan, requests)
    known = {RUN_MOUNTS, PER_VM, *servers, *waves, *backups}
    for name, mounts in changes.items():
        if name == RUN_MOUNTS:
            limits = replace(limits, run=mounts)
        elif name == PER_VM:
            limits = replace(limits, per_vm=mounts)
        elif name in servers:
            limits = replace(limits, servers={**limits.servers, servers[name]: mounts})
        elif name in waves:
            limits = replace(limits, waves={**limits.waves, waves[name]: mounts})
        elif name in backups:
            limits = _with_backup(limits, *backups[name], mounts)
        else:
            hint = did_you_mean(name, sorted(known), noun="limits")
            raise LimitUnknown(f"there is no limit {name!r}: {hint}")
    return limits


def require_known(plan: RestorePlan, changes: Changes) -> None:
    """Check the names of changes before any server is asked which backup servers it has.

    Raises:
        LimitUnknown: there is no limit of such a name.
    """
    behind = tuple(f"{name}/" for name in plan.servers)
    sure = {name: mounts for name, mounts in changes.items() if not name.startswith(behind)}
    changed(Limits(), plan, (), sure)


def _backup_servers(
    plan: RestorePlan, requests: Sequence[MountRequest]
) -> Mapping[str, tuple[ServerName, BackupServerName]]:
    """Return the backup servers that the plan or a target names, by the names of their limits."""
    named = [
        (name, backup)
        for name, server in plan.servers.items()
        for backup in server.backup_server_mounts
    ]
    used = {(each.server, each.backup_server) for each in requests}
    return {backup_limit_name(*each): each for each in (*named, *sorted(used))}


def _with_backup(
    limits: Limits, server: ServerName, backup: BackupServerName, mounts: int
) -> Limits:
    kept = {
        (where, name): limit
        for (where, name), limit in limits.backup_servers.items()
        if (where, name.casefold()) != (server, backup.casefold())
    }
    return replace(limits, backup_servers={**kept, (server, backup): mounts})


def in_words(changes: Changes) -> str:
    """Return the changes as the command line names them."""
    return ", ".join(f"{name}={mounts}" for name, mounts in changes.items())
