"""What is no answer is refused as one, cheaply; how an answer is written does not matter."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import Source
from orchestrator.em import elements
from orchestrator.em.error_bodies import words_of
from orchestrator.em.families import FAMILIES
from orchestrator.em.wire import XmlCodec
from tests.em.documents import NAMESPACE, SAMPLES, document, read, sample

CODEC = XmlCodec()
REPLICA = FAMILIES[Source.REPLICA]
READINGS: dict[str, Callable[[], Any]] = {
    "task": CODEC.task,
    "tasks": CODEC.tasks,
    "points": lambda: CODEC.points(REPLICA),
    "mounts": CODEC.mounts,
    "entries": CODEC.entries,
    "logon": CODEC.logon,
    "anything": CODEC.anything,
}
GOOD = {
    "task": "task.mount.finished-success.related-as-documented",
    "tasks": "tasks",
    "points": "query.vmreplicapoint.entities",
    "mounts": "vmreplicapointmounts",
    "entries": "filesystementries.listall",
    "logon": "logon-session",
}


def readable(kind: str, data: bytes) -> bool:
    """Tell whether the reading takes `data`; anything but a value or a refusal escapes."""
    try:
        read(READINGS[kind](), data)
    except MalformedResponse:
        return False
    return True


# --- the same answer, written differently ---------------------------------------------------


def shuffled(data: bytes) -> bytes:
    """Turn round the attributes of every element and the order of the links."""

    def turned(found: re.Match[bytes]) -> bytes:
        attributes = re.findall(rb'\s+([\w:]+="[^"]*")', found.group(2))
        return b"<" + b" ".join([found.group(1), *reversed(attributes)]) + found.group(3) + b">"

    def links(found: re.Match[bytes]) -> bytes:
        return (
            b"<Links>"
            + b"".join(reversed(re.findall(rb"<Link .*?/>", found.group())))
            + (b"</Links>")
        )

    data = re.sub(rb'<(\w+)((?:\s+[\w:]+="[^"]*")+)(\s*/?)>', turned, data)
    return re.sub(rb"<Links>.*?</Links>", links, data, flags=re.DOTALL)


def prefixed(data: bytes) -> bytes:
    """Give every element a namespace prefix."""
    data = re.sub(rb"<(/?)(\w)", rb"<\1v:\2", data)
    return data.replace(b" xmlns=", b" xmlns:v=")


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "attributes and links turned round": shuffled,
    "on one line": lambda data: re.sub(rb">\s+<", b"><", data),
    "spread out": lambda data: data.replace(b"><", b">\r\n\t <").replace(b">\n", b">\n\n  "),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().replace("utf-8", "utf-16").encode("utf-16"),
    "no declaration": lambda data: data.partition(b"?>")[2].lstrip(),
    "namespace prefixes": prefixed,
    "comments": lambda data: data.replace(b"<Links>", b"<!-- links --><Links>"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", GOOD)
def test_the_form_of_an_answer_does_not_matter(kind: str, form: str) -> None:
    """Traps 30, 32 and 33: attribute order, white space, links' order, BOM, encoding, prefixes."""
    data = sample(GOOD[kind])
    written = FORMS[form](data)

    assert written != data
    assert read(READINGS[kind](), written) == read(READINGS[kind](), data)


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("kind", GOOD)
def test_pieces_of_any_size_give_the_same_value(kind: str, size: int) -> None:
    """The network cuts where it likes."""
    data = sample(GOOD[kind])

    assert read(READINGS[kind](), data, size) == read(READINGS[kind](), data)


# --- what is no answer ----------------------------------------------------------------------

BOMB = b"<!DOCTYPE t [" + b"".join(
    b'<!ENTITY a%d "%s">' % (level, b"&a%d;" % (level - 1) * 10) for level in range(1, 9)
)
REFUSED = {
    "empty": b"",
    "blank": b" \r\n ",
    "only a byte order mark": b"\xef\xbb\xbf",
    "a web page": b"<!DOCTYPE HTML><html><head><title>Service</title></head></html>",
    "a web page in capitals": b"\xef\xbb\xbf\r\n <HTML><body>hello</body></HTML>",
    "JSON": b'{"TaskId": "task-1", "State": "Finished"}',
    "plain words": b"Service Unavailable",
    "a document type": b"<!DOCTYPE Task><Task><TaskId>task-1</TaskId></Task>",
    "an external document type": b'<!DOCTYPE Task SYSTEM "file:///etc/passwd"><Task/>',
    "an external entity": b'<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]><t>&x;</t>',
    "entities of entities": BOMB + b"]><Task><TaskId>&a8;</TaskId></Task>",
    "an undefined entity": document("<TaskId>&nothing;</TaskId>"),
    "two roots": b"<Task/><Task/>",
    "too deep": b"<a>" * (elements.MAX_DEPTH + 1) + b"</a>" * (elements.MAX_DEPTH + 1),
}


@pytest.mark.parametrize("kind", READINGS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_answer_is_refused(kind: str, what: str) -> None:
    """Whatever was asked for, these are never an answer."""
    assert not readable(kind, REFUSED[what])


@pytest.mark.parametrize("kind", GOOD)
def test_an_answer_that_ends_early_is_refused(kind: str) -> None:
    """A truncated document gives no value, wherever it was cut."""
    data = sample(GOOD[kind]).rstrip()

    assert not any(readable(kind, data[:end]) for end in range(0, len(data) - 1, 37))


@pytest.mark.parametrize("kind", GOOD)
def test_an_error_or_another_kind_of_answer_is_refused(kind: str) -> None:
    """Trap 6: a 200 that holds something else proves nothing."""
    others = [name for other, name in GOOD.items() if {kind, other} != {"task", "tasks"}]
    wrong = [
        name for name in others if name != GOOD[kind] and (kind, name) != ("tasks", GOOD["points"])
    ]

    assert not any(readable(kind, sample(name)) for name in [*wrong, "error.500", "error.401"])


def test_a_web_page_is_called_a_wrong_port() -> None:
    """The commonest mistake gets advice."""
    with pytest.raises(MalformedResponse, match="9398"):
        read(CODEC.task(), REFUSED["a web page"])


def test_elements_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat document with more elements than any real one is refused."""
    monkeypatch.setattr(elements, "MAX_NODES", 1000)

    assert readable("anything", document("<a/>" * 999))
    assert not readable("anything", document("<a/>" * 1000))


@pytest.mark.parametrize(
    "huge",
    [
        b"<TaskId>" + b"x" * 3_000_000 + b"</TaskId>",
        b"<TaskId>" + b"\n" * 3_000_000 + b"</TaskId>",
        b'<Link Href="' + b"x" * 3_000_000 + b'" />',
        b"<!-- " + b"x" * 3_000_000 + b" -->",
    ],
    ids=["text", "blank lines", "attribute", "comment"],
)
def test_one_huge_piece_is_refused_before_it_is_all_there(huge: bytes) -> None:
    """Joining a text or a tag costs the square of its length, so it ends early."""
    begun = document("").removesuffix(b"</Task>") + huge[:2_500_000]

    with pytest.raises(MalformedResponse, match="longer"):
        read(CODEC.anything(), begun, 65_536)


# --- fuzz -------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(b"<", b">", b"/>", b'"', b"&", b"&amp;", b"]]>", b"<!DOCTYPE x>", b"<![CDATA[", b"\x00"),
        *(b"\xff", "²".encode(), b"9" * 30, b"1753-01-01", b"@", b"Href", b"?action=failover", b""),
        *(b"https://evil.example/api/", b"</Links>", b"<Task>", b"xmlns=''", b"-", b"\r\n"),
    ]
)
DAMAGE = PIECES | st.binary(max_size=4)


@given(st.binary(max_size=300), st.sampled_from(sorted(READINGS)))
@settings(deadline=None, max_examples=150)
def test_any_bytes_give_a_value_or_a_refusal(data: bytes, kind: str) -> None:
    """No other exception than MalformedResponse leaves the reader."""
    readable(kind, data)
    words_of(data)


@given(st.data(), st.sampled_from(sorted(path.stem for path in SAMPLES.glob("*.xml"))))
@settings(deadline=None, max_examples=300)
def test_any_damage_to_a_sample_gives_a_value_or_a_refusal(data: st.DataObject, name: str) -> None:
    """The same for answers that look almost right."""
    body = sample(name)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        until = data.draw(st.integers(at, min(len(body), at + 40)))
        body = body[:at] + data.draw(DAMAGE) + body[until:]
    for kind in READINGS:
        readable(kind, body)
    words_of(body)


@given(st.lists(st.sampled_from(["Task", "TaskId", "Links", "Link", "Result", "FSRoots", "a"])))
@settings(deadline=None, max_examples=100)
def test_any_nesting_gives_a_value_or_a_refusal(tags: list[str]) -> None:
    """Elements in places where no server puts them."""
    rng = random.Random(len(tags))
    inside = ""
    for tag in tags:
        inside = f'<{tag} Href="{rng.random()}" Name="@">{inside}</{tag}>'
    for kind, root in (("task", "Task"), ("mounts", "VmReplicaPointMounts"), ("logon", "x")):
        readable(kind, document(inside, root))


# --- what an error says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (sample("error.401"), "Session is not found or has expired."),
        (sample("error.400.bad-id.wire"), "The identifier in the request URL is not valid: null"),
        (sample("error.500"), "Object reference not set to an instance of an object."),
        (b"\xef\xbb\xbf" + sample("error.403"), "Access denied."),
        (
            b'{"Message": "Node [root] does not exist.", "StatusCode": 400}',
            "Node [root] does not exist.",
        ),
        (b'\xef\xbb\xbf{"statusCode": 500, "message": "no"}', "no"),
        (b"<html><head><title>Service Unavailable</title></head></html>", "Service Unavailable"),
        (b"<!DOCTYPE HTML><TITLE> Not Found </TITLE>", "Not Found"),
        (b"Bad Request (Invalid Hostname)", "Bad Request (Invalid Hostname)"),
        (b'{"Message": 5}', None),
        (b'["Message"]', None),
        (b"{" * 100_000, None),
        (b"[" * 100_000, None),
        (b"<Error", None),
        (f'<Error xmlns="{NAMESPACE}" />'.encode(), None),
        (b" ", None),
        (b"", None),
    ],
)
def test_the_words_of_an_error_are_found_in_any_form(body: bytes, words: str | None) -> None:
    """Traps 30 and 31: XML, JSON in either case, a web page, plain text; or nothing."""
    assert words_of(body) == words


@pytest.mark.parametrize("body", [b"x" * 5000, b'<Error Message="' + b"x" * 5000 + b'" />'])
def test_the_words_of_an_error_are_bounded(body: bytes) -> None:
    """A server cannot fill the report."""
    assert words_of(body) == "x" * 300
