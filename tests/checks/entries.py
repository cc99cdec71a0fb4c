"""Entries and checks as tables write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.checks.outcomes import CheckSetSubject
from orchestrator.core.model import FileSystemEntry, Href, OsKind

CREATED = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
WINDOWS = CheckSetSubject(name="set", created_at=CREATED)
LINUX = CheckSetSubject(name="set", created_at=CREATED, os_kind=OsKind.LINUX)


def file(
    name: str = "file", size: int | None = 0, age: float | None = 60.0, owner: str | None = None
) -> FileSystemEntry:
    """Return a file, modified `age` seconds before the restore point was made."""
    return FileSystemEntry(
        path=f"C:/{name}",
        name=name,
        href=Href(f"/api/mount/C:/{name}"),
        is_directory=False,
        size=size,
        owner=owner,
        modified_at=None if age is None else CREATED - timedelta(seconds=age),
    )


def directory(name: str = "directory") -> FileSystemEntry:
    """Return a directory, of which servers tell nothing but its name."""
    return FileSystemEntry(
        path=f"C:/{name}", name=name, href=Href(f"/api/mount/C:/{name}"), is_directory=True
    )
