"""One row that cannot be read costs only itself: in listings, among tasks, in a guest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.core.proof import PathCheck
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.demanding import demand
from tests.scenarios.drill import START, Site, drill, every_machine
from tests.scenarios.guests import File, Guests

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "kind", ["row_without_id", "row_without_date", "row_far_date", "row_first_date", "row_nil"]
)
async def test_one_unreadable_point_costs_only_itself(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traps 60 to 63: it is set aside, counted and named in the report; the others are mounted."""
    faults = [Fault(kind=kind, path="/query", query="VmReplicaPoint", row="2026-11-23")]
    done = await drill(tmp_path, monkeypatch, [Site(machines=4, faults=faults)])

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 4}
    (said,) = [line for line in done.report["warnings"] if "set aside" in line]
    assert said.startswith("hq: 1 restore point that could not be read was set aside: ")


@pytest.mark.parametrize(
    "kind", ["row_bad_character", "utf16_declared", "no_encoding", "byte_order_mark"]
)
async def test_answers_as_dotnet_writes_them_are_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traps 59 and 61: no row is lost, and nobody has to be told."""
    done = await drill(tmp_path, monkeypatch, [Site(machines=4, faults=[Fault(kind=kind)])])

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 4}
    assert not [line for line in done.report["warnings"] if "set aside" in line]


async def test_a_task_that_no_list_shows_readably_is_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is used for the others, and the run says what was set aside."""
    faults = [Fault(kind="row_without_id", path="/query", query="type=Task")]
    done = await drill(tmp_path, monkeypatch, [Site(machines=4, faults=faults)])

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 4}
    assert [line for line in done.report["warnings"] if "could not be read" in line]


async def test_a_task_that_cannot_be_read_at_all_costs_only_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server is given up over it; past its time limit its mount is found by the point's list."""
    faults = [
        Fault(kind="row_without_id", path="/query", query="type=Task", row="task-2<"),
        Fault(kind="row_without_id", path="/tasks/task-2$"),
    ]
    sites = [Site(machines=6, limit=3, faults=faults)]
    plan = "defaults: {timeouts: {mount: 5m}}\n" + every_machine(sites)
    done = await drill(tmp_path, monkeypatch, sites, plan=plan)

    assert Counter(done.results().values()) == {"mounted": 5, "failed": 1}
    (failed,) = [each for each in done.report["targets"] if each["result"] == "failed"]
    assert (failed["mount"], failed["attempts"][0]["task_id"]) == ("released", "task-2")
    assert not [line for line in done.report["warnings"] if "given up" in line]
    assert done.took_s < 1500


async def test_a_name_that_the_server_refuses_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is halved until the name is known; the others are mounted."""
    faults = [Fault(kind="answer", status=400, body="service", path="/query", query="file0003")]
    done = await drill(tmp_path, monkeypatch, [Site(machines=8, faults=faults)])

    (refused,) = [label for label, result in done.results().items() if result == "failed"]
    assert "file0003" in refused
    assert Counter(done.results().values()) == {"mounted": 7, "failed": 1}
    assert "refused to list" in done.target(refused)["message"]


# --- clocks -----------------------------------------------------------------------------------


def made(name: str, before_s: float) -> Callable[[Inventory], None]:
    """Return a change that lets a machine's newest point be made so long before the start."""

    def change(inventory: Inventory) -> None:
        machine = next(each for each in inventory.machines if each.name == name)
        newest = max(machine.points, key=lambda point: point.created_at)
        newest.created_at = START - timedelta(seconds=before_s)

    return change


async def test_a_point_from_the_future_is_mounted_and_its_rpo_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning, never a met objective: nobody knows how old it is."""
    site = Site(machines=2, change=made("hq-app0000", -2510.0))
    plan = "objectives: {rpo: 9d}\n" + every_machine([site])
    done = await drill(tmp_path, monkeypatch, [site], plan)

    (rpo,) = [each for each in done.report["objectives"] if each["kind"] == "rpo"]
    assert (rpo["actual_s"], rpo["met"]) == (None, False)
    assert done.results()["hq-app0000"] == "mounted"
    assert done.outcome.code == 1
    (said,) = [line for line in done.report["warnings"] if "future" in line]
    assert said.startswith("hq: 1 restore point from the future by the server's own clock (")
    assert "41 min 50 s ahead" in said


async def test_ages_are_measured_on_the_server_s_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server two hours ahead stamps its points with its own time: they are older than shown."""
    jump = Fault(kind="clock_jump", path="sessionMngr", seconds=7200.0, count=1)
    site = Site(machines=1, faults=[jump], change=made("hq-app0000", 1800.0))
    plan = "defaults: {point: {max_age: 2h}}\nobjectives: {rpo: 3h}\n" + every_machine([site])
    done = await drill(tmp_path, monkeypatch, [site], plan)

    assert done.results() == {"hq-app0000": "failed"}
    assert "2 h 30 min old" in done.target("hq-app0000")["message"]


async def test_a_file_s_age_is_taken_back_to_a_clock_that_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`modified_within` counts from the point's creation, which a wrong server clock shifts."""
    tree = {"E:/fresh.txt": File(b"x", age=9000.0)}
    checks = [PathCheck(path="E:/fresh.txt", modified_within=hours * 3600.0) for hours in (1, 3)]
    demand(monkeypatch, {"fresh": checks})
    jump = Fault(kind="clock_jump", path="sessionMngr", seconds=7200.0, count=1)
    site = Site(machines=1, faults=[jump])
    guests = Guests(lambda point: tree)
    done = await drill(tmp_path, monkeypatch, [site], face=guests.face)

    made = {each["expected"]: each["passed"] for each in done.target("hq-app0000")["checks"]}
    assert made == {"modified_within 1h": True, "modified_within 3h": True}


async def test_one_mount_that_does_not_answer_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of a session shows where mounts are; the others wait for that a few seconds."""
    silent = Fault(kind="black_hole", method="GET", path=r"/mounts/\d+$", count=1)

    done = await drill(tmp_path, monkeypatch, [Site(machines=6, limit=6, faults=[silent])])

    late = [
        (fate.closed_at or math.inf) - (fate.finished_at or 0.0) > 30.0
        for fate in done.truth.mounts
    ]
    assert set(done.results().values()) == {"mounted"}
    assert sum(late) == 1
