"""Sending a body piece by piece, and everything that can go wrong meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.exchange import Stream
from orchestrator.simulator.files import PIECE


def dropped(request: web.BaseRequest, *, in_order: bool = False) -> web.StreamResponse:
    """Reset the connection, or close it `in_order`; what is returned goes nowhere."""
    if request.transport is not None:
        (request.transport.close if in_order else request.transport.abort)()
    return web.Response(status=500)


async def dripped(
    request: web.BaseRequest, response: web.StreamResponse, body: bytes, seconds: float
) -> web.StreamResponse:
    """Send a body in eight pieces over `seconds`."""
    slow = web.StreamResponse(status=response.status, headers=response.headers)
    slow.content_length = len(body)
    await slow.prepare(request)
    size = -(-len(body) // 8)
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds / 8)
        await slow.write(body[start : start + size])
    await slow.write_eof()
    return slow


async def endless(
    request: web.BaseRequest, response: web.StreamResponse, body: bytes, seconds: float
) -> web.StreamResponse:
    """Send half of a body, then a blank every `seconds` until the client leaves."""
    answer = web.StreamResponse(status=response.status, headers=response.headers)
    answer.headers.pop("Content-Length", None)
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(seconds)
        await answer.write(b" ")
    return dropped(request)


EXTRA = b"bytes that no Content-Length announced"


async def streamed(
    request: web.BaseRequest,
    headers: Mapping[str, str],
    stream: Stream,
    behaviour: Behaviour,
    *,
    fault: str = "",
    seconds: float = 0.0,
) -> web.StreamResponse:
    """Send the whole file, or misbehave by the kind of fault."""
    response = web.StreamResponse(status=200, reason="OK", headers=headers)
    promised, sent_at_most = _sizes(stream.size, fault)
    if behaviour.chunked_downloads:
        response.enable_chunked_encoding()
    else:
        response.content_length = promised
    if fault == "gzip":
        response.headers["Content-Encoding"] = "gzip"
    await response.prepare(request)
    left, breath = sent_at_most, seconds / max(1, -(-sent_at_most // PIECE))
    for piece in stream.pieces:
        if fault == "drip":
            await asyncio.sleep(breath)
        if behaviour.download_bytes_per_s:
            await asyncio.sleep(len(piece) / behaviour.download_bytes_per_s)
        await response.write(piece[:left])
        stream.fate.downloaded_bytes += len(piece[:left])
        left -= len(piece[:left])
        if left <= 0:
            break
    return await _ended(request, response, stream, promised, fault, seconds)


def _sizes(size: int, fault: str) -> tuple[int, int]:
    """Return the Content-Length and how many bytes are sent at most."""
    half = size // 2
    match fault:
        case "truncated":
            return half, half
        case "reset_mid_body" | "close_mid_body" | "silent_mid_body":
            return max(size, 1), half
        case "grown":
            return size + len(EXTRA), size
    return size, size


async def _ended(
    request: web.BaseRequest,
    response: web.StreamResponse,
    stream: Stream,
    promised: int,
    fault: str,
    seconds: float,
) -> web.StreamResponse:
    if fault == "silent_mid_body":
        await asyncio.sleep(seconds)
    if fault in {"reset_mid_body", "close_mid_body", "silent_mid_body"}:
        dropped(request, in_order=fault != "reset_mid_body")
        return response
    if fault == "grown":
        await response.write(EXTRA)
    await response.write_eof()
    if fault == "too_long" and request.transport is not None:
        request.transport.write(EXTRA)
    stream.fate.downloaded += 1
    return response
