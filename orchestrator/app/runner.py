"""A run from its lock to its reports, and the resume of one that ended too early."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from orchestrator.app.held_up import waiting_for_people
from orchestrator.app.outcome import Outcome, write_reports
from orchestrator.app.run_part import RunPart
from orchestrator.app.signals import caught_signals
from orchestrator.app.signs_of_life import signs_of_life
from orchestrator.app.stores import state_at
from orchestrator.app.wiring import (
    Choices,
    Plan,
    World,
    beginning,
    require_allowed_writes,
    require_same,
    require_something_wanted,
)
from orchestrator.core.earlier_runs.makespans import with_makespans
from orchestrator.core.earlier_runs.naming import urls_of
from orchestrator.core.errors import CannotResume, OrchestratorError, RunLocked
from orchestrator.core.events import RunStarted
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import RunId
from orchestrator.core.parts import Part
from orchestrator.core.policy import SIGN_EVERY
from orchestrator.core.ports.journal import Observer, OtherRuns
from orchestrator.core.run_state import RunState
from orchestrator.journal import State
from orchestrator.plan.choose.parts import require_same_choice
from orchestrator.report.summary import summarize
from orchestrator.views.view import View
from orchestrator.views.web.web_view import WebView


async def run_plan(
    source: Plan,
    choices: Choices,
    *,
    view: View | None = None,
    observers: Sequence[Observer] = (),
    background: Sequence[WebView] = (),
    world: World | None = None,
) -> Outcome:
    """Carry out a plan from the first logon to the last unmount, and write its reports.

    Raises:
        PlanError: it would write into guests, and nobody allowed that, or nothing of it can be
            what was asked for; nothing was sent.
        RunLocked: another process runs this plan.
        JournalError: the journal cannot even be opened; nothing was sent.
    """
    require_allowed_writes(source, choices)
    require_something_wanted(source, choices)
    require_same_choice(source, choices.part, choices.seed)
    world = world or World()
    state = state_at(choices.state)
    started = beginning(source, choices, world)
    with (
        caught_signals(world) as signals,
        _working(state, source.plan.name, started.run, world, started.part),
        _claims(state, started, world) as others,
    ):
        started = with_makespans(started, lambda plan, run: state.makespans(plan, before=run))
        part = RunPart(source, started, state, choices, world, signals, others)
        return await part.execute(view or View(), observers, background)


async def resume(
    run: str,
    plan_of: Callable[[RunStarted], Plan],
    choices: Choices,
    *,
    view: View | None = None,
    observers: Sequence[Observer] = (),
    background: Sequence[WebView] = (),
    world: World | None = None,
) -> Outcome:
    """Go on with a run that was interrupted, stopped or halted, and write its reports.

    `plan_of` loads the plan that the run was started with.

    Raises:
        RunLocked: its process, or another run of the plan, still goes on.
        RunNotFound, JournalDamaged: there is no such run, or its journal cannot be trusted.
        CannotResume: it never began, or the plan is not the same any more; nothing was sent.
        PlanError: it writes into guests, and nobody allowed that again; nothing was sent.
    """
    world = world or World()
    state = state_at(choices.state)
    summary = state.summary(run)
    with (
        caught_signals(world) as signals,
        _working(state, summary.plan, summary.run, world, _part_of(state, summary.run)),
    ):
        run_state = state.replay(summary.run)
        if not run_state.is_anything_left(retry_failed=choices.retry_failed):
            return _as_it_was(run_state, state, choices)
        _require_begun(run_state)
        source = plan_of(run_state.started)
        require_same(source, run_state.started)
        require_allowed_writes(source, choices)
        with _claims(state, run_state.started, world) as others:
            part = RunPart(
                source, run_state.started, state, choices, world, signals, others, run_state
            )
            return await part.execute(view or View(), observers, background)


def _part_of(state: State, run: RunId) -> Part | None:
    """Return the part of its plan that a run takes: its first record says so."""
    first = next(state.events(run), None)
    return first.part if isinstance(first, RunStarted) else None


@contextmanager
def _working(
    state: State, plan: str, run: RunId, world: World, part: Part | None
) -> Iterator[None]:
    """Hold the locks of a plan and a run, and show now and then that this process moves.

    Raises:
        RunLocked: another process runs this plan, or works on this run.
        JournalError: a lock cannot be written, or the file system has no locks.
    """
    signs_s = None if world.inline else SIGN_EVERY
    with ExitStack() as stack:
        try:
            stack.enter_context(state.plan_lock(plan, run, part, signs_s=signs_s))
        except RunLocked as exc:
            raise _with_what_is_awaited(exc, state) from exc
        show_life = partial(state.show_life, plan, run)
        stack.enter_context(signs_of_life(show_life, inline=world.inline))
        yield


def _with_what_is_awaited(locked: RunLocked, state: State) -> RunLocked:
    """Return the error with what the other run waits for that only people can do, if it does."""
    awaited: list[str] = []
    if locked.run is not None:
        with suppress(OrchestratorError):  # it has recorded nothing yet
            awaited = waiting_for_people(state.replay(RunId(locked.run)))
    if not awaited:
        return locked
    return RunLocked(f"{locked}; that run: {'; '.join(awaited)}", locked.run)


def _claims(state: State, started: RunStarted, world: World) -> AbstractContextManager[OtherRuns]:
    """Take part in the limits that this run shares with the others of its state directory."""
    urls = urls_of(started.servers)
    return state.claims(started.run, started.plan, urls, world.wall_clock)


def _as_it_was(run_state: RunState, state: State, choices: Choices) -> Outcome:
    """Return the outcome of a run with which nothing is left to do, its reports written again."""
    run = run_state.started.run
    with suppress(OSError):
        state.tokens(run).forget()
    code = run_state.finished.exit_code if run_state.finished else ExitCode.INTERNAL
    outcome = Outcome(
        code=code,
        report=summarize(run_state, chain_head=state.chain_head(run)),
        directory=Path(run_state.report_dir),
        nothing_left=True,
    )
    return write_reports(outcome, state, run_state, choices)


def _require_begun(run_state: RunState) -> None:
    """Check that the run was confirmed or had begun: else there is nothing to resume."""
    begun = any(wave.started_at is not None for wave in run_state.waves.values())
    if not (begun or run_state.started.confirmed):
        raise CannotResume(
            f"run {run_state.started.run} ended before it was confirmed, and nothing was mounted; "
            f"start it again: bulk-restore run {run_state.started.plan_path}"
        )
