"""Backups and agents beside replicas: the whole program, one family as well as the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault, FaultScript
from orchestrator.simulator.inventory import AGENTS, BACKUPS, REPLICAS, Inventory, Machine
from orchestrator.simulator.manager import SimulatedManager
from orchestrator.simulator.server import HttpFace
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import Site, drill

pytestmark = pytest.mark.anyio

SOURCES = {REPLICAS: "replica", BACKUPS: "backup", AGENTS: "agent"}
ADMINISTRATOR = "Portal Administrator"


@dataclass(slots=True)
class Seen:
    """Method, target and body of every request that a server got."""

    requests: list[tuple[str, str, bytes]] = field(default_factory=list)

    def face(self, manager: SimulatedManager, faults: FaultScript | None) -> HttpFace:
        """Make the face of a server that keeps its requests here."""
        return _SeeingFace(manager, faults, self)

    def bodies(self, family: str) -> set[bytes]:
        """Return the bodies of all mount requests of one family."""
        return {
            body
            for method, target, body in self.requests
            if method == "POST" and f"/{family}/" in target and target.endswith("/mounts")
        }


class _SeeingFace(HttpFace):
    def __init__(self, manager: SimulatedManager, faults: FaultScript | None, seen: Seen) -> None:
        super().__init__(manager, faults)
        self._seen = seen

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._seen.requests.append((request.method, request.raw_path, await request.read()))
        return await super().handle(request)


def mixed(**options: object) -> Site:
    """Return a site whose machines are replicas, backups and agents in turn."""
    return Site(families=(REPLICAS, BACKUPS, AGENTS), machines=12, **options)  # type: ignore[arg-type]  # passed on


def machines(site: Site) -> list[Machine]:
    """Return the machines that a site will have."""
    return site.manager(GroundTruth(), 0).inventory.machines


def targets(site: Site, selector: Callable[[Machine], str]) -> str:
    """Return a target for every machine: its own source, and what `selector` says."""
    rows = [
        f"  - {{{selector(machine)}, source: {SOURCES[machine.points[0].family]}, server: hq, "
        f"os: {machine.os.lower()}, label: {machine.name}}}"
        for machine in machines(site)
    ]
    return "\n".join(["targets:", *rows]) + "\n"


def by_name(machine: Machine) -> str:
    """Select by name."""
    return f"vm: {machine.name}"


def by_id(machine: Machine) -> str:
    """Select the newest point by its id."""
    return f"id: {machine.points[0].id}"


@pytest.mark.parametrize("selector", [by_name, by_id])
@pytest.mark.parametrize("related", ["documented", "own_family", "other_family", "absent"])
async def test_every_family_is_mounted_proved_and_released(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    related: str,
    selector: Callable[[Machine], str],
) -> None:
    """Wherever a Related link leads, the mount is found in the family that was posted to."""
    site = mixed(role=ADMINISTRATOR, behaviour=Behaviour(related=related))
    seen = Seen()
    done = await drill(tmp_path, monkeypatch, [site], targets(site, selector), face=seen.face)

    assert set(done.results().values()) == {"mounted"}
    assert {fate.closed_by for fate in done.truth.mounts} == {"unmounted"}
    for machine in machines(site):
        target = done.target(machine.name)
        point = machine.points[0]
        assert (target["point"]["id"], target["mount"]) == (point.id, "released")
        (deleted,) = (
            path for method, path, _ in seen.requests if method == "DELETE" and point.id in path
        )
        assert deleted == f"/api/{point.family}/{point.id}/mounts/1"


async def test_agents_are_mounted_without_a_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No OsKind is documented for them, so none is sent; the others always name theirs."""
    site = mixed(role=ADMINISTRATOR)
    seen = Seen()
    done = await drill(tmp_path, monkeypatch, [site], targets(site, by_name), face=seen.face)

    assert set(done.results().values()) == {"mounted"}
    assert seen.bodies(AGENTS) == {b""}
    for family in (REPLICAS, BACKUPS):
        bodies = seen.bodies(family)
        assert bodies
        assert all(b"<OsKind>" in body for body in bodies)


async def test_a_file_restore_operator_mounts_agents_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Least privilege: that role may not list agents, and may read and mount a known one."""
    site = mixed()
    seen = Seen()
    done = await drill(tmp_path, monkeypatch, [site], targets(site, by_id), face=seen.face)

    assert set(done.results().values()) == {"mounted"}
    assert not [target for _, target, _ in seen.requests if "AgentRestorePoint&" in target]


async def test_a_file_restore_operator_is_told_that_it_cannot_list_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name the program would have to list them: the server's refusal is the reason."""
    site = Site(families=(AGENTS,), machines=2)
    done = await drill(tmp_path, monkeypatch, [site], targets(site, by_name))

    assert set(done.results().values()) <= {"failed", "skipped"}
    assert all("Access denied" in target["message"] for target in done.report["targets"])
    assert done.truth.mounts == []


async def test_a_family_without_its_own_roles_is_refused_at_the_logon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that shows none of the collections mounts nothing, and the report says why."""
    site = Site(families=(BACKUPS,), machines=2, role="Exchange Restore Operator")
    done = await drill(tmp_path, monkeypatch, [site], targets(site, by_name))

    assert set(done.results().values()) == {"skipped"}
    assert all("vmRestorePoints" in target["message"] for target in done.report["targets"])


@pytest.mark.parametrize("family", [REPLICAS, AGENTS])
async def test_a_job_selects_its_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Replicas name their job and agents' points do not: both can be asked for by it."""
    site = Site(families=(family,), machines=12, role=ADMINISTRATOR)
    job = machines(site)[0].job
    wanted = {machine.name for machine in machines(site) if machine.job == job}
    plan = f'targets:\n  - {{job: "{job}", source: {SOURCES[family]}, server: hq}}\n'
    done = await drill(tmp_path, monkeypatch, [site], plan)

    assert len(wanted) > 1
    assert set(done.results()) == wanted


@pytest.mark.parametrize("family", [BACKUPS, AGENTS])
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "act_later", "error_500_after"])
async def test_a_lost_answer_is_settled_in_every_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, kind: str
) -> None:
    """Adopted or proved absent in the family's own list of mounts: never two, never lost."""
    faults = [Fault(kind=kind, method="POST", path="/mounts$", skip=2, count=3, seconds=5.0)]
    site = Site(families=(family,), role=ADMINISTRATOR, faults=faults)
    done = await drill(tmp_path, monkeypatch, [site], targets(site, by_name))

    assert set(done.results().values()) == {"mounted"}
    assert len(done.truth.mounts) == len(machines(site))


async def test_a_running_replica_does_not_keep_its_backup_from_being_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stops replica mounts (failed over, job at work) stops no other family."""

    def busy(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.running = machine.job_active = True

    site = mixed(role=ADMINISTRATOR, change=busy)
    done = await drill(tmp_path, monkeypatch, [site], targets(site, by_name))

    found = {machine.name: machine.points[0].family for machine in machines(site)}
    for name, result in done.results().items():
        assert result == ("failed" if found[name] == REPLICAS else "mounted")
