"""The JSON form of the simulator's answers, made from its XML by rule.

Its shapes follow the samples; where a serialiser may write a thing in several ways, a knob says
which. Source: reference 1.5 and 17.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree as ET

from orchestrator.simulator.behaviour import Behaviour

POINTS = ("VmReplicaPoint", "VmRestorePoint", "AgentRestorePoint")
LISTS = {
    **{
        name: name
        for name in ("Tasks", "LogonSessions", "BackupServers", "Refs", "SupportedVersions")
    },
    **{f"{point}{ending}": f"{point}{ending}" for point in POINTS for ending in ("s", "Mounts")},
    "RestoreSessions": "RestoreSessions",
    "ReplicaTaskSessions": "ReplicaTaskSessions",
    "EntityReferences": "Refs",
    "FSRoots": "DirectoryEntries",
    "Directories": "DirectoryEntries",
    "Files": "FileEntries",
}
NUMBERS = {"Size", "PageNum", "PageSize", "PagesCount", "StatusCode"}
BOOLEANS = {"Success", "CredentialsNeeded", "ConfirmationNeeded"}
NULLS = {
    "Error": ("FirstChanceExceptionMessage", "StackTrace", "Status"),
    "QueryResult": ("Refs", "Entities", "Resources", "Links"),
    "EnterpriseManager": ("Href", "Type"),
    "DirectoryEntry": ("Links",),
    "FileEntry": ("Owner", "Actions"),
}
"""Members that are written as null where there is nothing. Source: reference 8 and the samples."""

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_FORBIDDEN = re.compile(r"&#(?:x([0-9a-fA-F]{1,4})|([0-9]{1,5}));")
_STAND_IN = 0xE000
"""Added to the number of a character that XML has no place for, until the text is JSON."""
_STANDING_IN = re.compile("[\ue000-\ue01f]")
_HTML = re.compile("[^\x00-\x7f]|[+&<>'`]")
"""What .NET's newer serialiser escapes although JSON need not. Source: [PLATFORM]."""


@dataclass(frozen=True, slots=True)
class _Form:
    """The knobs of `Behaviour` that change JSON."""

    camel_case: bool
    empty: str
    text_numbers: bool
    single_is_object: bool


def as_json(xml: str, behaviour: Behaviour) -> bytes:
    """Return the JSON form of a document of ours, in the way that the knobs say."""
    form = _Form(
        behaviour.camel_case_json,
        behaviour.json_empty_list,
        behaviour.json_text_numbers,
        behaviour.json_single_is_object,
    )
    document = ET.fromstring(_FORBIDDEN.sub(_stand_in, xml))  # noqa: S314 - our own
    value = _json_of(document, form, root=True)
    text = json.dumps(_camel(value) if form.camel_case else value, ensure_ascii=False)
    if behaviour.json_escapes:
        text = _HTML.sub(_escaped, text)
    return _STANDING_IN.sub(lambda found: f"\\u{ord(found[0]) - _STAND_IN:04x}", text).encode()


def _stand_in(found: re.Match[str]) -> str:
    code = int(found[1], 16) if found[1] else int(found[2])
    return chr(_STAND_IN + code) if code < 0x20 and code not in {9, 10, 13} else found[0]


def _escaped(found: re.Match[str]) -> str:
    if _STANDING_IN.match(found[0]):
        return found[0]
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[i]:02X}{units[i + 1]:02X}" for i in range(0, len(units), 2))


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _json_of(node: Any, form: _Form, *, root: bool = False) -> Any:
    name = _local(node.tag)
    children = list(node)
    if name in LISTS:
        rows = _rows([_json_of(child, form) for child in children], form)
        if rows or form.empty == "list":
            return {LISTS[name]: rows, **({} if root else _scalars(node, form))}
        return {LISTS[name]: None} if root or form.empty == "null" else None
    if name == "Links":
        return [dict(child.attrib) for child in children] or None
    if not children and not node.attrib:
        return _scalar(name, node.text or "", form)
    if node.attrib.get(_NIL) == "true":
        return None
    value: dict[str, Any] = dict.fromkeys(NULLS.get(name, ()))
    value.update({_local(child.tag): _json_of(child, form) for child in children})
    value.update(_scalars(node, form))
    if form.empty == "missing":
        value = {key: inner for key, inner in value.items() if inner is not None}
    return value


def _rows(rows: list[Any], form: _Form) -> Any:
    return rows[0] if form.single_is_object and len(rows) == 1 else rows


def _scalars(node: Any, form: _Form) -> dict[str, object]:
    return {key: _scalar(key, text, form) for key, text in node.attrib.items()}


def _scalar(name: str, text: str, form: _Form) -> object:
    if form.text_numbers:
        return text.title() if name in BOOLEANS else text
    if name in NUMBERS and text.isdigit():
        return int(text)
    return text == "true" if name in BOOLEANS and text in {"true", "false"} else text


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {_lowered(key): _camel(inner) for key, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list) else value


@lru_cache(maxsize=1024)
def _lowered(key: str) -> str:
    lead = re.match(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]+", key)
    end = lead.end() if lead else 0
    if end > 1 and end < len(key) and not key[:end].isupper():
        end -= 1
    return key[:end].lower() + key[end:] if end else key
