"""What really happened: every mount ever made and its fate, beside HTTP.

A test compares the client's report with this: no lost mount, no double mount, no false
success, no limit exceeded at any instant, no dangerous call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field


@dataclass(slots=True, kw_only=True)
class MountFate:
    """One mount, from the accepted POST to its end. Times in seconds on the server's clock."""

    server: str
    session: str
    task: str
    point: str
    vm: str
    backup_server: str
    number: int
    requested_at: float
    finished_at: float | None = None
    succeeded: bool | None = None
    closed_at: float | None = None
    closed_by: str | None = None
    """unmounted, failed, or None while it is open."""
    orphaned: bool = False
    orphaned_at: float | None = None
    """Its session is gone, so nobody can unmount it any more."""
    staged: int = 0
    """Files staged for download."""
    downloaded: int = 0
    """Downloads that were sent to their end."""
    downloaded_bytes: int = 0
    """Bytes of files sent, also those of downloads that were cut."""

    @property
    def is_open(self) -> bool:
        """True from the accepted POST until it failed or was unmounted."""
        return self.closed_at is None


@dataclass(slots=True)
class GroundTruth:
    """The side channel of one or several servers."""

    mounts: list[MountFate] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    """Requests that reached a server, by its name, whatever it did with them."""
    overloads: Counter[str] = field(default_factory=Counter)
    """Those that it refused because it had too much in work."""
    bytes_sent: int = 0
    """Bodies of all answers, in bytes."""
    guest_writes: list[tuple[str, str, str, bool]] = field(default_factory=list)
    """Files written into an original guest: session, point, path, and whether over another."""
    guest_write_orders: int = 0
    """Accepted requests to do so, whatever came of them."""
    dangerous: int = 0
    """Calls of `action=failover` or of a full restore: must stay 0."""
    logons: int = 0
    sessions_expired: int = 0
    sessions_closed: int = 0
    open_now: Counter[str] = field(default_factory=Counter)
    peaks: Counter[str] = field(default_factory=Counter)
    """Most mounts open at once, by `total`, `server:…`, `backup:…/…` and `vm:…/…/…`."""

    def opened(self, fate: MountFate) -> None:
        """Count an accepted mount."""
        self.mounts.append(fate)
        for place in _places(fate):
            self.open_now[place] += 1
            self.peaks[place] = max(self.peaks[place], self.open_now[place])

    def closed(self, fate: MountFate, at: float, by: str) -> None:
        """Count its end, once."""
        if fate.closed_at is None:
            fate.closed_at, fate.closed_by = at, by
            self._count_down(fate)

    def orphan(self, fate: MountFate, at: float) -> None:
        """Note that its session is gone: nobody can close it, and it holds no slot any more."""
        if fate.closed_at is None and not fate.orphaned:
            self._count_down(fate)
            fate.orphaned = True
            fate.orphaned_at = at

    def _count_down(self, fate: MountFate) -> None:
        if not fate.orphaned:
            for place in _places(fate):
                self.open_now[place] -= 1

    def still_open(self) -> list[MountFate]:
        """Return the mounts that nobody closed."""
        return [fate for fate in self.mounts if fate.is_open]

    def as_json(self) -> dict[str, object]:
        """Return everything as plain values."""
        return {
            "mounts": [asdict(fate) for fate in self.mounts],
            "requests": dict(self.requests),
            "received": dict(self.received),
            "overloads": dict(self.overloads),
            "bytes_sent": self.bytes_sent,
            "guest_writes": [list(write) for write in self.guest_writes],
            "guest_write_orders": self.guest_write_orders,
            "dangerous": self.dangerous,
            "logons": self.logons,
            "sessions_expired": self.sessions_expired,
            "sessions_closed": self.sessions_closed,
            "peaks": dict(self.peaks),
        }

    @classmethod
    def from_json(cls, parts: Iterable[dict[str, object]]) -> GroundTruth:
        """Join what several servers told; peaks are counted anew over all of them.

        The servers' clocks must be the same one (the machine's monotonic clock is).
        """
        whole = cls()
        moments: list[tuple[float, int, MountFate]] = []
        for part in parts:
            for row in part["mounts"]:  # type: ignore[attr-defined]  # as_json wrote it
                fate = MountFate(**row)
                moments.append((fate.requested_at, 1, fate))
                ended = fate.orphaned_at if fate.orphaned else fate.closed_at
                if ended is not None:
                    moments.append((ended, 0, fate))
            for name in ("requests", "received", "overloads"):
                getattr(whole, name).update(part[name])
            for write in part["guest_writes"]:  # type: ignore[attr-defined]  # likewise
                whole.guest_writes.append(tuple(write))
            for name in _SUMS:
                setattr(whole, name, getattr(whole, name) + part[name])
        for _at, opening, fate in sorted(moments, key=lambda moment: moment[:2]):
            for place in _places(fate):
                whole.open_now[place] += 1 if opening else -1
                whole.peaks[place] = max(whole.peaks[place], whole.open_now[place])
            if opening:
                whole.mounts.append(fate)
        return whole


_SUMS = (
    "bytes_sent",
    "guest_write_orders",
    "dangerous",
    "logons",
    "sessions_expired",
    "sessions_closed",
)


def _places(fate: MountFate) -> tuple[str, ...]:
    backup = f"{fate.server}/{fate.backup_server}"
    return ("total", f"server:{fate.server}", f"backup:{backup}", f"vm:{backup}/{fate.vm}")
