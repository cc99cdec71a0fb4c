"""What else happens on the backup servers of an Enterprise Manager: restores, replications.

All of it is as old as the server's last data collection, 15 minutes by default; and a role may see
some of it or none. So "nothing is shown" never means "nothing happens".
Source: reference 15.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from orchestrator.core.model import BackupServerName

COLLECTED_WITHIN_S = 900.0
"""Seconds by which what a server shows may be old: it collects every 15 minutes by default.

Source: reference 15.4.
"""


class ActivityKind(StrEnum):
    """What is done with a machine."""

    REPLICATION = "replication"
    """A replication job works on it, or will within its run that has begun."""
    FILE_RESTORE = "file_restore"
    """Files of it are restored: one of its points is mounted."""
    RESTORE = "restore"
    """The whole machine is restored."""

    @property
    def noun(self) -> str:
        """How it is called in a sentence."""
        return {"file_restore": "file-level restore"}.get(self.value, self.value)


class Activity(Struct, frozen=True, kw_only=True):
    """One restore session, or the part of a replication job's session that is about one machine.

    Times are UTC, on the server's clock. Who began it, no server says. Source: reference 15.5.
    """

    id: str
    """The GUID of the session, lower case."""
    kind: ActivityKind
    name: str
    """`FLR_[<vm>]@<time>`, or `<vm>@<time>`."""
    vm: str
    backup_server: BackupServerName
    began_at: datetime
    ended_at: datetime | None = None
    is_over: bool = False
    job: str = ""
    """The replication job; empty for a restore."""

    @property
    def words(self) -> str:
        """What a person reads of it, without its times."""
        if self.kind is ActivityKind.REPLICATION:
            return f'job "{self.job}"' if self.job else "a replication job"
        return f"{self.kind.noun} {self.name}"
