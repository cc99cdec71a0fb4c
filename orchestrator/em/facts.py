"""What a server says of itself: its versions, who is logged on, its backup servers.

Source: reference 2.1, 2.5 and 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.em.elements import Node, Reading, XmlReading
from orchestrator.em.links import GUID
from orchestrator.errors import MalformedResponse
from orchestrator.model import BackupServerName, SessionId

LONGEST = 300
"""Characters that are kept of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRoot:
    """What the service tells without a logon.

    `certificate_expires` is None without TLS, `clock_offset_s` (theirs minus ours) without a
    Date header.
    """

    versions: tuple[str, ...]
    certificate_sha256: str | None = None
    certificate_expires: datetime | None = None
    clock_offset_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """One logon session that is open on the server, whoever's it is."""

    id: SessionId
    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupServer:
    """One backup server as only some roles may list it."""

    name: BackupServerName
    version: str | None = None


def versions() -> Reading[tuple[str, ...]]:
    """Read the API versions of a service root."""
    return XmlReading(_versions)


def open_sessions() -> Reading[Sequence[OpenSession]]:
    """Read LogonSessions."""
    return XmlReading(_open_sessions)


def backup_servers() -> Reading[Sequence[BackupServer]]:
    """Read BackupServers, or the one BackupServer of a single answer."""
    return XmlReading(_backup_servers)


def _versions(root: Node) -> tuple[str, ...]:
    if root.tag != "EnterpriseManager":
        raise MalformedResponse(f"the service root is a {root.tag[:80]}")
    found = root.child("SupportedVersions")
    named = found.children if found is not None else []
    return tuple(
        node.attributes.get("Name", "")[:LONGEST]
        for node in named
        if node.tag == "SupportedVersion"
    )


def _open_sessions(root: Node) -> Sequence[OpenSession]:
    if root.tag != "LogonSessions":
        raise MalformedResponse(f"the answer is a {root.tag[:80]}, not LogonSessions")
    return tuple(_open_session(node) for node in root.children if node.tag == "LogonSession")


def _open_session(node: Node) -> OpenSession:
    session = node.value("SessionId") or ""
    if not GUID.fullmatch(session):
        raise MalformedResponse("a logon session without a GUID")
    return OpenSession(id=SessionId(session.lower()), user=(node.value("UserName") or "")[:LONGEST])


def _backup_servers(root: Node) -> Sequence[BackupServer]:
    if root.tag == "BackupServer":
        return (_backup_server(root),)
    if root.tag != "BackupServers":
        raise MalformedResponse(f"the answer is a {root.tag[:80]}, not BackupServers")
    return tuple(_backup_server(node) for node in root.children if node.tag == "BackupServer")


def _backup_server(node: Node) -> BackupServer:
    name = node.attributes.get("Name", "")
    if not name:
        raise MalformedResponse("a backup server without a name")
    return BackupServer(
        name=BackupServerName(name[:LONGEST]), version=(node.value("Version") or None)
    )
