"""Runs of parts of a plan (`--shard K/N`), each with a journal of its own as in a CI matrix."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.running import _to_retry
from orchestrator.core.errors import RunLocked
from orchestrator.core.parts import Part
from orchestrator.journal import State
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, drill, staged

pytestmark = pytest.mark.anyio


def part(number: int, of: int) -> Part:
    """Return a part."""
    return Part(number=number, of=of)


async def test_the_runs_of_all_parts_mount_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they are the whole plan; the report of each says what it is not."""
    parts: list[Drill] = [
        await drill(
            tmp_path / str(number),
            monkeypatch,
            [Site(machines=20)],
            choices={"part": part(number, 3)},
        )
        for number in (1, 2, 3)
    ]

    keys = [key for each in parts for key in each.results()]
    assert len(keys) == len(set(keys)) == 20
    assert all(each.outcome.code == 0 for each in parts)
    for number, each in enumerate(parts, 1):
        run = each.report["run"]
        assert (run["part"]["number"], run["part"]["of"]) == (number, 3)
        assert run["narrowed"].startswith(f"by --shard {number}/3: only ")
    assert len({each.report["run"]["part"]["selection_sha256"] for each in parts}) == 1


async def test_a_part_without_a_machine_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two machines seven jobs are told, and five have nothing to do; no server is asked."""
    results = [
        await drill(
            tmp_path / str(number),
            monkeypatch,
            [Site(machines=2)],
            choices={"part": part(number, 7)},
        )
        for number in range(1, 8)
    ]

    assert [each.outcome.code for each in results] == [0] * 7
    assert sum(len(each.results()) for each in results) == 2


async def test_a_resume_goes_on_with_its_part_and_others_may_run_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first process was told of the part holds for the next one."""
    async with staged(tmp_path, monkeypatch, [Site(machines=12)]) as stage:
        dead = Doom(stage, monkeypatch)
        assert await dead.lives(lambda: stage.run(part=part(1, 2)), at_s=30.0) is None
        state = State(stage.state)
        first = state.runs()[0]
        with (
            state.plan_lock("scenario", first.run, part(1, 2)),
            pytest.raises(RunLocked, match="shard 1/2"),
        ):
            await stage.resume()
        with state.plan_lock("scenario", "other", part(2, 2)):  # type: ignore[arg-type]  # an id
            done = await stage.resume()

    assert done.report["run"]["part"]["number"] == 1
    whole = await drill(
        tmp_path / "whole", monkeypatch, [Site(machines=12)], choices={"part": part(1, 2)}
    )
    assert done.results().keys() == whole.results().keys()


async def test_a_retry_keeps_the_part_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to say again which shard it was, and it takes nothing of another one."""
    async with staged(tmp_path, monkeypatch, [Site(machines=12)]) as stage:
        done = await stage.run(part=part(2, 3), require_checks=True)
        retry = _to_retry(stage.state, "last", stage.loaded, require_checks=False)

    assert retry.part == part(2, 3)
    assert retry.keys
    assert set(retry.keys) == {each["key"] for each in done.report["targets"]}
