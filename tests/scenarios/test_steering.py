"""`ctl`: a living run is paused, its limits are changed, its targets are skipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.controlling import ControlOutcome, ask, asked_for
from orchestrator.core.events import (
    ApprovalAwaited,
    ControlApplied,
    Event,
    MountReleased,
    SessionEnded,
    SubmissionStarted,
    TargetConcluded,
)
from orchestrator.core.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.core.model import MountKey
from orchestrator.core.ports.journal import Observer
from orchestrator.core.run_state import RunState
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.run import Run
from orchestrator.engine.shard import Shard
from orchestrator.engine.steering import CONTROL_TICK
from orchestrator.journal import State
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from orchestrator.simulator.inventory import Inventory
from orchestrator.views.statistics import RunStatistics
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged
from tests.virtual.clock import freeze

pytestmark = pytest.mark.anyio

HOUR = 3600.0


class Watching:
    """Counts the open mounts of a run, and what happens to them."""

    def __init__(self) -> None:
        """Before the first event."""
        self.keys: set[MountKey] = set()
        """What may be open now."""
        self.grants: list[tuple[float, int]] = []
        """When a mount was asked for, and how many were open before."""
        self.applied: list[ControlApplied] = []
        self.before: list[int] = []
        """How many mounts had been asked for when each request was recorded."""
        self.ends: list[SessionEnded] = []

    def observe(self, event: Event, _record: MountRecord | None) -> None:
        """Count."""
        match event:
            case SubmissionStarted(key=key):
                self.grants.append((event.at, self.open))
                self.keys.add(key)
            case MountReleased(key=key) | TargetConcluded(key=key):
                self.keys.discard(key)
            case ControlApplied():
                self.applied.append(event)
                self.before.append(len(self.grants))
            case SessionEnded():
                self.ends.append(event)

    @property
    def open(self) -> int:
        """How many may be open now."""
        return len(self.keys)


class Shown:
    """What the view says after each event, until the run has finished."""

    def __init__(self) -> None:
        """Before the first event."""
        self.lines: list[str] = []
        self._statistics = RunStatistics()

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Note it."""
        self._statistics.observe(event, record)
        if self._statistics.finished is None:
            self.lines.append(self._statistics.counts())


async def until(it_is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    with anyio.fail_after(12 * HOUR):
        while not it_is_so():  # noqa: ASYNC110 - the journal and the observer tell it
            await anyio.sleep(0.1)


async def told(stage: Stage, verb: str, *words: str, **options: Any) -> ControlOutcome:
    """Ask the living run for something, as `ctl` does."""
    state = State(stage.state)
    return await ask(state, state.summary("last"), asked_for(verb, words, **options))


def state_of(stage: Stage) -> RunState:
    """Return what the journal tells of the run."""
    state = State(stage.state)
    return state.replay(state.summary("last").run)


def is_anything_asked(state: Path) -> bool:
    """Return whether a request or an answer is left in a state directory."""
    return any(state.glob("ctl-*"))


@asynccontextmanager
async def steered(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *sites: Site, **staging: Any
) -> AsyncIterator[Stage]:
    """Serve `sites` for runs that look for what `ctl` asks."""
    async with staged(directory, monkeypatch, sites, **staging) as stage:
        stage.steered = True
        yield stage


Person = Callable[[], Coroutine[Any, Any, None]]
"""What somebody does at a second terminal while a run lives."""


@asynccontextmanager
async def beside(person: Person) -> AsyncIterator[Callable[[Run], None]]:
    """Return what lets a person begin with the run; gone at the end of the context."""
    async with anyio.create_task_group() as tasks:

        def begin(_run: Run) -> None:
            tasks.start_soon(person)

        yield begin
        tasks.cancel_scope.cancel()


async def with_a_person(
    stage: Stage, person: Person, *observers: Observer, **choices: Any
) -> Drill:
    """Run, with a person at a second terminal who comes to an end, too."""
    is_over = False

    async def to_the_end() -> None:
        nonlocal is_over
        await person()
        is_over = True

    async with beside(to_the_end) as begin:
        done = await stage.run(observers=observers, on_run=begin, **choices)
        with anyio.fail_after(60.0):  # who asked at the end of the run has still to hear of it
            await until(lambda: is_over)
    return done


async def test_a_lowered_limit_counts_from_the_next_mount_on_and_a_raised_one_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 mounts: at 60 open, 4 are allowed: none begins above; 40 are reached in one tick."""
    watching = Watching()
    full = 0

    async def person() -> None:
        nonlocal full
        await until(lambda: watching.open >= 60)
        assert (await told(stage, "limits", "run.mounts=4", reason="less load")).code == 0
        await until(lambda: watching.open <= 4)
        await anyio.sleep(300.0)
        assert (await told(stage, "limits", "run.mounts=40")).code == 0
        full = watching.open

    site = Site(machines=200, backup_servers=20, limit=60)
    async with steered(tmp_path, monkeypatch, site) as stage:
        done = await with_a_person(stage, person, watching)

    low, high = watching.before
    counts = [count for _, count in watching.grants]
    raised_at = watching.applied[1].at
    assert max(counts[:low]) == 59
    assert max(counts[low:high], default=None) == 3
    assert full == 40
    assert max(counts[high:]) == 39
    soon = [when for when, _ in watching.grants[high:] if when <= raised_at + CONTROL_TICK]
    assert len(soon) >= 36
    assert done.outcome.code == 0
    first = done.report["controls"][0]
    assert (first["verb"], first["words"]) == ("limits", "limits run.mounts=4: less load")
    assert first["at"].startswith("2026-11-23T06:")
    assert "Asked by people:" in text(done.outcome.report)


async def test_a_pause_of_two_hours_loses_no_session_and_no_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 mounts are held for three hours; nothing begins in the pause; the RTO counts it."""
    watching = Watching()

    async def person() -> None:
        await until(lambda: watching.open >= 12)
        assert (await told(stage, "pause", reason="the storage is busy")).code == 0
        answer = await told(stage, "limits", "run.mounts=16", beyond_plan=True)
        assert answer.code == 0  # there is room for four more, and nothing begins all the same
        stage.max_mounts = 16
        await anyio.sleep(2 * HOUR)
        held = [each for each in state_of(stage).records.values() if each.phase is Phase.HELD]
        assert len(held) == 12
        assert (await told(stage, "continue")).code == 0

    site = Site(machines=30, backup_servers=6, limit=16)
    extra = "objectives: {rto: 1h}\n"
    async with steered(tmp_path, monkeypatch, site, extra=extra) as stage:
        done = await with_a_person(stage, person, watching, hold=3 * HOUR, max_mounts=12)

    paused, _, going_on = (event.at for event in watching.applied)
    assert going_on - paused >= 2 * HOUR
    assert not [when for when, _ in watching.grants if paused < when < going_on]
    assert not [end for end in watching.ends if end.lost]
    assert set(done.results().values()) == {"mounted"}
    assert done.report["objectives"][0]["actual_s"] > 2 * HOUR
    assert any("paused once, for 2 h" in line for line in done.report["warnings"])


async def test_what_waits_for_its_turn_with_a_slot_in_hand_is_held_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a start interval many have slots and wait: a pause and a lower limit hold for them."""
    watching = Watching()
    lowered = [0]

    async def person() -> None:
        await until(lambda: watching.open >= 3)
        assert (await told(stage, "pause")).code == 0
        await anyio.sleep(HOUR)
        assert (await told(stage, "limits", "run.mounts=2")).code == 0
        assert (await told(stage, "continue")).code == 0
        await until(lambda: len(watching.grants) >= 6)
        lowered[0] = len(watching.grants)
        assert (await told(stage, "limits", "hq.mounts=1")).code == 0

    site = Site(machines=12, backup_servers=4, limit=8)
    extra = "limits: {start_interval: 20s}\n"
    async with steered(tmp_path, monkeypatch, site, extra=extra) as stage:
        done = await with_a_person(stage, person, watching)

    paused, _, going_on, last = (event.at for event in watching.applied)
    assert not [when for when, _ in watching.grants if paused < when < going_on]
    assert max(count for when, count in watching.grants if when > going_on) == 1
    assert max(count for when, count in watching.grants if when > last) == 0
    assert set(done.results().values()) == {"mounted"}


async def test_a_skipped_target_is_never_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped with the person's words; one that is mounted is not, and nothing changes."""
    watching = Watching()
    answers: list[ControlOutcome] = []
    keys: list[str] = []

    async def person() -> None:
        await until(lambda: watching.open >= 2)
        records = state_of(stage).records.values()
        waits = next(each.planned.key for each in records if not each.attempts)
        mounted = next(each.planned.key for each in records if each.attempts)
        keys.extend([waits, mounted])
        answers.append(await told(stage, "skip", waits, reason="its disk is full"))
        answers.append(await told(stage, "skip", mounted, reason="x"))
        answers.append(await told(stage, "skip", waits, reason="again"))

    async with steered(tmp_path, monkeypatch, Site(machines=6, limit=2)) as stage:
        done = await with_a_person(stage, person, watching)

    assert [each.code for each in answers] == [0, 2, 2]
    assert "was submitted already" in answers[1].line
    assert "has its result already: skipped" in answers[2].line
    (skipped,) = (each for each in done.report["targets"] if each["result"] == "skipped")
    assert (skipped["key"], skipped["attempts"]) == (keys[0], [])
    assert skipped["message"].endswith("its disk is full")
    assert [each["verb"] for each in done.report["controls"]] == ["skip"]
    assert done.outcome.code == 1


WAVES = """waves:
  - {name: first, targets: [{vm: hq-app0000}]}
  - {name: second, after: [first], targets: [{vm: hq-sql0001}, {vm: "hq-*2"}]}
"""


async def test_a_target_of_a_later_wave_is_skipped_in_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is offered before, and the wave ends without it."""
    watching = Watching()

    async def person() -> None:
        await until(lambda: watching.open >= 1)
        records = state_of(stage).records.values()
        later = next(each.planned.key for each in records if each.planned.wave == "second")
        assert (await told(stage, "skip", later, reason="not today")).code == 0

    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=WAVES) as stage:
        done = await with_a_person(stage, person, watching)

    assert sorted(done.results().values()).count("skipped") == 1
    assert all(wave["finished_at"] for wave in done.report["waves"])


@pytest.mark.parametrize(
    ("verb", "words", "options", "why"),
    [
        ("limits", (), {}, "something is missing; the form is: limits run.mounts=10"),
        ("limits", ("hq.mount=2",), {}, "'hq.mount=2' is not a limit: write run.mounts=10"),
        ("limits", ("hq.mounts=0",), {}, "1 or more (to begin none: pause)"),
        ("limits", ("hq.mounts=2", "xx.mounts=1"), {}, "no server 'xx'; its servers: hq"),
        ("limits", ("hq/vbr-99.mounts=1",), {}, "known there: "),
        ("limits", ("hq.mounts=3",), {}, "the plan allows 2; add --beyond-plan"),
        ("skip", ("nobody",), {"reason": "x"}, "has the key 'nobody'; see them with"),
        ("skip", ("hq-app0000",), {"reason": "x"}, "is not a key; the keys of that machine: "),
        ("skip", ("nobody",), {}, "a skip needs a reason"),
        ("skip", (), {"reason": "x"}, "something is missing; the form is: skip KEY"),
        ("pause", ("now",), {}, "'now' is one word too many; the form is: pause"),
        ("pause", (), {"beyond_plan": True}, "--beyond-plan is for limits only"),
        ("stop", (), {}, "there is no request 'stop'"),
        ("approve", ("firs",), {"reason": "x"}, "no wave 'firs'; its waves: default"),
        ("approve", ("default",), {"reason": "x"}, "no gate before 'default'; the plan has no"),
        ("retry", ("nobody",), {}, "has the key 'nobody'"),
        ("retry", (), {}, "something is missing; the form is: retry KEY"),
        ("skip", ("nobody",), {"reason": "x", "reject": True}, "has the key"),
        ("continue", (), {"reject": True}, "--reject is for approve only"),
    ],
)
async def test_what_is_wrong_is_refused_with_the_right_form(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    words: tuple[str, ...],
    options: dict[str, Any],
    why: str,
) -> None:
    """Exit code 2, nothing is recorded, and nothing is left beside the journal."""
    watching = Watching()
    answers: list[ControlOutcome] = []

    async def person() -> None:
        await until(lambda: watching.open >= 2)
        answers.append(await told(stage, verb, *words, **options))

    async with steered(tmp_path, monkeypatch, Site(machines=4, limit=2)) as stage:
        done = await with_a_person(stage, person, watching)

    assert answers[0].code == 2
    assert why in answers[0].line
    assert answers[0].line.endswith("; nothing was changed")
    assert not watching.applied
    assert "controls" not in done.report
    assert not is_anything_asked(tmp_path / "state")


async def test_a_higher_limit_than_the_plan_s_is_taken_where_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --beyond-plan 5 mounts are open where the plan allows 2."""
    watching = Watching()

    async def person() -> None:
        await until(lambda: watching.open >= 2)
        answer = await told(stage, "limits", "hq.mounts=5", beyond_plan=True)
        assert answer.code == 0

    async with steered(tmp_path, monkeypatch, Site(machines=12, limit=2)) as stage:
        monkeypatch.setattr("tests.scenarios.drill.assert_invariants", lambda *_: None)
        await with_a_person(stage, person, watching)

    assert max(count for _, count in watching.grants) == 4


async def test_nobody_is_asked_where_no_process_works_on_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, and how to go on."""
    async with steered(tmp_path, monkeypatch, Site(machines=2)) as stage:
        await stage.run()
        answer = await told(stage, "pause")

    assert answer.code == 2
    assert "no process works on it" in answer.line


async def test_a_process_that_does_not_look_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 6: the request is taken back."""
    watching = Watching()
    answers: list[ControlOutcome] = []

    async def person() -> None:
        await until(lambda: watching.open >= 2)
        answers.append(await told(stage, "pause"))

    async with staged(tmp_path, monkeypatch, [Site(machines=8, limit=2)]) as stage:
        done = await with_a_person(stage, person, watching)

    assert answers[0].code == 6
    assert "taken back and nothing was changed" in answers[0].line
    assert "controls" not in done.report


@pytest.mark.parametrize("verb", ["limits", "pause", "skip"])
async def test_a_resume_has_what_was_recorded_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Killed at each step of a request: what was answered holds on, what is not there does not."""
    outcomes: list[tuple[int, bool]] = []
    for step in range(8):
        directory = tmp_path / str(step)
        directory.mkdir()
        outcomes.append(await _killed_at(step, verb, directory, monkeypatch))

    assert {code for code, _ in outcomes} >= {0}
    assert any(not recorded for _, recorded in outcomes)


async def _killed_at(
    step: int, verb: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, bool]:
    """Kill the run so many steps after a request was made; return its answer, and if it counts."""
    watching, answers = Watching(), [1]
    async with steered(directory, monkeypatch, Site(machines=12, limit=4), seed=step) as stage:
        doom = Doom(stage, monkeypatch)

        async def person() -> None:
            await until(lambda: watching.open >= 4)
            records = state_of(stage).records.values()
            waits = [each.planned.key for each in records if not each.attempts][-1]
            words: dict[str, list[str]] = {"limits": ["run.mounts=1"], "pause": [], "skip": [waits]}
            doom.dies_after(step)
            answers[0] = (await told(stage, verb, *words[verb], reason="x")).code

        async with beside(person) as begin:
            process = partial(stage.run, observers=[watching], on_run=begin)
            assert await doom.lives(process) is None
        monkeypatch.undo()
        monkeypatch.setenv("SCENARIO_PASSWORD", "not-a-real-password")
        recorded = bool(state_of(stage).controls)
        assert answers[0] != 0 or recorded, "it was answered, and is forgotten"
        again = Watching()
        again.keys = {
            key for key, each in state_of(stage).records.items() if each.phase in HOLDING_PHASES
        }

        async def second() -> None:
            await anyio.sleep(HOUR)
            await told(stage, "continue")

        async with beside(second) as begin:
            done = await stage.resume(observers=[again], on_run=begin)
        if verb == "skip":
            assert list(done.results().values()).count("skipped") == recorded
        if verb == "pause":
            waited = [when for when, _ in again.grants if when < HOUR / 2]
            assert bool(waited) != recorded
        if verb == "limits":
            assert (max(count for _, count in again.grants) == 0) == recorded
    return answers[0], recorded


GATED = """waves:
  - {name: first, targets: [{vm: hq-app0000}]}
  - {name: second, after: [first], targets: [{vm: hq-sql0001}]}
gates: [{before: second, approvals: %s, timeout: 30m, on_timeout: %s}]
"""


def gated(approvals: int = 1, on_timeout: str = "halt") -> str:
    """Return a plan whose second wave waits for people."""
    return GATED % (approvals, on_timeout)


def reached(stage: Stage) -> bool:
    """Return whether the journal tells that a wave waits for people."""
    state = State(stage.state)
    return any(isinstance(e, ApprovalAwaited) for e in state.events(state.summary("last").run))


async def test_a_wave_behind_a_gate_starts_once_enough_people_have_approved_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two different ones; not before it waits, and not without a reason."""
    watching = Watching()
    answers: list[ControlOutcome] = []

    async def says(user: str, reason: str | None = "go") -> None:
        monkeypatch.setattr("orchestrator.app.controlling.person_name", lambda: user)
        answers.append(await told(stage, "approve", "second", reason=reason))

    async def person() -> None:
        await until(lambda: watching.open >= 1)
        await says("anna")
        await until(lambda: reached(stage))
        assert [each.approvals for each in state_of(stage).awaited.values()] == [2]
        await anyio.sleep(20 * 60.0)
        await says("anna", None)
        await says("anna")
        await says("anna")
        assert len(watching.grants) == 1
        await says("ben")

    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=gated(2)) as stage:
        done = await with_a_person(stage, person, watching)

    assert [each.code for each in answers] == [2, 2, 0, 2, 0]
    assert "does not wait for an approval yet" in answers[0].line
    assert "needs a reason" in answers[1].line
    assert "has approved second already; 1 more must come from others" in answers[3].line
    assert [each["user"] for each in done.report["controls"]] == ["anna", "ben"]
    assert not state_of(stage).awaited
    assert set(done.results().values()) == {"mounted"}
    assert done.outcome.code == 0


@pytest.mark.parametrize(
    ("on_timeout", "reject", "code", "why"),
    [
        ("halt", False, 5, "not approved within 30 min: 1 approval missing"),
        ("skip", False, 1, "not approved within 30 min: 1 approval missing"),
        ("halt", True, 5, "was rejected by "),
        ("skip", True, 5, "was rejected by "),
    ],
)
async def test_a_gate_that_stays_closed_ends_the_run_or_the_wave(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_timeout: str,
    reject: bool,
    code: int,
    why: str,
) -> None:
    """As the plan says, after its time; whoever rejects halts the run at once."""
    watching, seen = Watching(), Shown()

    async def person() -> None:
        await until(lambda: reached(stage))
        if reject:
            answer = await told(stage, "approve", "second", reason="no", reject=True)
            assert answer.code == 0

    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=gated(1, on_timeout)) as stage:
        done = await with_a_person(stage, person, watching, seen)
        assert any("WAITS for approval of wave second" in line for line in seen.lines)
        assert "WAITS" not in seen.lines[-1]
        assert not state_of(stage).closed_gates
        assert done.outcome.code == code
        assert why in done.target("hq-sql0001")["message"]
        assert done.target("hq-sql0001")["result"] == "skipped"
        assert (done.took_s > 1800.0) != reject


async def test_an_approval_in_time_counts_however_long_its_record_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate's time ends while the journal is locked: the wave starts, and the answer is true."""
    watching, saved = Watching(), Ledger.saved
    answers: list[ControlOutcome] = []

    async def slow(ledger: Ledger) -> bool:
        if len(watching.applied) == 1 and not answers:
            await anyio.sleep(8.0)
        return await saved(ledger)

    async def person() -> None:
        await until(lambda: reached(stage))
        await anyio.sleep(30 * 60.0 - 4.0)
        answers.append(await told(stage, "approve", "second", reason="go"))

    monkeypatch.setattr(Ledger, "saved", slow)
    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=gated()) as stage:
        done = await with_a_person(stage, person, watching)

    assert [each.code for each in answers] == [0]
    assert set(done.results().values()) == {"mounted"}


async def test_an_approval_that_comes_too_late_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wave was skipped while another one goes on: nothing before it is waited for."""
    watching = Watching()
    answers: list[ControlOutcome] = []

    async def person() -> None:
        await until(lambda: reached(stage))
        await anyio.sleep(40 * 60.0)
        answers.append(await told(stage, "approve", "second", reason="go"))

    plan = gated(1, "skip").replace(
        "gates:", "  - {name: third, targets: [{vm: hq-web0002}]}\ngates:"
    )
    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=plan) as stage:
        await with_a_person(stage, person, watching, hold=HOUR)

    assert [each.code for each in answers] == [2]
    assert "nobody waits for an approval of second any more" in answers[0].line


@pytest.mark.parametrize("waits", [True, False])
async def test_a_run_that_was_frozen_over_its_deadline_takes_no_approval(
    waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before it halts either: nobody waits, and where none did before, nobody is asked."""
    watching = Watching()
    answers: list[ControlOutcome] = []

    async def slowly(_shard: Shard) -> None:
        await anyio.sleep(120.0)

    async def person() -> None:
        await until((lambda: reached(stage)) if waits else (lambda: watching.open > 0))
        freeze(4 * 60.0)
        await anyio.sleep(80.0)
        answers.append(await told(stage, "approve", "second", reason="go"))

    monkeypatch.setattr(Shard, "look_once", slowly)
    extra = "limits: {deadline: 3m}\n"
    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=gated(), extra=extra) as stage:
        done = await with_a_person(stage, person, watching)
        assert reached(stage) == waits

    assert [each.code for each in answers] == [2]
    assert "nobody waits for an approval of second any more" in answers[0].line
    assert (done.outcome.code, "controls" in done.report) == (5, False)


async def test_a_gate_waits_no_longer_than_the_run_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Journal, view and page name the run's deadline; a resumed run has it anew."""
    ends: list[float] = []
    statistics = RunStatistics()

    async def person() -> None:
        await until(lambda: reached(stage))
        ends.extend(each.until for each in state_of(stage).closed_gates)
        assert [each.until for each in statistics.held_up.gates.values()] == ends
        told = text(summarize(state_of(stage)))
        assert "Waits for people:\n  wave second waits for 1 approval until 2026-" in told

    async def second() -> None:
        await anyio.sleep(5.0)
        (gate,) = state_of(stage).closed_gates
        ends.append(gate.until - state_of(stage).last_at)

    extra = "limits: {deadline: 20m}\n"
    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=gated(), extra=extra) as stage:
        done = await with_a_person(stage, person, statistics)
        async with beside(second) as begin:
            again = await stage.resume(on_run=begin)

    assert ends[0] == 20 * 60.0
    assert 1190.0 < ends[1] <= 1200.0
    for each in (done, again):
        assert each.outcome.code == 5
        assert "longer than 20 min" in each.report["run"]["halted"]


async def test_nobody_is_asked_before_a_wave_without_a_target_in_this_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of one wave, or a shard without a machine behind the gate, comes to its end."""
    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=gated()) as stage:
        done = await stage.run(only=("hq-app0000",))
        assert not reached(stage)

    assert done.outcome.code == 0
    assert done.results() == {"hq-app0000": "mounted"}


async def test_a_resume_counts_approvals_and_forgets_a_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two has approved, the other one rejected: the resume asks both again."""
    watching = Watching()

    async def says(user: str, *, reject: bool = False) -> None:
        monkeypatch.setattr("orchestrator.app.controlling.person_name", lambda: user)
        assert (await told(stage, "approve", "second", reason="x", reject=reject)).code == 0

    async def first() -> None:
        await until(lambda: reached(stage))
        await says("anna")

    async def second() -> None:
        await anyio.sleep(5.0)
        await says("ben", reject=True)

    async def third() -> None:
        await anyio.sleep(5.0)
        await says("anna")
        await says("ben")

    async with steered(tmp_path, monkeypatch, Site(machines=4), plan=gated(2)) as stage:
        done = await with_a_person(stage, first, watching)
        for person, code in ((second, 5), (third, 0)):
            async with beside(person) as begin:
                done = await stage.resume(on_run=begin)
            assert done.outcome.code == code

    assert [each["user"] for each in done.report["controls"]] == ["anna", "ben", "anna", "ben"]


async def test_a_target_that_is_not_good_is_tried_again_while_its_wave_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its one failure is not counted twice; one that is good, or has no result, is left alone."""
    watching = Watching()
    answers: list[ControlOutcome] = []

    def result_of(label: str) -> tuple[str, str | None]:
        record = next(x for x in state_of(stage).records.values() if x.planned.label == label)
        return record.planned.key, record.result

    async def person() -> None:
        await until(lambda: watching.open >= 2)
        keys = [each.planned.key for each in state_of(stage).records.values()]
        assert (await told(stage, "skip", keys[-1], reason="too early")).code == 0
        await until(lambda: any(x.result for x in state_of(stage).records.values() if x.attempts))
        records = state_of(stage).records.values()
        good = next(x.planned.key for x in records if x.result == "mounted")
        waits = next(x.planned.key for x in records if not x.is_final)
        answers.extend([await told(stage, "retry", key) for key in (keys[-1], good, waits)])

    async with steered(tmp_path, monkeypatch, Site(machines=8, limit=2)) as stage:
        done = await with_a_person(stage, person, watching)

    assert [each.code for each in answers] == [0, 2, 2], [each.line for each in answers]
    assert set(done.results().values()) == {"mounted"}
    assert [each["verb"] for each in done.report["controls"]] == ["skip", "retry"]
    assert done.outcome.code == 0


def failing(inventory: Inventory) -> None:
    """Let every mount of the first machine fail."""
    for point in inventory.machines[0].points:
        point.fails = "Failed to mount restore point: broken."


async def test_a_failure_that_is_tried_again_is_not_in_the_budget_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure is allowed: the same target fails twice, and the run does not halt."""
    watching = Watching()

    def failed() -> list[MountRecord]:
        return [x for x in state_of(stage).records.values() if x.result == "failed"]

    async def person() -> None:
        await until(lambda: bool(failed()))
        assert (await told(stage, "retry", failed()[0].planned.key)).code == 0

    bad = Site(machines=40, limit=2, change=failing)
    extra = "limits: {failures: 1}\ndefaults: {retries: {attempts: 1}}\n"
    async with steered(tmp_path, monkeypatch, bad, extra=extra) as stage:
        done = await with_a_person(stage, person, watching)

    assert sorted(done.results().values()) == ["failed", *["mounted"] * 39]
    assert done.report["run"]["halted"] is None
