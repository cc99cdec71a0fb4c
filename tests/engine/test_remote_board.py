"""A shard's board: what the run's rows say is what the shard does, once."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.core.events import TargetConcluded, TargetPlanned
from orchestrator.core.model import (
    MountKey,
    MountState,
    OsKind,
    Result,
    ServerName,
    WaveFacts,
    WaveName,
)
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.remote_board import RemoteBoard, RunStatus
from tests.engine.test_ledger import ListJournal

pytestmark = pytest.mark.anyio

HQ = ServerName("hq")
FIRST, SECOND = WaveName("first"), WaveName("second")
OPEN = RunStatus(opened=frozenset({FIRST}))


@dataclass(slots=True)
class Heard:
    """A shard that remembers what it was told."""

    said: list[str] = field(default_factory=list)

    def offer(self, wave: WaveName) -> None:
        self.said.append(f"offer {wave}")

    def submit_nothing_more(self) -> None:
        self.said.append("submit nothing more")

    def end_holds(self) -> None:
        self.said.append("end holds")

    def cancel_all(self) -> None:
        self.said.append("cancel all")

    async def look_once(self) -> None:
        self.said.append("look once")


@dataclass(slots=True)
class Stage:
    """A board with one shard, whose waves have a target each."""

    halts: list[tuple[str, str]] = field(default_factory=list)
    shard: Heard = field(default_factory=Heard)
    ledger: Ledger = field(default_factory=lambda: Ledger(ListJournal(), (), lambda: 0.0))
    board: RemoteBoard = field(init=False)

    def __post_init__(self) -> None:
        waves = [WaveFacts(name=FIRST), WaveFacts(name=SECOND, after=(FIRST,))]
        self.board = RemoteBoard(
            waves, self.ledger, lambda *halt: self.halts.append(halt), lambda: None
        )
        self.board.join(self.shard)
        for wave in (FIRST, SECOND):
            self.ledger.record(
                TargetPlanned(
                    at=0, key=key(wave), wave=wave, server=HQ, label="x", os_kind=OsKind.WINDOWS
                )
            )
            self.board.waves.await_end(wave, key(wave))

    def conclude(self, wave: WaveName) -> None:
        self.ledger.record(
            TargetConcluded(
                at=1, key=key(wave), result=Result.SKIPPED, mount=MountState.NONE, message=""
            )
        )
        self.board.decide(key(wave))


def key(wave: WaveName) -> MountKey:
    return MountKey(f"{wave}/hq/x")


async def test_a_wave_is_offered_once_when_its_gate_is_open() -> None:
    """However often the run's rows say so; and the shard is through when its own targets are."""
    stage = Stage()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.board.conduct)
        await anyio.sleep(1)
        assert stage.shard.said == []
        stage.board.tell(OPEN)
        stage.board.tell(OPEN)
        await anyio.sleep(1)
        assert stage.shard.said == ["offer first"]
        stage.conclude(FIRST)
        await anyio.sleep(1)
        assert stage.shard.said == ["offer first"]  # the others may not be through
        stage.board.tell(replace(OPEN, opened=frozenset({FIRST, SECOND})))
        await anyio.sleep(1)
        stage.conclude(SECOND)
    assert stage.shard.said == ["offer first", "offer second"]


async def test_a_skipped_wave_has_its_turn_and_says_why() -> None:
    """Its targets are concluded by the shard, with the reason."""
    stage = Stage()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.board.conduct)
        stage.board.tell(replace(OPEN, skipped={SECOND: "wave first did not end well"}))
        await anyio.sleep(1)
        assert stage.shard.said == ["offer first", "offer second"]
        assert stage.board.waves.why_skipped(SECOND) == "wave first did not end well"
        stage.conclude(FIRST)
        stage.conclude(SECOND)


@pytest.mark.parametrize("how", ["halted", "stopped", "at once", "own halt"])
async def test_the_end_reaches_the_shard_once_and_lets_every_wave_have_its_turn(how: str) -> None:
    """Nothing is submitted any more, what waits is concluded; a second stop cancels."""
    stage = Stage()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.board.conduct)
        if how == "own halt":
            stage.board.halt("host", "no descriptor is left")
            stage.board.halt("host", "no descriptor is left")
        status = RunStatus(
            halted="2 targets failed" if how == "halted" else None,
            stopped="a person" if how in {"stopped", "at once"} else None,
            at_once=how == "at once",
        )
        for _ in range(3):
            stage.board.tell(status)
        await anyio.sleep(1)
        offered = [said for said in stage.shard.said if said.startswith("offer")]
        rest = [said for said in stage.shard.said if not said.startswith("offer")]
        stage.conclude(FIRST)
        stage.conclude(SECOND)
    assert not stage.board.accepting
    assert offered == ["offer first", "offer second"]
    assert rest.count("cancel all") == (how == "at once")
    assert ("end holds" in rest) == (how in {"stopped", "at once"})
    assert stage.halts == ([("host", "no descriptor is left")] if how == "own halt" else [])
    result, why = stage.board.why_ended() or (None, "")
    assert result is (Result.SKIPPED if "halt" in how else Result.CANCELLED)
    assert why
