"""The codecs: answers to model values, and requests' bodies.

What an answer means is written here once, and read from elements, whichever form they came in.
Elements and attributes that are absent are null; order and white space mean nothing.
Source: reference 1.4, 3, 5, 6.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import Any, ClassVar, Generic, TypeVar

from msgspec import Struct

from orchestrator.core.activity import Activity
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
from orchestrator.em.elements import NAMESPACE, Element, Reading, XmlReading, cost_of
from orchestrator.em.families import Family
from orchestrator.em.links import GUID, MOUNT_PATH, mount_href, rerooted
from orchestrator.em.moments import called, moment
from orchestrator.em.session_rows import activity

MAX_DOWNLOADS = 4
"""Staged files of one task that are kept: a task stages one."""
ROW_COST = 600
"""Bytes of memory that the value of a row takes beside its texts."""
SHORT_LIST = 256
"""Bytes below which a list of mounts is most likely an empty one."""
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


class Codec(ABC):
    """One form of answers and requests' bodies."""

    media_type: ClassVar[str]

    @abstractmethod
    def mount_spec(self, os_kind: OsKind) -> bytes:
        """Return StartMountSpec with an explicit OsKind: the server's default is Windows."""

    @abstractmethod
    def staging_spec(self) -> bytes:
        """Return the FileRestoreSpec that stages a file for download."""

    @abstractmethod
    def original_location_spec(self, *, overwrite: bool) -> bytes:
        """Return the FileRestoreSpec that writes into the guest, with its job's credentials."""

    @abstractmethod
    def reading(self, finish: Callable[[Element], T]) -> Reading[T]:
        """Read an answer as a whole; `finish` makes its value of the root."""

    @abstractmethod
    def row_reading(
        self, tag: str, finish: Callable[[Element], T], keep: Callable[[Element], int]
    ) -> Reading[T]:
        """Read a list; each row called `tag` goes to `keep`, which returns its bytes."""

    def logon(self) -> Reading[LogonAnswer]:
        """Read a LogonSession."""
        return self.reading(_logon)

    def task(self) -> Reading[Task]:
        """Read one Task; one documented example wraps it in Tasks."""
        return self.reading(_one_task)

    def tasks(self) -> Reading[Page[Task]]:
        """Read Tasks or a QueryResult, row by row."""
        return self._rows("Task", _task, {"Tasks", "QueryResult"})

    def points(self, family: Family) -> Reading[Page[RestorePoint]]:
        """Read restore points, row by row."""
        roots = {"QueryResult", family.entity, f"{family.entity}s"}
        return self._rows(family.entity, lambda node: _point(node, family), roots)

    def mounts(self) -> Reading[Sequence[Mount]]:
        """Read one mount point or a list of them, whatever the family."""
        return _MountsReading(self)

    def entries(self) -> Reading[Page[FileSystemEntry]]:
        """Read FileSystemEntries, or the FileSystemEntry of one file or directory."""
        return self.reading(_entries)

    def anything(self) -> Reading[None]:
        """Read an answer whose content does not matter, as long as it is the service's own."""
        return self.reading(lambda _root: None)

    def versions(self) -> Reading[tuple[str, ...]]:
        """Read the API versions of a service root."""
        return self.reading(facts.versions)

    def own_session(self, guid: str) -> Reading[None]:
        """Read the LogonSession `guid`, and refuse everything else."""
        return self.reading(facts.own_session(guid))

    def open_sessions(self) -> Reading[Sequence[facts.OpenSession]]:
        """Read LogonSessions."""
        return self.reading(facts.open_sessions)

    def activities(self, entity: str) -> Reading[Page[Activity]]:
        """Read sessions of one kind, RestoreSession or ReplicaTaskSession, row by row."""
        return self._rows(entity, activity, {"QueryResult", f"{entity}s"})

    def backup_servers(self) -> Reading[Sequence[facts.BackupServer]]:
        """Read the list of backup servers, or the one BackupServer of a single answer."""
        return self.reading(facts.backup_servers)

    def _rows(self, tag: str, make: Callable[[Element], T], roots: set[str]) -> Reading[Page[T]]:
        """Read a list row by row. One that cannot be read is set aside and named; the rest counts.

        Source: reference 18.2, trap 60.
        """
        found: list[T] = []
        aside: list[str] = []

        def finish(root: Element) -> Page[T]:
            if root.tag not in roots:
                raise MalformedResponse(f"the answer is a {root.tag[:80]}, not a list of {tag}")
            if root.tag == tag:
                found.append(make(root))
            return Page(rows=found, has_next=_has_next(root), set_aside=aside)

        def keep(node: Element) -> int:
            try:
                found.append(make(node))
            except MalformedResponse as exc:
                aside.append(str(exc))
                return ROW_COST + cost_of(aside[-1])
            return _cost(found[-1])

        return self.row_reading(tag, finish, keep)


class _MountsReading:
    """Reads mounts; implements `Reading`.

    A list without any confirms an unmount, and says so in the same bytes each time: those are
    read once.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._reading: Reading[Sequence[Mount]] | None = None

    def feed(self, chunk: bytes) -> None:
        """Take some bytes. Raises MalformedResponse."""
        if self._reading is None:
            self._reading = self._codec.reading(_mounts)
        self._reading.feed(chunk)

    def close(self) -> Sequence[Mount]:
        """Return the mounts. Raises MalformedResponse."""
        return (self._reading or self._codec.reading(_mounts)).close()

    def whole(self, body: bytes) -> Sequence[Mount]:
        """Take the whole body and return its mounts. Raises MalformedResponse."""
        if len(body) < SHORT_LIST:
            return _short_list(self._codec, body)
        return self._codec.reading(_mounts).whole(body)


@lru_cache(maxsize=64)  # of all servers; what raises is not remembered
def _short_list(codec: Codec, body: bytes) -> Sequence[Mount]:
    return codec.reading(_mounts).whole(body)


class XmlCodec(Codec):
    """The XML form, stable from version 9 to 13."""

    media_type = "application/xml"

    def mount_spec(self, os_kind: OsKind) -> bytes:
        return (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<StartMountSpec xmlns="{NAMESPACE}"><OsKind>{os_kind.value}</OsKind>'
            "</StartMountSpec>"
        ).encode()

    def staging_spec(self) -> bytes:
        return _restore_spec("<ForDirectDownload />")

    def original_location_spec(self, *, overwrite: bool) -> bytes:
        kept = "true" if overwrite else "false"
        return _restore_spec(f'<ToOriginalLocation Overwrite="{kept}" />')

    def reading(self, finish: Callable[[Element], T]) -> Reading[T]:
        return XmlReading(finish)

    def row_reading(
        self, tag: str, finish: Callable[[Element], T], keep: Callable[[Element], int]
    ) -> Reading[T]:
        return XmlReading(finish, tag, keep)


def _restore_spec(inner: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<FileRestoreSpec xmlns="{NAMESPACE}">{inner}</FileRestoreSpec>'
    ).encode()


def _cost(row: Any) -> int:
    """Return about how many bytes the value of a row takes, its texts above all."""
    cost = ROW_COST
    for name in row.__slots__:
        value = getattr(row, name)
        if isinstance(value, str):
            cost += cost_of(value)
    return cost


def _has_next(root: Element) -> bool:
    paging = root.child("PagingInfo")
    if paging is None:
        return False
    if any(link.get("Rel") == "Next" for link in paging.links):
        return True
    number = _whole(paging.attribute("PageNum"))
    count = _whole(paging.attribute("PagesCount"))
    return number is not None and count is not None and number < count


def _whole(text: str | None) -> int | None:
    """Return a whole number of fewer than 20 ASCII digits; None for anything else."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,19}", text) else None


def _logon(root: Element) -> LogonAnswer:
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


def _one_task(root: Element) -> Task:
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


def _task(node: Element) -> Task:
    """Make a Task. Only State, TaskId and Result decide; links are hints.

    Source: reference 5.1; a missing Result is "no answer yet" even where State is Finished.
    """
    name = node.value("TaskId")
    if name is None or not _NAME.fullmatch(name):
        raise MalformedResponse(f"a task without a TaskId that could be asked for{called(name)}")
    result = node.child("Result")
    success: bool | None = None  # also where a Result says neither: an unknown word is no failure
    message: str | None = None
    has_result = result is not None and not result.is_nil
    if result is not None and has_result:
        success = _SUCCESS.get(result.attribute("Success").strip().lower())
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


def _task_links(links: Sequence[Mapping[str, str]]) -> tuple[MountLink | None, tuple[Href, ...]]:
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


def _mount_link(link: Mapping[str, str]) -> MountLink | None:
    href = mount_href(link.get("Href", ""))
    if href is None:
        return None
    point, _, number = link.get("Name", "").rpartition("@")
    return MountLink(
        href=href,
        point=RestorePointId(point.lower()) if GUID.fullmatch(point) else None,
        number=number if _NUMBER.fullmatch(number) else None,
    )


def _point(node: Element, family: Family) -> RestorePoint:
    """Make a RestorePoint from an entity; the machine's name falls back to the point's name.

    What many points have in common is in memory once.
    Source: reference 3.1; Name is `<vm>@<time>`, split at the last `@`.
    """
    uid = node.attribute("UID")
    point = uid.rpartition(":")[2].lower()
    created = moment(node.value("CreationTimeUTC"))
    name = node.attribute("Name")
    if not GUID.fullmatch(point):
        raise MalformedResponse(f"a restore point without the GUID of a UID{called(name or uid)}")
    if created is None:
        raise MalformedResponse(
            f"a restore point without a usable CreationTimeUTC{called(name or point)}"
        )
    backup_server, job = _parents(node.links)
    return RestorePoint(
        id=RestorePointId(point),
        name=name,
        vm=intern(
            node.attribute("VmDisplayName") or node.value("VmName") or name.rpartition("@")[0]
        ),
        created_at=created,
        source=family.source,
        backup_server=BackupServerName(backup_server[0]),
        backup_server_id=backup_server[1],
        job=job[0],
        job_id=job[1],
    )


def _parents(links: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return name and id of the backup server and of the job, from the Up links."""
    backup_server = job = ("", "")
    for link in links:
        if link.get("Rel") != "Up":
            continue
        href = link.get("Href", "").rpartition("/")[2]
        named = (intern(link.get("Name", "")), intern(href.lower()))
        kind = link.get("Type", "")
        if kind.startswith("BackupServer"):
            backup_server = named
        elif kind.startswith(("Replica", "Backup")) and not kind.startswith("BackupFile"):
            job = named
    return backup_server, job


def _mounts(root: Element) -> Sequence[Mount]:
    if root.tag.endswith("PointMount"):
        return (_mount(root),)
    if root.tag.endswith("PointMounts"):
        return tuple(_mount(node) for node in root.children if node.tag.endswith("PointMount"))
    raise MalformedResponse(f"the answer is a {root.tag[:80]}, not a mount point")


def _mount(node: Element) -> Mount:
    href = rerooted(node.attribute("Href"))
    if href is None or not MOUNT_PATH.match(href):
        raise MalformedResponse("a mount point whose Href is none")
    roots = node.child("FSRoots")
    return Mount(
        href=href,
        roots=tuple(_entry(root) for root in roots.children) if roots is not None else (),
    )


def _entries(root: Element) -> Page[FileSystemEntry]:
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


def _entry(node: Element) -> FileSystemEntry:
    """Make an entry; without a Href that can be used it has none, and must be addressed by name."""
    return FileSystemEntry(
        path=node.exactly("Path"),
        name=node.exactly("Name"),
        href=rerooted(node.attribute("Href")) or Href(""),
        is_directory=node.tag == "DirectoryEntry",
        size=_whole(node.value("Size")),
        owner=node.value("Owner"),
        modified_at=moment(node.value("ModifiedDateUTC")),
    )
