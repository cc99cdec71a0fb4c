"""A mount POST whose answer is lost: adopted, proved absent, or unknown; never doubled."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from orchestrator.core.run_state import RunState
from orchestrator.journal import State
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from orchestrator.simulator.server import HttpFace
from tests.scenarios.drill import Site, drill, staged

pytestmark = pytest.mark.anyio

MOUNTS = r"/mounts$"


@pytest.mark.parametrize("kind", ["drop_after", "reset_mid_body", "truncated"])
async def test_the_task_of_a_lost_answer_is_adopted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server acted: its one unclaimed task is ours, and nothing is mounted twice."""
    fault = Fault(kind=kind, method="POST", path=MOUNTS, skip=2, count=1)

    done = await drill(tmp_path, monkeypatch, [Site(machines=8, faults=[fault])])

    adopted = [
        attempt
        for target in done.report["targets"]
        for attempt in target["attempts"]
        if attempt["adopted"]
    ]
    assert done.outcome.code == 0
    assert len(adopted) == 1
    assert len(done.truth.mounts) == 8


async def test_every_intent_is_on_disk_before_its_post_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds the journal after a crash knows of every mount that may have been made."""
    intended: list[bool] = []

    class Reading(HttpFace):
        async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
            if request.method == "POST" and request.path.endswith("/mounts"):
                point = request.path.split("/")[-2]
                journal = State(stage.state)
                found = journal.replay(journal.summary("last").run)
                intended.append(point in _intents(found))
            return await super().handle(request)

    async with staged(tmp_path, monkeypatch, [Site(machines=8)], face=Reading) as stage:
        await stage.run()

    assert intended == [True] * 8


def _intents(found: RunState) -> set[str]:
    """Return the points for which the journal holds an attempt."""
    return {attempt.point for record in found.records.values() for attempt in record.attempts}


async def test_a_post_that_never_arrived_is_proved_absent_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server did not act: after several looks the target is submitted once more."""
    fault = Fault(kind="drop_before", method="POST", path=MOUNTS, skip=1, count=1)

    done = await drill(tmp_path, monkeypatch, [Site(machines=4, faults=[fault])])

    outcomes = sorted(
        attempt["outcome"] for target in done.report["targets"] for attempt in target["attempts"]
    )
    assert done.outcome.code == 0
    assert outcomes == ["refused", "success", "success", "success", "success"]
    assert len(done.truth.mounts) == 4


async def test_an_internal_error_on_the_post_is_reconciled_before_anything_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP 500 may or may not have started something; here it had not."""
    fault = Fault(kind="error_500", method="POST", path=MOUNTS, count=1)

    done = await drill(tmp_path, monkeypatch, [Site(machines=2, faults=[fault])])

    assert done.outcome.code == 0
    assert len(done.truth.mounts) == 2


async def test_only_one_post_of_a_session_is_unanswered_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one answer is missing, nobody else posts in that session."""
    slow = Fault(kind="delay", method="POST", path=MOUNTS, seconds=5.0)
    site = Site(machines=6, faults=[slow], mount_s=200.0)

    done = await drill(tmp_path, monkeypatch, [site])

    asked = sorted(fate.requested_at for fate in done.truth.mounts)
    assert done.outcome.code == 0
    assert all(later - earlier > 4.99 for earlier, later in pairwise(asked))


async def test_a_task_that_begins_between_two_looks_is_not_taken_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is found by its mount owns its task too: the next lost answer never adopts it."""
    faults = [
        Fault(kind="act_later", method="POST", path="/mounts$", seconds=1.0, count=2),
        Fault(kind="delay", method="GET", path="/mounts$", seconds=10.0, count=1),
    ]
    site = Site(machines=2, backup_servers=1, faults=faults, mount_s=2.0)

    done = await drill(tmp_path, monkeypatch, [site])

    assert set(done.results().values()) == {"mounted"}
    assert len(done.truth.mounts) == 2
    assert not done.truth.still_open()


async def test_a_server_that_fails_to_answer_for_a_while_still_settles_the_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that ends in 500 shows nothing; the next one finds the mount."""
    faults = [
        Fault(kind="drop_after", method="POST", path=MOUNTS, count=1),
        Fault(kind="error_500", method="GET", path=r"/tasks$", count=7),
    ]

    done = await drill(tmp_path, monkeypatch, [Site(machines=2, faults=faults)])

    assert set(done.results().values()) == {"mounted"}
    assert len(done.truth.mounts) == 2


async def test_a_doubt_that_was_given_up_is_not_taken_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What begins for an earlier POST in doubt is found by its link, and adopted by nobody else."""
    faults = [
        Fault(kind="act_later", method="POST", path=MOUNTS, seconds=50.0, count=1),
        Fault(kind="error_500", method="GET", path=r"/tasks$", count=21),
        Fault(kind="drop_before", method="POST", path=MOUNTS, count=1),
    ]
    site = Site(
        machines=3,
        backup_servers=1,
        faults=faults,
        limit=3,
        behaviour=Behaviour(related="own_family"),
    )

    done = await drill(tmp_path, monkeypatch, [site])

    assert set(done.results().values()) == {"mounted"}
    assert len(done.truth.mounts) == 3


async def test_the_mount_of_a_late_request_is_kept_although_another_task_was_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal that was none left a task that fails; the lost request took it for its own.

    What the list of its point shows at the end of the proof is the target's, and is removed.
    """
    lied = Fault(
        kind="answer_after", method="POST", path=MOUNTS, count=1, status=503, body="service"
    )
    late = Fault(kind="act_later", method="POST", path=MOUNTS, count=1, seconds=20.0)
    site = Site(machines=2, limit=1, mount_s=45.0, faults=[lied, late], change=_first_fails)

    done = await drill(tmp_path, monkeypatch, [site])

    assert len(done.truth.mounts) >= 2
    assert not done.truth.still_open()
    assert "unmounted" in {fate.closed_by for fate in done.truth.mounts}


def _first_fails(inventory: Inventory) -> None:
    """Let every mount of the machine that is asked for first fail at the server."""
    for point in inventory.by_id.values():
        if point.machine.name == "hq-app0000":
            point.fails = "Failed to mount restore point: broken."
