"""Asking a server for points: few requests, and a refusal is about the question alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web

from orchestrator.core.errors import ServiceBusy, SessionLost
from orchestrator.core.model import BackupServerName, RestorePointId, Source, TaskId
from orchestrator.engine.inventory import gather_once
from orchestrator.plan.choose.inventory import InventoryNeeds, Question
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.simulator.faults import Fault
from tests.em.documents import NAMESPACE
from tests.em.logons import desk, query_of
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio

REPLICA, AGENT = Source.REPLICA, Source.AGENT
BAD = 'Colour=="red"'


async def test_a_whole_family_is_listed_by_one_query_in_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A glob needs every point, or every point behind one backup server, and no more requests."""
    async with desk(monkeypatch, machines=400) as at, at.client.logon() as session:
        behind = BackupServerName(at.manager.inventory.machines[0].backup_server.name)
        everything = await gather_once(session, InventoryNeeds(listings={REPLICA: (_all,)}))
        queries = [query_of(one) for one in at.sent("GET", "/api/query")]
        half = await gather_once(session, InventoryNeeds(listings={REPLICA: (behind,)}))
        last = query_of(at.sent("GET", "/api/query")[-1])

    assert len({point.id for point in everything.points}) == 1200
    assert [query["page"] for query in queries] == ["1", "2", "3"]
    assert all("filter" not in query for query in queries)
    assert {point.backup_server for point in half.points} == {behind}
    assert len(half.points) == 600
    assert last["filter"] == f'BackupServerName=="{behind}"'


_all = BackupServerName("")


async def test_the_points_of_a_hundred_locked_machines_cost_three_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Points that the query shows are not asked for by their ids again; one that is gone is."""
    async with desk(monkeypatch, machines=100) as at, at.client.logon() as session:
        machines = at.manager.inventory.machines
        ids = [RestorePointId(machine.points[1].id) for machine in machines]
        gone = RestorePointId("00000000-0000-4000-8000-000000000000")
        before = len(at.requests)
        found = await gather_once(
            session,
            InventoryNeeds(
                machines={REPLICA: tuple(machine.name for machine in machines)},
                points=tuple((REPLICA, id_) for id_ in (*ids, gone)),
            ),
        )

    asked = at.requests[before:]
    assert len([one for one in asked if "/api/query" in one.target]) == 3
    (by_id,) = [one.target for one in asked if "/api/vmReplicaPoints" in one.target]
    assert gone in by_id
    assert set(ids) <= {point.id for point in found.points}
    assert gone not in {point.id for point in found.points}
    assert found.refused == {}


async def test_a_bug_in_reading_one_point_is_raised_as_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several points are read together; whoever reports it must not name the group of them."""
    async with desk(monkeypatch, machines=4) as at, at.client.logon() as session:

        async def broken(point: RestorePointId, source: Source) -> None:
            raise LookupError(point, source)

        monkeypatch.setattr(type(session), "point", staticmethod(broken))
        ids = [RestorePointId(each.points[0].id) for each in at.manager.inventory.machines]

        with pytest.raises(LookupError):
            await gather_once(session, InventoryNeeds(points=tuple((REPLICA, id_) for id_ in ids)))


async def test_what_a_query_returned_is_kept_apart_from_what_else_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The text is sent as it is; the points that came back are those of this query."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        name = at.manager.inventory.machines[0].name
        text = f'VmDisplayName=="{name}";CreationTime>=2026-11-22T00:00:00'
        found = await gather_once(
            session, InventoryNeeds(machines={REPLICA: (name,)}, queries={REPLICA: (text,)})
        )

    returned = found.returned[Question(SelectorKind.QUERY, REPLICA, text)]
    assert query_of(at.sent("GET", "/api/query")[-1])["filter"] == text
    assert 0 < len(returned) < len(found.points) == 3


async def test_refusals_are_noted_with_the_servers_words_and_the_rest_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A filter with a field that does not exist, and a family that the role may not list."""
    needs = InventoryNeeds(
        machines={AGENT: ("a", "b")},
        listings={AGENT: (_all,)},
        queries={REPLICA: (BAD, "Name==none")},
        jobs={REPLICA: ("no job",)},
    )
    async with desk(monkeypatch) as at, at.client.logon() as session:
        found = await gather_once(session, needs)

    refused = found.refused
    assert set(refused) == {
        Question(SelectorKind.QUERY, REPLICA, BAD),
        Question(SelectorKind.MATCH, AGENT, ""),
        Question(SelectorKind.VM, AGENT, "a"),
        Question(SelectorKind.VM, AGENT, "b"),
    }
    assert refused[Question(SelectorKind.QUERY, REPLICA, BAD)] == (
        "the server refused to list the restore points: "
        "'The filter is not valid: there is no field colour'"
    )
    assert refused[Question(SelectorKind.VM, AGENT, "b")] == (
        "not visible to this role: the account may not list agent restore points: 'Access denied.'"
    )
    assert found.returned[Question(SelectorKind.QUERY, REPLICA, "Name==none")] == ()


async def test_a_name_that_must_not_be_sent_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could be read as an action, or as a line of its own; the server is used on."""
    bad = ("x&action=restore", "%0AGET", "a\nb")
    async with desk(monkeypatch) as at, at.client.logon() as session:
        names = [machine.name for machine in at.manager.inventory.machines]
        needs = InventoryNeeds(
            machines={REPLICA: (*names[:3], bad[0], *names[3:], *bad[1:])},
            queries={REPLICA: (f'VmDisplayName=="{bad[0]}"', "Name==none")},
        )
        found = await gather_once(session, needs)

    refused = {Question(SelectorKind.VM, REPLICA, name) for name in bad}
    refused.add(Question(SelectorKind.QUERY, REPLICA, f'VmDisplayName=="{bad[0]}"'))
    assert set(found.refused) == refused
    assert all(why.startswith("never asked for") for why in found.refused.values())
    assert {point.vm for point in found.points} == set(names)
    assert not [one for one in at.requests if "restore" in one.target.lower()]


async def test_a_list_that_is_too_long_to_read_fails_what_rests_on_it_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large estate is no fault of its server, which is used on."""
    monkeypatch.setattr("orchestrator.em.requests.MAX_ROWS", 1000)
    needs = InventoryNeeds(listings={REPLICA: (_all,)}, queries={REPLICA: ("Name==none",)})
    async with desk(monkeypatch, machines=400) as at, at.client.logon() as session:
        found = await gather_once(session, needs)

    assert list(found.refused.values()) == [
        "the restore points cannot be listed: hq lists more than 1000 restore points here: "
        "select fewer, by 'backup_server' or a query"
    ]
    assert len(found.returned) == 1


async def test_hostile_words_of_a_refusal_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server says is shown, and never obeyed by a terminal."""
    words = "no \x1b[31m\u202esuch field\n"

    def override(request: Request) -> web.Response | None:
        if "type=VmReplicaPoint" not in request.target:
            return None
        text = f'<Error Message="{words.encode("ascii", "xmlcharrefreplace").decode()}" />'
        return web.Response(
            status=400, text=text.replace("\x1b", "?"), content_type="application/xml"
        )

    async with desk(monkeypatch, override=override) as at, at.client.logon() as session:
        found = await gather_once(session, InventoryNeeds(queries={REPLICA: (BAD,)}))

    (reason,) = found.refused.values()
    assert "such field" in reason
    assert reason.isprintable()


@pytest.mark.parametrize(
    ("kind", "error"), [("html_503", ServiceBusy), ("forget_session", SessionLost)]
)
async def test_trouble_is_no_refusal_and_arrives_as_itself(
    kind: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while several points are read by id at once: the caller tells troubles apart."""
    fault = Fault(kind=kind, path="vmReplicaPoints/")
    needs = InventoryNeeds(
        points=tuple(
            (REPLICA, RestorePointId(f"{n:08x}-0000-4000-8000-000000000000")) for n in range(9)
        )
    )
    async with desk(monkeypatch, faults=[fault]) as at, at.client.logon() as session:
        with pytest.raises(error):
            await gather_once(session, needs)


def refusing(*bad: str, status: int = 400) -> Callable[[Request], web.Response | None]:
    """Return a server that refuses every filter in which one of these names stands."""

    def override(request: Request) -> web.Response | None:
        asked = query_of(request).get("filter", "")
        if not any(f'"{name}"' in asked for name in bad):
            return None
        text = f'<Error xmlns="{NAMESPACE}" Message="the filter is not valid" />'
        return web.Response(status=status, text=text, content_type="application/xml")

    return override


@pytest.mark.parametrize("status", [400, 500])
async def test_a_name_that_the_server_refuses_fails_alone(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is halved until it is known which: few requests, and all others are listed."""
    override = refusing("bad one", "bad two", status=status)
    async with (
        desk(monkeypatch, machines=100, override=override) as at,
        at.client.logon() as session,
    ):
        names = [machine.name for machine in at.manager.inventory.machines]
        needs = InventoryNeeds(machines={REPLICA: (*names[:50], "bad one", *names[50:], "bad two")})
        found = await gather_once(session, needs)
        filters = [query_of(one)["filter"] for one in at.sent("GET", "/api/query")]

    assert set(found.refused) == {
        Question(SelectorKind.VM, REPLICA, f"bad {n}") for n in ("one", "two")
    }
    assert all("the filter is not valid" in why for why in found.refused.values())
    assert {point.vm for point in found.points} == set(names)
    assert len(set(filters)) < 30


async def test_a_server_that_refuses_every_name_is_not_asked_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty refusals without any answer speak for the rest."""
    names = tuple(f"vm{number}" for number in range(400))
    async with (
        desk(monkeypatch, override=refusing(*names)) as at,
        at.client.logon() as session,
    ):
        found = await gather_once(session, InventoryNeeds(machines={REPLICA: names}))
        asked = len(at.sent("GET", "/api/query"))

    assert len(found.refused) == 400
    assert asked < 60


async def test_no_address_is_longer_than_every_proxy_passes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 54: filters are split; a name or a query that cannot be split is refused here, alone."""
    long = tuple(f"{'ü' * 60}-{number}" for number in range(60))
    text = " or ".join(["Name==x"] * 800)
    needs = InventoryNeeds(
        machines={REPLICA: (*long, "x" * 6000, "dc0001")}, queries={REPLICA: (text,)}
    )
    async with desk(monkeypatch) as at, at.client.logon() as session:
        names = [machine.name for machine in at.manager.inventory.machines]
        found = await gather_once(session, needs)
        await session.tasks_by_id([TaskId(f"task-{'9' * 90}-{number}") for number in range(140)])
        await session.tasks_by_id([TaskId(f"task-{number}") for number in range(100_000, 100_140)])

    assert max(len(one.target) for one in at.requests) <= 5000
    assert set(found.refused) == {
        Question(SelectorKind.VM, REPLICA, "x" * 6000),
        Question(SelectorKind.QUERY, REPLICA, text),
    }
    assert all("too long" in why for why in found.refused.values())
    assert ("dc0001" in names) == bool(found.points)
    assert len([one for one in at.requests if "task-100" in one.target]) == 1
