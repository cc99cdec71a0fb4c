"""Two signals: the first ends the asking, the second the process, whatever is in doubt."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from orchestrator.engine.run import Run
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site, drill, staged
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio

LISTING = "type=VmReplicaPoint|type=VmRestorePoint"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="black_hole"),
        Fault(kind="black_hole", path="sessionMngr"),
        Fault(kind="black_hole", query=LISTING),
        Fault(kind="black_hole", path="^(?!.*sessionMngr)"),
        Fault(kind="drip", seconds=200.0, query=LISTING),
        Fault(kind="html_503"),
        Fault(kind="unauthorized", path="^(?!.*sessionMngr)"),
    ],
    ids=[
        "silent",
        "no logon",
        "no listing",
        "nothing after the logon",
        "drips",
        "busy",
        "401 after the logon",
    ],
)
async def test_the_first_signal_ends_the_asking_within_two_seconds(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that only logs on or lists has nothing to wait for."""
    stopped: list[float] = []

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(20)
        stopped.append(anyio.current_time())
        run.stop("SIGINT")

    site = Site(machines=3, faults=[fault])
    began = anyio.current_time()
    done = await drill(tmp_path, monkeypatch, [site], meanwhile=stop)

    assert done.outcome.code == 130
    assert Counter(done.results().values()) == {"cancelled": 3}
    assert done.took_s + began - stopped[0] <= 2.0


IN_DOUBT = {
    "no answer to the mount": [Fault(kind="black_hole", method="POST", path="/mounts$")],
    "a lost answer, and no task list": [
        Fault(kind="drop_after", method="POST", path="/mounts$"),
        Fault(kind="black_hole", method="GET", path="/tasks|/query", from_s=1.0),
    ],
    "a lost answer, and silence": [
        Fault(kind="drop_after", method="POST", path="/mounts$"),
        Fault(kind="black_hole", from_s=2.0),
    ],
    "silence": [Fault(kind="black_hole", from_s=10.0)],
    "a lost answer, and 503": [
        Fault(kind="drop_after", method="POST", path="/mounts$"),
        Fault(kind="html_503", from_s=2.0),
    ],
    "an unmount without an end": [Fault(kind="black_hole", method="DELETE")],
    "a logoff without an answer": [
        Fault(kind="black_hole", query=LISTING),
        Fault(kind="black_hole", method="DELETE", path="/logonSessions"),
    ],
}


@pytest.mark.parametrize("faults", IN_DOUBT.values(), ids=IN_DOUBT)
async def test_the_second_signal_ends_the_process_within_eight_seconds(
    faults: list[Fault], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in doubt is named, and its session left open."""
    stopped: list[float] = []

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(25)
        run.stop("SIGINT")
        await anyio.sleep(1)
        run.stop("SIGINT")
        stopped.append(anyio.current_time())

    site = Site(machines=8, limit=4, mount_s=15.0, faults=faults)
    began = anyio.current_time()
    done = await drill(tmp_path, monkeypatch, [site], meanwhile=stop)

    assert done.took_s + began - stopped[0] <= 7.0
    assert done.outcome.code in {3, 130}


async def test_the_second_signal_ends_a_resume_that_only_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could not remove stays named."""
    site = Site(machines=4, limit=4, mount_s=30.0, behaviour=Behaviour(unmount_s=1.0))
    stopped: list[float] = []

    async def force(run: Run, after: float) -> None:
        await anyio.sleep(after)
        run.stop("SIGINT")
        await anyio.sleep(0.5)
        run.stop("SIGINT")
        stopped.append(anyio.current_time())

    async with staged(tmp_path, monkeypatch, [site]) as stage, anyio.create_task_group() as tasks:

        def soon(run: Run) -> None:
            tasks.start_soon(force, run, 10.0)

        first = await stage.run(on_run=soon)
        stage.sites.faces["hq"].faults.faults.append(Fault(kind="black_hole"))
        done = await stage.resume(on_run=soon)
        ended = anyio.current_time()

    assert (first.outcome.code, done.outcome.code) == (3, 3)
    assert ended - stopped[1] <= 7.0
