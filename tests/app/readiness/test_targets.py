"""What is said of every target: its point, its objective, what nobody can see."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.app.readiness.findings import Scope, Status, Subject
from orchestrator.app.readiness.targets import machine_findings, target_findings
from orchestrator.app.readiness.text import text
from orchestrator.core.model import MountRequest, Objectives, RestorePointId, Source
from orchestrator.plan.choose.expansion import expand
from orchestrator.plan.choose.inventory import Inventory as Listed
from orchestrator.plan.choose.locked import LockedPlan, load_locked, lock
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.simulator.inventory import Inventory
from tests.app.readiness.desk import asked, at_desk, checked
from tests.plan.builders import HQ, NOW, expanded, point
from tests.scenarios.drill import START, Site, Stage

pytestmark = pytest.mark.anyio

OK, WARNING = Status.OK, Status.WARNING
PROBLEM, NOT_VISIBLE = Status.PROBLEM, Status.NOT_VISIBLE
APP = "hq-app0000"
LINUX = "hq-file0003"


async def test_a_target_tells_its_point_and_what_cannot_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chosen point, its age and why; the replica's state is visible to no role at all."""
    plan = f"targets:\n  - vm: {APP}\n"
    site = Site(role="Portal Administrator")
    found = await checked(tmp_path, monkeypatch, [site], plan)

    assert found.statuses(f"default/hq/{APP}") == {"point": OK, "replica_state": NOT_VISIBLE}
    told = found.of(APP, "point").detail
    assert "old, on vbr-hq-01: newest of 3 points" in told


async def test_whom_the_plan_leaves_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as the plan asks for, so only a verbose check shows it."""
    plan = f"targets:\n  - {{match: 'hq-*', exclude: [{APP}]}}\n"
    found = await checked(tmp_path, monkeypatch, [Site(role="Portal Administrator")], plan)

    (line,) = [each for each in found.readiness.findings if each.item == "left_out"]
    assert (line.scope, line.status) == (Scope.RUN, OK)
    assert f"'exclude' leaves out 1 machine: {APP}" in line.detail
    assert line.detail in text(found.readiness, verbose=True)
    assert line.detail not in text(found.readiness)


@pytest.mark.parametrize("state", ["running", "job_active"])
async def test_a_running_replica_is_not_said_to_be_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """The API tells neither failover nor a job at work: that is the answer, not "ok"."""

    def change(inventory: Inventory) -> None:
        setattr(inventory.machine(APP), state, True)

    found = await checked(
        tmp_path, monkeypatch, [Site(change=change)], f"targets:\n  - vm: {APP}\n"
    )

    assert found.of(APP, "replica_state").status is NOT_VISIBLE


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{vm: nobody}", "the server lists no restore point for vm 'nobody'"),
        ("{job: No Job}", "the server lists no restore point for job 'No Job'"),
        ("{id: 00000000-0000-4000-8000-000000000000}", "lists no such restore point"),
        (f"{{vm: {APP}, point: {{max_age: 1m}}}}", "max_age is 1 min"),
        (
            f"{{vm: {APP}, point: {{policy: before, time: 2020-01-01T00:00:00Z}}}}",
            "the oldest is from",
        ),
    ],
)
async def test_a_target_without_a_point_is_a_problem_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, reason: str
) -> None:
    """Missing, too old or too new: the others are answered for."""
    plan = f"targets:\n  - {entry}\n  - vm: hq-sql0001\n"
    found = await checked(tmp_path, monkeypatch, plan=plan)

    ((name, item),) = found.problems
    assert item == "point"
    assert reason in found.of(name, "point").detail
    assert found.of("hq-sql0001", "point").status is OK


async def test_an_ambiguous_name_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says behind which backup servers the name stands."""

    def change(inventory: Inventory) -> None:
        one, other = inventory.machines[:2]
        other.name = one.name
        inventory.__init__(inventory.machines)  # type: ignore[misc]  # indexed again

    plan = f"targets:\n  - vm: {APP}\n"
    found = await checked(tmp_path, monkeypatch, [Site(change=change)], plan)

    assert "ambiguous" in found.of(APP, "point").detail
    assert not found.readiness.is_ready


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ("  - {match_job}\n  - vm: hq-app0000\n", "selected twice"),
        ("  - {match_job, expect: {min: 500}}\n", "expected at least 500"),
        ("  - {match_job, expect: {max: 1}}\n", "expected at most 1"),
    ],
)
async def test_a_broken_guard_is_a_problem_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: str, says: str
) -> None:
    """With it nothing would be mounted."""
    job = "job: Tier 1 Replication vbr-hq-01"
    found = await checked(
        tmp_path, monkeypatch, plan="targets:\n" + targets.replace("match_job", job)
    )

    assert found.problems == {("scenario", "guards")}
    assert says in found.of("scenario", "guards").detail


async def test_a_critical_target_is_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure halts the run, so whoever reads should see it first."""
    plan = "targets:\n  - vm: nobody\n  - {vm: nothing, critical: true}\n"
    found = await checked(tmp_path, monkeypatch, plan=plan)

    assert found.of("nothing", "point").critical
    assert not found.of("nobody", "point").critical


async def test_an_empty_selection_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--only` that fits nothing would run nothing."""
    async with at_desk(tmp_path, monkeypatch) as stage:
        found = await asked(stage, only=("typo-*",))

    assert found.problems == {("scenario", "targets")}


async def test_only_the_selected_targets_are_answered_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--only` narrows as it does for a run."""
    async with at_desk(tmp_path, monkeypatch) as stage:
        found = await asked(stage, only=("*app0000",))

    assert found.readiness.targets == 1
    assert found.of(APP, "point").status is OK


async def test_a_linux_target_needs_a_helper_host_that_nobody_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning that names the backup server."""
    plan = f"targets:\n  - {{vm: {LINUX}, os: linux}}\n  - vm: {APP}\n"
    found = await checked(tmp_path, monkeypatch, plan=plan)

    told = found.of(LINUX, "helper_host")
    assert told.status is WARNING
    assert told.detail == "not visible: needs a helper host configured for vbr-hq-02"
    assert "helper_host" not in found.statuses(f"default/hq/{APP}")


async def test_a_locked_point_is_never_ok_unless_the_server_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked plan's point that retention removed is not said to be there."""
    async with at_desk(tmp_path, monkeypatch, plan=f"targets:\n  - vm: {APP}\n") as stage:
        first = await asked(stage)
        assert first.of(APP, "point").status is OK
        locked = locked_of(stage, tmp_path)
        inventory = stage.sites.managers["hq"].inventory
        gone = inventory.by_id.pop(locked.requests[0].point.id)
        inventory.by_machine["vmReplicaPoints", APP].remove(gone)

        found = await asked(stage, locked)

    assert found.of(APP, "point").status in {PROBLEM, NOT_VISIBLE}
    assert found.readiness.plan_sha256 == locked.sha256


def locked_of(stage: Stage, directory: Path) -> LockedPlan:
    """Return the stage's plan, locked to what its servers list now."""
    points = stage.sites.managers["hq"].inventory.machine(APP).points
    seen = [
        point(APP, behind="vbr-hq-01", number=place, hours=place)
        for place, _ in enumerate(points, 1)
    ]
    real = [
        replace(one, id=RestorePointId(there.id), created_at=there.created_at)
        for one, there in zip(seen, points, strict=True)
    ]
    expansion = expand(stage.loaded.plan, {HQ: Listed(real)}, now=START)
    assert isinstance(stage.loaded, LoadedPlan)
    data = lock(stage.loaded, expansion, created_at=START, version="1")
    return load_locked(data, directory / "locked.json")


# --- values ------------------------------------------------------------------------------------


def request(**changes: object) -> MountRequest:
    """Return the one target of a small plan."""
    (found,) = expanded("targets: [{vm: a}]", point("a", hours=3)).requests
    return replace(found, **changes)


def answers(request: MountRequest) -> dict[str, tuple[Status, str]]:
    """Return item -> status and detail of a target whose point is listed."""
    expansion = expanded("targets: [{vm: a}]", point("a"))
    expansion = replace(expansion, requests=(request,))
    listed = {(request.server, request.point.source, request.point.id)}
    found = target_findings(expansion, (), listed, {request.key: "run X"}, {request.server: NOW})
    return {each.item: (each.status, each.detail) for each in found}


@pytest.mark.parametrize(
    ("rpo", "incident", "status", "says"),
    [
        (4 * 3600.0, None, OK, "would be met now: 3 h of 4 h"),
        (2 * 3600.0, None, PROBLEM, "would be missed now: 3 h of 2 h"),
        (2 * 3600.0, NOW - timedelta(hours=2), OK, "would be met now: 1 h of 2 h"),
        (2 * 3600.0, NOW - timedelta(hours=9), OK, "would be met now: 0 s of 2 h"),
    ],
)
def test_an_rpo_is_judged_as_it_would_be_now(
    rpo: float, incident: object, status: Status, says: str
) -> None:
    """Back from now, or from the incident where the plan names one."""
    found = answers(request(objectives=Objectives(rpo=rpo), incident_at=incident))

    assert found["rpo"] == (status, says)


def test_a_point_from_the_future_has_no_age() -> None:
    """A warning, and an RPO that would not be met; a moment that the plan names counts as it is."""
    future = replace(request().point, created_at=NOW + timedelta(seconds=2510))
    objectives = Objectives(rpo=9e6)

    found = answers(request(point=future, objectives=objectives))
    incident = answers(request(point=future, objectives=objectives, incident_at=NOW))

    assert found["point"][0] is WARNING
    assert "from the future (made in 41 min 50 s" in found["point"][1]
    assert found["rpo"] == (PROBLEM, "not known, so missed: the point is from the future")
    assert incident["rpo"][0] is OK


def test_a_backup_has_no_replica_that_could_run() -> None:
    """Only replicas are asked about; a machine in another run is a warning."""
    backup = replace(request().point, source=Source.BACKUP)

    assert "replica_state" in answers(request())
    assert "replica_state" not in answers(request(point=backup))
    assert answers(request())["other_run"] == (WARNING, "run X")


@pytest.mark.parametrize(
    ("names", "per_vm", "status", "says"),
    [
        (("a", "b"), 1, OK, "every machine has one target"),
        (("a", "a", "b"), 1, OK, "1 of 2 machines have several targets (at most 2), one open"),
        (("a", "a", "b"), 2, WARNING, "2 open at once: a repository that locks"),
    ],
)
def test_several_points_of_one_machine_are_told(
    names: tuple[str, ...], per_vm: int, status: Status, says: str
) -> None:
    """More than one open at once fails where the repository locks its files."""
    about = Subject(Scope.RUN, "plan")
    found = machine_findings(about, [request(point=point(name)) for name in names], per_vm)

    assert found.status is status
    assert says in found.detail
