"""Who may read the page: the right Host, no foreign origin, GET or HEAD, and the token.

The token stands in the link that is printed once; the first request trades it for a cookie
that scripts and other sites cannot use. Prometheus sends it as a Bearer token instead.

A browser keeps that cookie back on its whole way from another site's link, such as one in a
chat or a CI system's log: who comes without it is sent once more, from here.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping, Sequence

from aiohttp import web

from orchestrator.views.web.address import Address, fresh_token

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "bulk-restore",
}
"""On every answer, whatever it is."""

METHODS = ("GET", "HEAD")
LINK_NEEDED = "Open the link that bulk-restore printed; it holds the token."
RETRY_PAGE = f"""<!doctype html>
<meta http-equiv="refresh" content="0;url=/?again=1"><title>bulk-restore</title><p>{LINK_NEEDED}
"""


class Refused(Exception):
    """The request is answered with `status` and one sentence, and nothing else."""

    def __init__(self, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
        """`headers` are what this status needs."""
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers or {}


class Access:
    """Decides about every request before anything else sees it."""

    def __init__(
        self, address: Address, token: str, hostname: str = "", names: Sequence[str] = ()
    ) -> None:
        """`address` is the bound one; `hostname` is a name that others know the machine by.

        `names` are allowed because a person said so.
        """
        self._address = address
        self._hosts = address.authorities(hostname, names)
        where = "an IP address of the machine" if address.is_any else str(address.ip)
        self._advice = f"Ask for {where}, port {address.port}, also at your end of a tunnel."
        if not address.is_loopback:
            self._advice += " --serve-name allows a further name."
        self._token = token
        self._cookie = f"bulk_restore_{address.port}"  # cookies do not know ports
        self._cookie_value = fresh_token()

    def admit(self, request: web.BaseRequest) -> web.Response | None:
        """Return None if the request may be answered, or the answer to the link itself.

        Raises:
            Refused: it may not.
        """
        host = self._checked_host(request)
        if request.method not in METHODS:
            raise Refused(405, "This page can only be read.", {"Allow": ", ".join(METHODS)})
        self._check_origin(request, host)
        offered = request.query.get("token")
        if offered is not None and request.path == "/":
            if not _equal(offered, self._token):
                raise Refused(401, "This is not the token of this run's page.")
            return self._with_cookie()
        is_again = request.path == "/" and "again" in request.query
        if self._is_authorized(request):
            return _redirect() if is_again else None
        headers = {"WWW-Authenticate": 'Bearer realm="bulk-restore"'}
        is_browser = "text/html" in request.headers.get("Accept", "")
        if request.path == "/" and not is_again and is_browser:
            return web.Response(
                status=401, text=RETRY_PAGE, content_type="text/html", headers=headers
            )
        raise Refused(401, LINK_NEEDED, headers)

    def _checked_host(self, request: web.BaseRequest) -> str:
        """Return the Host; another name is that of a foreign site that resolves to this address."""
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not request.raw_path.startswith("/"):
            raise Refused(400, "There must be one Host, and a path.")
        host = hosts[0].lower()
        if host in self._hosts or (self._address.is_any and self._is_literal(host)):
            return host
        raise Refused(421, f"This page is not served under that name. {self._advice}")

    def _is_literal(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if port != str(self._address.port):
            return False
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

    def _check_origin(self, request: web.BaseRequest, host: str) -> None:
        """Let no other site use this one through a person's browser."""
        origins = request.headers.getall("Origin", [])
        if any(origin.lower() != f"http://{host}" for origin in origins):
            raise Refused(403, "Other sites may not ask this page.")
        foreign = request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}
        mode = request.headers.get("Sec-Fetch-Mode")
        if foreign and not (mode == "navigate" and request.path == "/"):
            raise Refused(403, "Other sites may not ask this page.")

    def _is_authorized(self, request: web.BaseRequest) -> bool:
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(bearer.strip(), self._token):
            return True
        return _equal(request.cookies.get(self._cookie, ""), self._cookie_value)

    def _with_cookie(self) -> web.Response:
        """Send the browser on to the page without the token in its address."""
        response = _redirect()
        response.set_cookie(
            self._cookie, self._cookie_value, path="/", httponly=True, samesite="Strict"
        )
        return response


def _redirect() -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})


def _equal(offered: str, wanted: str) -> bool:
    """Compare in a time that does not depend on the texts."""
    return hmac.compare_digest(offered.encode("utf-8", "replace"), wanted.encode())
