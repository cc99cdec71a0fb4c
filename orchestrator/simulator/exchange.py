"""One exchange with a simulated server: the call taken apart, the reply, the refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import defusedxml.ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

from orchestrator.simulator.truth import MountFate
from orchestrator.simulator.writing import Writer

SPACE = "{http://www.veeam.com/ent/v1.0}"
NO_ROOT = "Node [root] does not exist."
NO_NODE = "Object reference not set to an instance of an object."
"""Observed texts: a body that is not understood, and one that lacks a required node."""
INVALID = "The request body is not valid."

POINT = re.compile(r"points/[^/]+/?$", re.IGNORECASE)
"""How the path of a restore point ends."""


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
    late_s: float = 0.0
    """Seconds since it arrived."""
    unforeseen: bool = False
    """It was carried out once already, or the answer will be a refusal by the service."""

    @property
    def wants_entity(self) -> bool:
        """True if entities are asked for in place of references."""
        return self.query.get("format", "").lower() == "entity"


@lru_cache(maxsize=4096)
def kind_of(path: str) -> str:
    """Return what a path addresses, without its ids."""
    kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "{id}", path, flags=re.IGNORECASE)
    kind = re.sub(r"task-\d+", "{task}", kind)
    return re.sub(r"/mounts/\d+.*", "/mounts/{n}", kind)


@dataclass(slots=True)
class Reply:
    """One answer before it is encoded."""

    status: int
    xml: str | None = None
    raw: bytes | None = None
    headers: dict[str, str] | None = None
    stream: Stream | None = None


@dataclass(slots=True)
class Stream:
    """A body that is sent piece by piece; `fate` counts what has been sent."""

    pieces: Iterator[bytes]
    size: int
    fate: MountFate


@dataclass(frozen=True, slots=True)
class RestoreSpec:
    """What a FileRestoreSpec asks for."""

    into_guest: bool
    overwrite: bool = False
    credentials: bool = False


def os_kind_of(call: Call) -> str:
    """Return the OsKind of a mount body; an empty body means Windows.

    Raises:
        Refusal: the root, its namespace or the value is wrong.
    """
    if not call.body:
        return "Windows"
    if call.body.lstrip().startswith(b"{"):
        kind = str(_json(call.body).get("oskind", "Windows"))
    else:
        kind = _os_kind_in_xml(call.body)
    if kind not in {"Windows", "Linux"}:
        raise Refusal(400, "The value of OsKind is not valid.")
    return kind


def _json(body: bytes) -> dict[str, Any]:
    """Return a JSON body by its names in lower case."""
    try:
        return {key.lower(): value for key, value in json.loads(body).items()}
    except ValueError as exc:
        raise Refusal(400, NO_ROOT) from exc


def _os_kind_in_xml(body: bytes) -> str:
    for child in _root(body, "StartMountSpec"):
        if child.tag != f"{SPACE}OsKind":
            raise Refusal(400, INVALID)
        return (child.text or "").strip()
    return "Windows"


def _root(body: bytes, tag: str) -> Any:
    try:
        root = SafeTree.fromstring(body, forbid_dtd=True)
    except (SafeTree.ParseError, DefusedXmlException) as exc:
        raise Refusal(400, NO_ROOT) from exc
    if root.tag != f"{SPACE}{tag}":
        raise Refusal(400, NO_ROOT)
    return root


def restore_spec_of(call: Call) -> RestoreSpec:
    """Return what a FileRestoreSpec asks for. Source: reference 6.3.

    Raises:
        Refusal: root, namespace, choice, attribute or order is wrong, or there is no body.
    """
    if call.body.lstrip().startswith(b"{"):
        return _restore_spec_in_json(call.body)
    root = _root(call.body, "FileRestoreSpec")
    if not len(root):
        raise Refusal(500, NO_NODE)
    if len(root) > 1:
        raise Refusal(400, INVALID)
    (chosen,) = root
    if chosen.tag == f"{SPACE}ForDirectDownload":
        if len(chosen) or chosen.attrib:
            raise Refusal(400, INVALID)
        return RestoreSpec(into_guest=False)
    if chosen.tag != f"{SPACE}ToOriginalLocation" or set(chosen.attrib) - _ORIGINAL:
        raise Refusal(400, INVALID)
    overwrite = chosen.attrib.get("Overwrite", "false")
    if overwrite not in {"true", "false"}:
        raise Refusal(400, INVALID)
    return RestoreSpec(
        into_guest=True, overwrite=overwrite == "true", credentials=_credentials_in_xml(chosen)
    )


_ORIGINAL = {"Overwrite", "PermissionsOnly"}


def _credentials_in_xml(location: Any) -> bool:
    """Tell whether credentials are brought; their order matters."""
    if not len(location):
        return False
    credentials = location[0]
    names = [child.tag for child in credentials]
    if len(location) > 1 or credentials.tag != f"{SPACE}GuestCredentials":
        raise Refusal(400, INVALID)
    if names != [f"{SPACE}UserName", f"{SPACE}Password"]:
        raise Refusal(400, INVALID)
    return True


def _restore_spec_in_json(body: bytes) -> RestoreSpec:
    spec = {key: value for key, value in _json(body).items() if value is not None}
    if not spec:
        raise Refusal(500, NO_NODE)
    if set(spec) == {"fordirectdownload"}:
        return RestoreSpec(into_guest=False)
    if set(spec) != {"tooriginallocation"} or not isinstance(spec["tooriginallocation"], dict):
        raise Refusal(400, INVALID)
    inner = {key.lower(): value for key, value in spec["tooriginallocation"].items()}
    overwrite = inner.get("overwrite", False)
    credentials = inner.get("guestcredentials")
    if not isinstance(overwrite, bool) or not isinstance(credentials, dict | None):
        raise Refusal(400, INVALID)
    if credentials is not None and {key.lower() for key in credentials} != {"username", "password"}:
        raise Refusal(400, INVALID)
    return RestoreSpec(into_guest=True, overwrite=overwrite, credentials=credentials is not None)
