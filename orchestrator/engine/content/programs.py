"""The requests of a user's check program about the mounted guest: reading only.

    {"verb": "list", "path": "C:\\\\Data"}    → {"ok": true, "entries": [entry, ...]}
    {"verb": "stat", "path": "C:\\\\boot.ini"} → {"ok": true, "entry": entry}
    {"verb": "read", "path": "...", "max_bytes": 65536}
                                  → {"ok": true, "size": 12, "content": "<base64>"}
    anything else, or what fails  → {"ok": false, "error": "why"}

An entry has `name`, `path`, `directory`, and where the server names them `size` in bytes,
`owner` and `modified` (RFC 3339). Paths are written as in the plan.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

from msgspec import Struct

from orchestrator.checks.content import Content
from orchestrator.checks.outcomes import Unreadable
from orchestrator.core.model import FileSystemEntry
from orchestrator.core.proof import CONTENT_LIMIT
from orchestrator.core.text import printable
from orchestrator.engine.content.guest import Guest

PROTOCOL = 1
"""Version of the briefing and the verbs; it rises if either loses or changes anything."""

READ_LIMIT = 64 * 1024 * 1024
"""Bytes that one `read` may ask for."""


def briefing(guest: Guest, name: str) -> dict[str, object]:
    """Return the first line for a program: what it judges, and for which check set."""
    request = guest.attempt.request
    return {
        "protocol": PROTOCOL,
        "check": name,
        "target": request.key,
        "server": request.server,
        "vm": request.vm,
        "os": guest.attempt.os_kind.value.lower(),
        "point": {
            "id": request.point.id,
            "name": request.point.name,
            "created_at": request.point.created_at.isoformat(),
        },
        "roots": [root.path or root.name for root in guest.mount.roots],
    }


class Answers(Struct):
    """Answers the requests of one program from one guest."""

    guest: Guest
    undecided: str = ""
    """Why something could not be named on this mount, if the program asked for such a thing."""

    async def to(self, request: Mapping[str, object]) -> Mapping[str, object]:
        """Return the answer to one request; whatever is wrong with it is an answer too.

        Raises:
            SessionLost, ServerUnusable: nobody can say any more.
        """
        path = request.get("path")
        if not isinstance(path, str):
            return _refused("a request needs a 'path' that is a text")
        match request.get("verb"):
            case "list":
                return await self._list(path)
            case "stat":
                return await self._stat(path)
            case "read":
                return await self._read(path, request.get("max_bytes", CONTENT_LIMIT))
            case verb:
                return _refused(f"no such verb: {printable(str(verb), 40)} (list, stat, read)")

    async def _list(self, path: str) -> Mapping[str, object]:
        found = await self.guest.listing(path)
        if isinstance(found, Unreadable):
            return self._unread(found)
        return {"ok": True, "entries": [_entry(entry) for entry in found]}

    async def _stat(self, path: str) -> Mapping[str, object]:
        found = await self.guest.entry(path)
        if isinstance(found, Unreadable):
            return self._unread(found)
        return {"ok": True, "entry": _entry(found)}

    async def _read(self, path: str, most: object) -> Mapping[str, object]:
        if not isinstance(most, int) or not 0 < most <= READ_LIMIT:
            return _refused(f"'max_bytes' must be a number from 1 to {READ_LIMIT}")
        file = await self.guest.entry(path)
        if isinstance(file, Unreadable):
            return self._unread(file)
        if file.is_directory:
            return _refused("a directory, not a file")
        found = await self.guest.download(file, most, lambda: Content(keep=most))
        if isinstance(found, Unreadable):
            return self._unread(found)
        content = b64encode(found.begins(most)).decode("ascii")
        return {"ok": True, "size": found.size, "content": content}

    def _unread(self, found: Unreadable) -> Mapping[str, object]:
        if found.undecided:
            self.undecided = found.why
        return _refused(found.why)


def _refused(why: str) -> Mapping[str, object]:
    return {"ok": False, "error": why}


def _entry(entry: FileSystemEntry) -> dict[str, object]:
    shown = {
        "name": entry.name,
        "path": entry.path,
        "directory": entry.is_directory,
        "size": entry.size,
        "owner": entry.owner,
        "modified": entry.modified_at and entry.modified_at.isoformat(),
    }
    return {name: value for name, value in shown.items() if value is not None}
