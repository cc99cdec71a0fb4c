"""The JSON form of the simulator's answers, made from its XML by rule. Source: reference 1.5."""

from __future__ import annotations

import json
import re
from typing import Any

import defusedxml.ElementTree as SafeTree

POINTS = ("VmReplicaPoint", "VmRestorePoint", "AgentRestorePoint")
LISTS = {
    **{name: name for name in ("Tasks", "LogonSessions", "Refs", "SupportedVersions")},
    **{f"{point}{ending}": f"{point}{ending}" for point in POINTS for ending in ("s", "Mounts")},
    "RestoreSessions": "RestoreSessions",
    "ReplicaTaskSessions": "ReplicaTaskSessions",
    "EntityReferences": "Refs",
    "FSRoots": "DirectoryEntries",
    "Directories": "DirectoryEntries",
    "Files": "FileEntries",
}
NUMBERS = {"Size", "PageNum", "PageSize", "PagesCount", "StatusCode"}
ERROR_NULLS = {"FirstChanceExceptionMessage": None, "StackTrace": None, "Status": None}


def as_json(xml: str, *, camel_case: bool) -> bytes:
    """Return the JSON form of a document of ours, by the rules of the reference's 1.5."""
    root = SafeTree.fromstring(xml.encode())
    value = _json_of(root)
    if _local(root.tag) == "Error":
        value = {**ERROR_NULLS, **value}
    return json.dumps(_camel(value) if camel_case else value).encode()


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _json_of(node: Any) -> Any:
    name = _local(node.tag)
    children = list(node)
    if name in LISTS:
        return {LISTS[name]: [_json_of(child) for child in children]}
    if name == "Links":
        return [dict(child.attrib) for child in children]
    if not children and not node.attrib:
        return _scalar(name, node.text or "")
    value: dict[str, Any] = {_local(child.tag): _json_of(child) for child in children}
    value.update({key: _scalar(key, text) for key, text in node.attrib.items()})
    return value


def _scalar(name: str, text: str) -> object:
    if name in NUMBERS and text.isdigit():
        return int(text)
    return text == "true" if name == "Success" else text


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {_lowered(key): _camel(inner) for key, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list) else value


def _lowered(key: str) -> str:
    lead = re.match(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]+", key)
    end = lead.end() if lead else 0
    if end > 1 and end < len(key) and not key[:end].isupper():
        end -= 1
    return key[:end].lower() + key[end:] if end else key
