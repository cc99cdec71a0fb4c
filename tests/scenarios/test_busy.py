"""Machines at work in a job or a restore: seen, waited for, and no attempt is used up by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from orchestrator.engine.activity_watch import ActivityWatch
from orchestrator.engine.run import Run
from orchestrator.simulator.activity import SimActivity
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault, FaultScript
from orchestrator.simulator.inventory import Inventory
from orchestrator.simulator.manager import SimulatedManager
from orchestrator.simulator.server import HttpFace
from tests.scenarios.drill import ACCOUNT, Drill, Site, drill, every_machine
from tests.virtual.sites import Sites, host

pytestmark = pytest.mark.anyio

SEEN = Behaviour(shows_activity="all")
JOB_S = 300.0
MINUTE_S = 60.0


@dataclass(slots=True)
class Neighbourhood:
    """What works on the first machines of a server, and the looks that were made at it."""

    count: int
    until_s: float | None
    kind: str = "replication"
    from_s: float = -60.0
    looks: list[tuple[str, float]] = field(default_factory=list)
    """Type and second of every question for sessions."""

    def face(self, manager: SimulatedManager, faults: FaultScript | None) -> HttpFace:
        """Make the face of a server with these neighbours."""
        manager.activities += [
            SimActivity(kind=self.kind, machine=each, from_s=self.from_s, until_s=self.until_s)
            for each in manager.inventory.machines[: self.count]
        ]
        return _SeeingFace(manager, faults, self)

    def assert_few_looks(self, *, shown: bool = True) -> None:
        """One question in a minute, at most; but the first look asks both where they are `shown`.

        To an account that is shown nothing that look is one question, too.
        """
        if shown:
            first, second, *_ = self.looks
            assert [first[0], second[0]] == ["RestoreSession", "ReplicaTaskSession"]
            assert second[1] - first[1] < 1.0
        times = [at for _, at in self.looks[1 if shown else 0 :]]
        assert all(later - at >= MINUTE_S - 1.0 for at, later in pairwise(times))


class _SeeingFace(HttpFace):
    def __init__(
        self, manager: SimulatedManager, faults: FaultScript | None, around: Neighbourhood
    ) -> None:
        super().__init__(manager, faults)
        self._around = around

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        kind = request.query.get("type", "")
        if kind.endswith("Session"):
            self._around.looks.append((kind, anyio.current_time()))
        return await super().handle(request)


def attempts(done: Drill) -> list[int]:
    """Return how many attempts each target took."""
    return [len(each["attempts"]) for each in done.report["targets"]]


def failed_job(done: Drill) -> str:
    """Return the job of the first machine."""
    (manager,) = done.sites.managers.values()
    return manager.inventory.machines[0].job


def counted(done: Drill) -> dict[str, int]:
    """Return how many targets have each result."""
    results = list(done.results().values())
    return {each: results.count(each) for each in sorted(set(results))}


async def run(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    around: Neighbourhood,
    *,
    machines: int = 12,
    behaviour: Behaviour = SEEN,
    extra: str = "",
    **site: Any,
) -> Drill:
    """Mount every machine of a server with these neighbours."""
    sites = [Site(machines=machines, behaviour=behaviour, **site)]
    return await drill(directory, monkeypatch, sites, extra=extra, face=around.face)


async def test_busy_machines_are_mounted_once_they_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 machines, jobs at work on 10 of them for 5 minutes: no attempt is used up by it.

    The others take longer than these jobs, so a scheduler that knew the busy times would end when
    a run ends that has no neighbours.
    """
    around = Neighbourhood(10, JOB_S)
    size: dict[str, Any] = {"machines": 100, "backup_servers": 4, "limit": 12}
    quiet = await run(tmp_path / "quiet", monkeypatch, Neighbourhood(0, None), **size)
    done = await run(tmp_path / "busy", monkeypatch, around, **size)

    assert counted(done) == {"mounted": 100}
    assert attempts(done) == [1] * 100
    assert done.took_s <= 1.05 * quiet.took_s
    around.assert_few_looks()


@pytest.mark.parametrize(("conflict", "result"), [("skip", "skipped"), ("fail", "failed")])
async def test_a_plan_may_not_want_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflict: str, result: str
) -> None:
    """Exactly those machines are skipped, or failed; nothing of them is asked for."""
    done = await run(
        tmp_path,
        monkeypatch,
        Neighbourhood(10, JOB_S),
        machines=40,
        extra=f"defaults: {{conflict: {conflict}}}\n",
    )

    assert counted(done) == {"mounted": 30, result: 10}
    assert len(done.truth.mounts) == 30
    told = [each["message"] for each in done.report["targets"] if each["result"] == result]
    assert all("its machine is busy: job" in message for message in told)


@pytest.mark.parametrize("kind", ["replication", "restore"])
@pytest.mark.parametrize("counting", [False, True])
async def test_the_first_look_shows_jobs_and_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: bool, kind: str
) -> None:
    """Before the first mount both are known, whatever else the limits ask for."""
    if counting:
        limits = "    limits: {mounts: 4, count_others: true}\n"
        monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: _servers(limits))
    around = Neighbourhood(2, None, kind)
    done = await run(tmp_path, monkeypatch, around, extra="defaults: {conflict: skip}\n")

    assert counted(done) == {"mounted": 10, "skipped": 2}
    assert len(done.truth.mounts) == 10
    around.assert_few_looks()


@pytest.mark.parametrize("counting", [False, True])
async def test_a_role_that_sees_restores_alone_is_asked_once_for_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counting: bool
) -> None:
    """As a File Restore Operator, which is the account's role here: the mounts fail at a job."""
    if counting:
        limits = "    limits: {mounts: 4, count_others: true}\n"
        monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: _servers(limits))
    around = Neighbourhood(2, None)
    done = await run(tmp_path, monkeypatch, around, behaviour=Behaviour(shows_activity="by_role"))

    assert counted(done) == {"failed": 2, "mounted": 10}
    assert [kind for kind, _ in around.looks].count("ReplicaTaskSession") == 1
    around.assert_few_looks()


async def test_a_role_that_sees_nothing_has_the_results_of_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mounts fail as often as the plan allows, and each question is asked once."""
    around = Neighbourhood(2, None)
    done = await run(tmp_path, monkeypatch, around, behaviour=Behaviour(shows_activity="denied"))

    assert counted(done) == {"failed": 2, "mounted": 10}
    assert sorted(attempts(done)) == [1] * 10 + [2] * 2
    assert [kind for kind, _ in around.looks] == ["RestoreSession", "ReplicaTaskSession"]
    around.assert_few_looks(shown=False)


@pytest.mark.parametrize(("shows", "most_s"), [("denied", 6.0), ("nothing", MINUTE_S)])
@pytest.mark.parametrize("delay", [5, 50])
async def test_a_failed_mount_is_tried_again_as_soon_as_the_plan_and_the_next_look_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shows: str, most_s: float, delay: int
) -> None:
    """Who is shown nothing waits for no look; else the look and the plan's pause pass together."""
    done = await run(
        tmp_path,
        monkeypatch,
        Neighbourhood(1, None),
        machines=1,
        behaviour=Behaviour(shows_activity=shows),
        mount_s=10.0,
        extra=f"defaults: {{retries: {{delay: {delay}s}}}}\n",
    )

    assert counted(done) == {"failed": 1}
    first, last = done.report["targets"][0]["attempts"]
    ended, again = map(datetime.fromisoformat, (first["finished_at"], last["submitted_at"]))
    paused_s = (again - ended).total_seconds()
    assert 0.8 * delay <= paused_s <= max(most_s, 1.2 * delay + 1.0)
    if shows == "denied":
        assert done.took_s <= 2 * 15.0 + 1.2 * delay + 1.0


async def test_a_server_that_shows_none_is_never_taken_for_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing seen is never "ok": the failures count, and nobody says that the machine is free."""
    around = Neighbourhood(2, None)
    done = await run(tmp_path, monkeypatch, around, behaviour=Behaviour(shows_activity="nothing"))

    assert counted(done) == {"failed": 2, "mounted": 10}
    assert not any("waits" in each for each in done.report["targets"])


async def test_a_job_that_is_seen_after_a_mount_failed_excuses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not shown yet when the mount was asked for; the failure costs no attempt."""
    behaviour = Behaviour(shows_activity="all", activity_delay_s=50.0)
    around = Neighbourhood(2, JOB_S, from_s=0.0)
    done = await run(
        tmp_path,
        monkeypatch,
        around,
        behaviour=behaviour,
        extra="defaults: {retries: {attempts: 1}}\n",
    )

    assert counted(done) == {"mounted": 12}
    assert sorted(attempts(done)) == [1] * 10 + [2] * 2
    around.assert_few_looks()


async def test_after_as_long_as_the_plan_allows_it_is_mounted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then fails by the plan's attempts, and the wait is told."""
    around = Neighbourhood(1, None)
    done = await run(tmp_path, monkeypatch, around, extra="defaults: {timeouts: {busy: 10m}}\n")

    assert counted(done) == {"failed": 1, "mounted": 11}
    assert sorted(attempts(done)) == [1] * 11 + [2]
    (failed,) = (each for each in done.report["targets"] if each["result"] == "failed")
    (wait,) = failed["waits"]
    assert wait["for"] == f'job "{failed_job(done)}"'
    assert not wait["is_free"]
    assert failed["phases_s"]["busy"] == pytest.approx(600.0, abs=10.0)


async def test_a_machine_that_is_shown_no_more_is_waited_for_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role loses its rights meanwhile: nothing more is asked, and nothing turns in a circle."""
    waits = 0
    looked = ActivityWatch.looked

    async def counted_looked(watch: ActivityWatch) -> None:
        nonlocal waits
        waits += 1
        assert waits < 1000, "it waits for nothing, again and again"
        await looked(watch)

    monkeypatch.setattr(ActivityWatch, "looked", counted_looked)
    around = Neighbourhood(1, JOB_S)
    denied = Fault(kind="forbidden", query="type=.*Session", from_s=30.0)
    done = await run(
        tmp_path,
        monkeypatch,
        around,
        faults=[denied],
        extra="defaults: {timeouts: {busy: 10m}}\n",
    )

    assert counted(done) == {"mounted": 12}
    assert attempts(done) == [1] * 12
    assert len(around.looks) <= 4
    assert max(each["phases_s"]["busy"] for each in done.report["targets"]) >= 590.0


async def test_a_stop_does_not_wait_for_a_busy_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets that wait for their machine are cancelled at once."""

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(200.0)
        run.stop("SIGINT")

    sites: Sequence[Site] = [Site(machines=4, behaviour=SEEN)]
    around = Neighbourhood(2, None)
    done = await drill(tmp_path, monkeypatch, sites, face=around.face, meanwhile=stop)

    assert counted(done) == {"cancelled": 2, "mounted": 2}
    assert done.took_s < 210.0


@pytest.mark.parametrize("kind", ["restore", "file_restore"])
async def test_a_restore_is_waited_for_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """One of the whole machine before its mount, one of files after a mount that failed for it."""

    def exclusive(inventory: Inventory) -> None:
        for each in inventory.machines:
            each.backup_server.exclusive = True

    around = Neighbourhood(2, JOB_S, kind)
    done = await run(
        tmp_path,
        monkeypatch,
        around,
        change=exclusive,
        extra="defaults: {retries: {attempts: 1}}\n",
    )

    assert counted(done) == {"mounted": 12}
    assert sorted(attempts(done)) == [1] * 10 + [2 if kind == "file_restore" else 1] * 2
    around.assert_few_looks()


async def test_mounts_of_an_earlier_run_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server shows them for a quarter of an hour after their end, and nobody says whose."""
    behaviour = Behaviour(shows_activity="all", activity_delay_s=900.0)
    around = Neighbourhood(6, -1.0, "file_restore", from_s=-300.0)
    done = await run(tmp_path, monkeypatch, around, machines=6, behaviour=behaviour)

    assert counted(done) == {"mounted": 6}
    assert not any("waits" in each for each in done.report["targets"])


@pytest.mark.parametrize("where", ["server", "backup server"])
async def test_restores_of_others_use_up_the_same_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """3 of them where 8 may be open: after the first look never more than 5 of ours."""
    servers = 2 if where == "server" else 1
    site = Site(machines=30, backup_servers=servers, behaviour=SEEN, limit=8)
    counting = "{mounts: 8, count_others: true}"
    server = (
        f"    limits: {counting}\n"
        if where == "server"
        else (f"    limits: {{mounts: 20}}\n    backup_servers: {{vbr-hq-01: {counting}}}\n")
    )
    around = Neighbourhood(0, None)

    def face(manager: SimulatedManager, faults: FaultScript | None) -> HttpFace:
        stranger = manager.inventory.machines[-1]
        manager.activities += [
            SimActivity(kind="file_restore", machine=stranger, from_s=-500.0) for _ in range(3)
        ]
        return around.face(manager, faults)

    plan = every_machine([site])
    rows = plan.splitlines()[:-1]  # not the stranger's machine
    text = "\n".join(rows) + "\n"
    monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: _servers(server))
    done = await drill(tmp_path, monkeypatch, [site], text, face=face)

    assert counted(done) == {"mounted": 29}
    assert done.truth.peaks["server:hq"] == 5
    assert done.took_s <= 1.25 * 29 * 62.0 / 5  # its own mounts count once


@pytest.mark.parametrize("kind", ["forbidden", "error_500"])
async def test_restores_that_are_shown_no_more_use_up_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nobody would see them end: the run goes on, and says that it counts them no more."""
    site = Site(
        machines=3,
        behaviour=SEEN,
        limit=1,
        faults=[Fault(kind=kind, query="type=RestoreSession", from_s=30.0)],
    )

    def face(manager: SimulatedManager, faults: FaultScript | None) -> HttpFace:
        stranger = manager.inventory.machines[-1]
        manager.activities.append(SimActivity(kind="file_restore", machine=stranger, from_s=-9.0))
        return Neighbourhood(0, None).face(manager, faults)

    text = "\n".join(every_machine([site]).splitlines()[:-1]) + "\n"  # not the stranger's machine
    counting = "    limits: {mounts: 1, count_others: true}\n"
    monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: _servers(counting))
    with anyio.fail_after(3600.0):
        done = await drill(tmp_path, monkeypatch, [site], text, face=face)

    assert counted(done) == {"mounted": 2}
    said = [line for line in done.report["warnings"] if "use up no limit from now on" in line]
    assert len(said) == 1


@pytest.mark.parametrize("why", ["denied", "error_500", "black_hole"])
async def test_restores_that_are_never_shown_are_said_to_use_up_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Whoever asked for it sees in the report, once, that it has no effect, and why."""
    shows = "denied" if why == "denied" else "all"
    faults = [] if why == "denied" else [Fault(kind=why, query="type=RestoreSession")]
    counting = "    limits: {mounts: 1, count_others: true}\n"
    monkeypatch.setattr("tests.scenarios.drill.servers_yaml", lambda sites: _servers(counting))
    done = await run(
        tmp_path,
        monkeypatch,
        Neighbourhood(0, None),
        machines=4,
        behaviour=Behaviour(shows_activity=shows),
        faults=faults,
    )

    assert counted(done) == {"mounted": 4}
    (said,) = (line for line in done.report["warnings"] if "use up no limit" in line)
    assert said.startswith("hq shows no restores, so those of other people use up no limit as long")
    assert {"denied": "403", "error_500": "500", "black_hole": "no answer in 20 s"}[why] in said


def _servers(limits: str) -> str:
    return (
        "version: 1\nname: scenario\nservers:\n  hq:\n"
        f"    url: https://{host('hq')}:9398\n    username: {ACCOUNT}\n"
        f"    password: {{env: SCENARIO_PASSWORD}}\n{limits}"
    )
