"""Joins the parts: from a loaded plan and the options of a run to the engine's orders.

The command line, the demo, the scenario tests and the benchmarks all come through here, so
what is tested is what is run.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
from msgspec import Struct, field
from msgspec.structs import replace

from orchestrator.app.planned_limits import limits_of
from orchestrator.app.user import user_name
from orchestrator.core.clock import HAS_BOOT_CLOCK, boot_clock
from orchestrator.core.errors import CannotResume, PlanError
from orchestrator.core.events import RunResumed, RunStarted, ServerFacts
from orchestrator.core.model import (
    MountKey,
    RunId,
    ServerName,
    Source,
    WaveFacts,
    same_fields,
)
from orchestrator.core.parts import Part
from orchestrator.core.policy import SEEN_WITHIN, WatchPolicy
from orchestrator.core.ports.controls import Controls
from orchestrator.core.ports.fence import NO_FENCE, Fence
from orchestrator.core.ports.journal import Proofs, Systems
from orchestrator.core.ports.local import FileStore, Programs
from orchestrator.core.proof import Download
from orchestrator.core.run_state import RunState
from orchestrator.core.token import KeptSession
from orchestrator.core.version import __version__
from orchestrator.engine.orders import EarlierRun, Orders, Selection
from orchestrator.engine.run import Run
from orchestrator.log import Log
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.choose.inventory import inventory_needs
from orchestrator.plan.choose.locked import LockedPlan
from orchestrator.plan.choose.sampling import Draw, seed_of
from orchestrator.plan.choose.targets import LockedSelection, Narrowing, PlanSelection
from orchestrator.plan.file.access import EnvironmentSecret
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.plan.file.problems import START, Problem
from orchestrator.plan.file.settings import RestorePlan

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.em.client import Client
    from orchestrator.em.session import Session
    from orchestrator.em.transport import ConnectorFactory
    from orchestrator.engine.run import Run

log = Log(__name__)

Plan = LoadedPlan | LockedPlan

T = TypeVar("T")


class Choices(Struct, frozen=True, kw_only=True):
    """The options of a run beyond its plan; times in seconds.

    `only` are globs over key, label and VM; `keys` restricts to exactly these keys. `overrides`
    are the plan's variables that were set. A resumed run keeps what its first process was told;
    only `report`, `session_file`, `retry_failed` and `sign` can be chosen anew. `hold` is how long
    every mount is held open; `yes_write` allows what the plan writes into guests; `sign` makes the
    signature of the evidence beside the reports.
    """

    state: Place
    report: Path | None = None
    reason: str | None = None
    max_mounts: int | None = None
    deadline: float | None = None
    require_checks: bool = False
    only: tuple[str, ...] = ()
    keys: frozenset[str] | None = None
    retry_of: RunId | None = None
    """The run whose targets `keys` are."""
    part: Part | None = None
    """The only part of the plan that is taken; other runs take the others."""
    confirm: Callable[[Expansion, Sequence[ServerName]], bool] | None = None
    session_file: bool = True
    overrides: Mapping[str, str] = field(default_factory=dict)
    retry_failed: bool = False
    hold: float | None = None
    on_finish: tuple[str, ...] = ()
    """A program and its arguments, started after the reports are written."""
    yes_write: bool = False
    """Allows writing files into original guests; each process of a run needs it again."""
    seed: int | None = None
    """What chance is drawn by; None leaves it to chance itself."""
    sign: Callable[[bytes], bytes] | None = None


class World(Struct, frozen=True, kw_only=True):
    """What a run gets from its surroundings; tests and forecasts bring their own.

    `inline` keeps the journal on the loop, for virtual time. `signals` are handled only in a
    real process. `boot_clock` goes on while the machine is suspended; virtual time is not.
    """

    connector: ConnectorFactory | None = None
    wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    boot_clock: Callable[[], float] | None = None
    rng: random.Random = field(default_factory=random.SystemRandom)
    inline: bool = False
    signals: bool = True
    watch: WatchPolicy = WatchPolicy()
    run_id: RunId | None = None
    programs: Programs | None = None
    """What runs the plan's own programs; None: child processes of this one."""
    file_store: FileStore | None = None
    """Where files of guests are saved; None: on the local disk."""
    controls: Controls | None = None
    """Where people steer the run; None: the state directory, unless `inline`."""
    on_run: Callable[[Run], None] = lambda run: None
    """Called with the run before it begins, so that an embedding program can stop it."""

    @property
    def clock_with_suspension(self) -> Callable[[], float]:
        """The given boot clock, else the system's, else one that never is suspended."""
        if self.boot_clock is not None:
            return self.boot_clock
        return anyio.current_time if self.inline or not HAS_BOOT_CLOCK else boot_clock

    def since(self, looked_at: datetime) -> World:
        """Return a world whose wall clock goes on from one reading, even if the clock is set later.

        What is compared with that look, such as a server's clock, must be measured by it.
        """
        clock = self.clock_with_suspension
        began = clock()
        return replace(self, wall_clock=lambda: looked_at + timedelta(seconds=clock() - began))


def clients(
    plan: RestorePlan,
    world: World,
    on_session: Callable[[Session], None] = lambda _: None,
    kept: Mapping[ServerName, Sequence[KeptSession]] | None = None,
    *,
    may_write: bool = False,
) -> list[Client]:
    """Return one client per server of the plan; nothing is sent before their logon.

    `kept` are sessions of earlier processes, by server. With `may_write` they write files into
    original guests when asked to.
    """
    return [
        client_of(plan, name, world, on_session, (kept or {}).get(name, ()), may_write=may_write)
        for name in plan.servers
    ]


def client_of(
    plan: RestorePlan,
    name: ServerName,
    world: World,
    on_session: Callable[[Session], None],
    kept: Sequence[KeptSession],
    *,
    may_write: bool,
    fence: Fence = NO_FENCE,
) -> Client:
    """Return the client of one server of the plan, as `clients` does."""
    from orchestrator.em.client import Client  # who only submits a run speaks to no server

    return Client(
        plan.servers[name],
        families=inventory_needs(plan, name).sources or {Source.REPLICA},
        rng=random.Random(world.rng.random()),  # noqa: S311 - jitter, not a secret
        connector=world.connector,
        wall_clock=world.wall_clock,
        boot_clock=world.clock_with_suspension,
        on_session=on_session,
        kept=kept,
        withheld=secret_variables(plan),
        may_write=may_write,
        fence=fence,
    )


def secret_variables(plan: RestorePlan) -> frozenset[str]:
    """Return the environment variables that hold a secret of the plan: no child sees them."""
    references: list[object] = [each.url for each in plan.notifications]
    for settings in plan.servers.values():
        references += [settings.username, settings.password]
    return frozenset(each.name for each in references if isinstance(each, EnvironmentSecret))


async def in_a_thread(work: Callable[[], T]) -> T:
    """Do long work in a thread; if the waiting is cancelled, the work ends by itself."""
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


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
        inventory_sha256=_inventories(source),
        description=plan.description,
        mode=plan.mode,
        reason=choices.reason or plan.reason,
        version=__version__,
        user=user_name(),
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
        waves=tuple(same_fields(WaveFacts, wave) for wave in plan.waves),
        gates=plan.gates,
        objectives=plan.objectives,
        regression=plan.regression,
        mounts_limit=limits.run,
        mounts_per_vm=plan.limits.mounts_per_vm,
        require_checks=choices.require_checks,
        overrides=dict(choices.overrides),
        only=choices.only,
        keys=tuple(sorted(choices.keys)) if choices.keys is not None else None,
        retry_of=choices.retry_of,
        part=choices.part,
        entries=_entries(source),
        deadline_s=choices.deadline if choices.deadline is not None else plan.limits.deadline,
        confirmed=choices.confirm is None,
        utc_offset_s=(now.astimezone().utcoffset() or timedelta()).total_seconds(),
        check_sets=plan.checks,
        unmount=plan.cleanup.unmount,
        keep_failed_s=plan.cleanup.keep_failed,
        hold_s=choices.hold,
        start_interval_s=limits.start_interval or None,
        ramp=limits.ramp,
        seed=locked.seed if locked else seed_of(plan, choices.seed, world.rng),
    )


def _inventories(source: Plan) -> tuple[str, ...] | None:
    """Return the hashes of a plan's inventory files; a locked plan has its targets in itself."""
    return None if isinstance(source, LockedPlan) else tuple(source.inventory_sha256.values())


def require_same(source: Plan, started: RunStarted) -> None:
    """Check that the plan and its inventory files are those that the run was started with.

    Byte for byte; an older run did not say which inventory files it had.

    Raises:
        CannotResume: they are not.
    """
    if isinstance(source, LockedPlan):
        same = source.sha256 == started.locked_sha256
    else:
        same = started.locked_sha256 is None and source.sha256 == started.plan_sha256
    if same and started.inventory_sha256 in {None, _inventories(source)}:
        return
    changed = "one of its inventory files was" if same else "it was"
    raise CannotResume(
        f"{source.path} is not the plan that run {started.run} was started with: {changed} "
        "changed. Give a copy of the old plan with --plan, or remove the run's mounts "
        f"(bulk-restore unmount {started.run}) and run the new plan"
    )


def _entries(source: Plan) -> int:
    """Return how many entries a plan has; a locked one has those that its targets came from."""
    if isinstance(source, LockedPlan):
        places = [each.place for each in source.requests]
        return len({*places, *(each.place for each in source.unresolved)})
    return len(source.plan.entries())


def require_allowed_writes(source: Plan, choices: Choices) -> None:
    """Check that writing into guests is allowed, if the plan does so; nothing was sent yet.

    Raises:
        PlanError: nobody did, or it is no recovery; it names the first targets that would.
    """
    writers = _writers(source)
    named = ", ".join(writers[:5]) + (", …" if len(writers) > 5 else "")
    if writers and source.plan.mode != "recovery":
        message = f"a {source.plan.mode} cannot write into guests, and this one would ({named})"
    elif writers and not choices.yes_write:
        message = f"it writes into guests ({named}): allow that with --yes-write, or leave it out"
    else:
        return
    raise PlanError((Problem(file=_text(source.path), position=START, message=message),))


def require_something_wanted(source: Plan, choices: Choices) -> None:
    """Check that --only or --retry-failed can match a target of the plan; nothing was sent yet.

    A part of the plan may have none of them.

    Raises:
        PlanError: whatever the servers list, no target can match.
    """
    if not choices.only and choices.keys is None:
        return
    narrowing = Narrowing(only=choices.only, keys=choices.keys)
    selection = selection_of(source, narrowing, datetime.now(UTC), Draw())
    if any(selection.wants(server) for server in source.plan.servers):
        return
    asked = [f"--only {glob}" for glob in choices.only]
    asked += ["--retry-failed"] if choices.keys is not None else []
    message = f"no target of the plan can match {', '.join(asked)}"
    raise PlanError((Problem(file=_text(source.path), position=START, message=message),))


def _writers(source: Plan) -> list[str]:
    """Return the targets that write into guests, as messages call them."""
    if isinstance(source, LockedPlan):
        return [str(each.key) for each in source.requests if _writes(each.downloads)]
    return [str(each) for each in source.plan.entries() if _writes(each.downloads)]


def _writes(downloads: Sequence[Download]) -> bool:
    return any(download.writes_into_guest for download in downloads)


def going_on(
    run_state: RunState, choices: Choices, world: World, seen_at: datetime | None
) -> RunResumed:
    """Return the first event of a process that goes on with a run.

    The run's clock has gone on too, and never goes back, whatever the wall clock did. `seen_at`
    is as in `used_until`.
    """
    now = world.wall_clock()
    at = run_state.clock_at(now)
    return RunResumed(
        at=at,
        used_until=used_until(run_state, seen_at, at),
        resumed_at=now,
        version=__version__,
        user=user_name(),
        host=socket.gethostname(),
        pid=os.getpid(),
        report_dir=_text(choices.report.absolute()) if choices.report else run_state.report_dir,
        retry_failed=choices.retry_failed,
    )


def used_until(run_state: RunState, seen_at: datetime | None, now: float) -> float:
    """Return when an earlier process may have used a session last, on the run's clock.

    `seen_at` is when one was last seen alive, if that is known; `now` is the clock's second.
    """
    if seen_at is None:
        return now
    return min(now, run_state.clock_at(seen_at) + SEEN_WITHIN)


def _text(path: Path) -> str:
    """Return a path as text that can be journaled, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def selection_of(source: Plan, narrowing: Narrowing, now: datetime, draw: Draw) -> Selection:
    """Return what chooses the targets; ages of restore points are measured back from `now`."""
    if isinstance(source, LockedPlan):
        return LockedSelection(source, narrowing, now, draw.systems)
    return PlanSelection(source.plan, narrowing, now, draw)


def orders_of(
    source: Plan,
    started: RunStarted,
    world: World,
    confirm: Callable[[Expansion, Sequence[ServerName]], bool] | None = None,
    earlier: EarlierRun | None = None,
    proofs: Proofs | None = None,
    *,
    systems: Systems | None = None,
    may_write: bool = False,
) -> Orders:
    """Return the engine's orders; `proofs` are those from before the run."""
    plan = source.plan
    keys = frozenset(map(MountKey, started.keys)) if started.keys is not None else None
    narrowing = Narrowing(only=started.only, keys=keys, part=started.part)
    draw = Draw(seed=started.seed, proofs=proofs, systems=systems)
    selection = selection_of(source, narrowing, started.started_at, draw)

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
        may_write=may_write,
    )
