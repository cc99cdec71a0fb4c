"""Answers that are not the service's own: pages of HTTP.sys and of proxies.

Only its own Error, its JSON error and a page of HTTP.sys are the service's word. Source:
reference 18.1.
"""

from __future__ import annotations

from aiohttp import web

HTTP_SYS = "Microsoft-HTTPAPI/2.0"
BODIES = {
    "service": "the service's own Error, in XML or JSON",
    "http_sys": "a web page with the Server header of HTTP.sys",
    "page": "a web page of something else",
    "xhtml": "the same, and well-formed XML",
    "json": "a JSON object that is not the service's",
    "empty": "nothing",
}
_PAGE = b"<!DOCTYPE HTML><html><head><title>%s</title></head><body><hr>%s<br><br></body></html>\r\n"
_XHTML = (
    b'<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml">'
    b"<head><title>%s</title></head><body><h1>%s</h1></body></html>"
)
TITLES = {
    200: "Welcome",
    204: "No Content",
    302: "Found",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Not Allowed",
    408: "Request Timeout",
    414: "Request-URI Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""What the pages are headed, by status."""


def page(status: int, body: str, *, retry_after: str | None = None) -> web.Response:
    """Return an answer of this status with a body of `BODIES`, except "service"."""
    title = TITLES.get(status, "Error")
    headers = {"Server": HTTP_SYS if body == "http_sys" else "nginx/1.24.0"}
    if retry_after is not None:
        headers["Retry-After"] = retry_after
    if 300 <= status < 400:
        headers["Location"] = "https://login.example.net/api/"
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="proxy"'
    if body == "empty" or status == 204:
        return web.Response(status=status, reason=title, headers=headers)
    if body == "json":
        headers["Content-Type"] = "application/json"
        return web.Response(
            status=status, reason=title, headers=headers, text=f'{{"message": "{title}"}}'
        )
    headers["Content-Type"] = "application/xhtml+xml" if body == "xhtml" else "text/html"
    said = title.encode()
    text = (_XHTML if body == "xhtml" else _PAGE) % (said, said)
    return web.Response(status=status, reason=title, headers=headers, body=text)
