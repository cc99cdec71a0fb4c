"""A guest file system that a scenario writes down: names, bytes, owners, times, and damage.

Only what lies below a mount point is answered here; everything else is the simulator's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from orchestrator.simulator.answers import answer
from orchestrator.simulator.exchange import Call, Refusal, Reply
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.manager import SimSession, SimulatedManager
from orchestrator.simulator.server import HttpFace

STAGING_S = 2.0


@dataclass(frozen=True, slots=True)
class File:
    """A file as the server shows it. `size` is what it claims, the length of `content` if None.

    `age` are the seconds between its modification and the restore point; None: no time is named.
    `staging`: why it cannot be staged, or what staging it does: "fails", "vanishes", "nameless".
    """

    content: bytes = b""
    _: KW_ONLY
    size: int | None = None
    owner: str | None = None
    age: float | None = 3600.0
    staging: str = ""


Tree = Mapping[str, File]
"""Files by their whole path, volume first; directories are implied."""


@dataclass(slots=True)
class Guests:
    """What the mounted guests of a scenario contain, and how often they were asked."""

    tree: Callable[[str], Tree]
    """The files of the guest of a restore point, by its id."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """Status that the server answers for paths, in lower case."""
    directories: frozenset[str] = frozenset()
    """Directories beside those that a file implies."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests below the mounts of each restore point."""
    downloads: int = 0

    def face(self, manager: SimulatedManager, faults: FaultScript | None = None) -> HttpFace:
        """Return a REST face that shows these guests."""
        return _GuestFace(self, manager, faults)


class _GuestFace(HttpFace):
    def __init__(
        self, guests: Guests, manager: SimulatedManager, faults: FaultScript | None
    ) -> None:
        super().__init__(manager, faults)
        self._guests = guests

    async def _dispatch(self, call: Call) -> Reply:
        mount, _, path = _taken_apart(call.path)
        session = self._session_of(call.headers)
        if not path or session is None:
            return await super()._dispatch(call)
        self._count(call)
        point = mount.split("/")[3].lower()
        self._guests.asked[point] += 1
        self._guests.downloads += call.query.get("action") == "download"
        status = self._guests.refusals.get(path.lower())
        if status is not None:
            raise Refusal(status, "The path cannot be read.")
        await answer(self.manager, _of_mount(call, mount), session, mount.split("/")[2:])
        created = self.manager.inventory.by_id[point].created_at
        windows = self.manager.inventory.by_id[point].machine.os == "Windows"
        shown = _Shown(self._guests, self._guests.tree(point), created, mount, call, windows)
        if call.method == "POST":
            return self._staged(call, session, shown, path)
        return shown.answered(path)

    def _staged(self, call: Call, session: SimSession, shown: _Shown, path: str) -> Reply:
        file = shown.file(path)
        task = self.manager.new_task(session, "FileRestoreFromMountPoint")
        loop = asyncio.get_running_loop()

        def finish() -> None:
            task.state, task.success, task.message = "Finished", True, "Ok"
            if file.staging == "fails":
                task.success, task.message = False, "The file is locked."
            elif file.staging == "vanishes":
                session.tasks.pop(task.id, None)
            elif file.staging != "nameless":
                address = shown.mount.partition("/api/")[2]
                task.downloads = [f"{address}/{quote(path.lower(), safe='/:$')}?action=download"]

        loop.call_later(STAGING_S, finish)
        return Reply(202, call.writer.task(task, whole=True))


def _taken_apart(path: str) -> tuple[str, str, str]:
    """Return the mount's own path and the guest path below it, decoded."""
    above, found, below = path.partition("/mounts/")
    number, _, guest = below.partition("/")
    return (f"{above}{found}{number}", number, unquote(guest).strip("/")) if found else ("", "", "")


def _of_mount(call: Call, mount: str) -> Call:
    """Return the call that only asks whether the mount is there."""
    return Call("GET", mount, {}, call.headers, b"", call.writer)


@dataclass(slots=True)
class _Shown:
    """One guest, as one call sees it."""

    guests: Guests
    tree: Tree
    created: datetime
    mount: str
    call: Call
    windows: bool

    def file(self, path: str) -> File:
        found = self._found(path)
        if found is None or found not in self.tree:
            raise Refusal(404, "The path is not found.")
        return self.tree[found]

    def answered(self, path: str) -> Reply:
        found = self._found(path)
        if found is None:
            raise Refusal(404, "The path is not found.")
        if found in self.tree:
            if self.call.query.get("action") == "download":
                return Reply(200, raw=self.tree[found].content)
            return self._document("FileSystemEntry", self._entry(found))
        return self._listed(found)

    def _listed(self, directory: str) -> Reply:
        children = sorted(name for name in self._names() if name.rpartition("/")[0] == directory)
        page, size = int(self.call.query.get("page", 1)), int(self.call.query.get("pagesize", 100))
        pages = max(1, -(-len(children) // size))
        shown = children[(page - 1) * size : page * size]
        inner = ""
        for tag, is_file in (("Files", True), ("Directories", False)):
            rows = "".join(self._entry(name) for name in shown if (name in self.tree) is is_file)
            inner += f"<{tag}>{rows}</{tag}>" if rows else ""
        inner += f'<PagingInfo PageNum="{page}" PageSize="{size}" PagesCount="{pages}"/>'
        return self._document("FileSystemEntries", inner)

    def _names(self) -> set[str]:
        names = set(self.tree) | set(self.guests.directories)
        for name in tuple(names):
            while "/" in name:
                name = name.rpartition("/")[0]
                names.add(name)
        return names

    def _found(self, path: str) -> str | None:
        same = str.lower if self.windows or self.call.query.get("action") == "download" else str
        return next((name for name in self._names() if same(name) == same(path)), None)

    def _document(self, root: str, inner: str) -> Reply:
        return Reply(200, f'<{root} xmlns="http://www.veeam.com/ent/v1.0">{inner}</{root}>')

    def _entry(self, path: str) -> str:
        href = escape(f"https://elsewhere.example{self.mount}/{quote(path, safe='/:$')}")
        inner = f"<Path>{escape(path)}</Path><Name>{escape(path.rpartition('/')[2])}</Name>"
        file = self.tree.get(path)
        if file is None:
            return f'<DirectoryEntry Href="{href}">{inner}</DirectoryEntry>'
        size = len(file.content) if file.size is None else file.size
        inner += f"<Size>{size}</Size>"
        if file.owner is not None:
            inner += f"<Owner>{escape(file.owner)}</Owner>"
        if file.age is not None:
            modified = self.created - timedelta(seconds=file.age)
            inner += f"<ModifiedDateUTC>{modified:%Y-%m-%dT%H:%M:%S}Z</ModifiedDateUTC>"
        return f'<FileEntry Href="{href}">{inner}</FileEntry>'
