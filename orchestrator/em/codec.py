"""The interface of a wire format: what it reads and writes; `wire` has the XML one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orchestrator.core.model import FileSystemEntry, Mount, OsKind, RestorePoint, Task
from orchestrator.em import facts
from orchestrator.em.elements import Reading
from orchestrator.em.families import Family

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a query. `has_next`: there are more pages.

    `is_itself`: the rows are the thing that was asked for, not what is in it. `set_aside` says in
    words, safe to show, which rows could not be read, and why.
    """

    rows: Sequence[T]
    has_next: bool
    is_itself: bool = False
    set_aside: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogonAnswer:
    """The body of a logon: who we are, and which collections the account may use.

    `guid` is the session's, and as secret as its token.
    """

    guid: str | None
    user: str
    collections: frozenset[str]


class Codec(Protocol):
    """One wire format: its Accept and Content-Type, and how to read and write it."""

    media_type: str

    def mount_spec(self, os_kind: OsKind) -> bytes:
        """Return the body of a mount request."""
        ...

    def staging_spec(self) -> bytes:
        """Return the body that stages a file for download."""
        ...

    def original_location_spec(self, *, overwrite: bool) -> bytes:
        """Return the body that writes a file into the original guest."""
        ...

    def logon(self) -> Reading[LogonAnswer]:
        """Read a LogonSession."""
        ...

    def task(self) -> Reading[Task]:
        """Read one Task, bare or wrapped in Tasks."""
        ...

    def tasks(self) -> Reading[Page[Task]]:
        """Read Tasks or the QueryResult of a task query."""
        ...

    def points(self, family: Family) -> Reading[Page[RestorePoint]]:
        """Read restore points: one entity, a list of entities, or a QueryResult."""
        ...

    def mounts(self) -> Reading[Sequence[Mount]]:
        """Read one mount point or a list of them."""
        ...

    def entries(self) -> Reading[Page[FileSystemEntry]]:
        """Read the entries of a directory."""
        ...

    def anything(self) -> Reading[None]:
        """Read an answer whose content does not matter, as long as it is the service's own."""
        ...

    def versions(self) -> Reading[tuple[str, ...]]:
        """Read the API versions of a service root."""
        ...

    def own_session(self, guid: str) -> Reading[None]:
        """Read the LogonSession `guid`, and refuse everything else."""
        ...

    def open_sessions(self) -> Reading[Sequence[facts.OpenSession]]:
        """Read the list of logon sessions."""
        ...

    def backup_servers(self) -> Reading[Sequence[facts.BackupServer]]:
        """Read the list of backup servers."""
        ...
