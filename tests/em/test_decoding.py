"""What .NET serialisers put on the wire is read, character by character and row by row.

Shapes: reference 18.2, traps 59 to 64.
"""

from __future__ import annotations

import codecs
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import RestorePoint, Source, Task, TaskState
from orchestrator.em.decoding import Utf8, is_allowed
from orchestrator.em.families import FAMILIES
from orchestrator.em.wire import Page, XmlCodec
from tests.em.documents import NAMESPACE, document, read

CODEC = XmlCodec()
REPLICA = FAMILIES[Source.REPLICA]
GUIDS = [f"5d4b0f4e-0000-4000-8000-{number:012d}" for number in range(10)]
SIZES = [1, 2, 3, 7, 1 << 20]


def as_utf8(data: bytes, size: int) -> bytes:
    """Return what the parser gets where `data` comes in pieces of `size` bytes."""
    utf8 = Utf8()
    pieces = [utf8.feed(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([*pieces, utf8.feed(b"", final=True)])


def words(data: bytes, size: int = 1 << 20) -> str | None:
    """Return the message of a task, as read in pieces of `size` bytes."""
    return read(CODEC.task(), data, size).message


def said(inner: str, declaration: str = "") -> str:
    """Return a finished task whose message is `inner`, as a serialiser writes it."""
    return (
        f'{declaration}<Task xmlns="{NAMESPACE}"><TaskId>task-1</TaskId><State>Finished</State>'
        f'<Result Success="false"><Message>{inner}</Message></Result></Task>'
    )


# --- characters -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("bell&#x1;", "bell\ufffd"),
        ("bell&#x00000007;", "bell\ufffd"),
        ("bell&#7;", "bell\ufffd"),
        ("&#xFFFE;&#65535;", "\ufffd\ufffd"),
        ("&#xD83D;&#xDE00;", "\ufffd\ufffd"),
        ("&#x110000;&#99999999;", "\ufffd\ufffd"),
        ("a&#xE9;&#x1F600;&#10;&#x9;b", "aé\U0001f600\n\tb"),
        ("a\x01b\x1fc", "a\ufffdb\ufffdc"),
        ("a\ufffeb", "a\ufffdb"),
        ("&amp;#x1;", "&#x1;"),
        ("&#x1;é&#x2;日本", "\ufffdé\ufffd日本"),
    ],
)
def test_a_character_that_xml_forbids_is_read_as_one_that_says_so(
    written: str, shown: str, size: int
) -> None:
    """Trap 59: .NET writes such references, expat refuses them; also across chunk borders."""
    assert words(said(written).encode(), size) == shown


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ("", "utf-8"),
        ("", "utf-8-sig"),
        ('<?xml version="1.0"?>', "utf-8"),
        ('<?xml version="1.0" encoding="utf-8"?>', "utf-8-sig"),
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-8"),
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-8-sig"),
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-16"),
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-16-le"),
        ('<?xml version="1.0" encoding="utf-16"?>', "utf-16-be"),
        ('<?xml version="1.0" encoding="klingon"?>', "utf-8"),
        ('<?xml version="1.0" encoding="base64"?>', "utf-8"),
        ("<?xml version='1.0' encoding='Windows-1252' standalone='yes'?>", "cp1252"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?>', "latin-1"),
    ],
)
def test_a_declaration_that_is_wrong_or_missing_spoils_nothing(
    declaration: str, encoding: str, size: int
) -> None:
    """Trap 61: bytes are read by what they are; a mark is dropped."""
    data = said("büro&#x1;süd", declaration).encode(encoding)

    assert words(data, size) == "büro\ufffdsüd"


def test_bytes_that_are_no_text_spoil_only_themselves() -> None:
    """A name in another code page below a declaration of UTF-8, and a half surrogate."""
    assert words(said("b\xfcro").encode("latin-1")) == "b\ufffdro"
    assert "\ufffd" in (words(said("x+y").encode().replace(b"+", b"\xed\xa0\xbd")) or "")


def test_a_mark_in_the_middle_is_a_character() -> None:
    """Only the first bytes of an answer are a mark."""
    assert words(said("a\ufeffb").encode("utf-8-sig")) == "a\ufeffb"


@given(st.binary(max_size=400), st.integers(1, 50))
@settings(deadline=None, max_examples=200)
def test_any_bytes_become_text_whatever_the_pieces(data: bytes, size: int) -> None:
    """What the parser gets is UTF-8 without forbidden characters, and does not hang on pieces."""
    data = b"<a>" + data  # the encoding is known from here on
    found = as_utf8(data, size)

    assert found == as_utf8(data, 1 << 20)
    assert all(is_allowed(ord(char)) for char in found.decode())


@given(
    st.lists(
        st.sampled_from(["&", "#", "x", ";", "1", "0", "&#x", "&#1;", "&#x1;", "é", "&amp;", "<"]),
        max_size=40,
    ),
    st.integers(1, 9),
)
@settings(deadline=None, max_examples=300)
def test_references_are_found_wherever_they_are_cut(pieces: list[str], size: int) -> None:
    """The same bytes in other pieces are the same text."""
    data = f"<a>{''.join(pieces)}".encode()

    assert as_utf8(data, size) == as_utf8(data, 1 << 20)
    assert b"&#x1;" not in as_utf8(data, size)


def test_nothing_is_held_back_for_long() -> None:
    """A reader of pieces gets what came, but for a reference that may still go on."""
    utf8 = Utf8()

    assert utf8.feed(b"<a>" + b"x" * 300) == b"<a>" + b"x" * 300
    assert utf8.feed(b"yy&#x1") == b"yy"
    assert utf8.feed(b";z") == "\ufffdz".encode()
    assert utf8.feed(b"&" + b"0" * 40) == b"&" + b"0" * 40
    assert utf8.feed(codecs.BOM_UTF8[:2]) == b""


# --- rows -------------------------------------------------------------------------------------


def point(number: int, *, created: str | None = "2026-11-23T02:00:11Z", uid: str = "") -> str:
    """Return one restore point of a listing; `created` None leaves the element out."""
    uid = uid or f"urn:veeam:VmReplicaPoint:{GUIDS[number]}"
    time = "" if created is None else f"<CreationTimeUTC>{created}</CreationTimeUTC>"
    return (
        f'<VmReplicaPoint UID="{uid}" Name="vm{number}@2026-11-23 02:00:11" '
        f'VmDisplayName="vm{number}"><Links />{time}</VmReplicaPoint>'
    )


def points(*rows: str) -> Page[RestorePoint]:
    """Read restore points as a query lists them."""
    return read(CODEC.points(REPLICA), document("".join(rows), "VmReplicaPoints"))


BAD_POINTS = {
    "no creation time": (point(1, created=None), "vm1@2026-11-23 02:00:11"),
    "an empty one": (point(1, created=""), "CreationTimeUTC"),
    "the year 1": (point(1, created="0001-01-01T00:00:00"), "CreationTimeUTC"),
    "the year 1 with an offset": (point(1, created="0001-01-01T00:00:00+01:00"), "CreationTime"),
    "the year 30828": (point(1, created="30828-09-14T02:48:05Z"), "CreationTimeUTC"),
    "words": (point(1, created="yesterday"), "CreationTimeUTC"),
    "no id": (point(1, uid="urn:veeam:VmReplicaPoint:"), "GUID"),
    "an id that is none": (point(1, uid="7"), "GUID"),
}


@pytest.mark.parametrize("what", BAD_POINTS)
def test_one_unreadable_point_is_set_aside_and_named(what: str) -> None:
    """Trap 60: the rest of the answer counts."""
    row, named = BAD_POINTS[what]

    page = points(point(0), row, point(2))

    assert [each.id for each in page.rows] == [GUIDS[0], GUIDS[2]]
    (words,) = page.set_aside
    assert named in words


def test_a_nil_creation_time_is_none() -> None:
    """Trap 63: `xsi:nil` is a value that is not there, also where text stands in it."""
    row = point(1).replace("<CreationTimeUTC>", '<CreationTimeUTC xsi:nil="true">')
    page = read(
        CODEC.points(REPLICA),
        document(row + point(2), "VmReplicaPoints", 'xmlns:xsi="http://x"'),
    )

    assert [each.id for each in page.rows] == [GUIDS[2]]
    assert len(page.set_aside) == 1


def test_one_unreadable_task_is_set_aside_and_an_unknown_state_is_not() -> None:
    """A word nobody knows is not final; a task without an id cannot be waited for."""
    rows = (
        "<Task><TaskId /><State>Running</State></Task>"
        "<Task><TaskId>task 1?</TaskId><State>Running</State></Task>"
        "<Task><TaskId>task-2</TaskId><State>Pondering</State></Task>"
        "<Task><TaskId>task-3</TaskId><State>Finished</State><Result xsi:nil='true' /></Task>"
    )
    page: Page[Task] = read(CODEC.tasks(), document(rows, "Tasks", 'xmlns:xsi="http://x"'))

    assert [(task.id, task.state) for task in page.rows] == [
        ("task-2", TaskState.UNKNOWN),
        ("task-3", TaskState.FINISHED),
    ]
    assert not any(task.is_final for task in page.rows)
    assert len(page.set_aside) == 2


def test_an_unreadable_task_that_was_asked_for_is_no_answer() -> None:
    """Alone there is nothing else to use."""
    with pytest.raises(MalformedResponse, match="TaskId"):
        read(CODEC.task(), document("<State>Running</State>"))


@pytest.mark.parametrize(
    "date",
    [
        "<ModifiedDateUTC>30828-09-14T02:48:05.4775807Z</ModifiedDateUTC>",
        "<ModifiedDateUTC>1601-01-01T00:00:00Z</ModifiedDateUTC>",
        '<ModifiedDateUTC xsi:nil="true" />',
        "<ModifiedDateUTC />",
        "",
    ],
)
def test_a_file_without_a_usable_date_is_a_file(date: str) -> None:
    """Trap 62: only checks that ask for the date miss it; nil and missing sizes are none."""
    rows = (
        f"<FileEntry><Path>E:/a</Path><Name>a</Name><Size>7</Size>{date}</FileEntry>"
        '<FileEntry><Path>E:/b</Path><Name>b</Name><Size xsi:nil="true" /><Owner /></FileEntry>'
    )
    page: Any = read(
        CODEC.entries(),
        document(f"<Links /><Files>{rows}</Files>", "FileSystemEntries", 'xmlns:xsi="http://x"'),
    )

    assert [(row.name, row.size, row.owner, row.modified_at) for row in page.rows] == [
        ("a", 7, None, None),
        ("b", None, None, None),
    ]


@pytest.mark.parametrize("empty", ["<FSRoots />", "", '<FSRoots xsi:nil="true" />'])
def test_empty_nil_and_missing_lists_are_the_same(empty: str) -> None:
    """Trap 63: a mount without volumes, however that is written."""
    href = f"/api/vmReplicaPoints/{GUIDS[0]}/mounts/1"
    (mount,) = read(
        CODEC.mounts(),
        document(empty, "VmReplicaPointMount", f'Href="{href}" xmlns:xsi="http://x"'),
    )

    assert mount.roots == ()
