"""Workers with less room than a run has servers: its shards take turns, and it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from orchestrator.core.model import ServerName
from tests.scenarios.drill import Site
from tests.simulation.sites.judging import judged, results
from tests.simulation.sites.processes import run_processes
from tests.simulation.sites.stage import RUN, Stage, staged
from tests.simulation.sites.test_first_stories import no_errors

LIMITED = "limits: {mounts: 1}\n"


def sites(*names: str, machines: int = 2, mount_s: float = 40.0) -> Sequence[Site]:
    """Return servers of one site."""
    return [Site(name, machines=machines, limit=2, mount_s=mount_s) for name in names]


def crosswise(servers: Sequence[Site]) -> str:
    """Return waves that each have a target of every server: none can be finished in one turn."""
    listed = [server.listed(place) for place, server in enumerate(servers)]
    lines = ["waves:\n"]
    for number in range(servers[0].machines):
        after = f"    after: [wave{number - 1}]\n" if number else ""
        lines.append(f"  - name: wave{number}\n{after}    targets:\n")
        for server, machines in zip(servers, listed, strict=True):
            vm, os = machines[number]
            lines.append(f"      - {{vm: {vm}, server: {server.name}, os: {os}}}\n")
    return "".join(lines)


def told(
    servers: Sequence[Site], *, sealed: bool = True, room: int = 1, workers: int = 1, **staging: Any
) -> tuple[dict[str, Any], Stage]:
    """Return the report of a run over some workers with so much room, and its stage."""

    async def story() -> tuple[dict[str, Any], Stage]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, servers, **staging) as stage:
                for number in range(workers):
                    stage.begin(f"worker{number}", "main", room=room, sealed=sealed)
                await stage.over(within_s=7200.0)
                return judged(stage), stage

    return run_processes(story)


def turns(stage: Stage) -> set[ServerName]:
    """Return the servers that were given back so that others had a turn."""
    shards = stage.database.tables.shards
    return {server for (_, server), row in shards.items() if row.turn_over is not None}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("room", [1, 2])
def test_waves_over_more_servers_than_there_is_room_for(sealed: bool, room: int) -> None:
    """Whoever waits for a wave lets those be served that it waits for; nothing is lost by that."""
    servers = sites("hq", "dr", "branch")
    report, stage = told(servers, sealed=sealed, room=room, plan=crosswise(servers))

    assert results(report) == {"mounted": 6}
    assert report["run"]["exit_code"] == 0
    assert turns(stage)


@pytest.mark.parametrize("sealed", [True, False])
def test_turns_that_take_longer_than_a_session_lives(sealed: bool) -> None:
    """It is ended before: one that idles out unseen may have had something in it."""
    servers = sites("hq", "dr", "branch", mount_s=700.0)
    report, stage = told(servers, sealed=sealed, plan=crosswise(servers))

    assert results(report) == {"mounted": 6}
    assert report["run"]["exit_code"] == 0
    assert turns(stage)


def test_a_limit_over_more_servers_than_there_is_room_for() -> None:
    """What nobody serves has no part of it."""
    report, _ = told(sites("hq", "dr", "branch"), workers=2, extra=LIMITED)

    assert results(report) == {"mounted": 6}
    assert report["run"]["exit_code"] == 0


def test_nobody_gives_way_to_nobody() -> None:
    """With room enough a shard stays with its worker, however long it waits for its wave."""
    servers = sites("hq", "dr")
    report, stage = told(servers, room=2, plan=crosswise(servers))

    assert results(report) == {"mounted": 4}
    assert not turns(stage)


def test_a_slot_of_a_shard_that_nobody_serves_is_waited_for_no_longer_than_a_turn() -> None:
    """Its worker is dead; the one that lives gives way, takes it over, and unmounts."""

    async def story() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, sites("hq", "dr"), extra=LIMITED) as stage:
                shards = stage.database.tables.shards
                first = stage.begin("first", "main", room=1)
                await stage.until(lambda: stage.sites.truth.open_now["total"] == 1)
                stage.begin("second", "main", room=1)
                await stage.until(lambda: all(row.worker for row in shards.values()))
                stage.kill(first)
                await stage.over(within_s=3600.0)
                assert turns(stage)
                return judged(stage)

    assert results(run_processes(story)) == {"mounted": 4}


def test_a_conductor_takes_no_room() -> None:
    """It may come to a worker that has none left, and that worker serves on."""

    async def story() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, sites("hq", "dr", mount_s=90.0)) as stage:
                shards = stage.database.tables.shards
                first = stage.begin("first", "main", room=1)
                await stage.until(lambda: stage.sites.truth.open_now["total"] == 2)
                second = stage.begin("second", "main", room=1)
                await stage.until(lambda: all(row.worker for row in shards.values()))
                stage.kill(first)
                await anyio.sleep(15.0)
                assert shards[RUN, ServerName("")].worker == second.id
                await stage.over(within_s=3600.0)
                return judged(stage)

    assert results(run_processes(story)) == {"mounted": 4}
