"""Objects in JSON, read as the elements that they are in XML.

Names count without case: versions up to 12 write `TaskId`, version 13 writes `taskId`. Null and
missing are one thing, a number in quotes is a number, and an object where a list belongs is a
list of one. A name that comes twice in one object, in whatever case, makes the answer unreadable,
and so do NaN and the infinities.
Source: reference 1.5 and 17, traps 31, 65 to 67.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from orchestrator.core.errors import ForeignAnswer, MalformedResponse
from orchestrator.em.families import FAMILIES

MAX_MEMBERS: Final = 256
"""Names in one object; a real one has 20."""
_ENTITIES = tuple(family.entity for family in FAMILIES.values())
ITEMS: Final[Mapping[str, str]] = {
    **{f"{name}s": name for name in ("Task", "LogonSession", "BackupServer", "SupportedVersion")},
    **{f"{name}{ending}s": f"{name}{ending}" for name in _ENTITIES for ending in ("", "Mount")},
    **dict.fromkeys(("FSRoots", "Directories", "DirectoryEntries"), "DirectoryEntry"),
    **dict.fromkeys(("Files", "FileEntries"), "FileEntry"),
    "RestoreSessions": "RestoreSession",
    "ReplicaTaskSessions": "ReplicaTaskSession",
    "Refs": "Ref",
    "Links": "Link",
}
"""What the rows of a list are, by its name."""
_INNER: Final = {
    "FSRoots": "DirectoryEntries",
    "Directories": "DirectoryEntries",
    "Files": "FileEntries",
}
"""The list within an object of that name; all others repeat their own."""
_KINDS: Final = frozenset({*ITEMS.values()} - {"Ref", "Link", "SupportedVersion"})
"""What an answer may be by its `Type`."""
_ROOTS: Final = (
    ("TaskId", "Task"),
    ("SessionId", "LogonSession"),
    ("SupportedVersions", "EnterpriseManager"),
    *((name, "FileSystemEntries") for name in ("Files", "Directories")),
    *((name, "FileSystemEntry") for name in ("FileEntry", "DirectoryEntry")),
    *((name, name) for name in ITEMS if name.endswith("s") and name not in {"Links", "Refs"}),
    *((name, "QueryResult") for name in ("Entities", "Resources", "PagingInfo")),
    ("Refs", "EntityReferences"),
    ("StatusCode", "Error"),
)
"""What an answer is by the first of these members that it has: in JSON the root has no name."""
KNOWN: Final = {
    name.lower(): name
    for name in (
        *("Href", "Rel", "Type", "Name", "UID", "Links", "TaskId", "State", "Operation", "Result"),
        *("Success", "Message", "SessionId", "UserName", "CreationTimeUTC", "VmDisplayName"),
        *("Algorithm", "PointType", "Actions", "PageSize", "CredentialsNeeded"),
        *(
            "ConfirmationNeeded",
            "VmName",
            "Path",
            "Size",
            "Owner",
            "ModifiedDateUTC",
            "Version",
            "PageNum",
            "PagesCount",
            "JobType",
            "EndTimeUTC",
        ),
        *ITEMS,
        *ITEMS.values(),
        *(member for member, _root in _ROOTS),
    )
}


_KNOWN_NAMES: Final = frozenset(KNOWN.values())


class _Names(dict[str, str]):
    """The names of members as they are known here, whatever their case; others in lower case."""

    def __missing__(self, name: str) -> str:
        lower = name.lower()
        found = KNOWN.get(lower, lower)
        if len(self) < 512 and len(name) < 64:
            self[name] = found
        return found


NAMES: Final = _Names()
"""Each name that came, as it is known here."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object by names that are known; one that comes twice makes the answer unreadable."""
    found = dict(pairs)
    if not found.keys() <= _KNOWN_NAMES:
        names = NAMES
        found = {names[name]: value for name, value in pairs}
    if len(found) != len(pairs) or len(pairs) > MAX_MEMBERS:
        refuse_members(len(pairs))
    return found


def refuse_members(count: int) -> NoReturn:
    if count > MAX_MEMBERS:
        raise MalformedResponse("the answer has more names in an object than any real one")
    raise MalformedResponse("the answer has two values of one name")


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedResponse(f"the answer has {name}, which is no number")


DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=str,  # as in XML: who needs a number makes it of its digits
    parse_float=str,
    parse_constant=_refuse_constant,
    strict=False,
)
_UNREADABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML has no place for."""


def _text(value: Any) -> str | None:
    """Return a value as XML would show it; None if there is none."""
    if value.__class__ is str:
        return value if value.isprintable() else _UNREADABLE.sub("\ufffd", value)
    if value is None:
        return None
    if value.__class__ is bool:
        return "true" if value else "false"
    return ""


class JsonNode:
    """One object of an answer; implements `Element`."""

    __slots__ = ("members", "tag")

    def __init__(self, tag: str, members: dict[str, Any]) -> None:
        """Made by the reader; the names of `members` are the known ones."""
        self.tag = tag
        self.members = members

    is_nil = False
    """Null is absent."""

    @property
    def children(self) -> Sequence[JsonNode]:
        """What is in it: the rows of its lists, and the one entry of a path."""
        found: list[JsonNode] = []
        for name, value in self.members.items():
            if name in ITEMS:
                if name != "Links":
                    found += items(name, value)
            elif name in {"FileEntry", "DirectoryEntry"} and isinstance(value, dict):
                found.append(JsonNode(name, value))
        return found

    @property
    def links(self) -> Sequence[Mapping[str, str]]:
        """Its links."""
        value = self.members.get("Links")
        if value is None:
            return ()
        if value.__class__ is not list:
            value = [node.members for node in items("Links", value)]
        return [_link(link) for link in value if link.__class__ is dict]

    def attribute(self, name: str) -> str:
        """Return a value as text; empty if it is absent."""
        return _text(self.members.get(name)) or ""

    def child(self, tag: str) -> JsonNode | None:
        """Return the object called `tag`, or None."""
        value = self.members.get(tag)
        if value is None:
            return None
        if tag in ITEMS:
            return JsonNode(tag, {tag: value})
        return JsonNode(tag, value if value.__class__ is dict else {})

    def value(self, tag: str) -> str | None:
        """Return the stripped text of the value called `tag`; None if absent, null or empty."""
        text = _text(self.members.get(tag))
        return text.strip() or None if text else None

    def exactly(self, tag: str) -> str:
        """Return the text of the value called `tag` as it is; empty if it is absent."""
        return _text(self.members.get(tag)) or ""


def _link(members: dict[str, Any]) -> dict[str, str]:
    """Return a link whose values are texts; nearly every one has no others."""
    try:
        if "".join(members.values()).isprintable():
            return members
    except TypeError:
        pass
    return {name: _text(value) or "" for name, value in members.items()}


def items(name: str, value: Any) -> Iterator[JsonNode]:
    """Yield the rows of a list: bare, within an object, or one row where a list belongs."""
    tag = ITEMS[name]
    if value.__class__ is list:
        for each in value:
            if each is not None:
                yield JsonNode(tag, each if each.__class__ is dict else {})
    elif value.__class__ is dict:
        for inner in (_INNER.get(name, name), tag):
            if inner in value:
                yield from (
                    items(inner, value[inner]) if inner in ITEMS else items(name, value[inner])
                )
                return
        if has_something(value):
            yield JsonNode(tag, value)


def has_something(members: dict[str, Any]) -> bool:
    return any(value is not None for value in members.values())


def root_of(members: dict[str, Any]) -> JsonNode:
    """Return the root of an answer, called as in XML: by its `Type`, or by what it has."""
    kind = members.get("Type")
    if kind.__class__ is str and kind in _KINDS:
        if kind in {"FileEntry", "DirectoryEntry"}:
            return JsonNode("FileSystemEntry", {kind: members})
        return JsonNode(kind, members)
    for member, root in _ROOTS:
        if member in members:
            is_listing = root == "QueryResult" and "/mounts/" in (_text(members.get("Href")) or "")
            return JsonNode("FileSystemEntries" if is_listing else root, members)
    raise ForeignAnswer(
        "the answer is JSON of something else, not the REST API; is the port right? "
        "(9398 by default)"
    )
