"""Finding restore points: filters, pages and names, on virtual time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web

from orchestrator.core.errors import NotFound, RequestRefused
from orchestrator.core.model import RestorePointId, Source
from orchestrator.em.session import quoted
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.em.documents import POINT, sample
from tests.em.logons import desk, query_of
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio


def renamed(*names: str) -> Callable[[Inventory], None]:
    """Return a change that gives the first machines these names."""

    def change(inventory: Inventory) -> None:
        machines = inventory.machines
        for machine, name in zip(machines, names, strict=False):
            machine.name = name
        inventory.__init__(machines)  # type: ignore[misc]  # index them anew

    return change


AWKWARD = [
    'the "old" server',
    "Finance & Payroll",
    "web 01 (test)",
    "büro-süd",
    "it's-legacy",
    "mail@branch",
    "a,b;c==d",
    "100%+real",
    "日本 サーバ",
    "failover-01",
    '"',
]


async def test_machines_are_found_whatever_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps 27 and 35: names are quoted, quotes doubled, everything percent-encoded."""
    change = renamed(*AWKWARD)
    async with desk(monkeypatch, machines=24, change=change) as at, at.client.logon() as session:
        found = await session.points_of_machines(AWKWARD, Source.REPLICA)

    (asked,) = at.sent("GET", "/api/query")
    assert sorted({point.vm for point in found}) == sorted(AWKWARD)
    assert len(found) == 3 * len(AWKWARD)
    assert query_of(asked)["filter"].startswith('VmDisplayName=="the ""old"" server",')
    assert "+" not in asked.target.replace("%2B", "")
    assert " " not in asked.target


async def test_a_query_uses_the_fields_and_forms_that_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Traps 25, 26 and 28: format=Entities, explicit page size, query fields, not body names."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        name = at.point().machine.name
        (newest, *_) = await session.points_of_machines([name], Source.REPLICA)
        one = await session.point(newest.id, Source.REPLICA)
        job = await session.points_of_job(newest.job, Source.REPLICA)
        with pytest.raises(RequestRefused):
            await session.points_of_job("a job", Source.BACKUP)

    by_name, by_job = at.sent("GET", "/api/query")
    assert query_of(by_name) == {
        "type": "VmReplicaPoint",
        "format": "Entities",
        "sortDesc": "CreationTime",
        "filter": f'VmDisplayName=="{name}"',
        "pageSize": "500",
        "page": "1",
    }
    assert query_of(by_job)["filter"] == f'ReplicaName=="{newest.job}"'
    assert at.sent("GET", f"/{newest.id}?format=Entity")
    assert one == newest == max(job, key=lambda point: (point.vm == name, point.created_at))


@pytest.mark.parametrize("keeps", [True, False])
async def test_every_page_is_read_and_keeps_its_filter(
    monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    """Trap 26: the server's own page links may lose the filter, so ours are built here."""
    monkeypatch.setattr("orchestrator.em.requests.PAGE_SIZE", 5)
    behaviour = Behaviour(paging_keeps_filter=keeps)
    async with (
        desk(monkeypatch, behaviour=behaviour, points=12) as at,
        at.client.logon() as session,
    ):
        machine = at.point().machine
        found = await session.points_of_machines([machine.name], Source.REPLICA)

    assert [point.id for point in found] == [point.id for point in machine.points]
    assert [query_of(request)["page"] for request in at.sent("GET", "/query")] == ["1", "2", "3"]
    assert len({query_of(request)["filter"] for request in at.sent("GET", "/query")}) == 1


async def test_a_filter_that_the_server_ignores_matches_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 27: what comes back is compared with what was asked for."""

    def everything(request: Request) -> web.Response | None:
        if "/query" not in request.target:
            return None
        return web.Response(body=sample("vmreplicapoints.entities"))

    async with desk(monkeypatch, override=everything) as at, at.client.logon() as session:
        assert await session.points_of_machines(["other"], Source.REPLICA) == []
        assert len(await session.points_of_machines(["APPSQL07"], Source.REPLICA)) == 2


async def test_many_machines_are_asked_for_in_few_short_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Addresses stay well below what the server takes; each machine is asked for once."""
    async with desk(monkeypatch, machines=120) as at, at.client.logon() as session:
        names = [machine.name for machine in at.manager.inventory.machines]
        found = await session.points_of_machines(names + names, Source.REPLICA)

    assert len(found) == len({point.id for point in found}) == 360
    assert len(at.sent("GET", "/query")) == 3
    assert max(len(request.target) for request in at.requests) < 8000


@pytest.mark.parametrize(
    ("value", "literal"), [("a", '"a"'), ('a"b', '"a""b"'), ("", '""'), ('"', '""""')]
)
def test_a_filter_literal_is_always_quoted(value: str, literal: str) -> None:
    """Trap 27: quotes are doubled, whatever the value."""
    assert quoted(value) == literal


async def test_reads_survive_a_short_trouble_and_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A GET is repeated; requests and repetitions are reported."""
    fault = Fault(kind="error_500", method="GET", path="/tasks$", count=2)
    async with desk(monkeypatch, faults=[fault]) as at, at.client.logon() as session:
        assert list(await session.tasks()) == []
        assert (session.requests, session.retries) == (4, 2)


async def test_a_vanished_point_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 36: what was listed may be gone."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        with pytest.raises(NotFound):
            await session.point(RestorePointId(POINT), Source.REPLICA)
