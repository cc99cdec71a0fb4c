"""One process's part in a run: the engine with its surroundings, and the reports at the end."""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from orchestrator.app.forecasting.overheads import measured_overheads
from orchestrator.app.notify.command import tell_command
from orchestrator.app.notify.composing import composed_end
from orchestrator.app.notify.notifier import Notifier
from orchestrator.app.outcome import (
    Outcome,
    ending_of,
    failure_of,
    has_same_reports,
    outcome_of,
    place_of,
    record_final_code,
    trouble_of,
    write_reports,
    write_with_evidence,
)
from orchestrator.app.session_tokens import SessionTokens
from orchestrator.app.signals import Signals, harmlessly, serve_views, unless_signalled
from orchestrator.app.wiring import (
    Choices,
    Plan,
    World,
    clients,
    going_on,
    in_a_thread,
    orders_of,
    secret_variables,
    used_until,
)
from orchestrator.core.earlier_runs.naming import Naming, urls_of
from orchestrator.core.errors import JournalError
from orchestrator.core.events import Event, RunNoted, RunResumed, RunStarted
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import ServerName, SessionId
from orchestrator.core.ports.controls import Controls
from orchestrator.core.ports.journal import (
    Baselines,
    Durations,
    Observer,
    OtherRuns,
    Proofs,
    Systems,
)
from orchestrator.core.ports.local import on_the_spot
from orchestrator.core.run_state import RunState, replay
from orchestrator.em.credentials import resolve as resolve_secret
from orchestrator.engine.orders import EarlierRun, Orders
from orchestrator.engine.run import Run
from orchestrator.engine.surroundings import Surroundings
from orchestrator.journal import RunJournal, State
from orchestrator.local.files.store import DiskFileStore
from orchestrator.local.programs import ChildProcesses
from orchestrator.log import Log
from orchestrator.plan.file.access import SecretReference
from orchestrator.report.exit_codes import exit_code
from orchestrator.report.summary import summarize
from orchestrator.views.statistics import RunStatistics
from orchestrator.views.view import View
from orchestrator.views.web.web_view import WebView

log = Log(__name__)

LOCK_PATIENCE_AT_LAST = 1.0
"""Seconds for which a run that was stopped at once still waits for its journal's lock: its clean-up
may take no longer than `forced_end.CLEANUP_S` in all."""


class StateObserver:
    """An observer that folds the run as it goes, for its exit code and its report."""

    def __init__(self, state: RunState | None = None) -> None:
        """Before the first event of this process; `state` is what earlier ones did."""
        self.state = state

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Fold one more event in."""
        if isinstance(event, RunStarted):
            self.state = RunState(event)
        elif self.state is not None:
            self.state.fold(event, record)


@dataclass(slots=True)
class RunPart:
    """One process's part in a run: all of it, or what the processes before `earlier_state` left."""

    source: Plan
    started: RunStarted
    state: State
    choices: Choices
    world: World
    signals: Signals | None
    others: OtherRuns
    earlier_state: RunState | None = None
    observer: StateObserver = field(init=False)
    resumed: RunResumed | None = field(init=False, default=None)
    """The first record of a process that goes on with the run."""
    earlier: EarlierRun | None = field(init=False, default=None)
    steady_world: World = field(init=False)
    tokens: SessionTokens = field(init=False)

    def __post_init__(self) -> None:
        """Read what earlier processes left for this one."""
        self.observer = StateObserver(self.earlier_state)
        before = self.earlier_state
        if before is not None:
            seen_at = self.others.earlier_seen_at
            self.resumed = going_on(before, self.choices, self.world, seen_at)
            self.earlier = EarlierRun.of(
                before,
                self.resumed,
                used_until=used_until(before, seen_at, self.resumed.at),
                retry_failed=self.resumed.retry_failed,
            )
        self.steady_world = self.world.since(
            self.resumed.resumed_at if self.resumed else self.started.started_at
        )
        run = self.started.run
        self.tokens = SessionTokens(self.state.tokens(run), self.source.plan, self._ended_sessions)
        self.state.take_request(run)  # one from before was for a process that has ended
        self.state.controls(run).clear()

    async def execute(
        self, view: View, observers: Sequence[Observer], background: Sequence[WebView] = ()
    ) -> Outcome:
        """Do this part and write the reports of the whole."""
        notifier = self._notifier(self.observer)
        code, head, trouble, early_outcome = await self._run(view, notifier, observers, background)
        state = self.observer.state
        if state is None:
            raise JournalError(trouble or "the journal did not take the run's first record")
        head = head or self._head_of_all(state)
        outcome = outcome_of(state, code, head, trouble, self._report_dir)
        if early_outcome and early_outcome.written and has_same_reports(outcome, early_outcome):
            outcome = early_outcome
        else:
            outcome = write_reports(outcome, self.state, state, self.choices)
        outcome = await record_final_code(
            outcome, self.state, state, self.choices, inline=self.world.inline
        )
        is_sent = notifier.sent_code == outcome.code
        return await self._notify_at_exit(outcome, state, is_sent=is_sent)

    def _head_of_all(self, state: RunState) -> str | None:
        """Return the head of the journal if that has everything in `state`, whatever went wrong."""
        with suppress(JournalError):
            kept, mark = self.state.replay_to_head(self.started.run)
            return mark.head if kept.events == state.events else None
        return None

    @property
    def _report_dir(self) -> str:
        return (self.resumed or self.started).report_dir

    def _ended_sessions(self, server: ServerName) -> Container[SessionId]:
        """Return the sessions of a server that are no longer needed."""
        return self.observer.state.servers[server].over if self.observer.state else ()

    def _naming(self) -> Naming:
        """Return how this run calls its servers, and which of them turned out to be simulated."""

        def is_simulated(server: ServerName) -> bool | None:
            state = self.observer.state
            known = state.servers.get(server) if state else None
            return known.sessions[-1].simulated if known and known.sessions else None

        return Naming(urls=urls_of(self.started.servers), is_simulated=is_simulated)

    def _orders(self, naming: Naming, systems: Systems) -> Orders:
        proofs: Proofs | None = None
        if self.source.plan.samples_stalest:
            # As they were when the run began: a resume samples the same machines.
            proofs = self.state.proofs(before=self.started.started_at, naming=naming)
        return orders_of(
            self.source,
            self.started,
            self.world,
            self.choices.confirm,
            self.earlier,
            proofs,
            systems=systems,
            may_write=self._may_write,
        )

    @property
    def _may_write(self) -> bool:
        return self.choices.yes_write and self.started.mode == "recovery"

    def _notifier(self, observer: StateObserver) -> Notifier:
        """Return the notifier of the plan's webhooks; it reads the state of `observer`."""
        withheld = secret_variables(self.source.plan)

        async def resolve(reference: SecretReference) -> str:
            return await resolve_secret(reference, withheld=withheld)

        return Notifier(self.source.plan.notifications, lambda: observer.state, resolve)

    async def _notify_at_exit(self, outcome: Outcome, state: RunState, *, is_sent: bool) -> Outcome:
        """Send what is still to be sent at the exit, and return the outcome with what failed.

        The webhooks were told before, when the reports were there; only where the process ends
        with another exit code all the same, or the run broke off, they are told now.
        """
        untold: list[str] = []
        ending = ending_of(outcome)

        async def tell() -> None:
            if not is_sent:
                notifier = self._notifier(StateObserver(state))
                async with notifier.delivering(untold.append):
                    await notifier.finish(ending, only_finished=True)
            if self.choices.on_finish:
                why = await tell_command(
                    self.choices.on_finish,
                    next(composed_end(state, ending)),
                    withheld=secret_variables(self.source.plan),
                )
                untold.extend([why] if why else [])

        try:
            hurried = any(stop.forced for stop in state.stops)
            if not await unless_signalled(self.signals, tell, hurried=hurried):
                untold.append(
                    "a signal stopped the messages about the run's end: some were not sent"
                )
        except Exception as exc:
            log.exception("notification.internal_error")
            untold.append(f"internal error after the run's end: {type(exc).__name__}")
        return replace(outcome, untold=tuple(untold))

    async def _run(
        self,
        view: View,
        notifier: Notifier,
        observers: Sequence[Observer],
        background: Sequence[WebView],
    ) -> tuple[int, str | None, str | None, Outcome | None]:
        """Run; return exit code, journal head, local trouble, and the outcome that was sent."""
        run: Run | None = None
        try:
            async with self._journal() as journal:
                naming = self._naming()
                durations = self.state.durations(naming)  # a journal that was just made can tell
                everybody: list[Observer] = [self.observer]
                if background or not view.is_silent:
                    everybody += [self._statistics([view, *background], durations), view]
                if notifier.is_needed:
                    everybody.append(notifier)
                everybody += [*observers, *background]
                run = self._engine_run(journal, everybody, naming, durations)
                self.world.on_run(run)
                self._wait_for_lock(journal, run)
                clock = self.world.clock_with_suspension
                async with notifier.delivering(partial(_note, run)):
                    async with serve_views(run, view, self.signals, clock, background):
                        code = await run.execute()
                    early_outcome = await self._notify_end(run, notifier, code, journal)
                head = journal.head
        except Exception as exc:  # noqa: BLE001 - the end of a run must be reported, whatever it is
            return *failure_of(exc), None
        finally:
            if run is not None and not run.may_have_left_mounts:
                with suppress(OSError):  # they are closed, so whoever finds them cannot use them
                    self.tokens.forget()
            self.state.controls(self.started.run).clear()
        return code, head, trouble_of(run), early_outcome

    def _engine_run(
        self,
        journal: RunJournal,
        observers: Sequence[Observer],
        naming: Naming,
        durations: Durations,
    ) -> Run:
        """Return the engine's run, with everything it needs from outside."""

        def code_now() -> int:
            if run.ledger.broken is not None:
                return ExitCode.LOCAL_IO
            state = self.observer.state
            return exit_code(state) if state else ExitCode.INTERNAL

        systems = self.state.systems(naming)
        run = Run(
            self._orders(naming, systems),
            clients(
                self.source.plan,
                self.steady_world,
                self.tokens.keep if self.choices.session_file else lambda _: None,
                self.tokens.usable(),
                may_write=self._may_write,
            ),
            journal,
            observers,
            exit_code=code_now,
            around=Surroundings(
                rng=self.world.rng,
                durations=durations,
                per_mount=self._per_mount,
                baselines=self._baselines(naming),
                systems=systems,
                programs=self.world.programs or ChildProcesses(secret_variables(self.source.plan)),
                aside=on_the_spot if self.world.inline else in_a_thread,
                file_store=self.world.file_store or DiskFileStore(inline=self.world.inline),
                others=self.others,
                end_of_holds_requested=partial(self.state.take_request, self.started.run),
                controls=self._controls(),
            ),
            on_holding=lambda: self._write_early_reports(journal),
        )
        return run

    def _per_mount(self) -> float:
        """Return how long a submission took in the newest run of the plan before this one."""
        found = measured_overheads(self.state, self.started.plan, besides=self.started.run)
        return found.per_mount

    def _controls(self) -> Controls | None:
        """Return where people steer the run: in virtual time only where that is given."""
        if self.world.controls is not None or self.world.inline:
            return self.world.controls
        return self.state.controls(self.started.run)

    def _wait_for_lock(self, journal: RunJournal, run: Run) -> None:
        """Wait for a journal that another process has locked like for a server, and note it.

        Who has asked for the end at once waits for neither.
        """
        outage = self.source.plan.limits.outage
        journal.lock_patience = lambda: LOCK_PATIENCE_AT_LAST if run.is_forced else outage

        def told(words: str) -> None:
            log.warning("journal.locked", why=words)
            _note(run, words)

        journal.on_lock = told

    async def _notify_end(
        self, run: Run, notifier: Notifier, code: int, journal: RunJournal
    ) -> Outcome | None:
        """Send the end of the run to the webhooks, once; failures are journaled before it closes.

        The reports are written before, so that the message has the exit code of the process and
        leads to files that are there.
        """
        state = self.observer.state
        if not notifier.is_needed or state is None:
            return None
        outcome: Outcome | None = None
        try:
            await run.ledger.saved()
            head = None if run.ledger.broken is not None else journal.head
            outcome = outcome_of(state, code, head, trouble_of(run), state.report_dir)
            outcome = write_reports(outcome, self.state, state, self.choices)
            finish = partial(notifier.finish, ending_of(outcome))
            await unless_signalled(self.signals, finish, hurried=run.is_forced)
        except Exception:
            log.exception("notification.internal_error")
            _note(run, "a message about the run's end could not be sent: internal error")
        await run.ledger.saved()
        return outcome

    def _statistics(self, views: Sequence[View | WebView], durations: Durations) -> RunStatistics:
        """Return what is counted for all who look on, with what earlier processes did.

        They are told of that first, as whoever looks on from another process is.
        """
        stats = RunStatistics(durations.expected)
        ready = [each for each in views if harmlessly(each, each.begin, stats)]
        if self.earlier_state is not None:
            for _, event, record in replay(self.state.events(self.started.run)):
                stats.observe(event, record)
                ready = [x for x in ready if harmlessly(x, x.catch_up, event, record)]
            stats.start_process(self.earlier_state.last_at)
        return stats

    def _baselines(self, naming: Naming) -> Baselines | None:
        """Return what earlier runs measured, if this one compares with it."""
        if not self.started.compares_with_earlier:
            return None
        return self.state.baselines(before=self.started.run, naming=naming)

    def _write_early_reports(self, journal: RunJournal) -> None:
        """Write the reports while only held mounts remain; they are written again at the end.

        With their evidence: whoever looks at a mount for hours may want to show it meanwhile.
        """
        run_state = self.observer.state
        if run_state is not None:
            try:
                report = summarize(run_state, chain_head=journal.head, goes_on=True)
                directory = place_of(report, self.state, Path(self._report_dir))
                broken: list[Exception] = []
                write_with_evidence(report, self.state, run_state, self.choices, directory, broken)
                for exc in broken:
                    log.warning("report.not_written_yet", why=str(exc))
            except Exception as exc:  # noqa: BLE001 - the reports at the end are those that count
                log.warning("report.not_written_yet", why=str(exc))

    def _journal(self) -> AbstractAsyncContextManager[RunJournal]:
        if self.earlier_state is None:
            return self.state.open_run(self.started, inline=self.world.inline)
        return self.state.append_later(self.started.run, inline=self.world.inline)


def _note(run: Run, message: str) -> None:
    """Add a note to the report."""
    run.ledger.record(RunNoted(at=run.ledger.now(), message=message))
