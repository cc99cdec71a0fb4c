"""What the body of an error says, and whether a body is the service's own."""

from __future__ import annotations

import json
import re

from orchestrator.core.errors import MalformedResponse
from orchestrator.em.elements import BOM, XmlReading
from orchestrator.em.json_values import DECODER, root_of

PAGE_HEAD = 64 * 1024
"""Bytes of a web page in which its title must stand."""
_TITLE = re.compile(rb"<title[^<>]{0,200}>([^<]{1,200})</title>", re.IGNORECASE)


def words_of(body: bytes) -> str | None:
    """Return the message of an error body in any form; None if it has none.

    Source: reference section 8: XML, JSON in either case, HTML from in front of the service.
    """
    text = body.removeprefix(BOM).strip()
    if text.startswith(b"{"):
        said = _json_message(text)
    elif text.startswith(b"["):
        said = None
    elif text.startswith(b"<"):
        said = _xml_message(text)
    else:
        said = text.decode("utf-8", errors="replace")
    return said.strip()[:300] or None if said else None


def is_error(body: bytes) -> bool:
    """Return whether an error body is the service's own: its Error in XML, or the same in JSON.

    Others answer in front of it, in HTML, JSON and XML of their own: HTTP.sys, also while it is
    stopped, and proxies.
    """
    text = body.removeprefix(BOM).strip()
    if text.startswith(b"{"):
        return {name.lower() for name in _json_object(text)} >= _JSON_ERROR
    return _root_of(text) == "Error"


def is_answer(body: bytes) -> bool:
    """Return whether a body that nobody reads is none, or the service's own."""
    text = body.removeprefix(BOM).strip()
    if not text:
        return True
    root = _root_in_json(text) if text.startswith(b"{") else _root_of(text)
    return root not in {None, "Error"}


_JSON_ERROR = frozenset({"message", "statuscode"})
"""What an error in JSON always has, in whatever case. Source: reference section 8."""


def _root_of(text: bytes) -> str | None:
    """Return the name of the root of a document of the service's own, or None if it is none."""
    try:
        return XmlReading(lambda root: root.tag).whole(text)
    except MalformedResponse:
        return None


def _root_in_json(text: bytes) -> str | None:
    """Return what a root of the service's own would be called in XML, or None if it is none."""
    try:
        return root_of(DECODER.decode(text.decode("utf-8", errors="replace"))).tag
    except (MalformedResponse, ValueError, RecursionError):
        return None


def _json_object(text: bytes) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _json_message(text: bytes) -> str | None:
    for name, value in _json_object(text).items():
        if name.lower() == "message" and isinstance(value, str):
            return value
    return None


def _xml_message(text: bytes) -> str | None:
    reading = XmlReading(lambda root: root.attributes.get("Message"), namespace=None)
    try:
        return reading.whole(text)
    except MalformedResponse:
        title = _TITLE.search(text[:PAGE_HEAD])
        return title.group(1).decode("utf-8", errors="replace") if title else None
