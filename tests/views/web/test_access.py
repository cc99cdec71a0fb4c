"""Who may read the page: every way in that is not the right one is closed."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from orchestrator.views.web.access import HEADERS
from orchestrator.views.web.address import Address, NotAnAddress, own_token, served_name
from tests.views.web.visits import TOKEN, ask, request, say, visited

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets, real time."""
    return "asyncio"


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/metrics"])
async def test_every_answer_carries_the_policy(path: str) -> None:
    """Page, files and metrics are served with each protecting header."""
    async with visited() as site:
        answer = await ask(site, path)

    assert answer.status == 200
    assert answer.body
    for name, value in HEADERS.items():
        assert answer.headers[name.lower()] == value
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/", "/page.js", "/events", "/metrics", "/nothing"])
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN],
)
async def test_without_the_token_nothing_is_said(path: str, authorization: str | None) -> None:
    """Every path answers 401 alike, also one that does not exist."""
    async with visited() as site:
        answer = await ask(site, path, Authorization=authorization)

    assert answer.status == 401
    assert b"Open the link" in answer.body
    assert answer.headers["cache-control"] == "no-store"


async def test_the_link_is_traded_for_a_cookie() -> None:
    """The token leaves the address at once; the cookie is no token, and no script reads it."""
    async with visited() as site:
        traded = await ask(site, f"/?token={TOKEN}", Authorization=None)
        cookie, *attributes = traded.headers["set-cookie"].split("; ")
        opened = await ask(site, "/", Authorization=None, Cookie=cookie)
        wrong = await ask(site, f"/?token={TOKEN[:-1]}", Authorization=None)
        elsewhere = await ask(site, f"/page.js?token={TOKEN}", Authorization=None)

    assert (traded.status, traded.headers["location"]) == (303, "/")
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert opened.status == 200
    assert (wrong.status, elsewhere.status) == (401, 401)
    assert "set-cookie" not in wrong.headers


async def test_a_browser_without_the_cookie_is_sent_once_more() -> None:
    """Its second way begins here, so it may bring the cookie; without one it ends there."""
    async with visited() as site:
        traded = await ask(site, f"/?token={TOKEN}", Authorization=None)
        cookie = traded.headers["set-cookie"].partition(";")[0]
        first = await ask(site, Authorization=None, Accept="text/html,*/*")
        second = await ask(site, "/?again=1", Authorization=None, Accept="text/html,*/*")
        brought = await ask(site, "/?again=1", Authorization=None, Cookie=cookie)
        file = await ask(site, "/page.js", Authorization=None, Accept="text/html,*/*")

    assert first.status == second.status == file.status == 401
    assert b"url=/?again=1" in first.body
    assert b"again" not in second.body + file.body
    assert first.headers["content-security-policy"].startswith("default-src 'none'")
    assert (brought.status, brought.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil:{port}"],
)
async def test_a_name_that_is_led_here_is_refused(host: str) -> None:
    """DNS rebinding reaches the address but not the page, whatever else is right."""
    async with visited() as site:
        answer = await ask(site, Host=host.format(port=site.address.port))

    assert answer.status == 421


async def test_localhost_is_a_name_of_loopback() -> None:
    """A tunnel's user may type it."""
    async with visited() as site:
        answer = await ask(site, Host=f"LocalHost:{site.address.port}")

    assert answer.status == 200


async def test_there_is_one_host_and_a_path() -> None:
    """Two Hosts, none, or a whole URL as the target are refused."""
    async with visited() as site:
        right = request(site)
        other = f"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1:{site.address.port}"
        answers = [
            await say(site, right.replace(b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n")),
            await ask(site, Host=None),
            await say(site, f"{other}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()),
        ]

    assert [answer.status for answer in answers] == [400, 400, 400]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    ],
)
async def test_other_sites_cannot_use_a_persons_browser(headers: dict[str, str]) -> None:
    """A foreign Origin or fetch is refused although token and Host are right."""
    async with visited() as site:
        changes = {name: text.format(port=site.address.port) for name, text in headers.items()}
        refused = await ask(site, "/events", **changes)
        own = await ask(site, Origin=f"http://127.0.0.1:{site.address.port}")

    assert refused.status == 403
    assert own.status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/events", "/metrics"])
async def test_nothing_can_be_changed(method: str, path: str) -> None:
    """Only reading is a method here."""
    async with visited() as site:
        answer = await ask(site, path, method, Content_Length="0")

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/page.js", "/metrics", "/events"])
async def test_head_has_no_body(path: str) -> None:
    """HEAD answers as GET does, without the content; a stream does not begin."""
    async with visited() as site:
        answer = await ask(site, path, "HEAD")

        assert (answer.status, answer.body) == (200, b"")
        assert len(site.subscribers) == 0


@pytest.mark.parametrize(
    "path",
    [
        "/../../../etc/passwd",
        "/page/../site.py",
        "/%2e%2e/site.py",
        "/..%2fsite.py",
        "/page.js/",
        "//page.js",
        "/page.js%00",
        "/./page.js",
        "/index.html",
        "/site.py",
        "/\\..\\site.py",
    ],
)
async def test_there_are_no_other_paths(path: str) -> None:
    """A path is looked up as it was sent; no file is ever named by one."""
    async with visited() as site:
        answer = await ask(site, path)

    assert answer.status in {400, 404}


async def test_a_request_has_its_limits() -> None:
    """Long lines, long or many headers, and endless requests end before they cost anything."""
    async with visited() as site:
        long_line = await ask(site, "/" + "x" * 5000)
        long_header = await ask(site, X_Long="x" * 5000)
        many = await say(
            site, request(site)[:-2] + b"".join(b"x%d: y\r\n" % n for n in range(200)) + b"\r\n"
        )

        assert {long_line.status, long_header.status, many.status} == {400}
        assert len(site.connections) == 0


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:0", "127.0.0.1:0"),
        ("[::1]:9", "[::1]:9"),
        ("0.0.0.0:1", "0.0.0.0:1"),
    ],
)
def test_an_address_is_read(text: str, authority: str) -> None:
    """Both families and localhost; only what is loopback says so."""
    address = Address.parse(text)

    assert address.authority == authority
    assert address.is_loopback is (text != "0.0.0.0:1")


@pytest.mark.parametrize(
    "text", ["", "plan.yaml", "8080", ":80", "example.com:80", "::1:80", "1.2.3.4:x", "::", "[::1]"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Names are not looked up, and a plan's path is not taken for an address."""
    with pytest.raises(NotAnAddress):
        Address.parse(text)


@pytest.mark.parametrize("text", ["short", "x" * 19, "x" * 30 + "&", "ä" * 30, ""])
def test_a_weak_token_is_refused(text: str) -> None:
    """A person's own token is long, and stands in a link unchanged; the message hides it."""
    with pytest.raises(ValueError, match="a token") as caught:
        own_token(text)

    assert not text or text not in str(caught.value)


async def test_an_exposed_page_is_asked_by_address() -> None:
    """On every address of the machine any IP address is a name, and no other site's is."""
    async with visited(address=Address.parse("0.0.0.0:0")) as site:
        port = site.address.port
        statuses = [
            (await ask(site, Host=host)).status
            for host in (f"127.0.0.1:{port}", f"10.1.2.3:{port}", f"[::1]:{port}", "10.1.2.3:1")
        ]
        named = await ask(site, Host=f"evil.example:{port}")
        here = await ask(site, Host=f"localhost:{port}")
        linked = await ask(site, Host=urlsplit(site.link).netloc)

    assert statuses == [200, 200, 200, 421]
    assert named.status == 421
    assert (here.status, linked.status) == (200, 200)
    assert "0.0.0.0" not in site.link  # no browser could open that


@pytest.mark.parametrize("where", ["0.0.0.0:0", "127.0.0.1:0"])
async def test_a_name_that_a_person_allows_is_served(where: str) -> None:
    """Under that name and our port, from its own pages only; every other name stays refused."""
    names = (served_name("Backup.Example.com."), served_name("drill"))
    async with visited(address=Address.parse(where), names=names) as site:
        port = site.address.port
        host = f"backup.example.com:{port}"
        allowed = [
            await ask(site, "/metrics", Host=host),
            await ask(site, "/events", "HEAD", Host=host.upper(), Origin=f"http://{host}"),
            await ask(site, Host=f"drill:{port}"),
        ]
        others = (
            "backup.example.com",
            "backup.example.com:1",
            f"x.backup.example.com:{port}",
            f"example.com:{port}",
            f"backup.example.com.evil.example:{port}",
        )
        refused = [await ask(site, Host=other) for other in others]
        foreign = [
            await ask(site, Host=host, Origin=origin)
            for origin in (f"http://evil.example:{port}", f"http://drill:{port}", "null")
        ]
        unknown = await ask(site, Host=host, Authorization=None)
        linked = await ask(site, Host=urlsplit(site.link).netloc)

    assert [answer.status for answer in allowed] == [200] * 3
    assert [answer.status for answer in refused] == [421] * len(others)
    assert [answer.status for answer in foreign] == [403] * 3
    assert (unknown.status, linked.status) == (401, 200)
    assert ("backup.example.com" in site.link) is not site.address.is_loopback


@pytest.mark.parametrize(
    "text",
    ["", ".", "*", "*.example.com", "http://x", "x:80", "x/y", "bücher.example", "-x", "a..b"],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    """No pattern, no URL, no port: each allowed name is written out."""
    with pytest.raises(NotAnAddress, match="is not a name"):
        served_name(text)


async def test_a_tunnel_that_ends_elsewhere_is_told_where_to_end() -> None:
    """`ssh -L 9999:127.0.0.1:PORT` is refused, with the port that it needs."""
    async with visited() as site:
        answer = await ask(site, Host="localhost:9999")

    assert answer.status == 421
    assert f"Ask for 127.0.0.1, port {site.address.port}" in answer.body.decode()
