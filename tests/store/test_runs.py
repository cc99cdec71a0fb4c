"""Finding runs and reading one of them, whoever keeps the records."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import JournalDamaged, RunNotFound
from orchestrator.core.events import RunNoted, TargetPlanned, TaskAccepted
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import MountKey, RunId
from orchestrator.core.ports.store import Store
from orchestrator.core.records import BEGINNING, RunSummary
from orchestrator.core.run_state import fold
from tests.journal.sample import BEGAN, RUN, mounted, note, started
from tests.store.recorder import Recorder

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = (f"20261123T{hour:02}0000Z-{hour:04x}" for hour in (6, 7, 8))


@pytest.fixture
async def three(recorder: Recorder) -> Store:
    """A store with three runs; the clock was set back before the second began."""
    for hours, run in ((1, SECOND), (0, FIRST), (2, THIRD)):
        await recorder.record((), started(run, plan=f"plan{hours}", hours=hours))
    return recorder.store


# --- finding --------------------------------------------------------------------------------


async def test_runs_are_listed_with_the_newest_first(three: Store) -> None:
    """Whatever the clock said; the list says of every run what it was started with."""
    assert [summary.run for summary in three.runs()] == [THIRD, FIRST, SECOND]
    assert three.runs()[1] == RunSummary(
        run=RunId(FIRST),
        plan="plan0",
        plan_path="plans/plan0.yaml",
        started_at=BEGAN,
        report_dir=f"reports/{FIRST}",
    )


async def test_a_run_without_a_record_is_none(recorder: Recorder) -> None:
    """Its process was killed before it had done anything."""
    await recorder.record()

    async with recorder.writing(started("nothing yet")):
        listed = [summary.run for summary in recorder.store.runs()]

    assert listed == [RUN]


@pytest.mark.parametrize(
    ("text", "found"),
    [("last", THIRD), (FIRST, FIRST), ("20261123T07", SECOND), (THIRD[:-1], THIRD)],
)
async def test_a_run_is_found_by_last_by_id_and_by_its_start(
    three: Store, text: str, found: str
) -> None:
    """Any name that means one run is enough."""
    assert three.find(text) == three.summary(text).run == found


@pytest.mark.parametrize(
    ("text", "words"),
    [("2026", "several runs start"), ("", "several runs start"), ("1999", "no run starts")],
)
async def test_a_name_that_does_not_mean_one_run_is_refused(
    three: Store, text: str, words: str
) -> None:
    """Nothing is guessed: an ambiguous or unknown name says what to do."""
    with pytest.raises(RunNotFound, match=f"{words}.*bulk-restore status"):
        three.find(text)


async def test_a_full_id_is_not_ambiguous_with_a_longer_one(recorder: Recorder) -> None:
    """A run whose id is the start of another's can be named."""
    for run in ("a", "ab"):
        await recorder.record((), started(run))

    assert recorder.store.find("a") == "a"


async def test_where_there_is_no_run_a_person_is_told_which_place_was_looked_at(
    recorder: Recorder,
) -> None:
    """It may be the wrong one."""
    with pytest.raises(RunNotFound, match="there are no runs in ") as caught:
        recorder.store.find("last")

    assert recorder.store.runs() == []
    assert recorder.store.place in str(caught.value)


async def test_a_run_goes_on_while_somebody_works_on_it(recorder: Recorder) -> None:
    """On that run, and on no other one of its plan."""
    mine, other = started("mine"), started("other")
    for first in (mine, other):
        await recorder.record((), first)
    summaries = [recorder.store.summary(name) for name in ("mine", "other")]

    with recorder.at_work(mine):
        during = [recorder.store.is_running(each) for each in summaries]
    after = [recorder.store.is_running(each) for each in summaries]

    assert (during, after) == ([True, False], [False, False])


async def test_a_run_that_moves_or_has_nobody_has_not_stalled(recorder: Recorder) -> None:
    """Nor does one whose worker gave it back."""
    first = started("mine")
    await recorder.record((), first)
    summary = recorder.store.summary("mine")

    with recorder.at_work(first):
        during = recorder.store.stall(summary)

    assert (during, recorder.store.stall(summary)) == (None, None)


# --- reading --------------------------------------------------------------------------------


async def test_replay_is_the_fold_of_the_live_events(recorder: Recorder) -> None:
    """A rebuilt report starts from the very state that the live run had."""
    events = [*mounted("dc01"), note(5)]

    await recorder.record(events)

    store = recorder.store
    assert store.replay(RUN) == fold([started(), *events])
    assert store.replay(RUN).records[MountKey("w/hq/dc01")].phase is Phase.DONE
    assert next(store.events(RUN)) == started()


async def test_runs_do_not_mix(recorder: Recorder) -> None:
    """Each run has its own events and its own chain."""
    for number in (1, 2):
        await recorder.record([note(number)], started(str(number)))

    store = recorder.store
    assert list(store.events(RunId("2"))) == [started("2"), note(2)]
    assert {record.run for record in store.records(RunId("1"))} == {"1"}
    assert store.chain_head(RunId("1")) != store.chain_head(RunId("2"))


async def test_records_up_to_a_mark_are_those_that_were_folded(recorder: Recorder) -> None:
    """However the run goes on: a report and its evidence are about the same records."""
    events = [*mounted("dc01"), note(1)]

    async with recorder.writing(started()) as journal:
        for event in (started(), *events):
            journal.append(event)
        await journal.durable()
        before = list(recorder.store.records(RUN))
        state, mark = recorder.store.replay_to_head(RUN)
        unchanged = recorder.store.replay_to_head(RUN)[1]
        journal.append(note(2))
        await journal.durable()
        kept = list(recorder.store.records(RUN, upto=mark))

    store = recorder.store
    assert unchanged == mark
    assert kept == before
    assert len(kept) == state.events == len(events) + 1
    assert len(list(store.records(RUN))) == len(kept) + 1
    assert store.replay_to_head(RUN)[1] != mark
    assert store.replay_to_head(RUN)[1].head == store.chain_head(RUN)
    assert list(store.records(RUN, upto=BEGINNING)) == []


async def test_a_run_says_where_its_servers_are(recorder: Recorder) -> None:
    """One that names none has none."""
    await recorder.record()

    assert recorder.store.naming(RUN).urls == {}


async def test_a_changed_record_is_named_by_everything_that_reads_it(recorder: Recorder) -> None:
    """And the other runs can still be read."""
    await recorder.record([note(1)], started("other"))
    await recorder.record([*mounted("dc01"), note(1)])
    whole = [record.body for record in recorder.store.records(RUN) if record.kind == "TaskAccepted"]

    await recorder.spoil(RUN, TaskAccepted, whole[0].replace(b"task-1", b"task-2"))

    store = recorder.store
    for read in (
        store.replay,
        store.replay_to_head,
        store.chain_head,
        lambda run: list(store.records(run)),
        lambda run: list(store.events(run)),
        lambda run: store.read_on(run, BEGINNING),
    ):
        with pytest.raises(JournalDamaged, match=rf"TaskAccepted.* of run {RUN}"):
            read(RUN)
    assert list(store.events(RunId("other"))) == [started("other"), note(1)]
    assert [summary.run for summary in store.runs()] == [RUN, "other"]


@pytest.mark.parametrize("kind", [TargetPlanned, RunNoted])
async def test_a_body_that_says_nothing_is_damage(
    recorder: Recorder, kind: type[TargetPlanned | RunNoted]
) -> None:
    """Not an event that is left out."""
    await recorder.record([*mounted("dc01"), note(1)])

    await recorder.spoil(RUN, kind, b"{}")

    with pytest.raises(JournalDamaged, match=kind.__name__):
        recorder.store.replay(RUN)


async def test_a_cut_end_changes_the_head(recorder: Recorder) -> None:
    """What a chain cannot see by itself shows in the head that reports name."""
    await recorder.record([note(1), note(2)])
    before = recorder.store.chain_head(RUN)

    await recorder.cut(RUN)

    assert recorder.store.chain_head(RUN) != before
    assert len(recorder.store.replay(RUN).notes) == 1


async def test_a_run_that_is_not_there_is_damaged_and_no_empty_success(recorder: Recorder) -> None:
    """Nobody asks for one that is not in the list."""
    await recorder.record()

    with pytest.raises(JournalDamaged, match="no records"):
        recorder.store.replay(RunId("no such run"))
