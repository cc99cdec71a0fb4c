"""Joins the parts: from a loaded plan to a finished run with its reports.

The command line, the demo, the scenario tests and the benchmarks all come through here, so
what is tested is what is run.
"""

from __future__ import annotations

import getpass
import os
import random
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import structlog

from orchestrator._version import __version__
from orchestrator.em.client import Client, Session
from orchestrator.em.session import KeptSession, Token
from orchestrator.em.transport import ConnectorFactory
from orchestrator.engine.admission import Limits
from orchestrator.engine.orders import Earlier, Expansion, Orders
from orchestrator.engine.run import Run
from orchestrator.errors import CannotResume, JournalError, OrchestratorError
from orchestrator.events import Event, RunResumed, RunStarted, ServerFacts, WaveFacts
from orchestrator.journal import RunJournal, State
from orchestrator.lifecycle import MountRecord
from orchestrator.model import MountKey, RunId, ServerName, SessionId, Source
from orchestrator.plan.inventory import inventory_needs
from orchestrator.plan.loading import LoadedPlan
from orchestrator.plan.locked import LockedPlan
from orchestrator.plan.settings import RestorePlan
from orchestrator.policy import WatchPolicy
from orchestrator.ports import Observer
from orchestrator.progress import QuietView, View
from orchestrator.report import ExitCode, Report, exit_code, summarize, write
from orchestrator.runstate import RunState
from orchestrator.targeting import LockedSelection, Narrowing, PlanSelection

log = structlog.get_logger(__name__)

Plan = LoadedPlan | LockedPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the command line decides about a run beyond its plan; times in seconds.

    `only` are globs over key, label and VM; `keys` restricts to exactly these keys. `overrides`
    are the plan's variables that were set. A resumed run keeps what its first process was told;
    only `report`, `session_file` and `retry_failed` can be chosen anew.
    """

    state: Path
    report: Path | None = None
    reason: str | None = None
    max_mounts: int | None = None
    deadline: float | None = None
    require_checks: bool = False
    only: tuple[str, ...] = ()
    keys: frozenset[str] | None = None
    confirm: Callable[[Expansion, Sequence[ServerName]], bool] | None = None
    session_file: bool = True
    overrides: Mapping[str, str] = field(default_factory=dict)
    retry_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a run gets from its surroundings; tests and forecasts bring their own.

    `inline` keeps the journal on the loop, for virtual time. `signals` are handled only in a
    real process.
    """

    connector: ConnectorFactory | None = None
    wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    rng: random.Random = field(default_factory=random.SystemRandom)
    inline: bool = False
    signals: bool = True
    watch: WatchPolicy = WatchPolicy()
    run_id: RunId | None = None
    on_run: Callable[[Run], None] = lambda run: None
    """Told of the run before it begins: how whoever embeds it can stop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run: how the process should end, and where its reports are."""

    code: int
    report: Report
    directory: Path
    written: tuple[Path, ...]
    trouble: str | None = None
    nothing_left: bool = False
    """True for a resume that found nothing to do."""


def clients(
    plan: RestorePlan,
    world: World,
    on_session: Callable[[Session], None] = lambda _: None,
    kept: Mapping[str, KeptSession] | None = None,
) -> list[Client]:
    """Return one client per server of the plan; nothing is sent before their logon.

    `kept` are sessions of an earlier process, by server.
    """
    families = {
        server: inventory_needs(plan, server).sources or {Source.REPLICA} for server in plan.servers
    }
    return [
        Client(
            settings,
            families=families[name],
            rng=random.Random(world.rng.random()),  # noqa: S311 - jitter, not a secret
            connector=world.connector,
            wall_clock=world.wall_clock,
            on_session=on_session,
            kept=(kept or {}).get(name),
        )
        for name, settings in plan.servers.items()
    ]


def limits_of(plan: RestorePlan, max_mounts: int | None = None) -> Limits:
    """Return the plan's limits; `max_mounts` can only lower the run's."""
    named = [limit for limit in (plan.limits.mounts, max_mounts) if limit is not None]
    return Limits(
        run=min(named) if named else None,
        per_vm=plan.limits.mounts_per_vm,
        waves={wave.name: wave.mounts_limit for wave in plan.waves if wave.mounts_limit},
        servers={
            name: server.mounts_limit
            for name, server in plan.servers.items()
            if server.mounts_limit is not None
        },
        backup_servers={
            (name, backup): mounts
            for name, server in plan.servers.items()
            for backup, mounts in server.backup_server_mounts.items()
        },
    )


def beginning(source: Plan, choices: Choices, world: World) -> RunStarted:
    """Return the first event of a run: everything about it that is known by now."""
    plan, now = source.plan, world.wall_clock()
    run = world.run_id or RunId(f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}")
    locked = source if isinstance(source, LockedPlan) else None
    limits = limits_of(plan, choices.max_mounts)
    directory = choices.report or Path("reports") / run
    return RunStarted(
        at=0.0,
        run=run,
        started_at=now,
        plan=plan.name,
        plan_path=_text(source.path.absolute()),
        plan_sha256=locked.source_sha256 if locked else source.sha256,
        locked_sha256=locked.sha256 if locked else None,
        description=plan.description,
        mode=plan.mode,
        reason=choices.reason or plan.reason,
        version=__version__,
        user=_user(),
        host=socket.gethostname(),
        pid=os.getpid(),
        report_dir=_text(directory.absolute()),
        servers=tuple(
            ServerFacts(
                name=name,
                url=server.url,
                tls=server.trust.kind,
                api_version=server.api_version,
                mounts_limit=server.mounts_limit,
                backup_server_limits={str(k): v for k, v in server.backup_server_mounts.items()},
                default_backup_server_limit=server.default_backup_server_mounts,
            )
            for name, server in plan.servers.items()
        ),
        waves=tuple(
            WaveFacts(
                name=wave.name,
                after=wave.after,
                critical=wave.critical,
                mounts_limit=wave.mounts_limit,
                objectives=wave.objectives,
            )
            for wave in plan.waves
        ),
        objectives=plan.objectives,
        mounts_limit=limits.run,
        mounts_per_vm=plan.limits.mounts_per_vm,
        require_checks=choices.require_checks,
        overrides=dict(choices.overrides),
        only=choices.only,
        keys=tuple(sorted(choices.keys)) if choices.keys is not None else None,
        deadline_s=choices.deadline if choices.deadline is not None else plan.limits.deadline,
        confirmed=choices.confirm is None,
    )


def going_on(found: RunState, choices: Choices, world: World) -> RunResumed:
    """Return the first event of a process that goes on with a run.

    The run's clock has gone on too, and never goes back, whatever the wall clock did.
    """
    now = world.wall_clock()
    since = (now - found.started.started_at).total_seconds()
    return RunResumed(
        at=max(found.last_at, since),
        resumed_at=now,
        version=__version__,
        user=_user(),
        host=socket.gethostname(),
        pid=os.getpid(),
        report_dir=_text(choices.report.absolute()) if choices.report else found.report_dir,
        retry_failed=choices.retry_failed,
    )


def _text(path: Path) -> str:
    """Return a path as text that can be journaled, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def orders_of(
    source: Plan,
    started: RunStarted,
    world: World,
    confirm: Callable[[Expansion, Sequence[ServerName]], bool] | None = None,
    earlier: Earlier | None = None,
) -> Orders:
    """Return what the engine is told to do."""
    plan = source.plan
    keys = frozenset(map(MountKey, started.keys)) if started.keys is not None else None
    narrowing = Narrowing(only=started.only, keys=keys)
    selection = (
        LockedSelection(source, narrowing)
        if isinstance(source, LockedPlan)
        else PlanSelection(plan, narrowing, started.started_at)
    )

    async def confirmed(expansion: Expansion, silent: Sequence[ServerName]) -> bool:
        return confirm is None or await anyio.to_thread.run_sync(confirm, expansion, silent)

    return Orders(
        started=started,
        selection=selection,
        limits=limits_of(plan, started.mounts_limit),
        failures=plan.limits.failures,
        deadline=started.deadline_s,
        outage=plan.limits.outage,
        watch=world.watch,
        confirm=confirmed if confirm is not None else None,
        earlier=earlier,
    )


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


async def conduct(
    source: Plan,
    choices: Choices,
    *,
    view: View | None = None,
    observers: Sequence[Observer] = (),
    world: World | None = None,
) -> Outcome:
    """Carry out a plan from the first logon to the last unmount, and write its reports.

    Raises:
        RunLocked: another process runs this plan.
        JournalError: the journal cannot even be opened; nothing was sent.
    """
    world = world or World()
    state = State(choices.state)
    started = beginning(source, choices, world)
    with state.plan_lock(source.plan.name, started.run):
        part = _Part(source, started, state, choices, world)
        return await part.carried_out(view or QuietView(), observers)


async def resume(
    run: str,
    plan_of: Callable[[RunStarted], Plan],
    choices: Choices,
    *,
    view: View | None = None,
    observers: Sequence[Observer] = (),
    world: World | None = None,
) -> Outcome:
    """Go on with a run that was interrupted, stopped or halted, and write its reports.

    `plan_of` loads the plan that the run was started with.

    Raises:
        RunLocked: its process, or another run of the plan, still goes on.
        RunNotFound, JournalDamaged: there is no such run, or its journal cannot be trusted.
        CannotResume: it never began, or the plan is not the same any more; nothing was sent.
    """
    world = world or World()
    state = State(choices.state)
    summary = state.summary(run)
    with state.plan_lock(summary.plan, summary.run):
        found = state.replay(summary.run)
        if not found.is_anything_left(retry_failed=choices.retry_failed):
            state.forget_sessions(summary.run)
            report = summarize(found, chain_head=state.chain_head(summary.run))
            code = found.finished.exit_code if found.finished else ExitCode.INTERNAL
            return replace(_reported(report, code, Path(found.report_dir)), nothing_left=True)
        _require_begun(found)
        source = plan_of(found.started)
        _require_same(source, found.started)
        part = _Part(source, found.started, state, choices, world, found)
        return await part.carried_out(view or QuietView(), observers)


def _require_begun(found: RunState) -> None:
    """See that nobody is asked for something that nobody ever confirmed."""
    begun = any(wave.started_at is not None for wave in found.waves.values())
    if not (begun or found.started.confirmed):
        raise CannotResume(
            f"run {found.started.run} ended before it was confirmed, and nothing was mounted; "
            f"start it anew: bulk-restore run {found.started.plan_path}"
        )


def _require_same(source: Plan, started: RunStarted) -> None:
    """See that the plan is, byte for byte, what the run was started with."""
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


@dataclass(frozen=True, slots=True)
class _Part:
    """One process's part in a run: all of it, or what the processes before `found` left."""

    source: Plan
    started: RunStarted
    state: State
    choices: Choices
    world: World
    found: RunState | None = None

    async def carried_out(self, view: View, observers: Sequence[Observer]) -> Outcome:
        """Do this part and write the reports of the whole."""
        earlier, directory = None, Path(self.started.report_dir)
        if self.found is not None:
            earlier = Earlier(
                records=tuple(self.found.records.values()),
                finished=frozenset(
                    name for name, wave in self.found.waves.items() if wave.finished_at is not None
                ),
                resumed=going_on(self.found, self.choices, self.world),
            )
            view.take_over(self.found)
            directory = Path(earlier.resumed.report_dir)
        following = Following(self.found)
        code, head, trouble = await self._run(following, view, observers, earlier)
        if following.state is None:
            raise JournalError(trouble or "the journal did not take the run's first record")
        report = summarize(following.state, chain_head=head)
        if report.run.exit_code is None:
            report = replace(report, run=replace(report.run, exit_code=code))
        return _reported(report, code, directory, trouble)

    async def _run(
        self,
        following: Following,
        view: View,
        observers: Sequence[Observer],
        earlier: Earlier | None,
    ) -> tuple[int, str | None, str | None]:
        """Run; return exit code, journal head and what went wrong locally, if anything."""

        def code_now() -> int:
            return exit_code(following.state) if following.state else ExitCode.INTERNAL

        head: str | None = None
        kept = _KeptSessions(self.state, self.started.run, self.source.plan)
        keep = kept.keep if self.choices.session_file else _keep_nothing
        try:
            async with self._journal() as journal:
                run = Run(
                    orders_of(self.source, self.started, self.world, self.choices.confirm, earlier),
                    clients(self.source.plan, self.world, keep, kept.usable()),
                    journal,
                    [following, view, *observers],
                    exit_code=code_now,
                    rng=self.world.rng,
                    durations=self.state.durations(),
                )
                self.world.on_run(run)
                async with _accompanied(run, view, self.world):
                    code = await run.execute()
                head = journal.head
            if not any(record.may_be_open for record in run.ledger.records):
                self.state.forget_sessions(self.started.run)
        except Exception as exc:  # noqa: BLE001 - the end of a run must be reported, whatever it is
            return _failed(exc, head)
        trouble = f"internal error: {run.failure!r}" if run.failure else None
        return code, head, trouble

    def _journal(self) -> AbstractAsyncContextManager[RunJournal]:
        if self.found is None:
            return self.state.open_run(self.started, inline=self.world.inline)
        return self.state.append_later(self.started.run, inline=self.world.inline)


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
        """Write down the token of a new session."""
        self._known[session.server] = {
            "session": session.id,
            "token": session.token.reveal(),
            "url": self._plan.servers[session.server].url,
        }
        self._state.save_sessions(self._run, self._known)


def _keep_nothing(_session: Session) -> None:
    """Write no token anywhere."""


def _reported(report: Report, code: int, directory: Path, trouble: str | None = None) -> Outcome:
    """Write a run's reports; what goes wrong with that is part of the outcome."""
    written: list[Path] = []
    try:
        written = write(report, directory)
    except OSError as exc:
        trouble = f"the reports cannot be written to {directory}: {exc.strerror}"
        code = code if code == ExitCode.INTERNAL else ExitCode.LOCAL_IO
    except Exception as exc:
        log.exception("report.internal_error")
        trouble, code = f"internal error in a report: {exc!r}", ExitCode.INTERNAL
    return Outcome(
        code=int(code),
        report=report,
        directory=directory,
        written=tuple(written),
        trouble=trouble,
    )


def _failed(exc: Exception, head: str | None) -> tuple[int, str | None, str]:
    cause = _first_cause(exc)
    if isinstance(cause, JournalError):
        return ExitCode.LOCAL_IO, head, str(cause)
    log.error("run.internal_error", exc_info=exc)
    known = isinstance(cause, OrchestratorError)
    return ExitCode.INTERNAL, head, str(cause) if known else f"internal error: {cause!r}"


def _first_cause(exc: BaseException) -> BaseException:
    """Return the first leaf of nested exception groups; a journal's error comes first."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    leaves = [_first_cause(each) for each in exc.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, JournalError)), leaves[0])


@asynccontextmanager
async def _accompanied(run: Run, view: View, world: World) -> AsyncIterator[None]:
    """Draw the view and listen for signals while the run goes on."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_draw, run, view)
        if world.signals:
            await tasks.start(_listen, run)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            view.close()


async def _draw(run: Run, view: View) -> None:
    while True:
        await anyio.sleep(view.interval_s)
        view.draw(run.ledger.now())


async def _listen(run: Run, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Stop the run gently on the first signal, at once on the second; outlive the terminal."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number != signal.SIGHUP:
                run.stop(signal.Signals(number).name)
            elif sys.stderr.isatty():
                log.info("terminal.gone")
