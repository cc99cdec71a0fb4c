"""Following a run: only what is new is read, and the chain is checked as it grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import Event
from orchestrator.journal import BEGINNING, JournalPosition, State
from orchestrator.journal import state as module
from tests.journal.sample import RUN, mounted, note, started, written
from tests.journal.test_damage import change

pytestmark = pytest.mark.anyio

EVENTS: list[Event] = [started(), *mounted("dc01"), note(1)]


async def test_each_look_returns_what_is_new(tmp_path: Path) -> None:
    """Nothing twice, nothing left out, also while another connection writes."""
    state, mark = State(tmp_path), BEGINNING
    seen: list[Event] = []

    async with state.open_run(started(), inline=True) as journal:
        for event in EVENTS:
            journal.append(event)
            await journal.durable()
            new, mark = state.read_on(RUN, mark)
            assert new == [event]
            assert state.read_on(RUN, mark) == ([], mark)
            seen += new

    assert seen == EVENTS == list(state.events(RUN))
    assert mark == JournalPosition(len(EVENTS), bytes.fromhex(state.chain_head(RUN)))


async def test_a_long_run_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever joins late does not hold the whole run in memory at once."""
    monkeypatch.setattr(module, "BATCH", 4)
    state, mark = State(tmp_path), BEGINNING
    await written(state, EVENTS[1:])
    sizes: list[int] = []

    while True:
        new, mark = state.read_on(RUN, mark)
        if not new:
            break
        sizes.append(len(new))

    assert sizes == [4, 4, 3]


async def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    """Damage in what was read before is not looked for again: that keeps a look cheap."""
    state = State(tmp_path)
    await written(state, EVENTS[1:])
    _, mark = state.read_on(RUN, BEGINNING)
    change(state, "UPDATE events SET body = '{}' WHERE run = ? AND seq = 3", RUN)

    assert state.read_on(RUN, mark) == ([], mark)
    with pytest.raises(JournalDamaged, match="record 3"):
        state.read_on(RUN, BEGINNING)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM events WHERE run = ? AND seq >= 5", "record 5 of run .* is gone"),
        ("DELETE FROM events WHERE run = ?", "record 5 of run .* is gone"),
        ("DELETE FROM events WHERE run = ? AND seq = 6", "record 6 of run .* is missing"),
        ("UPDATE events SET hash = x'00' WHERE run = ? AND seq = 5", "record 5 of run .* is not"),
        ("UPDATE events SET body = x'7b7d' WHERE run = ? AND seq = 7", "record 7 .* is not what"),
        ("UPDATE events SET type = 'RunNoted' WHERE run = ? AND seq = 7", "record 7 .* is not"),
        ("UPDATE events SET at = 99 WHERE run = ? AND seq = 7", "record 7 .* is not what"),
    ],
)
async def test_what_is_cut_off_or_changed_meanwhile_is_found(
    tmp_path: Path, statement: str, words: str
) -> None:
    """At the place that was read last, and in everything behind it."""
    state = State(tmp_path)
    await written(state, EVENTS[1:])
    fifth = next(record for record in state.records(RUN) if record.seq == 5)
    change(state, statement, RUN)

    with pytest.raises(JournalDamaged, match=words):
        state.read_on(RUN, JournalPosition(5, fifth.hash))


async def test_a_hold_is_no_part_of_a_machines_duration(tmp_path: Path) -> None:
    """What is expected of the next run is the work, not how long a person looked."""
    from msgspec.structs import replace

    from orchestrator.core.events import MountKept, UnmountStarted
    from orchestrator.core.model import MountKey, ServerName

    life = mounted("dc01", begin=1.0, seconds=60.0)
    place = next(n for n, event in enumerate(life) if isinstance(event, UnmountStarted))
    kept = MountKept(at=61.0, key=MountKey("w/hq/dc01"), reason="--hold", until=1861.0)
    rest = [replace(event, at=1861.0) for event in life[place:]]
    state = State(tmp_path)

    await written(state, [*life[:place], kept, *rest])

    assert state.durations().expected(ServerName("hq"), "dc01") == 60.0
