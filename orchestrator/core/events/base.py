"""What every event has."""

from __future__ import annotations

from msgspec import Struct

from orchestrator.core.model import MountKey, ServerName, SessionId


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened, `at` seconds after the run began."""

    at: float


class TargetEvent(Event, frozen=True, kw_only=True):
    """Something that happened to the mount request `key`."""

    key: MountKey


class ServerEvent(Event, frozen=True, kw_only=True):
    """Something that happened to the Enterprise Manager `server`."""

    server: ServerName


class SessionEvent(ServerEvent, frozen=True, kw_only=True):
    """Something that happened in one logon session of the server."""

    session: SessionId
