"""The state directory: reading makes none, and disturbs no writer. See also `tests/store`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.errors import JournalError, RunNotFound
from orchestrator.core.model import ServerName
from orchestrator.journal import State
from tests.journal.sample import BEGAN, RUN, note, started, written


def test_without_a_journal_there_are_no_runs_and_reading_makes_nothing(state: State) -> None:
    """Looking at an empty state directory leaves it as it was."""
    assert state.runs() == []
    assert state.durations().expected(ServerName("hq"), "dc01") is None
    assert state.proofs(before=BEGAN).last(ServerName("hq"), "dc01", None) is None
    assert state.baselines(before=RUN).measured(ServerName("hq"), "dc01", "/") is None
    with pytest.raises(RunNotFound, match="there are no runs"):
        state.find("last")
    with pytest.raises(JournalError, match="there is no journal"):
        state.chain_head(RUN)
    assert not state.directory.exists()


@pytest.mark.anyio
async def test_another_process_reads_while_the_run_writes(state: State) -> None:
    """`status` in a second terminal sees what is durable, and does not disturb the writer."""
    script = (
        "import sys; from pathlib import Path; from orchestrator.journal import State\n"
        f"print(len(State(Path(sys.argv[1])).replay({RUN!r}).notes))"
    )

    def seen() -> int:
        done = subprocess.run(
            [sys.executable, "-c", script, str(state.directory)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    async with state.open_run(started(), inline=True) as journal:
        journal.append(started())
        await journal.durable()
        reading = state.events(RUN)  # a reader that is in the middle all the while
        first = next(reading)
        counts = []
        for number in (1, 2):
            journal.append(note(number))
            await journal.durable()
            counts.append(seen())
        rest = list(reading)

    assert counts == [1, 2]
    assert [first, *rest] == [started(), note(1), note(2)][: 1 + len(rest)]
    assert list(state.events(RUN)) == [started(), note(1), note(2)]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["what?mode=memory", "50%41", "a#b", "Übung", "with space"])
async def test_the_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    """What is written is read again, whatever signs the path has."""
    await written(State(tmp_path / name), [note(1)])

    assert len(list(State(tmp_path / name).events(RUN))) == 2
    assert len(State(tmp_path / name).runs()) == 1
