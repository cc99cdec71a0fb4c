"""One exchange with a simulated server: the call taken apart, the reply, the refusal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from orchestrator.simulator.writing import Writer


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str) -> None:
        """Status and the text of the Error."""
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Call:
    """One request, taken apart."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes
    writer: Writer


@dataclass(slots=True)
class Reply:
    """One answer before it is encoded."""

    status: int
    xml: str | None = None
    raw: bytes | None = None
    headers: dict[str, str] | None = None


def os_kind_of(call: Call) -> str:
    """Return the OsKind of a mount body; an empty body means Windows.

    Raises:
        Refusal: the root, its namespace or the value is wrong.
    """
    if not call.body:
        return "Windows"
    if call.body.lstrip().startswith(b"{"):
        kind = _os_kind_in_json(call.body)
    else:
        kind = _os_kind_in_xml(call.body)
    if kind not in {"Windows", "Linux"}:
        raise Refusal(400, "The value of OsKind is not valid.")
    return kind


def _os_kind_in_json(body: bytes) -> str:
    try:
        value = json.loads(body)
    except ValueError as exc:
        raise Refusal(400, "Node [root] does not exist.") from exc
    return str({key.lower(): kind for key, kind in value.items()}.get("oskind", "Windows"))


def _os_kind_in_xml(body: bytes) -> str:
    space = "{http://www.veeam.com/ent/v1.0}"
    try:
        root = SafeTree.fromstring(body, forbid_dtd=True)
    except (SafeTree.ParseError, DefusedXmlException) as exc:
        raise Refusal(400, "Node [root] does not exist.") from exc
    if root.tag != f"{space}StartMountSpec":
        raise Refusal(400, "Node [root] does not exist.")
    for child in root:
        if child.tag != f"{space}OsKind":
            raise Refusal(400, "The request body is not valid.")
        return (child.text or "").strip()
    return "Windows"
