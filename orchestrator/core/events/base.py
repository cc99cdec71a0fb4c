"""What every event has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from orchestrator.core.model import MountKey, ServerName, SessionId, session_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, `at` seconds after the run began."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEvent(Event):
    """Something that happened to the mount request `key`."""

    key: MountKey


Session = Annotated[SessionId, AfterValidator(session_id)]
"""A logon session. Old journals hold its GUID, which is a secret: it is hashed when read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent(Event):
    """Something that happened to the Enterprise Manager `server`."""

    server: ServerName


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent(ServerEvent):
    """Something that happened in one logon session of the server."""

    session: Session
