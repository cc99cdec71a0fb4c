"""Servers in trouble: parked, waited for, given up; targets lose nothing by it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from orchestrator.engine.run import Run
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from orchestrator.simulator.server import HttpFace
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import Site, drill, every_machine
from tests.virtual.sites import Sites, host

pytestmark = pytest.mark.anyio


async def test_a_server_that_is_down_at_the_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on; its own targets are expanded and mounted once it answers."""
    sites = [Site("hq", machines=4), Site("dr", machines=4)]

    async def later(serving: Sites, run: Run) -> None:
        _ = run
        serving.network.refusing.add(host("dr"))
        await anyio.sleep(600)
        serving.network.refusing.discard(host("dr"))

    done = await drill(tmp_path, monkeypatch, sites, meanwhile=later)

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 8}
    assert max(fate.requested_at for fate in done.truth.mounts if fate.server == "hq") < 300


async def test_an_outage_does_not_count_against_a_mounts_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read late because its server was away is not late."""
    site = Site(machines=4, limit=4, mount_s=60.0)

    async def away(serving: Sites, run: Run) -> None:
        _ = run
        await anyio.sleep(30)
        serving.network.refusing.add(host("hq"))
        serving.network.cut(host("hq"))
        await anyio.sleep(120)
        serving.network.refusing.discard(host("hq"))

    done = await drill(
        tmp_path,
        monkeypatch,
        [site],
        extra="defaults: {timeouts: {mount: 100s}}\n",
        meanwhile=away,
    )

    assert done.took_s > 150
    assert Counter(done.results().values()) == {"mounted": 4}


async def test_an_outage_past_the_limit_skips_its_targets_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `limits.outage` the targets of the silent server are skipped; exit code 5."""
    sites = [Site("hq", machines=4), Site("dr", machines=4)]

    async def down(serving: Sites, run: Run) -> None:
        _ = run
        serving.network.refusing.add(host("dr"))

    done = await drill(tmp_path, monkeypatch, sites, extra="limits: {outage: 5m}\n", meanwhile=down)

    assert done.outcome.code == 5
    assert Counter(done.results().values()) == {"mounted": 4, "skipped": 4}
    assert 300 <= done.took_s < 400


async def test_no_usable_server_is_exit_code_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused logon is final at once, and never repeated into a lockout."""
    done = await drill(tmp_path, monkeypatch, [Site(password="another")])

    assert done.outcome.code == 4
    assert done.truth.requests["POST /api/sessionMngr/"] == 1
    assert done.took_s < 5


async def test_an_outage_in_the_middle_costs_no_target_its_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten dead minutes: everything is parked, probed a little, and then goes on."""
    site = Site(machines=40, limit=8, mount_s=60.0)

    async def dead(serving: Sites, run: Run) -> None:
        _ = run
        await anyio.sleep(100)
        serving.network.refusing.add(host("hq"))
        serving.network.cut(host("hq"))
        before = sum(serving.truth.requests.values())
        await anyio.sleep(600)
        assert sum(serving.truth.requests.values()) == before
        serving.network.refusing.discard(host("hq"))

    done = await drill(
        tmp_path,
        monkeypatch,
        [site],
        extra="defaults: {retries: {attempts: 1}}\n",
        meanwhile=dead,
    )

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 40}


async def test_a_burst_of_503_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overload says nothing about a target, in XML or as a web page."""
    bursts = [
        Fault(kind="html_503", from_s=30, until_s=60),
        Fault(kind="xml_503", from_s=90, until_s=120, retry_after="20"),
    ]

    done = await drill(tmp_path, monkeypatch, [Site(machines=12, limit=3, faults=bursts)])

    assert done.outcome.code == 0
    assert len(done.truth.mounts) == 12


@pytest.mark.parametrize("path", ["", "/tasks|/query", "/mounts"])
@pytest.mark.parametrize("began", [0.0, 50.0])
async def test_a_burst_of_500_is_waited_out(
    path: str, began: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that fails inside for a while is not given up, and no target pays for it."""
    burst = Fault(kind="error_500", method="GET", path=path, from_s=began, until_s=began + 60.0)

    done = await drill(tmp_path, monkeypatch, [Site(machines=12, limit=4, faults=[burst])])

    assert done.outcome.code == 0
    assert len(done.truth.mounts) == 12


@pytest.mark.parametrize("kind", ["error_500", "html_200", "truncated"])
async def test_a_read_that_always_fails_costs_its_own_target_only(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is well otherwise: after some patience that one target is unknown, and named."""
    plan = every_machine([Site(machines=4)])
    point = Site(machines=4).manager(GroundTruth(), 0).inventory.machine("hq-app0000").points[0]
    broken = Fault(kind=kind, method="GET", path=f"{point.id}/mounts")

    done = await drill(tmp_path, monkeypatch, [Site(machines=4, faults=[broken])], plan)

    assert Counter(done.results().values()) == {"mounted": 3, "unknown": 1}
    assert done.target("hq-app0000")["mount"] == "unknown"
    assert done.outcome.code == 3
    assert done.took_s < 600


async def test_a_task_that_cannot_be_read_costs_its_own_target_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are read one by one; it is late, and its mount is found and removed."""
    broken = [
        Fault(kind="truncated", method="GET", path="/query$", from_s=10.0),
        Fault(kind="truncated", method="GET", path="/tasks$"),
        Fault(kind="truncated", method="GET", path="/tasks/task-1$"),
    ]
    site = Site(machines=4, limit=4, mount_s=60.0, faults=broken)
    short = "defaults: {timeouts: {mount: 100s}}\n"

    done = await drill(tmp_path, monkeypatch, [site], extra=short)

    assert Counter(done.results().values()) == {"mounted": 3, "failed": 1}
    assert {target["mount"] for target in done.report["targets"]} == {"released"}


async def test_a_lost_session_makes_its_mounts_unknown_and_logs_on_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old session owned is never asked of the new one; the rest goes on there."""
    site = Site(machines=20, limit=4, mount_s=60.0)

    async def restart(serving: Sites, run: Run) -> None:
        _ = run
        await anyio.sleep(90)
        serving.managers["hq"].restart()

    done = await drill(tmp_path, monkeypatch, [site], meanwhile=restart)

    counts = Counter(done.results().values())
    assert done.outcome.code == 3
    assert counts["unknown"] <= 4
    assert counts["mounted"] == 20 - counts["unknown"]
    assert done.truth.logons == 2
    assert done.report["servers"][0]["sessions"] == 2


async def test_an_unmount_is_never_asked_of_another_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new session knows no mount of the old one: its 404 would prove nothing."""
    refused = Fault(kind="error_500", method="DELETE", path="/mounts/")
    site = Site(machines=3, limit=3, mount_s=60.0, faults=[refused])

    async def restart(serving: Sites, run: Run) -> None:
        _ = run
        await anyio.sleep(100)
        serving.managers["hq"].restart()
        serving.faces["hq"].faults.faults.clear()

    done = await drill(tmp_path, monkeypatch, [site], meanwhile=restart)

    assert done.outcome.code == 3
    assert Counter(done.results().values()) == {"mounted": 3}
    assert {target["mount"] for target in done.report["targets"]} == {"unknown"}
    assert not any(fate.closed_by == "unmounted" for fate in done.truth.mounts)


async def test_a_404_from_in_front_of_a_stopped_service_is_no_unmount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP.sys knows no mount; whether it is gone, only the service can say."""

    class StopsAtTheFirstUnmount(HttpFace):
        async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "DELETE" and not self.faults.faults:
                until = self.served_s() + 60.0
                self.faults.faults.append(Fault(kind="html_404", until_s=until))
            return await super().handle(request)

    done = await drill(
        tmp_path, monkeypatch, [Site(machines=4, limit=4)], face=StopsAtTheFirstUnmount
    )

    assert done.outcome.code == 0
    assert {fate.closed_by for fate in done.truth.mounts} == {"unmounted"}


async def test_a_session_is_kept_alive_while_its_targets_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 15: a wave that waits for hours on another server loses nothing to idling."""
    sites = [Site("hq", machines=2, limit=1, mount_s=5000.0), Site("dr", machines=2)]
    plan = (
        "defaults: {timeouts: {mount: 3h}}\n"
        "waves:\n  - name: long\n    targets:\n      - {vm: hq-app0000, server: hq}\n"
        "      - {vm: hq-sql0001, server: hq}\n"
        "  - name: after\n    after: [long]\n    targets:\n      - {vm: dr-app0000, server: dr}\n"
    )

    done = await drill(tmp_path, monkeypatch, sites, plan)

    assert done.outcome.code == 0
    assert done.took_s > 8000
    assert (done.truth.logons, done.truth.sessions_expired) == (2, 0)


@pytest.mark.parametrize("filters", [True, False])
async def test_a_server_that_ignores_task_filters_is_watched_all_the_same(
    filters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Support is observed: an answer with other tasks is filtered again here."""
    site = Site(machines=10, behaviour=Behaviour(filters_tasks=filters))

    done = await drill(tmp_path, monkeypatch, [site])

    assert done.outcome.code == 0


async def test_a_task_that_vanished_is_made_up_for_by_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 10: the 500 for an unknown task is neither success nor failure; the mount is proof."""
    behaviour = Behaviour(purge_finished_after=0.0, operation_finished_share=0.0)

    done = await drill(tmp_path, monkeypatch, [Site(machines=3, behaviour=behaviour)])

    assert done.outcome.code == 0
    assert set(done.results().values()) == {"mounted"}


async def test_a_task_that_vanished_without_a_mount_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 10: it may have failed, and it may not; nobody saw it."""
    behaviour = Behaviour(purge_finished_after=0.0, operation_finished_share=0.0)

    def fail(inventory: Inventory) -> None:
        for point in inventory.points("vmReplicaPoints"):
            point.fails = "Failed to mount restore point."

    site = Site(machines=3, behaviour=behaviour, change=fail)

    done = await drill(tmp_path, monkeypatch, [site])

    assert done.outcome.code == 3
    assert set(done.results().values()) == {"unknown"}


@pytest.mark.parametrize("skip", [0, 3])
async def test_a_401_that_passes_costs_nothing(
    skip: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 16: one 401 is confirmed with the same token before a session is given up.

    Also the first answer in it, before anything is known of the session.
    """
    fault = Fault(kind="unauthorized", path="/query|/tasks", skip=skip, count=1)

    done = await drill(tmp_path, monkeypatch, [Site(machines=6, faults=[fault])])

    assert done.outcome.code == 0
    assert done.truth.logons == 1
