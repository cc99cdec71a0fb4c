"""What really happened: every mount ever made and its fate, beside HTTP.

A test compares the client's report with this: no lost mount, no double mount, no false
success, no limit exceeded at any instant, no dangerous call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields

PATIENCE_S = 180.0
"""For so long after it was sent a client must expect that a mount POST takes effect."""

LAST_LOOK_S = 10.0
"""Seconds that may lie between a client's last look at a session and its logoff."""


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
    late_s: float = 0.0
    """Seconds between the arrival of its POST and this."""
    unforeseen: bool = False
    """Made by a POST that arrived twice, or that the service itself answered with a refusal."""
    finished_at: float | None = None
    succeeded: bool | None = None
    closed_at: float | None = None
    closed_by: str | None = None
    """unmounted, failed, or None while it is open."""
    orphaned: bool = False
    orphaned_at: float | None = None
    """Its session is gone, so it cannot be unmounted any more."""
    forgotten: bool = False
    """The server has lost its session, or shows its task no more."""
    purged: bool = False
    """The server shows its task no more, whether its session lives or not."""
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

    @property
    def is_excused(self) -> bool:
        """True if no client can have expected it, so that it counts against no limit.

        A POST that is carried out twice, or although the service says that it refused, or after
        the time for which a client has to expect it.
        """
        return self.unforeseen or self.late_s >= PATIENCE_S

    @property
    def went_with_its_session(self) -> bool:
        """True if its task was shown until the server lost the session, without being asked to.

        No client can know that it is open; one can know that nobody has looked.
        """
        at_once = self.is_excused and not self.late_s
        return self.is_open and at_once and self.forgotten and not self.purged

    @property
    def is_beyond_knowledge(self) -> bool:
        """True if no client can know that it is open: none expects it, and no task shows it.

        Or it was begun, later than any client expects, between the last look at its session and
        the logoff.
        """
        ended = self.orphaned_at if self.late_s and self.orphaned else None
        unseen = ended is not None and ended - self.requested_at < LAST_LOOK_S
        return self.is_open and self.is_excused and (self.forgotten or unseen)


@dataclass(slots=True)
class GroundTruth:
    """The side channel of one or several servers."""

    mounts: list[MountFate] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    """Requests that reached a server, by its name, whatever it did with them."""
    connections: Counter[str] = field(default_factory=Counter)
    """Connections that were made to a listening server, by its name."""
    overloads: Counter[str] = field(default_factory=Counter)
    """Those that it refused because it had too much in work."""
    bytes_sent: int = 0
    """Bodies of all answers, in bytes."""
    guest_writes: list[tuple[str, str, str, bool]] = field(default_factory=list)
    """Files written into an original guest: session, point, path, and whether over another."""
    guest_write_orders: int = 0
    """Accepted requests to do so, whatever came of them."""
    dangerous: int = 0
    """Calls of `action=failover`, of a full restore, or of a failover plan: must stay 0."""
    foreign_deletes: int = 0
    """DELETEs of another session, and of what another session made: must stay 0."""
    stops: list[tuple[str, str, str, float]] = field(default_factory=list)
    """DELETEs of tasks: server, session, task, and for how many seconds its mount was ready."""
    logon_attempts: list[tuple[str, float]] = field(default_factory=list)
    """Server and second of every logon that reached it, whatever came of it."""
    logons: int = 0
    sessions_expired: int = 0
    sessions_closed: int = 0
    open_now: Counter[str] = field(default_factory=Counter)
    peaks: Counter[str] = field(default_factory=Counter)
    """Most mounts open at once, by `total`, `server:…`, `backup:…/…` and `vm:…/…/…`."""

    def opened(self, fate: MountFate) -> None:
        """Count an accepted mount."""
        if fate.late_s and self._is_answered_for(fate):
            fate.unforeseen = True
        self.mounts.append(fate)
        if fate.is_excused or fate.orphaned:
            return
        for place in _places(fate):
            self.open_now[place] += 1
            self.peaks[place] = max(self.peaks[place], self.open_now[place])

    def closed(self, fate: MountFate, at: float, by: str) -> None:
        """Count its end, once."""
        if fate.closed_at is None:
            fate.closed_at, fate.closed_by = at, by
            self._count_down(fate)
            if fate.is_excused:
                self._excuse_twin(fate)

    def _is_answered_for(self, fate: MountFate) -> bool:
        """Tell whether a mount that the service denied was taken for what this late POST made."""
        return any(
            _is_alike(other, fate) and other.is_excused and other.closed_by == "unmounted"
            for other in self.mounts
        )

    def _excuse_twin(self, fate: MountFate) -> None:
        """Excuse the other mount of a POST that was carried out twice: only one was answered."""
        for other in self.mounts:
            if _is_alike(other, fate) and other.is_open and not other.is_excused:
                self._count_down(other)
                other.unforeseen = True

    def orphan(self, fate: MountFate, at: float) -> None:
        """Note that its session is gone: it cannot be closed, and it holds no slot any more."""
        if fate.closed_at is None and not fate.orphaned:
            self._count_down(fate)
            fate.orphaned = True
            fate.orphaned_at = at

    def _count_down(self, fate: MountFate) -> None:
        if not fate.orphaned and not fate.is_excused:
            for place in _places(fate):
                self.open_now[place] -= 1

    def still_open(self) -> list[MountFate]:
        """Return the mounts that are still open."""
        return [fate for fate in self.mounts if fate.is_open]

    def as_json(self) -> dict[str, object]:
        """Return everything as plain values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "mounts": [asdict(fate) for fate in self.mounts]}

    @classmethod
    def from_json(cls, parts: Iterable[dict[str, object]]) -> GroundTruth:
        """Join the JSON of several servers; peaks are counted anew over all of them.

        The servers' clocks must be the same one (the machine's monotonic clock is).
        """
        whole = cls()
        moments: list[tuple[float, int, MountFate]] = []
        for part in parts:
            for row in part["mounts"]:  # type: ignore[attr-defined]  # as_json wrote it
                fate = MountFate(**row)
                whole.mounts.append(fate)
                if fate.is_excused:
                    continue
                moments.append((fate.requested_at, 1, fate))
                ended = fate.orphaned_at if fate.orphaned else fate.closed_at
                if ended is not None:
                    moments.append((ended, 0, fate))
            for name in ("requests", "received", "connections", "overloads"):
                getattr(whole, name).update(part[name])
            for name in ("guest_writes", "logon_attempts", "stops"):
                getattr(whole, name).extend(map(tuple, part[name]))  # type: ignore[call-overload]  # likewise
            for name in _SUMS:
                setattr(whole, name, getattr(whole, name) + part[name])
        for _at, opening, fate in sorted(moments, key=lambda moment: moment[:2]):
            for place in _places(fate):
                whole.open_now[place] += 1 if opening else -1
                whole.peaks[place] = max(whole.peaks[place], whole.open_now[place])
        whole.mounts.sort(key=lambda fate: fate.requested_at)
        return whole


_SUMS = [each.name for each in fields(GroundTruth) if each.default == 0]


def _is_alike(one: MountFate, other: MountFate) -> bool:
    """Tell whether two mounts are of one session and one restore point."""
    return (one.server, one.session, one.point) == (other.server, other.session, other.point)


def _places(fate: MountFate) -> tuple[str, ...]:
    backup = f"{fate.server}/{fate.backup_server}"
    return ("total", f"server:{fate.server}", f"backup:{backup}", f"vm:{backup}/{fate.vm}")
