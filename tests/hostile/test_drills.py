"""A server that lies costs its own targets, never the truth, and never another server's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from tests.hostile.twisting import Liars, Said, Twist, answered, drill_with_a_liar
from tests.scenarios.drill import Drill

pytestmark = pytest.mark.anyio

TASKS = r"/api/tasks|type=Task"
GOOD = {"verified", "mounted"}
PATIENT = "defaults: {timeouts: {mount: 30s, unmount: 20s}}\nlimits: {outage: 60s}\n"
EVIL = b"https://evil.example:9398"


def body(said: Said, content: bytes, status: int = 200) -> Said:
    """Return the answer with another body."""
    return replace(said, body=content, status=status)


def one_task_for_all(said: Said) -> Said:
    """Give every task the same id."""
    return said.rewritten(rb"task-\d+", b"task-1")


def backwards() -> Twist:
    """Let every third look at a task find it running again."""
    looks = count()

    def twist(said: Said) -> Said:
        if next(looks) % 3:
            return said
        running = said.rewritten(rb"<State>Finished</State>", b"<State>Running</State>")
        return running.rewritten(rb"<Result.*?</Result>|<Result[^>]*/>", b"")

    return answered("GET", TASKS, twist)


def links_to(href: bytes) -> Twist:
    """Let every link of a task lead elsewhere."""
    return answered(
        "GET",
        TASKS,
        lambda said: said.rewritten(rb'(Rel="Related"[^>]*Href=|Href=)"[^"]*"', rb'\1"%s"' % href),
    )


def several_links(said: Said) -> Said:
    """Put links to other places in front of the right one."""
    wrong = b"".join(
        b'<Link Href="%s" Type="VmReplicaPointMount" Rel="Related" Name="x@%d" />' % (href, number)
        for number, href in enumerate(
            [
                EVIL + b"/api/vmReplicaPoints/00000000-0000-0000-0000-000000000000/mounts/7",
                b"/api/backupServers/1",
                b"/api/vmReplicaPoints/00000000-0000-0000-0000-000000000000?action=failover",
            ]
        )
    )
    return said.rewritten(rb"<Links>", b"<Links>" + wrong)


def with_headers(said: Said) -> Said:
    """Add headers that lead elsewhere, ask for ages, or make no sense."""
    odd = {
        "Location": (EVIL + b"/api/tasks/task-1").decode(),
        "Set-Cookie": "X-RestSvcSessionId=stolen; Domain=example",
        "Content-Type": "application/json; charset=utf-7",
        "Retry-After": "31536000000",
        "Date": "Mon, 23 Nov 99999999999999999999 06:00:20 GMT",
    }
    return replace(said, headers={**said.headers, **odd})


HARMLESS: dict[str, Twist] = {
    "links to another host and scheme": lambda said: said.rewritten(
        rb"https://[^/\"<]+", b"ftp://evil.example:9398"
    ),
    "odd headers": with_headers,
    "task links that fail a machine over": links_to(
        b"/api/vmReplicaPoints/00000000-0000-0000-0000-000000000000?action=failover"
    ),
    "task links that climb": links_to(b"/api/../../etc/passwd"),
    "no links at all": answered(
        "GET", TASKS, lambda said: said.rewritten(rb"<Links>.*?</Links>", b"")
    ),
    "several links": answered("GET", TASKS, several_links),
    "states that go backwards": backwards(),
    "a word of a state never seen, then Finished": answered(
        "GET", TASKS, lambda said: said.rewritten(rb"<State>Running<", b"<State>Pondering<")
    ),
    "every task twice": answered(
        "GET", "type=Task", lambda said: said.rewritten(rb"(<Task .*?</Task>)", rb"\1\1")
    ),
}
"""Lies that an honest server might tell as well: they cost nothing."""


def allowed(played: Drill, server: str, results: Iterable[str]) -> None:
    """Check that a server's targets ended in one of these ways."""
    found = {t["result"] for t in played.report["targets"] if t["server"] == server}
    assert found <= set(results), f"{server}: {found}"


def check_the_honest(played: Drill, liars: Liars) -> None:
    """Check that the other server was not touched: all good, nothing open, nobody else asked."""
    assert {name for name, _, _ in liars.asked} == {"hq", "dr"}
    allowed(played, "dr", GOOD)
    assert not [fate for fate in played.truth.still_open() if fate.server == "dr"]
    assert liars.reached == {("em-hq.example.net", 9398), ("em-dr.example.net", 9398)}


@pytest.mark.parametrize("lie", HARMLESS)
async def test_a_harmless_lie_costs_nothing(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts, schemes, paths, headers and order of what a server says change no result."""
    played, liars = await drill_with_a_liar(tmp_path, monkeypatch, HARMLESS[lie], extra=PATIENT)

    check_the_honest(played, liars)
    allowed(played, "hq", GOOD)
    assert not played.truth.still_open()
    assert not any("evil" in target or ".." in target for _, _, target in liars.asked)


BOMB = b"<!DOCTYPE t [<!ENTITY a 'x'><!ENTITY b '&a;&a;&a;'>]><Task>&b;</Task>"
GRAVE: dict[str, Twist] = {
    "one task id for all": one_task_for_all,
    "no Result": answered(
        "GET", TASKS, lambda said: said.rewritten(rb"<Result.*?</Result>|<Result[^>]*/>", b"")
    ),
    "never finished": answered(
        "GET", TASKS, lambda said: said.rewritten(rb"<State>\w+<", b"<State>Pondering<")
    ),
    "tasks that are web pages": answered(
        "GET", TASKS, lambda said: body(said, b"<html><title>hello</title></html>")
    ),
    "tasks that are elsewhere": answered(
        "GET",
        TASKS,
        lambda said: replace(
            said, status=302, headers={"Location": (EVIL + b"/api/tasks").decode()}, body=b""
        ),
    ),
    "accepted elsewhere": answered(
        "POST",
        "/mounts",
        lambda said: replace(
            said, status=307, headers={"Location": EVIL.decode() + said.target}, body=b""
        ),
    ),
    "mounts of another number": answered(
        "GET", r"/mounts/\d+$", lambda said: said.rewritten(rb"/mounts/\d+", b"/mounts/99")
    ),
    "mounts that cannot be read": answered(
        "GET", r"/mounts", lambda said: body(said, b"<a>" * 2000 + b"</a>" * 2000)
    ),
    "an unmount that says nothing": answered("DELETE", "/mounts", lambda said: body(said, b"")),
    "an unmount that never ends": answered(
        "DELETE",
        "/mounts",
        lambda said: body(said, b"<Task><TaskId>task-1</TaskId><State>Running</State></Task>", 202),
    ),
    "points without end": answered(
        "GET",
        "type=VmReplicaPoint",
        lambda said: (
            said.rewritten(
                rb"<PagingInfo[^>]*/?>", b'<PagingInfo PageNum="1" PagesCount="9" /><PagingInfo>'
            )
            if b"<PagingInfo " in said.body and b"</PagingInfo>" in said.body
            else said.rewritten(
                rb"<PagingInfo[^>]*/>", b'<PagingInfo PageNum="1" PagesCount="9999999" />'
            )
        ),
    ),
    "points that climb": answered(
        "GET",
        "type=VmReplicaPoint",
        lambda said: said.rewritten(rb"VmReplicaPoint:[^\"]+", b"VmReplicaPoint:../../x?action=a"),
    ),
    "a compressed logon": answered(
        "POST",
        "sessionMngr",
        lambda said: replace(said, headers={**said.headers, "Content-Encoding": "gzip"}),
    ),
    "a session that climbs": answered(
        "POST",
        "sessionMngr",
        lambda said: said.rewritten(rb"<SessionId>[^<]*", b"<SessionId>../backupServers"),
    ),
    "a token of no characters": answered(
        "POST",
        "sessionMngr",
        lambda said: replace(said, headers={**said.headers, "X-RestSvcSessionId": "a\xffb c"}),
    ),
}
"""Lies that leave no way to tell what happened, or no way to ask."""


@pytest.mark.parametrize("lie", GRAVE)
async def test_a_grave_lie_costs_only_the_liar(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in its time, the other server is untouched, and nothing is called good
    or gone that was not: the invariants compare every result with the ground truth.
    """
    played, liars = await drill_with_a_liar(tmp_path, monkeypatch, GRAVE[lie], extra=PATIENT)

    check_the_honest(played, liars)
    allowed(played, "hq", {*GOOD, "unknown", "failed", "skipped"})
    assert played.took_s < 300
    assert len(liars.asked) < 2000
    assert not any("evil" in target or ".." in target for _, _, target in liars.asked)


async def test_a_task_that_belongs_to_another_target_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that collide: the first target has the task, of the other nobody can say; it is
    unknown at once, and named as perhaps mounted.
    """
    lie = GRAVE["one task id for all"]
    played, _ = await drill_with_a_liar(tmp_path, monkeypatch, lie, extra=PATIENT)

    first, second = (t for t in played.report["targets"] if t["server"] == "hq")
    assert {first["result"], second["result"]} == {"mounted", "unknown"}
    lost = first if first["result"] == "unknown" else second
    assert lost["mount"] == "unknown"
    assert "another target's task" in lost["message"]
