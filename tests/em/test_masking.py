"""Secrets are masked in every body before it is read, in whatever way they are written there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import escape
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import EnterpriseManagerError
from orchestrator.core.model import RestorePointId, Source, TaskId
from orchestrator.em.masking import Masked, Masks, bodies_may_hide
from tests.em.documents import POINT, document, read
from tests.em.logons import PASSWORD, desk
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio

TOKEN = "O9Msj3rq7/GUht+SMBQx=="
GUID = "1c7e94b2-d80a-4f53-a6e7-92b0d3f5c814"
ODD = "p&ss<w>o'r\"d/ ü%7\\+ß"
SECRETS = (TOKEN, GUID, ODD)
MASKS = Masks(SECRETS)


class Whole:
    """A reading that keeps what it is fed with."""

    def __init__(self) -> None:
        self.taken = b""

    def feed(self, chunk: bytes) -> None:
        self.taken += chunk

    def close(self) -> bytes:
        return self.taken

    def whole(self, body: bytes) -> bytes:
        return body


def masked(body: bytes, size: int = 1 << 20, masks: Masks = MASKS) -> bytes:
    """Return the body as a reading gets it in pieces of `size` bytes."""
    return read(Masked(Whole(), masks), body, size)


SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "as text of XML": lambda text: escape(text, quote=False).encode(),
    "as an attribute of XML": lambda text: escape(text).encode(),
    "with apostrophes by name": lambda text: escape(text).replace("&#x27;", "&apos;").encode(),
    "as references": lambda text: "".join(
        char if char.isalnum() and char.isascii() else f"&#{ord(char)};" for char in text
    ).encode(),
    "in JSON": lambda text: json.dumps(text)[1:-1].encode(),
    "in JSON, slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/").encode(),
    "in JSON of .NET": lambda text: "".join(
        char if char.isalnum() and char.isascii() else f"\\u{ord(char):04X}" for char in text
    ).encode(),
    "in an address": lambda text: quote(text, safe="").encode(),
    "in an address, small": lambda text: (
        quote(text, safe="").lower().encode() if text == GUID else quote(text).encode()
    ),
    "in capitals": lambda text: text.upper().encode() if text == GUID else text.encode(),
    "in UTF-16, little end first": lambda text: text.encode("utf-16-le"),
    "in UTF-16, big end first": lambda text: text.encode("utf-16-be"),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_found_however_it_is_written(spelling: str, secret: str) -> None:
    """XML, JSON and addresses escape some characters; what is around stays as it is."""
    written = SPELLINGS[spelling](secret)
    wide = "UTF-16" in spelling
    around = "begin \u0001 end".encode("utf-16-le" if "little" in spelling else "utf-16-be")
    before, after = (around, around) if wide else (b'<a b="', b'">end</a>')

    found = masked(before + written + after)

    assert written not in found
    assert found.startswith(before)
    assert found.endswith(after)
    if wide:
        text = found.decode("utf-16-le" if "little" in spelling else "utf-16-be")
        assert text == "begin \u0001 end***begin \u0001 end"
    else:
        assert found == before + b"***" + after


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_a_secret_across_pieces_is_found(size: int) -> None:
    """The network cuts where it likes."""
    body = b"x" + TOKEN.encode() + b"y" * 100 + escape(ODD).encode() * 2 + GUID.encode()

    assert masked(body, size) == b"x***" + b"y" * 100 + b"***" * 3


PARTS = [
    *SECRETS,
    GUID.upper(),
    *re.findall("[A-Za-z0-9]+", " ".join(SECRETS)),
    "-",
    "92B0D3F5C814",
]


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.sampled_from(["", "-"]), st.booleans())
def test_a_quick_look_passes_over_no_secret(parts: list[str], joint: str, wide: bool) -> None:
    """Only where every word of a secret is in a body is it looked for, and that finds all."""
    body = joint.join(parts).encode("utf-16-le" if wide else "utf-8")
    always = Masks([*SECRETS, "[=()=]"])  # a secret without words is looked for in every body

    assert MASKS.apply(body) == always.apply(body)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_a_body_without_secrets_is_left_as_it_is(body: bytes, size: int) -> None:
    """Nothing is lost or moved, whatever the pieces."""
    assert masked(body, size) == body


@given(
    st.lists(st.sampled_from([*SECRETS, "s3cret", "s3crets", "a", "&amp;", "é"]), max_size=12),
    st.integers(1, 60),
)
def test_pieces_of_any_size_give_the_same_body(parts: list[str], size: int) -> None:
    """Where a piece ends decides nothing."""
    body = "".join(parts).encode()
    masks = Masks([*SECRETS, "s3cret"])

    assert masked(body, size, masks) == masks.apply(body)
    assert Masked(Whole(), masks).whole(body) == masks.apply(body)


def test_a_weak_secret_is_masked_as_a_word_only() -> None:
    """A short password is a part of too many names."""
    masks = Masks(["lab1", "abc"])

    assert masks.apply(b"lab1 dclab1 lab12 <a>lab1</a> abc") == b"*** dclab1 lab12 <a>***</a> abc"


@pytest.mark.parametrize("secret", ["veeam", "Finished", "VmReplicaPoint", "www.veeam.com"])
def test_a_password_that_is_a_part_of_the_protocol_breaks_no_answer(secret: str) -> None:
    """Everything would be unreadable."""
    assert not bodies_may_hide(secret)


async def test_nothing_that_a_server_repeats_reaches_a_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Task messages, machine names, users: token, id, password and credentials are masked."""
    secrets: list[str] = []

    def repeating(request: Request) -> web.Response | None:
        said = escape(f"for {' and '.join(secrets)}")
        if request.target.endswith("/tasks/task-1"):
            result = f'<Result Success="false"><Message>{said}</Message></Result>'
            return web.Response(
                body=document(f"<TaskId>task-1</TaskId><State>Finished</State>{result}")
            )
        if "/vmReplicaPoints/" in request.target:
            return web.Response(
                body=document(
                    "<CreationTimeUTC>2026-11-23T06:00:00Z</CreationTimeUTC>",
                    "VmReplicaPoint",
                    f'UID="urn:veeam:VmReplicaPoint:{POINT}" Name="x@1" VmDisplayName="{said}"',
                )
            )
        return None

    async with desk(monkeypatch, override=repeating) as at, at.client.logon() as session:
        (logon,) = at.sent("POST", "/sessionMngr/")
        credentials = logon.headers["authorization"].removeprefix("Basic ")
        kept = session.kept
        secrets += [kept.token.reveal(), kept.guid.reveal(), PASSWORD, credentials]
        task = await session.task(TaskId("task-1"))
        point = await session.point(RestorePointId(POINT), Source.REPLICA)

    assert task.message == point.vm == "for *** and *** and *** and ***"


async def test_no_error_names_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 42: its id stands in addresses, which errors name."""

    def refusing(request: Request) -> web.Response | None:
        if request.method == "GET" and "/logonSessions/" in request.target:
            said = f'Message="{request.target.rpartition("/")[2].upper()} is none"'
            return web.Response(status=400, body=document("", "Error", said))
        return None

    async with desk(monkeypatch, override=refusing) as at, at.client.logon() as session:
        guid = session.kept.guid.reveal()
        with pytest.raises(EnterpriseManagerError) as failure:
            await session.keep_alive()

    shown = f"{failure.value} {vars(failure.value)}".lower()
    assert guid not in shown
    assert "*** is none" in shown
    assert guid[:8] not in f"{session.id} {session.kept}"


async def test_a_role_that_may_not_read_its_session_is_asked_for_its_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Source: reference 2.7 and 16: then the keep-alive is a read of tasks."""

    def denying(request: Request) -> web.Response | None:
        if request.method == "GET" and "/logonSessions/" in request.target:
            return web.Response(
                status=403, body=document("", "Error", 'Message="No." StatusCode="403"')
            )
        return None

    async with desk(monkeypatch, override=denying) as at, at.client.logon() as session:
        for _ in range(3):
            await session.keep_alive()

    assert len(at.sent("GET", "/logonSessions/")) == 1
    assert len(at.sent("GET", "type=Task")) == 3
