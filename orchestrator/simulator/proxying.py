"""What a proxy between client and server does to every exchange, by `behaviour`.

Source: reference 18.1.
"""

from __future__ import annotations

import re

from aiohttp import web
from multidict import CIMultiDict

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.pages import page

_SLASH = re.compile("%2f", re.IGNORECASE)
_OWN_NAMES = re.compile("^(X-|Location|Set-Cookie|Cache-Control|Strict-)", re.IGNORECASE)


def stopped(behaviour: Behaviour, target: str) -> web.Response | None:
    """Return the page that answers a request which does not pass, or None."""
    if behaviour.url_limit_bytes is not None and len(target) > behaviour.url_limit_bytes:
        return page(414, "page")
    if behaviour.encoded_slash == "refused" and _SLASH.search(target.partition("?")[0]):
        return page(404, "page")
    return None


def way(behaviour: Behaviour, target: str) -> str:
    """Return path and query as the server gets them."""
    if behaviour.encoded_slash != "decoded":
        return target
    path, mark, query = target.partition("?")
    return re.sub("/+", "/", _SLASH.sub("/", path)) + mark + query


def passed_on(
    behaviour: Behaviour, request: web.BaseRequest, response: web.StreamResponse
) -> web.StreamResponse:
    """Return the answer as the client gets it."""
    if response.prepared or not isinstance(response, web.Response):
        return response
    if behaviour.header_names != "kept":
        shown = str.lower if behaviour.header_names == "lower" else str.title
        names = CIMultiDict(
            (shown(name) if _OWN_NAMES.match(name) else name, value)
            for name, value in response.headers.items()
        )
        response.headers.clear()
        response.headers.extend(names)
    asked = "gzip" in request.headers.get("Accept-Encoding", "")
    if response.body and (
        behaviour.compresses == "always" or (behaviour.compresses == "asked" and asked)
    ):
        response.enable_compression(web.ContentCoding.gzip)
    if behaviour.chunks_answers and response.body:
        response.enable_chunked_encoding()
    return response
