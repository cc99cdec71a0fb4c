"""A Href is a path on our own server, and nothing that acts on production is ever sent."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.core.errors import ForbiddenAction
from orchestrator.em import links
from orchestrator.em.links import MOUNT_PATH, guard, mount_href, rerooted
from tests.em.documents import MOUNT, POINT

REPLICA = f"/api/vmReplicaPoints/{POINT}"
BACKUP = f"/api/vmRestorePoints/{POINT}"
AGENT = f"/api/agents/agentRestorePoints/{POINT}"


def passes(method: str, target: str) -> bool:
    """Tell whether the request would be sent."""
    try:
        guard(method, target)
    except ForbiddenAction:
        return False
    return True


# --- addresses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("https://em01.dr.example:9398/api/tasks/task-1", "/api/tasks/task-1"),
        ("https://localhost:9398/api/tasks/task-1", "/api/tasks/task-1"),
        ("http://user:secret@[2001:db8::1]:9399/api/tasks", "/api/tasks"),
        ("https://evil.example/api/tasks?x=https://em/", "/api/tasks?x=https://em/"),
        ("/api/tasks", "/api/tasks"),
        ("  /API/tasks \n", "/API/tasks"),
        (
            "/api/x/C:/a%20b/100%25?action=listAll&page=1",
            "/api/x/C:/a%20b/100%25?action=listAll&page=1",
        ),
        ("/api/x/C:/a b/ü", "/api/x/C:/a%20b/%C3%BC"),
    ],
)
def test_only_path_and_query_of_a_href_are_used(href: str, path: str) -> None:
    """Traps 2 and 29: never another host; what the server encoded stays as it is."""
    assert rerooted(href) == path


@pytest.mark.parametrize(
    "href",
    [
        "",
        "/",
        "/api",
        "api/tasks",
        "//evil.example/api/tasks",
        "https://evil.example",
        "https://evil.example/other/api/",
        "/api/a\\b",
        "/api/a#b",
        "/api/a\r\nX-Evil: 1",
        "/api/\x7f",
        "javascript:/api/",
    ],
)
def test_what_is_no_path_below_api_is_nothing(href: str) -> None:
    """Trap 2: an address that cannot be sent as it is is dropped."""
    assert rerooted(href) is None


@given(st.text(max_size=60) | st.text("/api:?#\\@.%evlxmp", max_size=60))
@example("https://evil.example/api/x")
@settings(deadline=None, max_examples=300)
def test_a_rerooted_href_is_one_clean_path(href: str) -> None:
    """Whatever comes in: below /api/, printable ASCII without blanks, and stable."""
    path = rerooted(href) or rerooted(f"https://evil.example/api/{href}")
    if path is not None:
        assert path.lower().startswith("/api/")
        assert re.fullmatch(r"[!-~]+", path)
        assert rerooted(path) == path


@pytest.mark.parametrize(
    ("href", "mount"),
    [
        (f"https://localhost{MOUNT}", MOUNT),
        (f"{BACKUP}/mounts/17", f"{BACKUP}/mounts/17"),
        (f"{AGENT}/mounts/a-1", f"{AGENT}/mounts/a-1"),
        (REPLICA, None),
        (f"{REPLICA}?action=failover", None),
        (f"{MOUNT}?action=failover", None),
        (f"{MOUNT}/", None),
        (f"{MOUNT}/C:", None),
        (f"{REPLICA}/mounts", None),
        (f"{REPLICA}/mounts/..", None),
        ("/api/jobs/1/mounts/1", None),
        ("/api/vmReplicaPoints/1/mounts/1", None),
    ],
)
def test_a_mount_points_address_has_one_shape(href: str, mount: str | None) -> None:
    """Trap 1: a link that is no mount point is never taken for one."""
    assert mount_href(href) == mount


# --- the allow-list ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/api/"),
        ("GET", "/api/tasks"),
        ("GET", f"{REPLICA}?format=Entity"),
        ("GET", "/api/query?type=VmReplicaPoint&filter=VmDisplayName%3D%3D%22failover-01%22"),
        ("GET", f"{MOUNT}/C:/..hidden/a..b/...?action=listAll&pageSize=500&page=1"),
        ("GET", f"{MOUNT}/E:/100%25%20real/a%23b%3F.txt?action=download"),
        ("POST", "/api/sessionMngr/?v=latest"),
        ("POST", f"{REPLICA}/mounts"),
        ("POST", f"{BACKUP}/mounts"),
        ("POST", f"{AGENT}/mounts"),
        ("POST", f"{MOUNT}/C:/a.txt?action=restore"),
        ("DELETE", MOUNT),
        ("DELETE", f"/api/logonSessions/{POINT}"),
    ],
)
def test_what_the_product_is_made_for_passes(method: str, target: str) -> None:
    """The allow-list allows."""
    guard(method, target)


SPELLINGS = [
    "action=failover",
    "action=Failover",
    "ACTION=FAILOVER",
    "%61ction=failover",
    "action=%66ailover",
    "%2561ction=%2566ailover",
    "a=1&action=failover",
    "a=1;action=failover",
    "a=1%26action=failover",
    "action=listAll&action=failover",
    "action=restore&action=failover",
    "action=failover&action=restore",
    "action%3Dfailover",
    "+action=failover",
    "action=+failover%20",
    "action%00=failover",
    "action=%09failover",
    "?action=failover",
    "x=failover",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "path", [REPLICA, BACKUP, AGENT, f"{REPLICA}/mounts", MOUNT, f"{MOUNT}/C:"]
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "post"])
def test_failover_is_refused_however_it_is_spelled(method: str, path: str, spelling: str) -> None:
    """Trap 1: nothing that changes the server carries the word, wherever it points."""
    assert not passes(method, f"{path}?{spelling}")


@pytest.mark.parametrize("spelling", [each for each in SPELLINGS if each != "x=failover"])
def test_failover_is_not_even_read(spelling: str) -> None:
    """Trap 1: nor does a GET carry the action."""
    assert not passes("GET", f"{REPLICA}?{spelling}")


@pytest.mark.parametrize("path", [REPLICA, BACKUP, AGENT, f"{BACKUP}/", f"{BACKUP}/mounts", MOUNT])
@pytest.mark.parametrize("query", ["action=restore", "ACTION=Restore", "%61ction=restore", ""])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_whole_machine_is_never_restored(method: str, path: str, query: str) -> None:
    """Trap 1: `restore` belongs to a file inside a mount, not to a point."""
    if query or (method == "POST" and not path.endswith("mounts")):
        assert not passes(method, f"{path}?{query}")


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "%2E.", ".%252e", "."])
@pytest.mark.parametrize("slash", ["/", "%2f", "\\", "%5c", "%255C"])
@pytest.mark.parametrize(
    ("method", "before", "after"),
    [
        ("POST", f"{BACKUP}/mounts/1", "?action=restore"),
        ("POST", f"{BACKUP}/mounts/1/C:", "/a.txt?action=restore"),
        ("GET", "/api", "/other"),
        ("GET", "/api/tasks", ""),
        ("DELETE", MOUNT, ""),
    ],
)
def test_a_path_never_climbs(method: str, before: str, after: str, slash: str, dots: str) -> None:
    """Traps 1 and 2: `mounts/1/../..` would be the point itself by the time it is dispatched."""
    assert not passes(method, f"{before}{slash}{dots}{slash}{dots}{after}")
    assert not passes(method, f"{before}/{dots}{after}")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/api/jobs/1?action=start"),
        ("POST", "/api/backupServers?action=create"),
        ("POST", "/api/logonSessions"),
        ("DELETE", "/api/logonSessions"),
        ("DELETE", "/api/tasks"),
        ("DELETE", "/api/tasks/"),
        ("DELETE", "/api/tasks/task-1/mounts"),
        ("DELETE", "/api/tasks/task-1?action=stop"),
        ("DELETE", "/api/tasks/task%2D1"),
        ("POST", "/api/tasks/task-1"),
        ("DELETE", f"{MOUNT}/C:/a.txt"),
        ("DELETE", REPLICA),
        ("DELETE", f"{REPLICA}/mounts"),
        ("DELETE", f"/api/logonSessions/{POINT}\n"),
        ("PUT", "/api/tasks/task-1"),
        ("PATCH", "/api/tasks"),
        ("GET", "/other"),
        ("GET", "https://evil.example/api/tasks"),
        ("GET", "/api/tasks\r\nX-Evil: 1"),
        ("GET", f"{REPLICA}?action=start"),
        ("get", "/api/tasks"),
    ],
)
def test_everything_else_is_refused(method: str, target: str) -> None:
    """Trap 3 and beyond: what is not on the list does not exist."""
    assert not passes(method, target)


def test_one_task_may_be_asked_to_stop() -> None:
    """The server's own operation, the Delete link of a task; nothing of its point is addressed."""
    assert passes("DELETE", "/api/tasks/task-1")


def test_a_refusal_says_what_was_stopped() -> None:
    """The message names the request, shortened."""
    with pytest.raises(ForbiddenAction, match="action=failover is not a request") as refusal:
        guard("POST", f"{REPLICA}?action=failover")

    assert refusal.value.request.startswith("POST /api/vmReplicaPoints/")


def _decoded(text: str) -> str:
    for _ in range(6):
        text = unquote(text)
    return text


def _encoded(text: str, places: list[int]) -> str:
    chars = [f"%{ord(char):02x}" if place in places else char for place, char in enumerate(text)]
    return "".join(chars)


PATHS = [REPLICA, BACKUP, AGENT, f"{REPLICA}/mounts", MOUNT, f"{MOUNT}/C:", "/api/sessionMngr/", ""]
PARTS = st.sampled_from(
    [
        *("?", "&", ";", "=", "action", "ACTION", "failover", "Failover", "restore", "listAll"),
        *("v=1", "%61", "%26", "%3f", "%25", "+", " ", "/", "..", "%2e%2e", "\\", "#", "\r\n"),
        *("x", POINT),
    ]
)


@given(
    st.sampled_from(["POST", "DELETE", "PUT"]),
    st.sampled_from(PATHS),
    st.lists(PARTS, max_size=8),
    st.lists(st.integers(0, 30)),
)
@example("POST", REPLICA, ["?", "action", "=", "failover"], [])
@settings(deadline=None, max_examples=600)
def test_nothing_that_fails_over_or_restores_a_machine_passes(
    method: str, path: str, parts: list[str], places: list[int]
) -> None:
    """Trap 1: if it passes, no reading of it is a failover or a restore of a whole machine."""
    tail = "".join(parts)
    for target in (path + tail, path + _encoded(tail, places), quote(path + tail)):
        if passes(method, target):
            before, _, query = target.partition("?")
            assert "failover" not in _decoded(query).lower()
            assert ".." not in re.split(r"[/\\]", _decoded(before))
            if "restore" in _decoded(query).lower().partition("v=")[0]:
                assert MOUNT_PATH.match("/".join(before.split("/")[:6])), target


@given(st.data(), st.sampled_from(sorted(links._USUAL)))
def test_what_is_usual_is_allowed(data: st.DataObject, method: str) -> None:
    """Requests that are let pass at a glance are those that the whole rule lets pass."""
    target = data.draw(st.from_regex(links._USUAL[method], fullmatch=True))

    links._judge(method, target)
