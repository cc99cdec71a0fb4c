"""Which limits the end of a played run waited for.

Followed backwards from the last mount: it got the slot of another one, that one of a third, and so
on to the start. What each of them waited for is what a higher limit would change first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from msgspec import Struct

from orchestrator.core.model import BackupServerName, ServerName, WaveName
from orchestrator.engine.forecast.play import Limited, OfWave, Played, PlayedMount
from orchestrator.engine.limits import Limits

RUN_MOUNTS = "run.mounts"
PER_VM = "run.mounts_per_vm"


def server_limit_name(server: ServerName) -> str:
    """Return how `--limit` calls the limit of a server."""
    return f"{server}.mounts"


def backup_limit_name(server: ServerName, backup: BackupServerName) -> str:
    """Return how `--limit` calls the limit of a backup server."""
    return f"{server}/{backup}.mounts"


def wave_limit_name(wave: WaveName) -> str:
    """Return how `--limit` calls the limit of a wave."""
    return f"waves/{wave}.mounts"


class BindingLimit(Struct, frozen=True, kw_only=True):
    """The end of the run waited `seconds` for this limit; `share` of the run, from 0 to 1.

    Two limits that are full at the same time both count.
    """

    name: str
    mounts: int
    seconds: float
    share: float


def binding_limits(played: Played, limits: Limits) -> tuple[BindingLimit, ...]:
    """Return the limits that the end of a run waited for, the longest wait first."""
    waited: defaultdict[tuple[str, int], float] = defaultdict(float)
    for mount, seconds in _chain(played):
        for name in {_name(each, limits) for each in mount.waited_for}:
            waited[name] += seconds
    found = [
        BindingLimit(name=name, mounts=mounts, seconds=seconds, share=seconds / played.end)
        for (name, mounts), seconds in waited.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.seconds, each.name)))


def _chain(played: Played) -> Iterator[tuple[PlayedMount, float]]:
    """Yield each mount that waited for the slot of another one, from the end backwards.

    With the seconds of that other one that it waited: before its wave began it waited for nothing.
    """
    mount = played.last
    while mount is not None:
        wave = played.waves[mount.request.wave]
        if mount.after is not None and mount.start > wave.start:
            yield mount, mount.start - max(wave.start, mount.after.start)
            mount = mount.after
        else:
            mount = wave.after


def _name(resource: Limited, limits: Limits) -> tuple[str, int]:
    """Return a limit as `--limit` takes it, and its number."""
    if resource is None:
        return RUN_MOUNTS, limits.run or 0
    if isinstance(resource, OfWave):
        return wave_limit_name(resource.wave), limits.waves.get(resource.wave, 0)
    if not isinstance(resource, tuple):
        return server_limit_name(resource), limits.servers.get(resource, 0)
    if len(resource) == 3:
        return PER_VM, limits.per_vm
    server, backup = resource
    mounts = limits.by_folded_name().get((server, backup.casefold()), limits.backup_server_default)
    return backup_limit_name(server, backup), mounts
