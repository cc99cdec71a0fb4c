"""Chains that are not what was written: the run halts, says so, and nobody goes on by guessing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app.sites import chain
from orchestrator.core.events import ShardDamaged
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import ServerName
from orchestrator.core.sites import CONDUCTOR, Ask
from tests.captured import captured_logs
from tests.scenarios.drill import Site
from tests.simulation.sites.judging import chain_of, report_of
from tests.simulation.sites.processes import run_processes
from tests.simulation.sites.stage import RUN, Stage, staged
from tests.simulation.sites.test_turns import crosswise

HQ, DR = ServerName("hq"), ServerName("dr")
SERVERS = (Site("hq", machines=3, limit=1, mount_s=200.0), Site("dr", machines=3, limit=1))


def cut(stage: Stage, server: ServerName, kept: int) -> None:
    """Let the database forget all but the first records of a chain: none wrote them down."""
    tables = stage.database.tables
    del tables.events[RUN, server][kept:]
    last = tables.events[RUN, server][-1][0]
    head = tables.heads[RUN, server]
    head = type(head)(seq=last.seq, hash=last.hash, epoch=head.epoch, attempt=head.attempt)
    tables.heads[RUN, server] = head


def posts(stage: Stage) -> list[str]:
    """Return which workers have asked for mounts on hq."""
    changes = stage.witness.changes
    return [
        each[2]
        for each in changes
        if each[1] == "hq" and each[3] == "POST" and "/mounts" in each[4]
    ]


def told(
    strike: Callable[[Stage], None], *, resumed: bool = False
) -> tuple[dict[str, Any], Stage, list[str]]:
    """Return the report of a run, its stage, and what was logged as errors.

    The strike comes while hq has its second mount: what was written before the first one was
    removed, nobody knows any more, as if there were hundreds of records since.
    """

    async def story() -> tuple[dict[str, Any], Stage]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chain, "KEPT_LEAST", 1)
            async with staged(patch, SERVERS, plan=crosswise(SERVERS)) as stage:
                stage.begin("first", "main")
                await stage.until(lambda: len(posts(stage)) == 2)
                await anyio.sleep(30.0)
                strike(stage)
                await stage.over()
                if resumed:
                    stage.database.tables.ask(RUN, Ask.RESUME, {}, stage.loop.now)
                    stage.begin("third", "main")
                    await stage.over()
                tables = stage.database.tables
                assert not tables.runs[RUN].is_open
                assert not any(row.worker for row in tables.shards.values())
                names = [name for run, name in tables.events if run == RUN]
                return report_of({name: chain_of(tables, RUN, name) for name in names}), stage

    with captured_logs() as logs:
        report, stage = run_processes(story)
    return report, stage, [each["event"] for each in logs if each["log_level"] == "error"]


def ends(stage: Stage, server: ServerName) -> str:
    """Return the kind of a chain's last record."""
    return stage.database.tables.events[RUN, server][-1][0].kind


@pytest.mark.parametrize("resumed", [False, True])
def test_a_shard_whose_records_are_lost_halts_the_run(resumed: bool) -> None:
    """Its worker removes what it knows of; nobody else goes on, also after a resume."""
    report, stage, errors = told(lambda stage: cut(stage, HQ, 2), resumed=resumed)

    assert report["run"]["exit_code"] == ExitCode.IN_DOUBT
    assert "lost records" in str(report["run"]["reasons"])
    assert ends(stage, HQ) == ShardDamaged.__name__
    assert "shard.damaged" in errors
    assert "shard.internal_error" not in errors
    assert stage.sites.truth.open_now["total"] == 0
    assert posts(stage) == ["first", "first"]


def test_a_run_whose_own_records_are_lost_is_halted_and_ends() -> None:
    """Who conducts it next finds the halt, and what can be read."""
    report, stage, errors = told(lambda stage: cut(stage, CONDUCTOR, 1))

    assert report["run"]["exit_code"] == ExitCode.IN_DOUBT
    assert "lost records" in str(report["run"]["reasons"])
    assert "shard.internal_error" not in errors
    assert stage.sites.truth.open_now["total"] == 0


@pytest.mark.parametrize("server", [HQ, CONDUCTOR])
def test_a_chain_that_was_changed_is_not_gone_on_with(server: ServerName) -> None:
    """Who takes it over cannot read it, and lets nobody mount."""

    def change(stage: Stage) -> None:
        events = stage.database.tables.events[RUN, server]
        record, epoch = events[1]
        events[1] = (replace(record, body=record.body + b" "), epoch)

    async def story() -> Stage:
        with pytest.MonkeyPatch.context() as patch:
            async with staged(patch, SERVERS) as stage:
                first = stage.begin("first", "main")
                await stage.until(lambda: stage.sites.truth.open_now["total"] == 2)
                stage.kill(first)
                change(stage)
                stage.begin("second", "main")
                await stage.over()
                return stage

    stage = run_processes(story)

    tables = stage.database.tables
    assert not tables.runs[RUN].is_open
    assert tables.runs[RUN].halted is not None
    assert not any(row.worker for row in tables.shards.values())
    assert set(posts(stage)) == {"first"}
