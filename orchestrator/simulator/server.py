"""The REST face of one simulated Enterprise Manager, for sockets and for the memory network.

Its own dispatch on the raw path: literals in any case, doubled slashes tolerated, guest paths
percent-decoded once. Headers, one-word reasons and error bodies as captured from real ones.
Source: reference sections 1.2, 1.3, 1.9 and 8.
"""

from __future__ import annotations

import asyncio
import binascii
import random
import re
from base64 import b64decode
from email.utils import format_datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from orchestrator.simulator import answers
from orchestrator.simulator.exchange import Call, Refusal, Reply
from orchestrator.simulator.faults import DISGUISES, Fault, FaultScript
from orchestrator.simulator.manager import SimSession, SimulatedManager
from orchestrator.simulator.streaming import streamed
from orchestrator.simulator.writing import Writer, as_json

HEADERS = {
    "Cache-Control": "private",
    "Server": "Microsoft-HTTPAPI/2.0",
    "X-Frame-Options": "SAMEORIGIN",
    "X-XSS-Protection": "1; mode=block",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}
REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "NoContent",
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
ANSWER_LOST = frozenset({"drop_after", "error_500_after", "proxy_page"})
"""Kinds that act, and then give another answer or none."""
BROKEN = "Object reference not set to an instance of an object."
HTML = b"<!DOCTYPE HTML><html><head><title>Service Unavailable</title></head><body></body></html>"


class Face:
    """Answers HTTP for one manager."""

    def __init__(
        self, manager: SimulatedManager, faults: FaultScript | None = None, *, seed: int = 0
    ) -> None:
        """`faults` decides what goes wrong."""
        self.manager = manager
        self.faults = faults or FaultScript()
        self._rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self._in_work = 0

    def protocol_factory(self) -> web.Server:
        """Return what makes a server protocol per connection; call it for each."""
        return web.Server(
            self.handle,
            keepalive_timeout=120.0,
            max_line_size=16_384,
            max_field_size=16_384,
            access_log=None,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, or misbehave as the script says."""
        self.manager.truth.received[self.manager.name] += 1
        self._in_work += 1
        try:
            response = await self._handled(request)
        finally:
            self._in_work -= 1
        if not response.prepared:
            response.headers["Date"] = format_datetime(self.manager.wall_clock(), usegmt=True)
        return response

    async def _handled(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.raw_path
        path, _, query = target.partition("?")
        fault = self.faults.strike(request.method, path, self.manager.clock(), query)
        if self._overloaded(request.method, path):
            self.manager.truth.overloads[self.manager.name] += 1
            return self._failure(request, 503, "The service is temporarily unavailable.")
        if self.manager.behaviour.latency_s:
            await asyncio.sleep(self.manager.behaviour.latency_s)
        if fault is not None:
            early = await self._before(fault, request)
            if early is not None:
                return early
        try:
            reply = await self._answered(request, target, fault)
        except ConnectionResetError:  # the client left before its request was whole
            return _dropped(request)
        if reply.stream is not None:
            return await self._streamed(request, reply, fault)
        response = self._encoded(request, reply)
        return await self._after(fault, request, response) if fault is not None else response

    def _overloaded(self, method: str, path: str) -> bool:
        """Tell whether the server has more in work than it bears."""
        manager, behaviour = self.manager, self.manager.behaviour
        if behaviour.bears_requests is not None and self._in_work > behaviour.bears_requests:
            return True
        mounting = method == "POST" and path.endswith("/mounts")
        open_now = manager.truth.open_now[f"server:{manager.name}"]
        return (
            mounting and behaviour.bears_mounts is not None and open_now >= behaviour.bears_mounts
        )

    async def _answered(
        self, request: web.BaseRequest, target: str, fault: Fault | None = None
    ) -> Reply:
        path, _, query = target.partition("?")
        call = Call(
            method=request.method,
            path=re.sub("/+", "/", path),
            query={key.lower(): value for key, value in parse_qsl(query, keep_blank_values=True)},
            headers=request.headers,
            body=await request.read(),
            writer=Writer(self.manager.behaviour, request.headers.get("Host", ""), self._rng),
        )
        if fault is not None and fault.kind in DISGUISES:
            call.writer.disguise = fault.kind
        try:
            return await self._dispatch(call)
        except Refusal as refusal:
            xml = call.writer.error(refusal.status, refusal.message)
            return Reply(refusal.status, xml)
        finally:
            if call.writer.disguise and not call.writer.disguised and fault is not None:
                fault.struck -= 1  # there was nothing to change

    def _encoded(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Encode by what Accept asks for; errors carry no charset."""
        behaviour = self.manager.behaviour
        wants_json = "application/json" in request.headers.get("Accept", "")
        headers = {**HEADERS, **(reply.headers or {})}
        if reply.status == 401:
            headers["WWW-Authenticate"] = "Basic Realm=RestSvc"
        body = reply.raw or b""
        if reply.xml is not None:
            kind = "application/json" if wants_json else "application/xml"
            headers["Content-Type"] = kind if reply.status >= 400 else f"{kind}; charset=utf-8"
            body = reply.xml.encode()
            if wants_json:
                body = as_json(reply.xml, camel_case=behaviour.camel_case_json)
            if behaviour.byte_order_mark:
                body = b"\xef\xbb\xbf" + body
        self.manager.truth.bytes_sent += len(body)
        return web.Response(
            status=reply.status, reason=REASONS.get(reply.status), body=body, headers=headers
        )

    async def _streamed(
        self, request: web.BaseRequest, reply: Reply, fault: Fault | None
    ) -> web.StreamResponse:
        """Send a file; what strikes after acting strikes while it is sent."""
        assert reply.stream is not None  # noqa: S101 - the caller looked
        if fault is not None and fault.kind in ANSWER_LOST:
            return await self._after(fault, request, web.Response(status=200))
        headers = {**HEADERS, **(reply.headers or {})}
        headers["Date"] = format_datetime(self.manager.wall_clock(), usegmt=True)
        before = reply.stream.fate.downloaded_bytes
        try:
            return await streamed(
                request,
                headers,
                reply.stream,
                self.manager.behaviour,
                fault=fault.kind if fault is not None else "",
                seconds=fault.seconds if fault is not None else 0.0,
            )
        except ConnectionError:  # the client has left
            return _dropped(request)
        finally:
            self.manager.truth.bytes_sent += reply.stream.fate.downloaded_bytes - before

    # --- faults ----------------------------------------------------------------------------

    async def _before(self, fault: Fault, request: web.BaseRequest) -> web.StreamResponse | None:
        """Do what the fault does before the request is acted on."""
        match fault.kind:
            case "delay":
                await asyncio.sleep(fault.seconds)
            case "drop_before":
                return _dropped(request)
            case "act_later":
                await request.read()
                _dropped(request)
                await asyncio.sleep(fault.seconds)
            case "black_hole":
                await asyncio.sleep(86_400.0)
            case "clock_jump":
                self.manager.skew += fault.seconds
            case "restart":
                self.manager.restart()
                return _dropped(request)
            case "forget_session":
                session = self._session_of(request.headers)
                if session is not None:
                    self.manager.end(session)
                return self._failure(request, 401, "Session is not found or has expired.")
            case "unauthorized":
                return self._failure(request, 401, "Session is not found or has expired.")
            case "error_500":
                return self._failure(request, 500, BROKEN)
            case "forbidden":
                return self._failure(request, 403, "Access denied.")
            case "hollow_204":
                return web.Response(status=204, reason=REASONS[204], headers=HEADERS)
            case "xml_503":
                extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                return self._failure(request, 503, "The service is temporarily unavailable.", extra)
            case "html_503" | "html_404" | "html_200":
                status = int(fault.kind.removeprefix("html_"))
                extra = {"Retry-After": fault.retry_after} if fault.retry_after else {}
                return web.Response(
                    status=status, body=HTML, headers={**extra, "Content-Type": "text/html"}
                )
        return None

    def _failure(
        self,
        request: web.BaseRequest,
        status: int,
        message: str,
        headers: dict[str, str] | None = None,
    ) -> web.StreamResponse:
        writer = Writer(self.manager.behaviour, request.headers.get("Host", ""), self._rng)
        return self._encoded(request, Reply(status, writer.error(status, message), headers=headers))

    async def _after(
        self, fault: Fault, request: web.BaseRequest, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Do what the fault does once the request was acted on."""
        body = getattr(response, "body", b"") or b""
        if fault.kind == "drop_after":
            return _dropped(request)
        if fault.kind == "error_500_after":
            return self._failure(request, 500, BROKEN)
        if fault.kind == "proxy_page":
            return web.Response(status=502, body=HTML, headers={"Content-Type": "text/html"})
        if fault.kind == "late":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "drip" and body:
            return await _dripped(request, response, body, fault.seconds)
        if fault.kind == "truncated":
            half = web.Response(status=response.status, body=body[: len(body) // 2])
            half.headers.update(
                {k: v for k, v in response.headers.items() if k != "Content-Length"}
            )
            return half
        if fault.kind == "reset_mid_body":
            partial = web.StreamResponse(status=response.status, headers=response.headers)
            partial.content_length = max(2, len(body))
            await partial.prepare(request)
            await partial.write(body[: len(body) // 2])
            return _dropped(request)
        return response

    # --- dispatch --------------------------------------------------------------------------

    async def _dispatch(self, call: Call) -> Reply:
        self._count(call)
        parts = [unquote(part) for part in call.path.strip("/").split("/")]
        if not parts or parts[0].lower() != "api":
            raise Refusal(404, "Not found.")
        self._check_media_types(call)
        rest = parts[1:]
        head = rest[0].lower() if rest else ""
        if head == "":
            return Reply(200, call.writer.service_root())
        if head == "sessionmngr":
            return self._log_on(call)
        session = self._session_of(call.headers)
        if session is None:
            raise Refusal(401, "Session is not found or has expired.")
        return await answers.answer(self.manager, call, session, rest)

    def _count(self, call: Call) -> None:
        truth = self.manager.truth
        truth.requests[f"{call.method} {_kind(call.path)}"] += 1
        action = call.query.get("action", "").lower()
        on_a_point = re.search(r"points/[^/]+/?$", call.path, re.IGNORECASE)
        if action == "failover" or (action == "restore" and on_a_point):
            truth.dangerous += 1

    def _check_media_types(self, call: Call) -> None:
        """A body whose type Accept does not name is not understood. Source: reference 1.3."""
        sent = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        accept = call.headers.get("Accept", "")
        if not self.manager.behaviour.strict_media_types or not call.body:
            return
        if ("json" in sent) != ("application/json" in accept):
            raise Refusal(400, "Node [root] does not exist.")

    def _log_on(self, call: Call) -> Reply:
        if call.method != "POST":
            raise Refusal(405, "Method is not allowed.")
        if call.query.get("v", "latest") not in {"latest", "v1_5", "v1_6", "v1_7"}:
            raise Refusal(400, "The API version is not supported.")
        scheme, _, encoded = call.headers.get("Authorization", "").partition(" ")
        try:
            name, _, password = b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name = password = ""
        session = self.manager.logon(name, password) if scheme.lower() == "basic" else None
        if session is None:
            raise Refusal(401, "The user name or password is incorrect.")
        headers = {
            "X-RestSvcSessionId": session.token,
            "Set-Cookie": f"X-RestSvcSessionId={session.token}; Path=/api;",
            "Location": f"{call.writer.base}/logonSessions/{session.id}",
        }
        return Reply(201, call.writer.logon_session(session), headers=headers)

    def _session_of(self, headers: Any) -> SimSession | None:
        """Return the session a request belongs to: a cookie wins over the header."""
        token = headers.get("X-RestSvcSessionId", "")
        try:
            cookie = SimpleCookie(headers.get("Cookie", "")).get("X-RestSvcSessionId")
        except CookieError:
            cookie = None
        if cookie is not None:
            token = cookie.value
            quoted = cookie.coded_value.startswith('"')
            if quoted and self.manager.behaviour.quoted_cookie_is_refused:
                return None
        return self.manager.session(token)


def _kind(path: str) -> str:
    """Return what a path addresses, without its ids."""
    kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "{id}", path, flags=re.IGNORECASE)
    kind = re.sub(r"task-\d+", "{task}", kind)
    return re.sub(r"/mounts/\d+.*", "/mounts/{n}", kind)


def _dropped(request: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection; what is returned goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _dripped(
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
