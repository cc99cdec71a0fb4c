"""The state directory: finding runs, reading beside a writer, durations of earlier mounts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.errors import JournalError, RunNotFound
from orchestrator.core.events import MountReleased
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import MountKey, RunId, ServerName
from orchestrator.core.records import RunSummary
from orchestrator.core.run_state import fold
from orchestrator.journal import State
from tests.journal.sample import BEGAN, RUN, mounted, note, started, written

FIRST, SECOND, THIRD = (f"20261123T{hour:02}0000Z-{hour:04x}" for hour in (6, 7, 8))


@pytest.fixture
async def three(state: State) -> State:
    """A state directory with three runs; the clock was set back before the second began."""
    for hours, run in ((1, SECOND), (0, FIRST), (2, THIRD)):
        await written(state, (), started(run, plan=f"plan{hours}", hours=hours))
    return state


# --- finding --------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_runs_are_listed_with_the_newest_first(three: State) -> None:
    """Whatever the clock said; the list says of every run what it was started with."""
    assert [summary.run for summary in three.runs()] == [THIRD, FIRST, SECOND]
    assert three.runs()[1] == RunSummary(
        run=RunId(FIRST),
        plan="plan0",
        plan_path="plans/plan0.yaml",
        started_at=BEGAN,
        report_dir=f"reports/{FIRST}",
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "found"),
    [("last", THIRD), (FIRST, FIRST), ("20261123T07", SECOND), (THIRD[:-1], THIRD)],
)
async def test_a_run_is_found_by_last_by_id_and_by_its_start(
    three: State, text: str, found: str
) -> None:
    """Any name that means one run is enough."""
    assert three.find(text) == found


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "words"),
    [("2026", "several runs start"), ("", "several runs start"), ("1999", "no run starts")],
)
async def test_a_name_that_does_not_mean_one_run_is_refused(
    three: State, text: str, words: str
) -> None:
    """Nothing is guessed: an ambiguous or unknown name says what to do."""
    with pytest.raises(RunNotFound, match=f"{words}.*bulk-restore status"):
        three.find(text)


@pytest.mark.anyio
async def test_a_full_id_is_not_ambiguous_with_a_longer_one(state: State) -> None:
    """A run whose id is the start of another's can be named."""
    for run in ("a", "ab"):
        await written(state, (), started(run))

    assert state.find("a") == "a"


def test_without_a_journal_there_are_no_runs_and_reading_makes_nothing(state: State) -> None:
    """Looking at an empty state directory leaves it as it was."""
    assert state.runs() == []
    assert state.durations().expected(ServerName("hq"), "dc01") is None
    with pytest.raises(RunNotFound, match="there are no runs"):
        state.find("last")
    with pytest.raises(JournalError, match="there is no journal"):
        state.chain_head(RUN)
    assert not state.directory.exists()


# --- reading --------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_replay_is_the_fold_of_the_live_events(state: State) -> None:
    """A rebuilt report starts from the very state that the live run had."""
    events = [*mounted("dc01"), note(5)]

    await written(state, events)

    assert state.replay(RUN) == fold([started(), *events])
    assert state.replay(RUN).records[MountKey("w/hq/dc01")].phase is Phase.DONE


@pytest.mark.anyio
async def test_runs_do_not_mix(state: State) -> None:
    """Each run has its own events and its own chain."""
    heads = [await written(state, [note(number)], started(str(number))) for number in (1, 2)]

    assert list(state.events(RunId("2"))) == [started("2"), note(2)]
    assert [state.chain_head(RunId("1")), state.chain_head(RunId("2"))] == heads
    assert heads[0] != heads[1]


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


# --- durations ------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_expected_durations_are_the_median_of_the_last_five(state: State) -> None:
    """One old or odd mount does not decide how a machine is scheduled."""
    for number, seconds in enumerate([9000, 8000, 10, 20, 30, 40, 7000]):
        await written(state, mounted("dc01", seconds=seconds), started(f"run{number}"))

    expected = state.durations().expected

    assert expected(ServerName("hq"), "dc01") == 30
    assert expected(ServerName("dr"), "dc01") is None
    assert expected(ServerName("hq"), "sql01") is None


@pytest.mark.anyio
async def test_a_mount_released_by_hand_teaches_no_duration(state: State) -> None:
    """A mount that lay open over night does not make its machine look slow."""
    *life, _released, concluded = mounted("dc01", seconds=60)
    by_hand = MountReleased(at=9e4, key=MountKey("w/hq/dc01"), by_hand=True)

    await written(state, [*life, by_hand, concluded])

    assert state.durations().expected(ServerName("hq"), "dc01") is None
