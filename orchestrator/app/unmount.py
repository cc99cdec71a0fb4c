"""`unmount`: removes the mounts that a run left open, and lists those that it cannot remove.

Mounts can be reached only through the logon session that made them. Its token is in an owner-only
side file until the run's clean end. The work is the engine's (`engine.mount.unmount`): a resume
that submits nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
from msgspec import Struct

from orchestrator.app.session_tokens import usable_sessions
from orchestrator.app.signs_of_life import signs_of_life
from orchestrator.app.wiring import World, clients, used_until
from orchestrator.core.earlier_runs.naming import urls_of
from orchestrator.core.errors import JournalDamaged, RunLocked
from orchestrator.core.events import (
    LOGGED_OFF,
    Event,
    MountLeft,
    RunStarted,
    ServerParked,
    ServerResumed,
    StrayFound,
    StrayReleased,
)
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import MountKey, MountState, RunId, ServerName
from orchestrator.core.policy import SESSION_IDLE_LIMIT, SIGN_EVERY
from orchestrator.core.ports.store import Store
from orchestrator.core.records import RunSummary
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, moment, printable
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mount.unmount import MountRemoval, UnmountResult
from orchestrator.journal import State
from orchestrator.plan.file.settings import RestorePlan

TICK = 2.0

ANSWER_WITHIN = 30.0
"""Seconds in which a living process takes the request to end its holds: it looks every second."""

NAMED = 10
"""How many targets that are not mounted yet are named."""


class UnmountOutcome(Struct, frozen=True, kw_only=True):
    """What was released and what was not, as lines for a person, and the exit code."""

    lines: tuple[str, ...]
    code: int


async def release_leftovers(
    directory: Path,
    run: str,
    plan_of: Callable[[RunStarted], RestorePlan],
    *,
    world: World | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> UnmountOutcome:
    """Unmount what is left of a run; `plan_of` loads the plan that the run was started with.

    Another run of the same plan may live: it acts in sessions of its own.
    A living run that holds mounts is asked to end its holds, and waited for; `say` is told so.
    What else it has under way, or may still mount, is its own to remove; it is named, with code 3.

    Raises:
        RunLocked: the run is still going on and holds nothing, or is resumed; stop it first.
        JournalError: the run is not known, or its journal is damaged.
        PlanError: the plan cannot be read any more; it names servers and their trust.
    """
    world = world or World()
    state = State(directory)
    summary = state.summary(run)
    try:
        signs = partial(state.show_life, summary.plan, summary.run)
        with (
            state.run_lock(summary.plan, summary.run, signs_s=None if world.inline else SIGN_EVERY),
            signs_of_life(signs, inline=world.inline),
        ):
            state.controls(summary.run).clear()  # it was for the process that has ended
            return await _released(state, summary.run, plan_of, world, say)
    except RunLocked:
        held = _held(state, summary.run) if state.is_running(summary) else {}
        if not held:
            raise
    return await _end_holds(state, summary, held, say)


def _held(store: Store, run: RunId) -> dict[MountKey, int]:
    """Return the targets whose mounts are held now, and which attempt that is."""
    records = store.replay(run).records.items()
    return {key: len(record.attempts) for key, record in records if record.phase is Phase.HELD}


async def _end_holds(
    state: State, summary: RunSummary, held: dict[MountKey, int], say: Callable[[str], None]
) -> UnmountOutcome:
    """Ask the run's own process to release the mounts it holds, and return the result."""
    state.ask_to_end_holds(summary.run)
    say(
        f"asked the process of {summary.run} to end its holds; "
        f"waiting for {counted(len(held), 'mount')}"
    )
    try:
        with anyio.move_on_after(ANSWER_WITHIN) as unanswered:
            await _until_released(state, summary, held, unanswered)
    finally:
        state.take_request(summary.run)  # if nobody has
    with anyio.move_on_after(ANSWER_WITHIN):
        await _until_all_is_known(state, summary)
    is_alive = state.is_running(summary)  # asked first: if not, its journal has its end
    run_state = state.replay(summary.run)
    records = run_state.records
    same = (records[key] for key, attempt in held.items() if len(records[key].attempts) == attempt)
    left = [record for record in same if record.may_be_open]
    lines = [f"released: {printable(key)}" for key in held if records[key] not in left]
    lines += by_hand(left, "the run's process did not release it; it may still be working on it")
    settled = {key for key, attempt in held.items() if len(records[key].attempts) == attempt}
    more = not_asked_for(
        run_state,
        settled,
        is_alive=is_alive,
        who=f"the process of {summary.run}",
        stop="stop its process with SIGINT (Ctrl-C in its terminal)",
    )
    if not is_alive and (left or more):
        more.append(f"the process of {summary.run} has ended: repeat {_command(summary.run)}")
    code = ExitCode.IN_DOUBT if left or more else ExitCode.GOOD
    return UnmountOutcome(lines=(*lines, *more), code=code)


def _command(run: RunId) -> str:
    return f"`bulk-restore unmount {run}`"


def not_asked_for(
    run_state: RunState, settled: AbstractSet[MountKey], *, is_alive: bool, who: str, stop: str
) -> list[str]:
    """Name what is or may be open of a run beside the holds that it was asked to end.

    And what may be soon: a living run goes on, and may hold what it mounts from now on.
    `settled` are the targets whose holds it was asked to end; `who` carries the run out, and
    `stop` says how that is ended.
    """
    run = run_state.started.run
    records = [each for key, each in run_state.records.items() if key not in settled]
    left = [each for each in records if each.may_be_open]
    over = [each for each in left if each.is_final or not is_alive]
    working = [each for each in left if is_alive and not each.is_final]
    waiting: list[MountRecord] = []
    unlisted: list[ServerName] = []
    if is_alive and run_state.halted is None and not run_state.stops:
        waiting = [each for each in records if not (each.is_final or each.may_be_open)]
        unlisted = _not_listed(run_state)
    lines = by_hand(over, f"{who} did not remove it")
    lines += of_no_target(run_state.strays) + unasked(run_state.unaudited)
    if working:
        lines.append(f"not released yet, still in work by {who}:")
        lines += [f"  {_place(each)}, {_doing(run_state, each)}" for each in working]
    if waiting:
        names = ", ".join(printable(each.planned.key) for each in waiting[:NAMED])
        names += f" and {len(waiting) - NAMED} more" if len(waiting) > NAMED else ""
        lines.append(f"not mounted yet, but may be by {who}: {names}")
    lines += [
        f"{printable(name)}: its targets are not known yet, and may still be mounted by {who}"
        for name in unlisted
    ]
    if working or waiting or unlisted:
        lines.append(
            "What the run mounts from now on it may hold again. To end such holds, repeat "
            f"{_command(run)}. To end the run and unmount everything, {stop}."
        )
    return lines


def _doing(run_state: RunState, record: MountRecord) -> str:
    """Return what a living run does with a target."""
    if record.phase is not Phase.HELD:
        return record.phase.words
    if record.kept_until is None:
        return "held until somebody ends the hold"
    return f"held until {moment(run_state.moment(record.kept_until))}"


async def _until_released(
    store: Store, summary: RunSummary, held: dict[MountKey, int], answer: anyio.CancelScope
) -> None:
    """Return once none of the mounts is held any more or being removed, or the run has ended."""
    while store.is_running(summary):
        await anyio.sleep(TICK / 2)
        with suppress(JournalDamaged):  # read while it is written: the next look tells
            records = store.replay(summary.run).records
            now = [records[key] for key, attempt in held.items()]
            working = [each for each in now if each.phase in {Phase.HELD, Phase.UNMOUNTING}]
            if any(each.phase is not Phase.HELD for each in now):
                answer.deadline = math.inf  # it has begun; each unmount has a time of its own
            if not working:
                return


async def _until_all_is_known(store: Store, summary: RunSummary) -> None:
    """Return once the run has ended or has more to do, or the targets of each server are known.

    A server of which none is known may list late, or has none: then the run is about to end.
    """
    while store.is_running(summary):
        with suppress(JournalDamaged):  # read while it is written: the next look tells
            run_state = store.replay(summary.run)
            records = run_state.records.values()
            going_on = (each for each in records if not each.is_final)
            if any(each.mount_state is not MountState.RELEASED for each in going_on):
                return
            if not _not_listed(run_state):
                return
        await anyio.sleep(TICK / 2)


def _not_listed(run_state: RunState) -> list[ServerName]:
    """Return the servers of which the run knows no target, and with which it is not through."""
    planned = {record.planned.server for record in run_state.records.values()}
    return [
        name
        for name, server in run_state.servers.items()
        if name not in planned
        and server.given_up is None
        and not any(end.reason == LOGGED_OFF for end in server.ended)
    ]


async def _released(
    state: State,
    name: RunId,
    plan_of: Callable[[RunStarted], RestorePlan],
    world: World,
    say: Callable[[str], None],
) -> UnmountOutcome:
    """Release under the lock: no other process adds to the run's journal meanwhile."""
    run_state = state.replay(name)
    run_state.process_gone = True  # its lock is ours
    is_left = bool(run_state.left_open)
    tokens = state.tokens(name).usable()
    if not is_left and not tokens:
        return UnmountOutcome(lines=(f"{name}: nothing is left mounted",), code=ExitCode.GOOD)
    plan = plan_of(run_state.started)
    usable, unkept = usable_sessions(plan, tokens)
    unkept |= {name: why for name, why in run_state.unaudited.items() if name not in tokens}
    progress = _Progress(say, run_state.strays)
    started = run_state.started
    began_at = run_state.clock_at(world.wall_clock())
    async with state.append_later(name, inline=world.inline) as journal:
        with state.claims(name, started.plan, urls_of(started.servers), world.wall_clock) as others:
            cleaning = MountRemoval(
                run_state,
                clients(plan, world, kept=usable),
                journal,
                began_at=began_at,
                used_until=used_until(run_state, others.earlier_seen_at, began_at),
                outage=min(plan.limits.outage, SESSION_IDLE_LIMIT),
                watch=world.watch,
                rng=world.rng,
                others=others,
                observers=[progress],
                unkept=unkept,
                say=say,
            )
            cleaned = await cleaning.execute()
    return _summed_up(state, name, cleaning.ledger, cleaned, progress, is_left=is_left)


class _Progress:
    """An observer that prints what is waited for, and remembers which strays are left."""

    def __init__(self, say: Callable[[str], None], strays: Iterable[StrayFound] = ()) -> None:
        """`strays` are those that the run has named; they count until they are seen gone."""
        self._say = say
        self.strays = {(stray.session, stray.task): stray for stray in strays}
        self.removed = 0
        self.found: set[MountKey] = set()
        """Targets of which the closing audit has found a mount that no record had named."""

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note of an event."""
        match event:
            case StrayFound(session=session, task=task):
                self.strays[session, task] = event
            case StrayReleased(session=session, task=task):
                self.strays.pop((session, task), None)
                self.removed += 1
            case MountLeft(key=key):
                self.found.add(key)
            case ServerParked(server=server, reason=reason):
                self._say(f"waiting for {printable(server)}: {printable(reason)}")
            case ServerResumed(server=server):
                self._say(f"{printable(server)} answers again")
            case _:
                return


def _summed_up(
    state: State,
    name: RunId,
    ledger: Ledger,
    cleaned: UnmountResult,
    progress: _Progress,
    *,
    is_left: bool,
) -> UnmountOutcome:
    """Return the result, and delete the kept sessions once nothing can be open any more."""
    unfinished = cleaned.why_not or progress.strays or cleaned.left_open or cleaned.unasked
    found = progress.found or progress.removed
    lines = [] if is_left or unfinished or found else [f"{name}: nothing is left mounted"]
    for key, mounts in cleaned.released.items():
        how = f"released: {printable(key)} ({counted(mounts, 'mount')})"
        lines.append(how if mounts else f"not mounted any more: {printable(key)}")
    lines += [
        f"released: {printable(key)} (1 mount, of a request that was carried out twice or late)"
        for key in sorted(progress.found - cleaned.released.keys())
        if not ledger[key].may_be_open
    ]
    if progress.removed:
        lines.append(f"released: {counted(progress.removed, 'mount')} of no target")
    lines += of_no_target(progress.strays.values())
    by_reason: dict[str, list[MountRecord]] = {}
    for key, why in cleaned.why_not.items():
        by_reason.setdefault(why, []).append(ledger[key])
    for why, records in by_reason.items():
        lines += by_hand(records, why)
    lines += unasked(cleaned.unasked)
    if not unfinished:
        state.tokens(name).forget()
        lines = lines or [f"{name}: nothing is left mounted"]
    return UnmountOutcome(
        lines=tuple(lines), code=ExitCode.IN_DOUBT if unfinished else ExitCode.GOOD
    )


def of_no_target(strays: Iterable[StrayFound]) -> list[str]:
    """Name mounts that belong to no target."""
    return [
        f"not released: a mount of no target on {printable(stray.server)}, restore point "
        f"{printable(stray.point or '?')}: {printable(stray.reason)}"
        for stray in strays
    ]


def unasked(servers: Mapping[ServerName, str]) -> list[str]:
    """Name servers on which nobody knows what is mounted."""
    return [
        f"{printable(server)}: it is unknown whether mounts are left there: {printable(why)}"
        for server, why in servers.items()
    ]


def by_hand(records: Sequence[MountRecord], why: str) -> list[str]:
    """Name what a person must look at, and how."""
    if not records:
        return []  # only the session was left, and it ends by itself
    lines = [f"not released ({printable(why)}):"]
    lines += [f"  {_place(each)}, mount {each.mount_state.value}" for each in records]
    lines.append(
        "  In the Veeam Backup & Replication console of that backup server, find the running "
        "file-level restore session of that restore point and stop it."
    )
    return lines


def _place(record: MountRecord) -> str:
    """Return a target's name, and where a person finds its mount."""
    planned = record.planned
    point = record.open_point.name if record.open_point else "?"
    return (
        f"{printable(planned.key)}: {printable(planned.vm)} on backup server "
        f"{printable(planned.backup_server)} behind {printable(planned.server)}, restore point "
        f"{printable(point)}"
    )
