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
from collections.abc import Mapping
from email.utils import format_datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from orchestrator.simulator import answers
from orchestrator.simulator.exchange import POINT, Call, Refusal, Reply, kind_of
from orchestrator.simulator.faults import DISGUISES, SPOILS, Fault, FaultScript
from orchestrator.simulator.json_form import as_json
from orchestrator.simulator.manager import SimSession, SimulatedManager
from orchestrator.simulator.pages import page
from orchestrator.simulator.proxying import passed_on, stopped, way
from orchestrator.simulator.spoiling import XML_SPOILS, spoiled
from orchestrator.simulator.streaming import dripped, dropped, endless, streamed
from orchestrator.simulator.writing import Writer

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
    406: "NotAcceptable",
    415: "UnsupportedMediaType",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
BOM = b"\xef\xbb\xbf"
ANSWER_LOST = frozenset(
    {"drop_after", "close_after", "answer_after", "error_500_after", "proxy_page"}
)
"""Kinds that act, and then give another answer or none."""
UNAVAILABLE = "The service is temporarily unavailable."
MESSAGES = {
    400: "Node [root] does not exist.",
    401: "Session is not found or has expired.",
    403: "Access denied.",
    404: "Mount point is not found.",
    405: "Method is not allowed.",
    406: "The media type is not acceptable.",
    415: "The media type of the body is not supported.",
    500: "Object reference not set to an instance of an object.",
}
"""Messages of the service by status; all others have UNAVAILABLE."""
STATUSES = {"unauthorized": 401, "error_500": 500, "forbidden": 403}
"""Kinds that are answered with the service's own Error, without acting."""
LATE = frozenset({"act_later", "held"})
"""Kinds that act `seconds` after a request arrived."""


class HttpFace:
    """Answers HTTP for one manager."""

    def __init__(
        self, manager: SimulatedManager, faults: FaultScript | None = None, *, seed: int = 0
    ) -> None:
        """`faults` decides what goes wrong."""
        self.manager = manager
        self.faults = faults or FaultScript()
        self._rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self._in_work = 0
        self._began = 0.0

    def protocol_factory(self) -> web.Server:
        """Begin to serve; return what makes a server protocol per connection, called for each."""
        self._began = self.manager.clock()
        return web.Server(
            self.handle,
            keepalive_timeout=120.0,
            max_line_size=16_384,
            max_field_size=16_384,
            access_log=None,
        )

    def served_s(self) -> float:
        """Return for how long it has served, on the server's clock: the time of its faults."""
        return self.manager.clock() - self._began

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, or misbehave by the script."""
        self.manager.truth.received[self.manager.name] += 1
        self._in_work += 1
        try:
            response = await self._handled(request)
        finally:
            self._in_work -= 1
        if not response.prepared:
            self._date(response)
        return response

    def _date(self, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(self.manager.wall_clock(), usegmt=True)

    async def _handled(self, request: web.BaseRequest) -> web.StreamResponse:
        behaviour, arrived_at = self.manager.behaviour, self.manager.clock()
        refused = stopped(behaviour, request.raw_path)
        if refused is not None:
            return refused
        target = way(behaviour, request.raw_path)
        path, _, query = target.partition("?")
        fault = self.faults.strike(request.method, path, self.served_s(), query)
        if self._overloaded(request.method, path):
            self.manager.truth.overloads[self.manager.name] += 1
            return self._failure(request, 503)
        if behaviour.latency_s:
            await asyncio.sleep(behaviour.latency_s)
        early = None
        if fault is not None:
            early = await self._before(fault, request)
            if early is not None and not early.prepared:
                return early
        try:
            reply = await self._answered(request, target, arrived_at, fault)
            if early is not None:
                return early
        except ConnectionResetError:  # the client left before its request was whole
            return dropped(request)
        if reply.stream is not None:
            return await self._streamed(request, reply, fault)
        response = self._encoded(request, reply)
        if fault is not None:
            response = await self._after(fault, request, response)
        return passed_on(behaviour, request, response)

    def _overloaded(self, method: str, path: str) -> bool:
        """Tell whether the server has more in work than it bears."""
        manager, behaviour = self.manager, self.manager.behaviour
        if behaviour.bears_requests is not None and self._in_work > behaviour.bears_requests:
            return True
        if behaviour.bears_mounts is None or method != "POST" or not path.endswith("/mounts"):
            return False
        return manager.truth.open_now[f"server:{manager.name}"] >= behaviour.bears_mounts

    async def _answered(
        self, request: web.BaseRequest, target: str, arrived_at: float, fault: Fault | None
    ) -> Reply:
        path, _, query = target.partition("?")
        kind = fault.kind if fault is not None else ""
        body = await request.read()  # a slow line may take minutes
        after_s = self.manager.clock() - arrived_at
        call = Call(
            method=request.method,
            path=re.sub("/+", "/", path),
            query={key.lower(): value for key, value in parse_qsl(query, keep_blank_values=True)},
            headers=request.headers,
            body=body,
            writer=Writer(self.manager.behaviour, request.headers.get("Host", ""), self._rng),
            late_s=max(fault.seconds, after_s) if fault is not None and kind in LATE else 0.0,
            unforeseen=fault is not None and _will_be_refused(fault),
        )
        call.writer.disguise = kind if kind in DISGUISES else ""
        reply = await self._carried_out(call)
        if kind == "twice":
            call.unforeseen = True
            reply = await self._carried_out(call)
        if fault is not None and kind in SPOILS:
            self._spoil(request, reply, fault)
        if fault is not None and kind in DISGUISES and not call.writer.disguised:
            fault.struck -= 1  # there was nothing to change
        return reply

    async def _carried_out(self, call: Call) -> Reply:
        try:
            return await self._dispatch(call)
        except Refusal as refusal:
            return Reply(refusal.status, call.writer.error(refusal.status, refusal.message))

    def _spoil(self, request: web.BaseRequest, reply: Reply, fault: Fault) -> None:
        """Let one thing of an answer be wrong; where there is none, nothing has struck."""
        text = None
        in_xml = not self._in_json(request.headers)
        if reply.xml is not None and (in_xml or fault.kind not in XML_SPOILS):
            text = spoiled(reply.xml, fault.kind, fault.row)
        if text is None:
            fault.struck -= 1
        else:
            reply.xml = text

    def _in_json(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request is answered in JSON."""
        if self.manager.behaviour.speaks != "both":
            return self.manager.behaviour.speaks != "xml"
        return "application/json" in headers.get("Accept", "")

    def _encoded(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Encode by what Accept asks for; errors carry no charset."""
        behaviour = self.manager.behaviour
        wants_json = self._in_json(request.headers)
        headers = {**HEADERS, **(reply.headers or {})}
        if reply.status == 401:
            headers["WWW-Authenticate"] = "Basic Realm=RestSvc"
        body = reply.raw or b""
        if reply.xml is not None:
            kind = "application/json" if wants_json else "application/xml"
            headers["Content-Type"] = kind if reply.status >= 400 else f"{kind}; charset=utf-8"
            body = reply.xml.encode()
            if wants_json:
                body = as_json(reply.xml, behaviour)
            if behaviour.byte_order_mark and not body.startswith(BOM):
                body = BOM + body
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
            return dropped(request)
        finally:
            self.manager.truth.bytes_sent += reply.stream.fate.downloaded_bytes - before

    # --- faults ----------------------------------------------------------------------------

    async def _before(self, fault: Fault, request: web.BaseRequest) -> web.StreamResponse | None:
        """Do what the fault does before the request is acted on."""
        match fault.kind:
            case "delay":
                await asyncio.sleep(fault.seconds)
            case "held":
                await request.read()
                await asyncio.sleep(fault.seconds)
            case "drop_before" | "close_before":
                return dropped(request, in_order=fault.kind == "close_before")
            case "act_later":
                return await self._answered_early(fault, request)
            case "answer":
                return self._wrong(fault, request)
            case "black_hole":
                await asyncio.sleep(86_400.0)
            case "clock_jump":
                self.manager.skew += fault.seconds
            case "restart":
                self.manager.restart()
                return dropped(request)
            case "forget_session":
                session = self._session_of(request.headers)
                if session is not None:
                    self.manager.end(session)
                return self._failure(request, 401)
            case "unauthorized" | "error_500" | "forbidden":
                return self._failure(request, STATUSES[fault.kind])
            case "hollow_204":
                return web.Response(status=204, reason=REASONS[204], headers=HEADERS)
            case "xml_503":
                return self._failure(request, 503, fault.retry_after)
            case "html_503" | "html_404" | "html_200":
                status = int(fault.kind.removeprefix("html_"))
                return page(status, "http_sys", retry_after=fault.retry_after)
        return None

    async def _answered_early(
        self, fault: Fault, request: web.BaseRequest
    ) -> web.StreamResponse | None:
        """Drop the connection or answer, and wait; the request is carried out afterwards."""
        await request.read()
        if not fault.status:
            dropped(request)
            await asyncio.sleep(fault.seconds)
            return None
        early = self._wrong(fault, request)
        early.force_close()
        await early.prepare(request)
        await early.write_eof()
        await asyncio.sleep(fault.seconds)
        return early

    def _wrong(self, fault: Fault, request: web.BaseRequest) -> web.StreamResponse:
        """Return the answer that a fault names."""
        if fault.body != "service":
            return page(fault.status, fault.body, retry_after=fault.retry_after)
        return self._failure(request, fault.status, fault.retry_after)

    def _failure(
        self, request: web.BaseRequest, status: int, retry_after: str | None = None
    ) -> web.StreamResponse:
        """Return the service's own Error."""
        writer = Writer(self.manager.behaviour, request.headers.get("Host", ""), self._rng)
        headers = {"Retry-After": retry_after} if retry_after else {}
        xml = writer.error(status, MESSAGES.get(status, UNAVAILABLE))
        return self._encoded(request, Reply(status, xml, headers=headers))

    async def _after(
        self, fault: Fault, request: web.BaseRequest, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Do what the fault does once the request was acted on."""
        self._date(response)  # some are sent here, and would get the real time
        body = getattr(response, "body", b"") or b""
        if fault.kind in {"drop_after", "close_after"}:
            return dropped(request, in_order=fault.kind == "close_after")
        if fault.kind == "answer_after" or (fault.kind == "twice" and fault.status):
            return self._wrong(fault, request)
        if fault.kind == "error_500_after":
            return self._failure(request, 500)
        if fault.kind == "proxy_page":
            return page(502, "page")
        if fault.kind == "endless_body":
            return await endless(request, response, body, fault.seconds)
        if fault.kind == "late":
            await asyncio.sleep(fault.seconds)
        if fault.kind == "drip" and body:
            return await dripped(request, response, body, fault.seconds)
        if fault.kind == "truncated":
            half = web.Response(status=response.status, body=body[: len(body) // 2])
            headers = response.headers.items()
            half.headers.update({k: v for k, v in headers if k != "Content-Length"})
            return half
        if fault.kind == "reset_mid_body":
            partial = web.StreamResponse(status=response.status, headers=response.headers)
            partial.content_length = max(2, len(body))
            await partial.prepare(request)
            await partial.write(body[: len(body) // 2])
            return dropped(request)
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
            raise Refusal(401, MESSAGES[401])
        return await answers.answer(self.manager, call, session, rest)

    def _count(self, call: Call) -> None:
        truth = self.manager.truth
        truth.requests[f"{call.method} {kind_of(call.path)}"] += 1
        if "/sessionmngr" in call.path.lower():
            truth.logon_attempts.append((self.manager.name, self.manager.clock()))
        if "/failoverplans" in call.path.lower() and call.method != "GET":
            truth.dangerous += 1
        action = call.query.get("action", "").lower()
        on_a_point = action == "restore" and POINT.search(call.path)
        if action == "failover" or on_a_point:
            truth.dangerous += 1

    def _check_media_types(self, call: Call) -> None:
        """A body whose type Accept does not name is not understood. Source: reference 1.3."""
        sent = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        accept = call.headers.get("Accept", "")
        speaks = self.manager.behaviour.speaks
        if speaks == "json_406" and accept not in {"", "*/*", "application/json"}:
            raise Refusal(406, MESSAGES[406])
        if speaks.startswith("json") and call.body and "json" not in sent:
            raise Refusal(415, MESSAGES[415])
        if speaks == "xml" and call.body and "json" in sent:
            raise Refusal(400, MESSAGES[400])
        if not self.manager.behaviour.strict_media_types or not call.body:
            return
        if ("json" in sent) != ("application/json" in accept):
            raise Refusal(400, MESSAGES[400])

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
            "X-Simulated": "yes",  # what is proven here proves nothing of a real server
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


def _will_be_refused(fault: Fault) -> bool:
    """Tell whether the service will act and then answer with a refusal."""
    honest = fault.body not in {"service", "http_sys"} or fault.status == 500
    return fault.kind == "answer_after" and not honest
