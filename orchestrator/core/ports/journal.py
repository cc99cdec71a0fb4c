"""The journal, what it says of earlier runs, and other processes beside this one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from orchestrator.core.model import BackupServerName, MountRequest, OsKind, ServerName
from orchestrator.core.proof import Measured

if TYPE_CHECKING:  # who only reads a plan needs no events
    from orchestrator.core.events import Event, SubmissionStarted
    from orchestrator.core.lifecycle import MountRecord


class Journal(Protocol):
    """Where events become durable, in order."""

    def append(self, event: Event) -> None:
        """Take the event; it is on disk after the next `durable()`.

        Raises:
            JournalError: the journal cannot take anything any more.
        """

    async def durable(self) -> None:
        """Return when everything appended so far is on disk.

        Raises:
            JournalError: it is not, and never will be.
        """

    async def granted(self, intent: SubmissionStarted, taken: Callable[[], None]) -> str | None:
        """Take an intent, unless the run may not mount now; return when it is on disk.

        `taken` is called as soon as the intent has its place among the events. Returns why the
        run may not mount now, and then the intent was not taken; it may be repeated later.

        Raises:
            JournalError: as `durable`; it may be in the journal all the same.
        """


class Observer(Protocol):
    """Somebody who is told of every event after it was recorded. Must not block."""

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note; `record` is the target's state after the event, if it has a target."""


class OtherRuns(Protocol):
    """The other runs of this state directory: their open mounts count in this run's limits.

    Servers are the same where their addresses are, or where they answer at the same place. All
    methods are synchronous and quick.
    """

    @property
    def is_present(self) -> bool:
        """True while they have something open."""

    @property
    def is_unsure(self) -> bool:
        """True while it cannot be known what they have open: nothing more is claimed."""

    @property
    def earlier_seen_at(self) -> datetime | None:
        """When an earlier process of this run was last seen alive; None: not known.

        Every `SEEN_WITHIN` seconds at least a living one is seen.
        """

    @property
    def trouble(self) -> str | None:
        """Why they cannot be known any more, or None; then only this run's own mounts count."""

    def on_server(self, server: ServerName) -> int:
        """Return how many of their mounts are, or may be, open on a server."""

    def behind(self, server: ServerName, backup_server: BackupServerName) -> int:
        """Return how many of them a backup server carries."""

    def of_machine(self, server: ServerName, backup_server: BackupServerName, vm: str) -> int:
        """Return how many of them are of one machine."""

    def claim(self, request: MountRequest, fits: Callable[[], bool]) -> int | None:
        """Claim a mount if it `fits` beside what the others have open at this very moment.

        Returns the claim's number; None: it does not fit, or that cannot be known now.
        """

    def occupy(self, request: MountRequest) -> int:
        """Claim a mount that may be open already, whatever the limits."""

    def release(self, number: int) -> None:
        """Give a claim back: its mount is known to be gone. Repeatable."""

    def forget_earlier(self) -> None:
        """Give back what earlier processes of this run claimed and this one has not."""

    def look(self) -> bool:
        """Look again; tell whether what the others have open has changed."""

    def why_waiting(self, request: MountRequest) -> str:
        """Return which runs a request has to wait for, and for what, in words."""

    def meet(self, server: ServerName, endpoints: frozenset[str]) -> None:
        """Record at which IP addresses and ports a server answers, before anything is claimed."""

    def sharing_sessions(self, server: ServerName) -> Container[str]:
        """Return the ids of sessions on a server whose mounts count here: theirs and this run's."""

    def sessions(self) -> Container[str]:
        """Return the ids of the logon sessions that are known to be theirs, or this run's."""


class Durations(Protocol):
    """What earlier runs say about how long a machine's mount takes."""

    def expected(self, server: ServerName, vm: str) -> float | None:
        """Return the expected seconds from submission to release, or None if never seen."""

    def recent(self, server: ServerName, vm: str) -> Sequence[float]:
        """Return the seconds that its last few mounts took, the oldest first; none: never seen."""


class Baselines(Protocol):
    """What earlier runs measured in the directories of a machine."""

    def measured(self, server: ServerName, vm: str, path: str) -> Measured | None:
        """Return what the last verified run found at `path`, or None if none ever looked."""


class Proofs(Protocol):
    """What earlier runs say about when a machine was last proven."""

    def last(
        self, server: ServerName, vm: str, backup_server: BackupServerName | None
    ) -> datetime | None:
        """Return when it last ended verified or mounted, or None if it never did.

        Behind any backup server where none is named.
        """


class Systems(Protocol):
    """What earlier runs say about the systems of machines."""

    def known(self, server: ServerName, vm: str, backup_server: BackupServerName) -> OsKind | None:
        """Return as which system a machine was readable last, or None if nothing is known.

        Only what differs from `ASSUMED_OS`, or did once, is known.
        """
