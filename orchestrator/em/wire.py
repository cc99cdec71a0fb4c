"""The XML codec: elements to model values and back.

Elements and attributes that are absent are null; order and white space mean nothing.
Source: reference 1.4, 3, 5, 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from msgspec import Struct

from orchestrator.core.activity import Activity, ActivityKind
from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import (
    BackupServerName,
    FileSystemEntry,
    Href,
    Mount,
    MountLink,
    OsKind,
    RestorePoint,
    RestorePointId,
    Task,
    TaskId,
    TaskState,
)
from orchestrator.core.text import printable
from orchestrator.em import facts
from orchestrator.em.elements import NAMESPACE, Node, Reading, XmlReading, cost_of
from orchestrator.em.families import Family
from orchestrator.em.links import GUID, MOUNT_PATH, mount_href, rerooted

EARLIEST_YEAR, LATEST_YEAR = 1970, 9998
"""Years of a real time. Source: reference 18.2; 1753, 1601, 1 and 9999 are seen as "none"."""
MAX_DOWNLOADS = 4
"""Staged files of one task that are kept: a task stages one."""
ROW_COST = 600
"""Bytes of memory that the value of a row takes beside its texts."""
LONGEST_NAME = 300
"""Characters that are kept of the name of a session."""
LONGEST_WORDS = 2000
"""Characters of a task's message that are kept."""
T = TypeVar("T")


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a query. `has_next`: there are more pages.

    `is_itself`: the rows are the thing that was asked for, not what is in it. `set_aside` says in
    words, safe to show, which rows could not be read, and why.
    """

    rows: Sequence[T]
    has_next: bool
    is_itself: bool = False
    set_aside: Sequence[str] = ()


class LogonAnswer(Struct, frozen=True, kw_only=True):
    """The body of a logon: who we are, and which collections the account may use.

    `guid` is the session's, and as secret as its token.
    """

    guid: str | None
    user: str
    collections: frozenset[str]


class XmlCodec:
    """The XML form, stable from version 9 to 13."""

    media_type = "application/xml"

    def mount_spec(self, os_kind: OsKind) -> bytes:
        """Return StartMountSpec with an explicit OsKind: the server's default is Windows."""
        return (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<StartMountSpec xmlns="{NAMESPACE}"><OsKind>{os_kind.value}</OsKind>'
            "</StartMountSpec>"
        ).encode()

    def staging_spec(self) -> bytes:
        """Return the FileRestoreSpec that stages a file for download."""
        return _restore_spec("<ForDirectDownload />")

    def original_location_spec(self, *, overwrite: bool) -> bytes:
        """Return the FileRestoreSpec that writes into the guest, with its job's credentials."""
        kept = "true" if overwrite else "false"
        return _restore_spec(f'<ToOriginalLocation Overwrite="{kept}" />')

    def logon(self) -> Reading[LogonAnswer]:
        """Read a LogonSession."""
        return XmlReading(_logon)

    def task(self) -> Reading[Task]:
        """Read one Task; one documented example wraps it in Tasks."""
        return XmlReading(_one_task)

    def tasks(self) -> Reading[Page[Task]]:
        """Read Tasks or a QueryResult, row by row."""
        return _rows("Task", _task, {"Tasks", "QueryResult"})

    def points(self, family: Family) -> Reading[Page[RestorePoint]]:
        """Read restore points, row by row."""
        roots = {"QueryResult", family.entity, f"{family.entity}s"}
        return _rows(family.entity, lambda node: _point(node, family), roots)

    def mounts(self) -> Reading[Sequence[Mount]]:
        """Read one mount point or a list of them, whatever the family."""
        return XmlReading(_mounts)

    def entries(self) -> Reading[Page[FileSystemEntry]]:
        """Read FileSystemEntries, or the FileSystemEntry of one file or directory."""
        return XmlReading(_entries)

    def anything(self) -> Reading[None]:
        """Read an answer whose content does not matter, as long as it is the service's own."""
        return XmlReading(lambda _root: None)

    def versions(self) -> Reading[tuple[str, ...]]:
        """Read the API versions of a service root."""
        return XmlReading(facts.versions)

    def own_session(self, guid: str) -> Reading[None]:
        """Read the LogonSession `guid`, and refuse everything else."""
        return facts.own_session(guid)

    def open_sessions(self) -> Reading[Sequence[facts.OpenSession]]:
        """Read LogonSessions."""
        return XmlReading(facts.open_sessions)

    def activities(self, entity: str) -> Reading[Page[Activity]]:
        """Read sessions of one kind, RestoreSession or ReplicaTaskSession, row by row."""
        return _rows(entity, _activity, {"QueryResult", f"{entity}s"})

    def backup_servers(self) -> Reading[Sequence[facts.BackupServer]]:
        """Read the list of backup servers, or the one BackupServer of a single answer."""
        return XmlReading(facts.backup_servers)


def _restore_spec(inner: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<FileRestoreSpec xmlns="{NAMESPACE}">{inner}</FileRestoreSpec>'
    ).encode()


def _rows(tag: str, make: Callable[[Node], T], roots: set[str]) -> XmlReading[Page[T]]:
    """Read a list row by row. One that cannot be read is set aside and named; the rest counts.

    Source: reference 18.2, trap 60.
    """
    found: list[T] = []
    aside: list[str] = []

    def finish(root: Node) -> Page[T]:
        if root.tag not in roots:
            raise MalformedResponse(f"the answer is a {root.tag[:80]}, not a list of {tag}")
        if root.tag == tag:
            found.append(make(root))
        return Page(rows=found, has_next=_has_next(root), set_aside=aside)

    def keep(node: Node) -> int:
        try:
            found.append(make(node))
        except MalformedResponse as exc:
            aside.append(str(exc))
            return ROW_COST + cost_of(aside[-1])
        return _cost(found[-1])

    return XmlReading(finish, tag, keep)


def _cost(row: Any) -> int:
    """Return about how many bytes the value of a row takes, its texts above all."""
    cost = ROW_COST
    for name in row.__slots__:
        value = getattr(row, name)
        if isinstance(value, str):
            cost += cost_of(value)
    return cost


def _has_next(root: Node) -> bool:
    paging = root.child("PagingInfo")
    if paging is None:
        return False
    if any(link.get("Rel") == "Next" for link in paging.links):
        return True
    number = _whole(paging.attributes.get("PageNum"))
    count = _whole(paging.attributes.get("PagesCount"))
    return number is not None and count is not None and number < count


def _whole(text: str | None) -> int | None:
    """Return a whole number of fewer than 20 ASCII digits; None for anything else."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,19}", text) else None


def _logon(root: Node) -> LogonAnswer:
    if root.tag != "LogonSession":
        raise MalformedResponse(f"the logon answered with a {root.tag[:80]}")
    paths = (rerooted(link.get("Href", "")) for link in root.links)
    collections = frozenset(
        path.partition("?")[0].removeprefix("/api/").rstrip("/").lower() for path in paths if path
    )
    session = root.value("SessionId")
    return LogonAnswer(
        guid=session.lower() if session and GUID.fullmatch(session) else None,
        user=root.value("UserName") or "",
        collections=collections,
    )


def _one_task(root: Node) -> Task:
    node = root
    if root.tag == "Tasks" and len(root.children) == 1:
        node = root.children[0]
    if node.tag != "Task":
        raise MalformedResponse(f"the answer is a {root.tag[:80]}, not a Task")
    return _task(node)


_NAME = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_NUMBER = re.compile(r"[0-9A-Za-z_-]{1,40}")
_SUCCESS = {"true": True, "1": True, "false": False, "0": False}
_STATES = {state.value: state for state in TaskState}


def _task(node: Node) -> Task:
    """Make a Task. Only State, TaskId and Result decide; links are hints.

    Source: reference 5.1; a missing Result is "no answer yet" even where State is Finished.
    """
    name = node.value("TaskId")
    if name is None or not _NAME.fullmatch(name):
        raise MalformedResponse(f"a task without a TaskId that could be asked for{_called(name)}")
    result = node.child("Result")
    success: bool | None = None  # also where a Result says neither: an unknown word is no failure
    message: str | None = None
    has_result = result is not None and not result.is_nil
    if result is not None and has_result:
        success = _SUCCESS.get(result.attributes.get("Success", "").strip().lower())
        message = (result.value("Message") or "")[:LONGEST_WORDS] or None
    mount, downloads = _task_links(node.links)
    word = node.value("State") or ""
    state = _STATES.get(word, TaskState.UNKNOWN)
    return Task(
        id=TaskId(name),
        state=state,
        odd_state=printable(word, 40) if state is TaskState.UNKNOWN else "",
        operation=(node.value("Operation") or "")[:100],
        success=success,
        unclear=has_result and success is None,
        message=message,
        mount=mount,
        downloads=downloads,
    )


def _task_links(links: list[dict[str, str]]) -> tuple[MountLink | None, tuple[Href, ...]]:
    mount: MountLink | None = None
    downloads: list[Href] = []
    for link in links:
        rel = link.get("Rel")
        if rel == "Related" and mount is None and link.get("Type", "").endswith("PointMount"):
            mount = _mount_link(link)
        elif rel == "Download" and len(downloads) < MAX_DOWNLOADS:
            href = rerooted(link.get("Href", ""))
            if href is not None:
                downloads.append(href)
    return mount, tuple(downloads)


def _mount_link(link: dict[str, str]) -> MountLink | None:
    href = mount_href(link.get("Href", ""))
    if href is None:
        return None
    point, _, number = link.get("Name", "").rpartition("@")
    return MountLink(
        href=href,
        point=RestorePointId(point.lower()) if GUID.fullmatch(point) else None,
        number=number if _NUMBER.fullmatch(number) else None,
    )


def _point(node: Node, family: Family) -> RestorePoint:
    """Make a RestorePoint from an entity; the machine's name falls back to the point's name.

    Source: reference 3.1; Name is `<vm>@<time>`, split at the last `@`.
    """
    uid = node.attributes.get("UID", "")
    point = uid.rpartition(":")[2].lower()
    created = moment(node.value("CreationTimeUTC"))
    name = node.attributes.get("Name", "")
    if not GUID.fullmatch(point):
        raise MalformedResponse(f"a restore point without the GUID of a UID{_called(name or uid)}")
    if created is None:
        raise MalformedResponse(
            f"a restore point without a usable CreationTimeUTC{_called(name or point)}"
        )
    backup_server, job = _parents(node.links)
    return RestorePoint(
        id=RestorePointId(point),
        name=name,
        vm=node.attributes.get("VmDisplayName") or node.value("VmName") or name.rpartition("@")[0],
        created_at=created,
        source=family.source,
        backup_server=BackupServerName(backup_server[0]),
        backup_server_id=backup_server[1],
        job=job[0],
        job_id=job[1],
    )


_OVER = frozenset({"Stopped", "Completed"})
"""States of a session that is over; whatever else is said, it is not. Source: reference 15.1."""


def _activity(node: Node) -> Activity:
    """Make an Activity from a restore session, or from a replication job's session of one machine.

    A machine that waits in a job that has begun is one it works on: mounted, it would hold the job
    up. A restore of an unknown type is one of the whole machine, unless its word says files.
    Source: reference 15.1.
    """
    name = node.attributes.get("Name", "")
    session = node.attributes.get("UID", "").rpartition(":")[2].lower()
    began = moment(node.value("CreationTimeUTC"))
    if not GUID.fullmatch(session) or began is None:
        raise MalformedResponse(f"a session without a GUID or a usable time{_called(name)}")
    kind, job = ActivityKind.RESTORE, ""
    if node.tag == "ReplicaTaskSession":
        kind = ActivityKind.REPLICATION
        job = _up(node.links, "ReplicaJobSession").rpartition("@")[0]
    elif "FileLevelRestore" in (node.value("JobType") or ""):
        kind = ActivityKind.FILE_RESTORE
    vm = node.attributes.get("VmDisplayName") or name.rpartition("@")[0]
    return Activity(
        id=session,
        kind=kind,
        name=name[:LONGEST_NAME],
        vm=vm[:LONGEST_NAME],
        backup_server=BackupServerName(_up(node.links, "BackupServer")),
        began_at=began,
        ended_at=moment(node.value("EndTimeUTC")),
        is_over=node.value("State") in _OVER,
        job=job,
    )


def _up(links: list[dict[str, str]], kind: str) -> str:
    """Return the name of what a thing belongs to, by the type of its Up link; "" if none says."""
    for link in links:
        if link.get("Rel") == "Up" and link.get("Type", "").startswith(kind):
            return link.get("Name", "")[:LONGEST_NAME]
    return ""


def _parents(links: list[dict[str, str]]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return name and id of the backup server and of the job, from the Up links."""
    backup_server = job = ("", "")
    for link in links:
        if link.get("Rel") != "Up":
            continue
        named = (link.get("Name", ""), link.get("Href", "").rpartition("/")[2].lower())
        kind = link.get("Type", "")
        if kind.startswith("BackupServer"):
            backup_server = named
        elif kind.startswith(("Replica", "Backup")) and not kind.startswith("BackupFile"):
            job = named
    return backup_server, job


def _mounts(root: Node) -> Sequence[Mount]:
    if root.tag.endswith("PointMount"):
        return (_mount(root),)
    if root.tag.endswith("PointMounts"):
        return tuple(_mount(node) for node in root.children if node.tag.endswith("PointMount"))
    raise MalformedResponse(f"the answer is a {root.tag[:80]}, not a mount point")


def _mount(node: Node) -> Mount:
    href = rerooted(node.attributes.get("Href", ""))
    if href is None or not MOUNT_PATH.match(href):
        raise MalformedResponse("a mount point whose Href is none")
    roots = node.child("FSRoots")
    return Mount(
        href=href,
        roots=tuple(_entry(root) for root in roots.children) if roots is not None else (),
    )


def _entries(root: Node) -> Page[FileSystemEntry]:
    found: list[FileSystemEntry] = []
    if root.tag == "FileSystemEntry":
        found = [_entry(node) for node in root.children if node.tag.endswith("Entry")]
    elif root.tag == "FileSystemEntries":
        for name in ("Directories", "Files"):
            group = root.child(name)
            found += [_entry(node) for node in group.children] if group is not None else []
    else:
        raise MalformedResponse(f"the answer is a {root.tag[:80]}, not a directory")
    return Page(rows=found, has_next=_has_next(root), is_itself=root.tag == "FileSystemEntry")


def _entry(node: Node) -> FileSystemEntry:
    """Make an entry; without a Href that can be used it has none, and must be addressed by name."""
    return FileSystemEntry(
        path=_exactly(node, "Path"),
        name=_exactly(node, "Name"),
        href=rerooted(node.attributes.get("Href", "")) or Href(""),
        is_directory=node.tag == "DirectoryEntry",
        size=_whole(node.value("Size")),
        owner=node.value("Owner"),
        modified_at=moment(node.value("ModifiedDateUTC")),
    )


def _exactly(node: Node, tag: str) -> str:
    """Return a name as it is: white space at its ends belongs to it."""
    found = node.child(tag)
    return found.text if found is not None else ""


def _called(name: str | None) -> str:
    """Return the name of a row that cannot be read, safe to show."""
    return f": {printable(name, 100)!r}" if name else ""


def moment(text: str | None) -> datetime | None:
    """Return a server time as aware UTC; None where there is none that could be used.

    Without an offset it is UTC. A year before 1970 or from 9999 on is a serialiser's word for
    "no value", and one that cannot be kept or read is no time either: it spoils nothing else.
    Source: reference 1.4 and 18.2, trap 62: a fraction of 0 to 7 digits.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if EARLIEST_YEAR <= found.year <= LATEST_YEAR else None
