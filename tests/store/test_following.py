"""Following a run: only what is new is read, and the chain is checked as it grows."""

from __future__ import annotations

import pytest

from orchestrator.core import reading
from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import Event, TargetPlanned
from orchestrator.core.records import BEGINNING
from tests.journal.sample import RUN, mounted, note, started
from tests.store.recorder import Recorder

pytestmark = pytest.mark.anyio

EVENTS: list[Event] = [started(), *mounted("dc01"), note(1)]


async def test_each_look_returns_what_is_new(recorder: Recorder) -> None:
    """Nothing twice, nothing left out, also while another connection writes."""
    store, mark = recorder.store, BEGINNING
    seen: list[Event] = []

    async with recorder.writing(started()) as journal:
        for event in EVENTS:
            journal.append(event)
            await journal.durable()
            new, mark = store.read_on(RUN, mark)
            assert new == [event]
            assert store.read_on(RUN, mark) == ([], mark)
            seen += new

    assert seen == EVENTS
    assert mark == store.replay_to_head(RUN)[1]
    assert mark.head == store.chain_head(RUN)


async def test_a_long_run_comes_in_parts(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever joins late does not hold the whole run in memory at once."""
    monkeypatch.setattr(reading, "BATCH", 4)
    mark = BEGINNING
    await recorder.record(EVENTS[1:])
    sizes: list[int] = []

    while True:
        new, mark = recorder.store.read_on(RUN, mark)
        if not new:
            break
        sizes.append(len(new))

    assert sizes == [4, 4, 3]


async def test_only_what_is_new_is_read(recorder: Recorder) -> None:
    """Damage in what was read before is not looked for again: that keeps a look cheap."""
    await recorder.record(EVENTS[1:])
    _, mark = recorder.store.read_on(RUN, BEGINNING)
    await recorder.spoil(RUN, TargetPlanned, b"{}")

    assert recorder.store.read_on(RUN, mark) == ([], mark)
    with pytest.raises(JournalDamaged, match="TargetPlanned"):
        recorder.store.read_on(RUN, BEGINNING)


async def test_what_is_cut_off_after_it_was_read_is_found(recorder: Recorder) -> None:
    """Nobody goes on from a record that is not there any more."""
    await recorder.record(EVENTS[1:])
    _, mark = recorder.store.read_on(RUN, BEGINNING)
    await recorder.cut(RUN)

    with pytest.raises(JournalDamaged, match="is gone"):
        recorder.store.read_on(RUN, mark)
