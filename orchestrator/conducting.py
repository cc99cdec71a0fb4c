"""A run from its lock to its reports, and the resume of one that ended too early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from orchestrator.assembly import (
    Choices,
    Plan,
    World,
    beginning,
    clients,
    going_on,
    orders_of,
    programs,
    require_allowed_writes,
    secret_variables,
)
from orchestrator.attending import (
    Companion,
    Signals,
    accompanied,
    caught_signals,
    harmless,
    unless_signalled,
)
from orchestrator.em.credentials import resolve as resolve_secret
from orchestrator.em.logon import KeptSession, Token
from orchestrator.em.session import Session
from orchestrator.engine.orders import Earlier, Orders
from orchestrator.engine.run import Run
from orchestrator.errors import CannotResume, JournalError, OrchestratorError
from orchestrator.events import Event, RunNoted, RunStarted
from orchestrator.evidence import withdraw_evidence, write_evidence
from orchestrator.journal import RunJournal, State
from orchestrator.lifecycle import MountRecord
from orchestrator.model import RunId, SessionId
from orchestrator.notifying import Ending, Missed, Notifier, composed_end, tell_command
from orchestrator.plan.locked import LockedPlan
from orchestrator.plan.sampling import Proofs
from orchestrator.plan.settings import RestorePlan, SecretReference
from orchestrator.ports import Baselines, Durations, NoBaselines, Observer
from orchestrator.progress import QuietView, View
from orchestrator.proof import BaselineCheck
from orchestrator.report import (
    ExitCode,
    Report,
    exit_code,
    reached_of_wanted,
    summarize,
    write,
)
from orchestrator.runstate import RunState
from orchestrator.shelving import DiskShelf

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run: how the process should end, and where its reports are.

    `trouble` is what a person must be told beside the report; without anything in `written`
    the report stands nowhere but here. `untold` says who could not be told of the end, where
    that is not in the report: it changes nothing.
    """

    code: int
    report: Report
    directory: Path
    written: tuple[Path, ...] = ()
    trouble: str | None = None
    untold: tuple[str, ...] = ()
    nothing_left: bool = False
    """True for a resume that found nothing to do."""


async def conduct(
    source: Plan,
    choices: Choices,
    *,
    view: View | None = None,
    observers: Sequence[Observer] = (),
    companions: Sequence[Companion] = (),
    world: World | None = None,
) -> Outcome:
    """Carry out a plan from the first logon to the last unmount, and write its reports.

    Raises:
        PlanError: it would write into guests, and nobody allowed that; nothing was sent.
        RunLocked: another process runs this plan.
        JournalError: the journal cannot even be opened; nothing was sent.
    """
    require_allowed_writes(source, choices)
    world = world or World()
    state = State(choices.state)
    started = beginning(source, choices, world)
    with _signals(world) as signals, state.plan_lock(source.plan.name, started.run):
        part = _Part(source, started, state, choices, world, signals)
        return await part.carried_out(view or QuietView(), observers, companions)


async def resume(
    run: str,
    plan_of: Callable[[RunStarted], Plan],
    choices: Choices,
    *,
    view: View | None = None,
    observers: Sequence[Observer] = (),
    companions: Sequence[Companion] = (),
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
    state = State(choices.state)
    summary = state.summary(run)
    with _signals(world) as signals, state.plan_lock(summary.plan, summary.run):
        found = state.replay(summary.run)
        if not found.is_anything_left(retry_failed=choices.retry_failed):
            return _as_it_was(found, state, choices)
        _require_begun(found)
        source = plan_of(found.started)
        require_same(source, found.started)
        require_allowed_writes(source, choices)
        part = _Part(source, found.started, state, choices, world, signals, found)
        return await part.carried_out(view or QuietView(), observers, companions)


def _signals(world: World) -> AbstractContextManager[Signals | None]:
    """Catch the process's signals until the reports are written."""
    return caught_signals() if world.signals else nullcontext()


def _as_it_was(found: RunState, state: State, choices: Choices) -> Outcome:
    """Return the outcome of a run with which nothing is left to do, its reports written again."""
    run = found.started.run
    with suppress(OSError):
        state.forget_sessions(run)
    code = found.finished.exit_code if found.finished else ExitCode.INTERNAL
    outcome = Outcome(
        code=code,
        report=summarize(found, chain_head=state.chain_head(run)),
        directory=Path(found.report_dir),
        nothing_left=True,
    )
    return _reported(outcome, state, found, choices)


def _require_begun(found: RunState) -> None:
    """See that nobody is asked for something that nobody ever confirmed."""
    begun = any(wave.started_at is not None for wave in found.waves.values())
    if not (begun or found.started.confirmed):
        raise CannotResume(
            f"run {found.started.run} ended before it was confirmed, and nothing was mounted; "
            f"start it anew: bulk-restore run {found.started.plan_path}"
        )


def require_same(source: Plan, started: RunStarted) -> None:
    """See that the plan is, byte for byte, what the run was started with.

    Raises:
        CannotResume: it is not.
    """
    if isinstance(source, LockedPlan):
        same = source.sha256 == started.locked_sha256
    else:
        same = started.locked_sha256 is None and source.sha256 == started.plan_sha256
    if not same:
        raise CannotResume(
            f"{source.path} is not the plan that run {started.run} was started with: it was "
            "changed since. Name a copy of the old one with --plan, or release what the run left "
            f"(bulk-restore unmount {started.run}) and run the new plan"
        )


# --- one process's part ---------------------------------------------------------------------


class Following:
    """An observer that folds the run as it goes, for its exit code and its report."""

    def __init__(self, state: RunState | None = None) -> None:
        """Before the first event of this process; `state` is what earlier ones did."""
        self.state = state

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Fold one more event in."""
        if isinstance(event, RunStarted):
            self.state = RunState(event)
        elif self.state is not None:
            self.state.take(event, record)


@dataclass(frozen=True, slots=True)
class _Part:
    """One process's part in a run: all of it, or what the processes before `found` left."""

    source: Plan
    started: RunStarted
    state: State
    choices: Choices
    world: World
    signals: Signals | None
    found: RunState | None = None

    async def carried_out(
        self,
        view: View,
        observers: Sequence[Observer],
        companions: Sequence[Companion] = (),
    ) -> Outcome:
        """Do this part and write the reports of the whole."""
        earlier = self._earlier()
        directory = earlier.resumed.report_dir if earlier else self.started.report_dir
        following = Following(self.found)
        notifier = self._notifier(following)
        code, head, trouble, told = await self._run(
            following, view, notifier, observers, companions, earlier
        )
        if following.state is None:
            raise JournalError(trouble or "the journal did not take the run's first record")
        report = summarize(following.state, chain_head=head)
        report = replace(report, run=replace(report.run, exit_code=int(code)))
        outcome = Outcome(code=int(code), report=report, directory=Path(directory), trouble=trouble)
        outcome = _reported(outcome, self.state, following.state, self.choices)
        return await self._told_at_last(outcome, following.state, is_told=told == outcome.code)

    def _orders(self, earlier: Earlier | None) -> Orders:
        proofs: Proofs | None = None
        if self.source.plan.samples_stalest:
            # As they were when the run began: a resume samples the same machines.
            proofs = self.state.proofs(before=self.started.started_at)
        return orders_of(
            self.source,
            self.started,
            self.world,
            self.choices.confirm,
            earlier,
            proofs,
            may_write=self._may_write,
        )

    @property
    def _may_write(self) -> bool:
        return self.choices.yes_write and self.started.mode == "recovery"

    def _earlier(self) -> Earlier | None:
        if self.found is None:
            return None
        waves = self.found.waves.items()
        return Earlier(
            records=tuple(self.found.records.values()),
            finished=frozenset(name for name, wave in waves if wave.finished_at is not None),
            resumed=going_on(self.found, self.choices, self.world),
            attributed=[
                each for server in self.found.servers.values() for each in server.attributed
            ],
        )

    def _notifier(self, following: Following) -> Notifier:
        """Return what tells the plan's webhooks, as far as `following` is."""
        withheld = secret_variables(self.source.plan)

        async def resolve(reference: SecretReference) -> str:
            return await resolve_secret(reference, withheld=withheld)

        return Notifier(self.source.plan.notifications, lambda: following.state, resolve)

    async def _told_at_last(self, outcome: Outcome, state: RunState, *, is_told: bool) -> Outcome:
        """Return the outcome when everybody who waits for the reports was told of them.

        The webhooks were told before, with the exit code of the run itself; only where the
        process ends with another one, or the run broke off, they are told once more.
        """
        untold: list[str] = []
        ending = _ending(outcome)

        async def tell() -> None:
            if not is_told:
                notifier = self._notifier(Following(state))
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
            if not await unless_signalled(self.signals, tell):
                untold.append("a signal ended the telling of the run's end: not everybody was told")
        except Exception as exc:
            log.exception("notification.internal_error")
            untold.append(f"internal error after the run's end: {type(exc).__name__}")
        return replace(outcome, untold=tuple(untold))

    async def _run(
        self,
        following: Following,
        view: View,
        notifier: Notifier,
        observers: Sequence[Observer],
        companions: Sequence[Companion],
        earlier: Earlier | None,
    ) -> tuple[int, str | None, str | None, int | None]:
        """Run; return exit code, journal head, what went wrong locally, and the code told."""
        run: Run | None = None
        kept = _KeptSessions(self.state, self.started.run, self.source.plan)
        keep = kept.keep if self.choices.session_file else _keep_nothing

        requests = _Requests(self.state, self.started.run)

        def code_now() -> int:
            if run is not None and run.ledger.broken is not None:
                return ExitCode.LOCAL_IO
            return exit_code(following.state) if following.state else ExitCode.INTERNAL

        try:
            async with self._journal() as journal:
                durations = self.state.durations()  # a journal that was just made can tell
                self._introduce([view, *companions], durations)
                run = Run(
                    self._orders(earlier),
                    clients(
                        self.source.plan,
                        self.world,
                        keep,
                        kept.usable(),
                        may_write=self._may_write,
                    ),
                    journal,
                    [following, view, notifier, *observers, *companions],
                    exit_code=code_now,
                    rng=self.world.rng,
                    durations=durations,
                    baselines=self._baselines(),
                    programs=programs(self.source.plan, self.world),
                    shelf=self.world.shelf or DiskShelf(inline=self.world.inline),
                    hold_requests=requests,
                    on_holding=lambda: self._write_meanwhile(following, earlier, journal),
                )
                self.world.on_run(run)
                clock = self.world.clock_with_suspension
                async with notifier.delivering(partial(_note, run)):
                    async with accompanied(run, view, self.signals, clock, companions):
                        code = await run.execute()
                    await self._tell_end(run, notifier, following, code)
                head = journal.head
        except Exception as exc:  # noqa: BLE001 - the end of a run must be reported, whatever it is
            return *_failed(exc), None
        finally:
            if run is not None and not any(record.may_be_open for record in run.ledger.records):
                with suppress(OSError):  # they are closed, so whoever finds them cannot use them
                    self.state.forget_sessions(self.started.run)
        trouble = f"internal error: {run.failure!r}" if run.failure else None
        return code, head, trouble, code

    async def _tell_end(
        self, run: Run, notifier: Notifier, following: Following, code: int
    ) -> None:
        """Tell the webhooks that the run ended; what fails is in the journal before it closes."""
        state = following.state
        if not notifier.is_needed or state is None:
            return
        try:
            report = summarize(state)
            outcome = Outcome(code=code, report=report, directory=Path(state.report_dir))
            await unless_signalled(self.signals, partial(notifier.finish, _ending(outcome)))
        except Exception:
            log.exception("notification.internal_error")
            _note(run, "not everybody could be told of the end: internal error")
        await run.ledger.saved()

    def _introduce(self, onlookers: Sequence[View | Companion], durations: Durations) -> None:
        """Tell who looks on, before the first event, what is known of this run and of others."""
        for onlooker in onlookers:
            with harmless(onlooker):
                onlooker.expect(durations.expected)
                if self.found is not None:
                    onlooker.take_over(self.found)

    def _baselines(self) -> Baselines:
        """Return what earlier runs measured, if this one compares with it."""
        checks = (check for checks in self.started.check_sets.values() for check in checks)
        if not any(isinstance(check, BaselineCheck) for check in checks):
            return NoBaselines()
        return self.state.baselines(before=self.started.run)

    def _write_meanwhile(
        self, following: Following, earlier: Earlier | None, journal: RunJournal
    ) -> None:
        """Write the reports while only held mounts remain; they are written again at the end.

        With their evidence: whoever looks at a mount for hours may want to show it meanwhile.
        """
        directory = earlier.resumed.report_dir if earlier else self.started.report_dir
        found = following.state
        if found is not None:
            try:
                report = summarize(found, chain_head=journal.head)
                _written(report, self.state, found, self.choices, Path(directory))
            except Exception as exc:  # noqa: BLE001 - the reports at the end are those that count
                log.warning("report.not_written_yet", why=str(exc))

    def _journal(self) -> AbstractAsyncContextManager[RunJournal]:
        if self.found is None:
            return self.state.open_run(self.started, inline=self.world.inline)
        return self.state.append_later(self.started.run, inline=self.world.inline)


class _Requests:
    """What other processes leave word of; implements `ports.HoldRequests`."""

    def __init__(self, state: State, run: RunId) -> None:
        """Word that was left before is for a process that is gone."""
        self._state, self._run = state, run
        state.take_request(run)

    def taken(self) -> bool:
        """Tell whether somebody wants the holds ended."""
        return self._state.take_request(self._run)


class _KeptSessions:
    """The tokens of a run's sessions, in its owner-only side file."""

    def __init__(self, state: State, run: RunId, plan: RestorePlan) -> None:
        self._state, self._run, self._plan = state, run, plan
        self._known = state.load_sessions(run)

    def usable(self) -> dict[str, KeptSession]:
        """Return the sessions of servers that are still where the run found them."""
        return {
            server: KeptSession(id=SessionId(known["session"]), token=Token(known["token"]))
            for server, settings in self._plan.servers.items()
            if (known := self._known.get(server)) is not None and known["url"] == settings.url
        }

    def keep(self, session: Session) -> None:
        """Write down the token of a new session; that it cannot be kept stops nothing."""
        self._known[session.server] = {
            "session": session.id,
            "token": session.token.reveal(),
            "url": self._plan.servers[session.server].url,
        }
        try:
            self._state.save_sessions(self._run, self._known)
        except (OSError, JournalError) as exc:
            log.warning("sessions.not_kept", why=str(exc))


def _keep_nothing(_session: Session) -> None:
    """Write no token anywhere."""


# --- the end --------------------------------------------------------------------------------


def _note(run: Run, message: str) -> None:
    """Say in the report that somebody could not be told."""
    run.ledger.record(RunNoted(at=run.ledger.now(), message=message))


def _ending(outcome: Outcome) -> Ending:
    """Return how a run ended, for those who are told."""
    report = outcome.report
    objectives = [*report.objectives, *(o for t in report.targets for o in t.objectives)]
    about = {code.value: code.about for code in ExitCode}
    return Ending(
        exit_code=outcome.code,
        meaning=about.get(outcome.code, "not a documented exit code"),
        missed=tuple(
            Missed(
                scope=each.scope,
                kind=each.kind,
                target_s=each.target_s,
                actual_s=each.actual_s,
                words=reached_of_wanted(each),
            )
            for each in objectives
            if not each.met
        ),
        report=str(outcome.directory),
        trouble=outcome.trouble,
    )


def _reported(outcome: Outcome, state: State, found: RunState | None, choices: Choices) -> Outcome:
    """Write the reports, beside the journal if their own directory does not take them.

    With the records of `found` as their evidence; None: the journal does not hold them all.
    """
    for place in (outcome.directory, state.directory / "reports" / outcome.report.run.id):
        try:
            written = _written(outcome.report, state, found, choices, place)
        except JournalError as exc:
            outcome = _troubled(outcome, ExitCode.LOCAL_IO, f"there is no evidence: {exc}")
            return _reported(outcome, state, None, choices)
        except OSError as exc:
            outcome = _troubled(
                outcome,
                ExitCode.LOCAL_IO,
                f"the reports cannot be written to {place}: {exc.strerror}",
            )
        except Exception as exc:
            log.exception("report.internal_error")
            return _troubled(outcome, ExitCode.INTERNAL, f"internal error in a report: {exc!r}")
        else:
            if place != outcome.directory:
                outcome = replace(outcome, trouble=f"{outcome.trouble}; they are in {place}")
            return replace(outcome, directory=place, written=written)
    if outcome.report.run.journal_head is not None:
        later = f"bulk-restore report {outcome.report.run.id} --report DIRECTORY"
        outcome = replace(outcome, trouble=f"{outcome.trouble}; make them later: {later}")
    return outcome


def _written(
    report: Report, state: State, found: RunState | None, choices: Choices, place: Path
) -> tuple[Path, ...]:
    """Write the renderings and, if the journal holds everything they say, the evidence."""
    rendered = write(report, place)
    if found is None or report.run.journal_head is None:
        withdraw_evidence(place)
        return tuple(rendered)
    records = state.records(RunId(report.run.id), upto=report.run.journal_records)
    return (*rendered, *write_evidence(found, report, records, rendered, place, choices.sign))


def _troubled(outcome: Outcome, code: ExitCode, trouble: str) -> Outcome:
    """Return the outcome with one more local trouble; an internal error stays one."""
    if outcome.code == ExitCode.INTERNAL:
        code = ExitCode.INTERNAL
    before = f"{outcome.trouble}; " if outcome.trouble else ""
    run = replace(outcome.report.run, exit_code=int(code))
    return replace(
        outcome,
        code=int(code),
        report=replace(outcome.report, run=run),
        trouble=f"{before}{trouble}",
    )


def _failed(exc: Exception) -> tuple[int, str | None, str]:
    cause = _first_cause(exc)
    if isinstance(cause, JournalError):
        return ExitCode.LOCAL_IO, None, str(cause)
    log.error("run.internal_error", exc_info=exc)
    known = isinstance(cause, OrchestratorError)
    return ExitCode.INTERNAL, None, str(cause) if known else f"internal error: {cause!r}"


def _first_cause(exc: BaseException) -> BaseException:
    """Return the first leaf of nested exception groups; a journal's error comes first."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    leaves = [_first_cause(each) for each in exc.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, JournalError)), leaves[0])
