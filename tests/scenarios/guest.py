"""A guest whose directory `E:/Out` holds what a test puts there, and plans that ask for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

import pytest
from msgspec.structs import replace

from orchestrator.app import wiring
from orchestrator.core.events import CheckMade
from orchestrator.core.model import MountRequest, OsKind, ServerName
from orchestrator.core.proof import CheckOutcome, Download
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.mount import find
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import Listing
from orchestrator.plan.choose.targets import PlanSelection
from orchestrator.simulator.exchange import Call, Refusal, Reply
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.manager import SimSession, SimTask, SimulatedManager
from orchestrator.simulator.server import HttpFace

_GUEST = re.compile(r"^/api/(\w+/([0-9a-f-]{36})/mounts/\d+)/(.+)$")
OUT = "E:/Out"


@dataclass(slots=True)
class Content:
    """What is in the directory, and how the server behaves about it. Times in seconds."""

    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, int] = field(default_factory=dict)
    """Sizes that the listing claims, where they are not the true ones."""
    paths: dict[str, str] = field(default_factory=dict)
    """Paths that the listing claims, where they are not the true ones."""
    stage_s: float = 1.0
    stage_fails: str | None = None
    vanishing: int = 0
    """How many staging tasks the server forgets."""
    nameless: bool = False
    """The finished task names no address."""
    write_s: float = 5.0
    write_fails: str | None = None
    staged: list[str] = field(default_factory=list)
    written: list[tuple[str, str, bool]] = field(default_factory=list)
    """Every order to write into the guest that took effect: point, name, overwrite."""

    def face(self, manager: SimulatedManager, faults: FaultScript | None) -> HttpFace:
        """Return a REST face that shows this content in every guest."""
        return _GuestFace(manager, faults, self)


class _GuestFace(HttpFace):
    def __init__(
        self, manager: SimulatedManager, faults: FaultScript | None, content: Content
    ) -> None:
        super().__init__(manager, faults)
        self._content = content

    async def _dispatch(self, call: Call) -> Reply:
        found = _GUEST.match(call.path)
        session = self._session_of(call.headers)
        if found is None or session is None:
            return await super()._dispatch(call)
        self._count(call)
        address, point, path = found[1], found[2], found[3]
        action = call.query.get("action", "").lower()
        if path.startswith("staged/"):
            return Reply(200, raw=self._bytes(path.rpartition("/")[2]))
        if path.lower() == quote(OUT, safe="/:").lower() and call.method == "GET":
            return self._listing(call, address) if action else self._directory(call, address)
        name = self._name(path)
        if call.method == "POST" and action == "restore":
            return self._restore(call, session, address, point, name)
        inner = self._entry(call, address, name, path)
        return Reply(200, call.writer.document("FileSystemEntry", [], inner))

    def _name(self, path: str) -> str:
        """Return the file that an address means: by its name, or by its place."""
        last = path.rpartition("/")[2]
        names = list(self._content.files)
        if path.startswith(OUT) and last[:2] == "n-":
            return names[int(last[2:])]
        asked = unquote(path)
        for alike in (str, str.lower):  # as Windows finds it, where no name is exactly the one
            for name in names:
                if alike(asked) == alike(f"{OUT}/{name}"):
                    return name
        raise Refusal(404, "The path is not found.")

    def _bytes(self, last: str) -> bytes:
        return list(self._content.files.values())[int(last)]

    def _directory(self, call: Call, address: str) -> Reply:
        href = f"{call.writer.base}/{address}/{OUT}"
        inner = f"<Path>{OUT}</Path><Name>Out</Name>"
        entry = call.writer.element("DirectoryEntry", [("Href", href)], inner)
        return Reply(200, call.writer.document("FileSystemEntry", [], entry))

    def _listing(self, call: Call, address: str) -> Reply:
        rows = "".join(
            self._entry(call, address, name, f"{OUT}/n-{number}")
            for number, name in enumerate(self._content.files)
        )
        below = f"{call.writer.base}/{address}/{OUT}/Below"
        inner = f"<Path>{OUT}/Below</Path><Name>Below</Name>"
        directory = call.writer.element("DirectoryEntry", [("Href", below)], inner)
        groups = f"<Files>{rows}</Files><Directories>{directory}</Directories>"
        return Reply(200, call.writer.document("FileSystemEntries", [], groups))

    def _entry(self, call: Call, address: str, name: str, path: str) -> str:
        size = self._content.listed.get(name, len(self._content.files[name]))
        shown = self._content.paths.get(name, f"{OUT}/{name}")
        inner = (
            f"<Path>{_text(shown)}</Path><Name>{_text(name)}</Name><Size>{size}</Size>"
            "<ModifiedDateUTC>2026-11-22T00:00:00Z</ModifiedDateUTC>"
        )
        href = f"{call.writer.base}/{address}/{path}"
        return call.writer.element("FileEntry", [("Href", href)], inner)

    def _restore(
        self, call: Call, session: SimSession, address: str, point: str, name: str
    ) -> Reply:
        content = self._content
        task = self.manager.new_task(session, "FileRestoreFromMountPoint")
        into_guest = b"ToOriginalLocation" in call.body
        if into_guest:
            overwrite = b'Overwrite="true"' in call.body
            content.written.append((point, name, overwrite))
        else:
            content.staged.append(name)
            if content.vanishing:
                content.vanishing -= 1
                del session.tasks[task.id]
        place = list(content.files).index(name)
        asyncio.get_running_loop().call_later(
            content.write_s if into_guest else content.stage_s,
            self._finish,
            task,
            content.write_fails if into_guest else content.stage_fails,
            None if into_guest or content.nameless else f"{address}/staged/{place}?action=download",
        )
        return Reply(202, call.writer.task(task, whole=True))

    def _finish(self, task: SimTask, failure: str | None, download: str | None) -> None:
        task.state, task.success, task.message = "Finished", failure is None, failure or "Ok"
        task.finished_at = self.manager.clock()
        if failure is None:
            task.downloads = [download] if download is not None else []


def _text(name: str) -> str:
    """Return a name as XML can carry it: what must be is a character reference."""
    return escape(name).replace("\n", "&#10;").replace("\t", "&#9;")


def fits_xml(name: str) -> bool:
    """Tell whether a name can stand in an XML document at all."""
    return bool(name) and all(
        char in "\t\n" or (char >= " " and not "\ud800" <= char <= "\udfff") for char in name
    )


def asking(
    monkeypatch: pytest.MonkeyPatch,
    downloads: Sequence[Download] | Callable[[MountRequest], Sequence[Download]],
    checks: Mapping[str, bool] | None = None,
) -> None:
    """Let every target of the plan ask for these downloads; `checks` pass or not as they say."""
    made = dict(checks or {})

    class Asking(PlanSelection):
        def expand(self, found: Mapping[ServerName, Listing]) -> Expansion:
            done = super().expand(found)
            return replace(done, requests=tuple(map(_asking, done.requests)))

    def _asking(request: MountRequest) -> MountRequest:
        wanted = downloads(request) if callable(downloads) else downloads
        return replace(
            request, downloads=tuple(wanted), checks=tuple(made), os_kind=OsKind(request.os_kind)
        )

    async def examined(guest: Guest) -> None:
        attempt = guest.attempt
        said = {check.name for check in attempt.record.attempts[-1].checks}
        for name in made.keys() - said:
            attempt.ledger.record(
                CheckMade(
                    at=attempt.now,
                    key=attempt.key,
                    outcome=CheckOutcome(
                        name=name, path="C:", expected="good", observed="?", passed=made[name]
                    ),
                )
            )

    monkeypatch.setattr(wiring, "PlanSelection", Asking)
    monkeypatch.setattr(find, "examine", examined)
