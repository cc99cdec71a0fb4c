"""Facts about a server: its versions, its logon sessions, its backup servers.

Source: reference 2.1, 2.5 and 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import BackupServerName, SessionId, session_id
from orchestrator.em.elements import Element
from orchestrator.em.links import GUID

LONGEST = 300
"""Characters that are kept of a name."""


class ServiceRoot(Struct, frozen=True, kw_only=True):
    """What the service shows without a logon.

    `clock_offset_s` (theirs minus ours) is None without a Date header.
    """

    versions: tuple[str, ...]
    clock_offset_s: float | None = None


class OpenSession(Struct, frozen=True, kw_only=True):
    """One open logon session on the server, of any account.

    One whose id cannot be read has none: it is there, and not ours.
    """

    id: SessionId
    user: str

    def is_of(self, account: str) -> bool:
        """Return whether it is a session of an account, as far as their names say so.

        Without regard to case; a domain counts only where both name one, however they write it.
        Source: reference 16, "Same account".
        """
        mine, mine_at = _account(account)
        theirs, theirs_at = _account(self.user)
        return mine == theirs and (not mine_at or not theirs_at or mine_at == theirs_at)


def _account(user: str) -> tuple[str, str]:
    """Return name and domain of an account, `DOMAIN\\name` or `name@domain.example`, folded."""
    domain, _, name = user.casefold().rpartition("\\")
    name, _, suffix = name.partition("@")
    return name, (domain or suffix).partition(".")[0]


class BackupServer(Struct, frozen=True, kw_only=True):
    """One backup server as only some roles may list it."""

    name: BackupServerName
    version: str | None = None


def own_session(guid: str) -> Callable[[Element], None]:
    """Return what takes the LogonSession `guid`; anything else is refused, and never quoted."""

    def check(root: Element) -> None:
        if root.tag != "LogonSession":
            raise MalformedResponse(f"the answer is a {root.tag[:80]}, not our LogonSession")
        if (root.value("SessionId") or "").lower() != guid.lower():
            raise MalformedResponse("the answer is another logon session than ours")

    return check


def versions(root: Element) -> tuple[str, ...]:
    """Return the API versions of a service root."""
    if root.tag != "EnterpriseManager":
        raise MalformedResponse(f"the service root is a {root.tag[:80]}")
    found = root.child("SupportedVersions")
    named = found.children if found is not None else []
    return tuple(
        node.attribute("Name")[:LONGEST] for node in named if node.tag == "SupportedVersion"
    )


def open_sessions(root: Element) -> Sequence[OpenSession]:
    """Return the logon sessions of LogonSessions."""
    if root.tag != "LogonSessions":
        raise MalformedResponse(f"the answer is a {root.tag[:80]}, not LogonSessions")
    return tuple(_open_session(node) for node in root.children if node.tag == "LogonSession")


def _open_session(node: Element) -> OpenSession:
    session = node.value("SessionId") or ""
    known = GUID.fullmatch(session) is not None
    return OpenSession(
        id=session_id(session if known else ""),
        user=(node.value("UserName") or "")[:LONGEST],
    )


def backup_servers(root: Element) -> Sequence[BackupServer]:
    """Return the backup servers of BackupServers, or the one BackupServer of a single answer."""
    if root.tag == "BackupServer":
        return (_backup_server(root),)
    if root.tag != "BackupServers":
        raise MalformedResponse(f"the answer is a {root.tag[:80]}, not BackupServers")
    return tuple(_backup_server(node) for node in root.children if node.tag == "BackupServer")


def _backup_server(node: Element) -> BackupServer:
    name = node.attribute("Name") or "(without a name)"
    return BackupServer(
        name=BackupServerName(name[:LONGEST]), version=(node.value("Version") or None)
    )
