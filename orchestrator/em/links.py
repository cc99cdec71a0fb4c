"""A Href is a path on the configured server, and only some requests exist at all.

The server's links carry whatever host name it believes in; only path and query are used. The
allow-list is the last line of defence in front of production: the first link of a replica
point fails it over, and the same account may do so.
Source: reference 1.7, traps 1 and 2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote

from orchestrator.core.errors import ForbiddenAction
from orchestrator.core.model import Href

_GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_POINT = rf"/api/(?:vmReplicaPoints|vmRestorePoints|agents/agentRestorePoints)/{_GUID}"
_MOUNT = rf"{_POINT}/mounts/[0-9A-Za-z_-]{{1,40}}"

GUID = re.compile(_GUID)

MOUNT_PATH = re.compile(rf"^{_MOUNT}$", re.IGNORECASE)
"""The address of one mount point, in any family."""

_GUEST = re.compile(rf"^{_MOUNT}/(.*)$", re.IGNORECASE)

_ORIGIN = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*")
_DOTS = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)")
"""A segment that a server may resolve, so that the path would mean another one."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_SAFE = "/:$@!&'()*+,;=-._~%?"
_PLAIN = f"[A-Za-z0-9{re.escape(_SAFE)}]*"
_USUAL_HREF = re.compile(rf"(?:{_ORIGIN.pattern[1:]})?(/api/{_PLAIN})")
"""An address of which nothing is left to encode or to refuse: as nearly every one is."""

_ACTING_QUERY = re.compile(r"^(?:|action=restore|v=[a-z0-9_]{1,10})$", re.IGNORECASE)
"""Every query that a request other than GET has, to the letter."""

_READING = ("listall", "listdirs", "listfiles", "download")

_ALLOWED: tuple[tuple[str, re.Pattern[str], frozenset[str]], ...] = tuple(
    (method, re.compile(rf"^{pattern}$", re.IGNORECASE), frozenset(actions))
    for method, pattern, actions in (
        (
            "GET",
            r"/api/.*",
            ("", *_READING),
        ),
        ("POST", r"/api/sessionMngr/", ("",)),
        ("POST", rf"{_POINT}/mounts", ("",)),
        ("POST", rf"{_MOUNT}/.+", ("restore",)),
        ("DELETE", rf"/api/logonSessions/{_GUID}", ("",)),
        ("DELETE", _MOUNT, ("",)),
        ("DELETE", r"/api/tasks/[0-9A-Za-z_-]{1,40}", ("",)),
    )
)
"""Method, path and `action=` of every request that may be sent. Nothing else is."""


_USUAL: dict[str, re.Pattern[str]] = {
    "GET": re.compile(r"/api/[A-Za-z0-9/_-]*"),
    "POST": re.compile(rf"{_POINT}/mounts"),
    "DELETE": re.compile(_MOUNT),
}
"""Requests without a query, and without a character that could hide anything."""


def rerooted(href: str) -> Href | None:
    """Return path and query of a server's Href, or None if it is no path below /api/.

    Characters that may not stand in a request line are percent-encoded; what the server
    has encoded stays as it is.
    """
    usual = _USUAL_HREF.fullmatch(href)
    if usual is not None:
        return Href(usual[1])
    rest = href.strip()
    origin = _ORIGIN.match(rest)
    if origin is not None:
        rest = rest[origin.end() :]
    if not rest.lower().startswith("/api/"):
        return None
    if "\\" in rest or "#" in rest:
        return None
    if _CONTROL.search(rest):
        return None
    return Href(quote(rest, safe=_SAFE))


def mount_href(href: str) -> Href | None:
    """Return the address if `href` is a mount point's, in any family; else None."""
    path = rerooted(href)
    return path if path is not None and MOUNT_PATH.match(path) else None


def guest_part(href: str) -> str | None:
    """Return the part of an address after the mount point, still encoded; None if there is none.

    The empty text is the root of a guest whose only volume is `/`.
    """
    found = _GUEST.match(href.partition("?")[0])
    return found[1] if found is not None else None


_SESSION_PATH = re.compile(rf"(/logonSessions/){_GUID}", re.IGNORECASE)


def shown_path(target: str) -> str:
    """Return the path of a target as errors name it: without values, and without session ids."""
    return _SESSION_PATH.sub(r"\1***", target.partition("?")[0])


def guard(method: str, target: str) -> None:
    """Let only requests pass that this program needs; `target` is path and query.

    Raises:
        ForbiddenAction: it is not on the allow-list; nothing may be sent.
    """
    usual = _USUAL.get(method)
    if usual is None or not usual.fullmatch(target):
        _judge(method, target)


@lru_cache(maxsize=4096)  # one query is sent again and again; what raises is not remembered
def _judge(method: str, target: str) -> None:
    path, _, query = target.partition("?")
    plain_path, plain_query = _decoded(path), _decoded(query)
    actions = _actions(plain_query)
    action = actions[0] if actions else ""
    hidden = _CONTROL.search(plain_path + plain_query) or _DOTS.search(plain_path)
    strange = method != "GET" and not _ACTING_QUERY.match(query)
    if len(actions) <= 1 and "?" not in query and not hidden and not strange:
        for verb, pattern, allowed in _ALLOWED:
            if verb == method and action in allowed and pattern.match(path):
                return
    shown = f"{method} {shown_path(path)}" + (f"?action={action}" if action else "")
    raise ForbiddenAction(f"{shown[:200]} is not a request that this program sends", request=shown)


def _actions(plain_query: str) -> list[str]:
    """Return every value given for `action` in a decoded query, however it is spelled."""
    found = []
    for pair in re.split("[&;]", plain_query):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "action":
            found.append(value.strip().lower())
    return found


def _decoded(text: str) -> str:
    """Undo percent-encoding until nothing changes, so that no layer of it hides an action."""
    if "%" not in text and "+" not in text:
        return text
    for _ in range(5):
        plain = unquote(text.replace("+", " "))
        if plain == text:
            break
        text = plain
    return text
