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
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import structlog

from orchestrator._version import __version__
from orchestrator.em.client import Client, Session
from orchestrator.em.transport import ConnectorFactory
from orchestrator.engine.admission import Limits
from orchestrator.engine.orders import Expansion, Orders
from orchestrator.engine.run import Run
from orchestrator.errors import JournalError, OrchestratorError
from orchestrator.events import Event, RunStarted, ServerFacts, WaveFacts
from orchestrator.journal import State
from orchestrator.lifecycle import MountRecord
from orchestrator.model import RunId, ServerName, Source
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

    `only` are globs over key, label and VM; `keys` restricts to exactly these keys.
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


def clients(
    plan: RestorePlan, world: World, on_session: Callable[[Session], None] = lambda _: None
) -> list[Client]:
    """Return one client per server of the plan; nothing is sent before their logon."""
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
        plan_path=_text(source.path),
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
    )


def _text(path: Path) -> str:
    """Return a path as text that can be journaled, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def orders_of(source: Plan, started: RunStarted, choices: Choices, world: World) -> Orders:
    """Return what the engine is told to do."""
    plan = source.plan
    narrowing = Narrowing(only=choices.only, keys=choices.keys)
    selection = (
        LockedSelection(source, narrowing)
        if isinstance(source, LockedPlan)
        else PlanSelection(plan, narrowing, started.started_at)
    )
    confirm = choices.confirm

    async def confirmed(expansion: Expansion, silent: Sequence[ServerName]) -> bool:
        return confirm is None or await anyio.to_thread.run_sync(confirm, expansion, silent)

    return Orders(
        started=started,
        selection=selection,
        limits=limits_of(plan, choices.max_mounts),
        failures=plan.limits.failures,
        deadline=choices.deadline if choices.deadline is not None else plan.limits.deadline,
        outage=plan.limits.outage,
        watch=world.watch,
        confirm=confirmed if confirm is not None else None,
    )


class Following:
    """An observer that folds the run as it goes, for its exit code and its report."""

    def __init__(self) -> None:
        """Before the first event."""
        self.state: RunState | None = None

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
    view = view or QuietView()
    state = State(choices.state)
    started = beginning(source, choices, world)
    following = Following()
    with state.plan_lock(source.plan.name, started.run):
        code, head, trouble = await _carried_out(
            source, choices, world, state, started, [following, view, *observers], view
        )
    if following.state is None:
        raise JournalError(trouble or "the journal did not take the run's first record")
    report = summarize(following.state, chain_head=head)
    if report.run.exit_code is None:
        report = replace(report, run=replace(report.run, exit_code=code))
    directory = Path(started.report_dir)
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


async def _carried_out(
    source: Plan,
    choices: Choices,
    world: World,
    state: State,
    started: RunStarted,
    observers: Sequence[Observer],
    view: View,
) -> tuple[int, str | None, str | None]:
    """Run, and return exit code, journal head and what went wrong locally, if anything."""
    following = observers[0]
    sessions: dict[str, dict[str, str]] = {}

    def keep(session: Session) -> None:
        if choices.session_file:
            url = source.plan.servers[session.server].url
            token = session.token.reveal()
            sessions[session.server] = {"session": session.id, "token": token, "url": url}
            state.save_sessions(started.run, sessions)

    def code_now() -> int:
        assert isinstance(following, Following)  # noqa: S101 - the first observer is ours
        return exit_code(following.state) if following.state else ExitCode.INTERNAL

    head: str | None = None
    try:
        async with state.open_run(started, inline=world.inline) as journal:
            run = Run(
                orders_of(source, started, choices, world),
                clients(source.plan, world, keep),
                journal,
                observers,
                exit_code=code_now,
                rng=world.rng,
                durations=state.durations(),
            )
            world.on_run(run)
            async with _accompanied(run, view, world):
                code = await run.execute()
            head = journal.head
        if not any(record.may_be_open for record in run.ledger.records):
            state.forget_sessions(started.run)
    except Exception as exc:  # noqa: BLE001 - the end of a run must be reported, whatever it is
        return _failed(exc, head)
    trouble = f"internal error: {run.failure!r}" if run.failure else None
    return code, head, trouble


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
