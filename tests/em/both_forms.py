"""Answers drawn at random and written in XML and in JSON, each in one of many ways.

What is written is a tree of things with a name, attributes and inner things, as the protocol
reference describes answers; this shares nothing with the readers or with the simulator.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.em.documents import MOUNT, NAMESPACE, OLDER, POINT

LISTS = {
    "Tasks": "Tasks",
    "VmReplicaPoints": "VmReplicaPoints",
    "VmReplicaPointMounts": "VmReplicaPointMounts",
    "LogonSessions": "LogonSessions",
    "FSRoots": "DirectoryEntries",
    "Directories": "DirectoryEntries",
    "Files": "FileEntries",
}
"""The name in JSON of the list that is in a thing."""
NUMBERS = {"Size", "PageNum", "PagesCount"}


@dataclass(slots=True)
class Thing:
    """An element in XML, an object or a value in JSON."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    inner: list[Thing] = field(default_factory=list)
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How JSON is written."""

    case: Callable[[str], str]
    null: str
    """What an absent member is: "missing", "null" or "mixed"."""
    empty: str
    """What an empty list is: "list", "null" or "object"."""
    single: str
    """What a list of one is: "list" or "object"."""
    numbers: str
    """How numbers and booleans are written: "plain" or "text"."""
    ascii: bool
    indent: int | None
    turned: bool
    """Members in the opposite order."""


CASES: dict[str, Callable[[str], str]] = {
    "12": str,
    "13": lambda name: (
        name.lower() if name.isupper() else "fsRoots" if name == "FSRoots" else _lower_first(name)
    ),
    "first letter": lambda name: _lower_first(name),
    "upper": str.upper,
    "lower": str.lower,
}


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]


WAYS = st.builds(
    Way,
    case=st.sampled_from(list(CASES.values())),
    null=st.sampled_from(["missing", "null"]),
    empty=st.sampled_from(["list", "null", "object"]),
    single=st.sampled_from(["list", "object"]),
    numbers=st.sampled_from(["plain", "text"]),
    ascii=st.booleans(),
    indent=st.sampled_from([None, 2]),
    turned=st.booleans(),
)


# --- writing -----------------------------------------------------------------------------------


def in_xml(root: Thing) -> bytes:
    """Return the document, with every character that could be mistaken as a reference."""
    return _element(root, f' xmlns="{NAMESPACE}"').encode()


def _element(thing: Thing, more: str = "") -> str:
    attributes = "".join(f' {name}="{_safe(text)}"' for name, text in thing.attributes.items())
    inner = _safe(thing.text or "") + "".join(map(_element, thing.inner))
    return f"<{thing.name}{attributes}{more}>{inner}</{thing.name}>"


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else f"&#{ord(c)};" for c in text)


def in_json(root: Thing, way: Way) -> bytes:
    """Return the same answer in JSON."""
    value = _value(root, way, is_root=True)
    return json.dumps(value, ensure_ascii=way.ascii, indent=way.indent).encode()


def _value(thing: Thing, way: Way, *, is_root: bool = False) -> Any:
    if thing.name in LISTS:
        rows: Any = [_value(row, way) for row in thing.inner]
        if not rows and way.empty != "list":
            rows = None
            if way.empty == "object" and not is_root:
                return {}
        elif len(rows) == 1 and way.single == "object":
            (rows,) = rows
        return {way.case(LISTS[thing.name]): rows}
    if thing.name == "Links":
        if not thing.inner and way.empty == "null":
            return None
        return [_members(link.attributes, way) for link in thing.inner]
    if thing.text is not None:
        return _scalar(thing.name, thing.text, way)
    members = _members(thing.attributes, way)
    members.update({way.case(each.name): _value(each, way) for each in thing.inner})
    if way.null == "null":
        for name in ("Message", "Owner", "Actions", "Result", "PagingInfo", "VmName"):
            members.setdefault(way.case(name), None)
    return dict(reversed(members.items())) if way.turned else members


def _members(attributes: dict[str, str], way: Way) -> dict[str, Any]:
    return {way.case(name): _scalar(name, text, way) for name, text in attributes.items()}


def _scalar(name: str, text: str, way: Way) -> Any:
    if way.numbers == "plain" and name in NUMBERS and text.isascii() and text.isdigit():
        return int(text)
    if name == "Success" and text in {"true", "false"}:
        return text == "true" if way.numbers == "plain" else text.title()
    return text


# --- drawing -----------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
TIMES = st.sampled_from(
    ["2026-03-14T21:00:39.707Z", "2026-03-14T21:00:39", "0001-01-01T00:00:00", "soon", ""]
)
HREFS = st.sampled_from([f"https://em01:9398{MOUNT}", MOUNT, "", "https://evil.example/x", "\x01"])


@st.composite
def links(draw: st.DrawFn) -> Thing:
    """Draw the links of something."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        attributes = {
            "Rel": draw(st.sampled_from(["Related", "Download", "Delete", "Up", "Next"])),
            "Href": draw(HREFS),
        }
        if draw(st.booleans()):
            attributes["Type"] = draw(
                st.sampled_from(["VmReplicaPointMount", "BackupServerReference", "ReplicaJob"])
            )
        if draw(st.booleans()):
            attributes["Name"] = draw(st.one_of(st.just(f"{POINT}@1"), WORDS))
        found.append(Thing("Link", attributes))
    return Thing("Links", {}, found)


def texts(draw: st.DrawFn, **strategies: st.SearchStrategy[str]) -> list[Thing]:
    """Draw inner texts, each of which may be absent."""
    return [Thing(name, text=draw(strategy)) for name, strategy in strategies.items() if _is(draw)]


def _is(draw: st.DrawFn) -> bool:
    return draw(st.integers(0, 4)) > 0


@st.composite
def tasks(draw: st.DrawFn) -> Thing:
    """Draw a task, which may be none that can be used."""
    inner = [draw(links())]
    inner += texts(
        draw,
        TaskId=st.sampled_from(["task-1", "task-22", " ", "a b", "7"]),
        State=st.sampled_from(["Running", "Finished", "OperationFinished", "Odd", ""]),
        Operation=st.one_of(st.just("MountRestorePoint"), WORDS),
    )
    if draw(st.booleans()):
        attributes = {"Success": draw(st.sampled_from(["true", "false", "Warning"]))}
        inner.append(Thing("Result", attributes, texts(draw, Message=WORDS)))
    return Thing("Task", {"Type": "Task", "Href": draw(HREFS)}, inner)


@st.composite
def points(draw: st.DrawFn) -> Thing:
    """Draw a restore point."""
    identifier = draw(st.sampled_from([POINT, OLDER, POINT.upper(), "none"]))
    attributes = {"UID": f"urn:veeam:VmReplicaPoint:{identifier}", "Type": "VmReplicaPoint"}
    for name in ("Name", "VmDisplayName"):
        if _is(draw):
            attributes[name] = draw(WORDS)
    inner = [draw(links()), *texts(draw, CreationTimeUTC=TIMES, VmName=WORDS)]
    return Thing("VmReplicaPoint", attributes, inner)


@st.composite
def entries(draw: st.DrawFn, name: str) -> Thing:
    """Draw a file or directory."""
    inner = texts(draw, Path=WORDS, Name=WORDS)
    if name == "FileEntry":
        inner += texts(
            draw,
            Size=st.sampled_from(["0", "174", "99999999999999999999", "-1", "1.5", "much"]),
            Owner=WORDS,
            ModifiedDateUTC=TIMES,
        )
    return Thing(name, {"Href": draw(HREFS), "Type": name}, [*inner, draw(links())])


@st.composite
def mounts(draw: st.DrawFn) -> Thing:
    """Draw a mount point."""
    roots = Thing("FSRoots", {}, draw(st.lists(entries("DirectoryEntry"), max_size=3)))
    inner = [draw(links()), *([roots] if _is(draw) else [])]
    href = f"https://em01:9398{MOUNT}"
    return Thing("VmReplicaPointMount", {"Href": href, "Type": "VmReplicaPointMount"}, inner)


@st.composite
def paging(draw: st.DrawFn) -> list[Thing]:
    """Draw the paging of a list, or none."""
    if not draw(st.booleans()):
        return []
    numbers = {name: str(draw(st.integers(0, 3))) for name in ("PageNum", "PagesCount")}
    return [Thing("PagingInfo", numbers, [draw(links())])]


@st.composite
def answers(draw: st.DrawFn) -> Thing:
    """Draw an answer of any kind."""
    some_tasks, some_points = draw(st.lists(tasks(), max_size=4)), draw(st.lists(points()))
    match draw(st.integers(0, 8)):
        case 0:
            return draw(tasks())
        case 1:
            return Thing("Tasks", {}, some_tasks)
        case 2:
            found = Thing("Resources", {}, [Thing("Tasks", {}, some_tasks)])
            return Thing("QueryResult", {}, [found, *draw(paging())])
        case 3:
            found = Thing("Entities", {}, [Thing("VmReplicaPoints", {}, some_points)])
            return Thing("QueryResult", {}, [found, *draw(paging())])
        case 4:
            return draw(points())
        case 5:
            return draw(mounts())
        case 6:
            return Thing("VmReplicaPointMounts", {}, draw(st.lists(mounts(), max_size=3)))
        case 7:
            return Thing("FileSystemEntry", {}, [draw(entries(draw(_ENTRY)))])
        case _:
            groups = [
                Thing("Files", {}, draw(st.lists(entries("FileEntry"), max_size=3))),
                Thing("Directories", {}, draw(st.lists(entries("DirectoryEntry"), max_size=3))),
            ]
            return Thing("FileSystemEntries", {}, [draw(links()), *groups, *draw(paging())])


_ENTRY = st.sampled_from(["FileEntry", "DirectoryEntry"])
