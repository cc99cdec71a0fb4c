"""`servers.NAME.api.format`: the form that a server is spoken to in."""

from __future__ import annotations

from enum import StrEnum


class ApiFormat(StrEnum):
    """What a server's answers and our requests' bodies are written in."""

    AUTO = "auto"
    """XML, unless the server answers in JSON all the same."""
    XML = "xml"
    JSON = "json"
