"""`list` beside a living run, and of one that was killed: it invents no results."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.processes import Place, Servers, ended, kill, servers, until_running

pytestmark = pytest.mark.process


@pytest.fixture
def stalled_later() -> Iterator[Servers]:
    """One server that finishes one mount, and no other until `go_on`."""
    with servers(count=1, stall_after=1) as these:
        yield these


def words_of(listed: str) -> list[str]:
    """Return the first word of each line."""
    return [line.split()[0] for line in listed.splitlines()]


def test_targets_without_a_result_have_a_phase_and_the_run_is_said_to_go_on(
    stalled_later: Servers, place: Place
) -> None:
    """Before and after kill -9, as text and as JSON; only real results count for --status."""
    plan = stalled_later.plan(place.directory, targets=10)
    run = place.start("run", plan, "--yes", "--json", "--max-mounts", "2")
    until_running(run, 3)  # so the first one has its result, and the rest waits

    living = place.call("list", "last")
    values = json.loads(place.call("list", "last", "--json").stdout)
    chosen = place.call("list", "last", "--status", "cancelled,unknown").stdout
    kill(run)
    dead = place.call("list", "last")
    chosen_then = place.call("list", "last", "--status", "cancelled,unknown").stdout

    for listed in (living, dead):
        assert listed.returncode == 0
        assert words_of(listed.stdout)[:10].count("waiting") == 7
        assert words_of(listed.stdout)[:10].count("mounted") == 1
        words = words_of(listed.stdout)[:10]
        assert words.count("running") + words.count("submitting") == 2
        assert "1 of 10 targets have their result" in listed.stdout
        assert "cancelled" not in listed.stdout
    assert "may be mounted" not in living.stdout
    assert "the run goes on; watch it: bulk-restore watch 2" in living.stdout
    assert dead.stdout.count("(may be mounted)") == 2
    assert "the run is dead, its process is gone; continue it: bulk-restore resume 2" in dead.stdout
    phases = [(each["result"], each["phase"]) for each in values]
    assert sorted(phases, key=str).count((None, "queued")) == 7
    assert ("mounted", "done") in phases
    assert chosen.startswith("0 of 10 targets\n")
    assert "9 of 10 targets\n" in chosen_then


def test_a_run_that_ended_has_results_only(stalled_later: Servers, place: Place) -> None:
    """Nothing is said of phases, or of what goes on."""
    stalled_later.go_on()
    run = place.start("run", stalled_later.plan(place.directory, targets=2), "--yes", "--json")
    assert ended(run)[0] == 0

    listed = place.call("list", "last").stdout

    assert words_of(listed) == ["mounted", "mounted", "2"]
