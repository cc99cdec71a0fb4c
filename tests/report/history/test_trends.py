"""`trend`: how a plan and its targets went over the last runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.core.events import WaveFinished, WaveStarted
from orchestrator.core.makespan import PastMakespans
from tests.report.builders import HOSTILE, Fate, life
from tests.report.history.runs import beginning, called, keep, logged_on, run_id

DAY = 86_400.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Three runs of one plan, ever longer, the last not good, and one of another plan."""
    for number, seconds in ((1, 60.0), (2, 120.0)):
        keep(tmp_path, beginning(number), [life("dc01"), life("sql01")], seconds=seconds)
    failed = life("sql01", Fate.TASK_FAILED)
    keep(tmp_path, beginning(3), [life("dc01"), failed], exit_code=1, seconds=240)
    keep(tmp_path, beginning(4, plan="other"), [life("dc01", age_s=7200)], seconds=50)
    return tmp_path


def test_a_plan_s_runs_are_shown_the_oldest_first(state: Path) -> None:
    """Durations, RTO and RPO of each; where a target was not proven there is none."""
    done = called(state, "trend", "--plan", "payments-tier1", "--json")

    (trend,) = json.loads(done.output)
    assert [each["run"] for each in trend["runs"]] == [run_id(1), run_id(2), run_id(3)]
    assert [each["duration_s"] for each in trend["runs"]] == [60.0, 120.0, 240.0]
    assert [each["rto_s"] for each in trend["runs"]] == [47.0, 47.0, None]
    assert [each["rpo_s"] for each in trend["runs"]] == [3600.0, 3600.0 + DAY, None]
    assert trend["runs"][2]["outcome"] == "1 verified, 1 failed"


def test_a_narrowed_run_is_marked(tmp_path: Path) -> None:
    """In the text and in the JSON: fewer targets in less time are no progress."""
    keep(tmp_path, beginning(1), [life("dc01"), life("sql01")], seconds=60)
    keep(tmp_path, replace(beginning(2), only=("sql*",), entries=2), [life("sql01")], seconds=30)

    (trend,) = json.loads(called(tmp_path, "trend", "--json").output)
    text = called(tmp_path, "trend").output

    assert [each["narrowed"] for each in trend["runs"]] == [
        None,
        "by --only sql*: only 1 target, of 1 of the plan's 2 entries",
    ]
    assert f"{run_id(1)}: 2 verified" in text
    assert f"{run_id(2)}: NARROWED; 1 verified" in text


def test_runs_over_simulated_servers_count_only_among_themselves(tmp_path: Path) -> None:
    """A rehearsal says nothing of the real servers, whatever their plan is called."""
    rehearsed = [[logged_on(simulated=True)], life("dc01")]
    keep(tmp_path, beginning(1), rehearsed, seconds=5)
    alone = called(tmp_path, "trend", "--json").output
    text = called(tmp_path, "trend").output
    keep(tmp_path, beginning(2), [[logged_on(simulated=False)], life("dc01")], seconds=60)
    keep(tmp_path, beginning(3), rehearsed, seconds=6)

    both = called(tmp_path, "trend", "--last", "2", "--json").output

    assert [each["run"] for each in json.loads(alone)[0]["runs"]] == [run_id(1)]
    assert f"{run_id(1)}: SIMULATED; 1 verified" in text
    assert [each["run"] for each in json.loads(both)[0]["runs"]] == [run_id(2)]


def test_targets_are_followed_over_all_plans(state: Path) -> None:
    """A glob means keys, labels and machines, whatever plan mounted them."""
    done = called(state, "trend", "--target", "dc*", "--last", "2", "--json")

    (trend,) = json.loads(done.output)
    assert trend["name"] == "databases/hq/dc01"
    assert [(each["run"], each["rpo_s"]) for each in trend["runs"]] == [
        (run_id(3), 3600.0 + 2 * DAY),
        (run_id(4), 7200.0 + 3 * DAY),
    ]
    assert trend["runs"][0]["duration_s"] == 45.0


def test_the_plot_is_in_proportion_and_fits_80_columns(state: Path) -> None:
    """The longest run has the longest bar, half as long is half a bar; plain characters only."""
    text = called(state, "trend", "--plan", "payments-tier1").output

    bars = [line.count("#") for line in text.splitlines() if "#" in line]
    assert bars == [6, 11, 22]
    assert max(map(len, text.splitlines())) <= 80
    assert text.replace("\n", "").isascii()


def test_no_two_columns_have_one_name(state: Path) -> None:
    """The plot shows what another column says in words; it is told apart from it."""
    heading = called(state, "trend", "--plan", "payments-tier1").stdout.splitlines()[1]

    names = heading.replace("STARTED (UTC)", "STARTED").split()
    assert len(set(names)) == len(names) == 5


def test_without_options_it_is_the_plan_that_ran_last(state: Path) -> None:
    """The one question people have after a run."""
    assert called(state, "trend").output.startswith("other\n")


@pytest.mark.parametrize("what", [["--plan", "nothing"], ["--target", "nothing-*"], []])
def test_nothing_to_say_is_said(tmp_path: Path, what: list[str]) -> None:
    """Exit code 2 rather than an empty table."""
    done = called(tmp_path, "trend", *what)

    assert done.exit_code == 2
    assert "no run in" in done.output


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    """What servers and plans say steers no terminal, and breaks no line."""
    keep(tmp_path, beginning(1, plan=HOSTILE), [life(HOSTILE)])

    for what in (["--plan", HOSTILE], ["--target", "*"]):
        for more in ([], ["--json"]):
            done = called(tmp_path, "trend", *what, *more)
            assert done.exit_code == 0
            assert done.output.replace("\n", "").isprintable()
            assert all(len(line) <= 80 for line in done.output.splitlines() if not more)


def test_a_run_that_was_slower_than_usual_is_marked(tmp_path: Path) -> None:
    """With the median that it was compared with, in the text and in the JSON."""
    past = PastMakespans(real=(20.0, 20.0, 20.0))
    for number, seconds in ((1, 20.0), (2, 31.0)):
        first = beginning(number, regression=0.5, makespans=past)
        waves = [facts.name for facts in first.waves]
        begun = [WaveStarted(at=1.0, wave=wave) for wave in waves]
        over = [WaveFinished(at=1.0 + seconds, wave=wave) for wave in waves]
        keep(tmp_path, first, [begun, life("dc01"), over])

    (trend,) = json.loads(called(tmp_path, "trend", "--json").output)
    text = called(tmp_path, "trend").output

    assert [each["makespan_s"] for each in trend["runs"]] == [20.0, 31.0]
    assert [each["usual_s"] for each in trend["runs"]] == [20.0, 20.0]
    assert f"{run_id(1)}: 1 verified" in text
    assert f"{run_id(2)}: SLOWER, 31 s of 30 s; 1 verified" in text
