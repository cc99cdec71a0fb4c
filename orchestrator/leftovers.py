"""After a run: releasing what it left, as far as anybody still can.

Mounts can be reached only through the logon session that made them. Its token stands in an
owner-only side file until the run's clean end; every mount of that session is this run's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from orchestrator.assembly import World
from orchestrator.em.client import Client
from orchestrator.em.logon import KeptSession, Token
from orchestrator.em.session import Session
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.recovery import LOOKS
from orchestrator.engine.resuming import left_in
from orchestrator.errors import (
    CredentialError,
    EnterpriseManagerError,
    JournalDamaged,
    RequestRefused,
    RunLocked,
)
from orchestrator.events import (
    MountReleased,
    OutOfReach,
    RunStarted,
    SubmissionInDoubt,
    TargetConcluded,
)
from orchestrator.journal import RunSummary, State
from orchestrator.lifecycle import HOLDING_PHASES, MountRecord, Phase
from orchestrator.model import (
    Href,
    MountKey,
    MountState,
    Result,
    RunId,
    ServerName,
    SessionId,
    TaskId,
    counted,
    printable,
)
from orchestrator.plan.settings import RestorePlan
from orchestrator.ports import Journal
from orchestrator.report import ExitCode
from orchestrator.runstate import RunState
from orchestrator.search import about, found_how

WAIT_FOR_TASKS = 600.0
"""Seconds that running mount tasks of a dead run are waited for, to unmount what they made."""

TICK = 2.0

ANSWER_WITHIN = 30.0
"""Seconds in which a living process takes the request to end its holds: it looks every second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
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
) -> Released:
    """Unmount what is left of a run; `plan_of` loads the plan that the run was started with.

    A living run that holds mounts is asked to end its holds, and waited for; `say` is told so.

    Raises:
        RunLocked: the run is still going on and holds nothing; stop it first.
        JournalError: the run is not known, or its journal is damaged.
        PlanError: the plan cannot be read any more; it names servers and their trust.
    """
    state = State(directory)
    summary = state.summary(run)
    try:
        with state.plan_lock(summary.plan, summary.run):
            return await _released(state, summary.run, plan_of, world or World())
    except RunLocked:
        held = _held(state, summary.run) if state.is_running(summary) else {}
        if not held:
            raise
    return await _end_holds(state, summary, held, say)


def _held(state: State, run: RunId) -> dict[MountKey, int]:
    """Return the targets whose mounts are held now, and which attempt that is."""
    records = state.replay(run).records.items()
    return {key: len(record.attempts) for key, record in records if record.phase is Phase.HELD}


async def _end_holds(
    state: State, summary: RunSummary, held: dict[MountKey, int], say: Callable[[str], None]
) -> Released:
    """Ask the run's own process to release what it holds, and tell what became of that."""
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
    records = state.replay(summary.run).records
    left = [records[key] for key, attempt in held.items() if _is_open(records[key], attempt)]
    lines = [f"released: {printable(key)}" for key in held if records[key] not in left]
    lines += _by_hand(left, "the run's process did not release it; it may still be working on it")
    return Released(lines=tuple(lines), code=ExitCode.IN_DOUBT if left else ExitCode.GOOD)


async def _until_released(
    state: State, summary: RunSummary, held: dict[MountKey, int], answer: anyio.CancelScope
) -> None:
    """Return once none of the mounts is held any more or being removed, or the run has ended."""
    while state.is_running(summary):
        await anyio.sleep(TICK / 2)
        with suppress(JournalDamaged):  # read while it is written: the next look tells
            records = state.replay(summary.run).records
            now = [records[key] for key, attempt in held.items()]
            working = [each for each in now if each.phase in {Phase.HELD, Phase.UNMOUNTING}]
            if any(each.phase is not Phase.HELD for each in now):
                answer.deadline = math.inf  # it has begun; each unmount has a time of its own
            if not working:
                return


def _is_open(record: MountRecord, attempt: int) -> bool:
    """Tell whether the mount that was held may still be open."""
    return record.may_be_open and len(record.attempts) == attempt


async def _released(
    state: State, name: RunId, plan_of: Callable[[RunStarted], RestorePlan], world: World
) -> Released:
    """Release while the lock is held: nobody else adds to the run's journal meanwhile."""
    found = state.replay(name)
    left = [record for record in found.records.values() if record.may_be_open]
    sessions = state.load_sessions(name)
    if not left and not sessions:
        return Released(lines=(f"{name}: nothing is left mounted",), code=ExitCode.GOOD)
    plan = plan_of(found.started)
    lines: list[str] = [] if left else [f"{name}: nothing is left mounted"]
    async with state.append_later(name, inline=world.inline) as journal:
        ledger = _continued(found, journal)
        servers = [record.planned.server for record in left]
        for server in dict.fromkeys([*servers, *map(ServerName, sessions)]):
            mine = [record for record in left if record.planned.server == server]
            lines += await _on_one_server(server, mine, plan, sessions.get(server), ledger, world)
    still = [each for each in ledger.records if each.may_be_open]
    if not still:
        state.forget_sessions(name)
    return Released(lines=tuple(lines), code=ExitCode.IN_DOUBT if still else ExitCode.GOOD)


def _continued(found: RunState, journal: Journal) -> Ledger:
    """Return a ledger that goes on where the run's journal ends."""
    begun = anyio.current_time() - found.last_at
    return Ledger.continued(journal, found.records.values(), lambda: anyio.current_time() - begun)


async def _on_one_server(
    server: ServerName,
    records: Sequence[MountRecord],
    plan: RestorePlan,
    kept: dict[str, str] | None,
    ledger: Ledger,
    world: World,
) -> list[str]:
    """Release what is left on one server, perhaps nothing, and end the run's session there."""
    if kept is None or server not in plan.servers:
        return _by_hand(records, "the session's token is not kept any more")
    if plan.servers[server].url != kept["url"]:
        return _by_hand(records, f"the plan's address is not the run's ({kept['url']})")
    session = SessionId(kept["session"])
    mine = [record for record in records if record.attempts[-1].session == session]
    others = [record for record in records if record.attempts[-1].session != session]
    lines = _by_hand(others, "the session that mounted it is not the one whose token is kept")
    client = Client(
        plan.servers[server],
        rng=world.rng,
        connector=world.connector,
        kept=KeptSession(id=session, token=Token(kept["token"])),
    )
    try:
        async with client.take_up() as taken_up:
            try:
                lines += await _in_its_session(mine, taken_up, ledger)
            finally:
                if any(ledger[record.planned.key].may_be_open for record in mine):
                    taken_up.leave_open()  # logging off would put them out of everybody's reach
    except (EnterpriseManagerError, CredentialError) as exc:
        still = [record for record in mine if ledger[record.planned.key].may_be_open]
        lines += _by_hand(still, str(exc))
    return lines


async def _in_its_session(
    records: Sequence[MountRecord], session: Session, ledger: Ledger
) -> list[str]:
    """Release what one session left; what refuses to go does not keep the others."""
    running = await _unfinished(session, ledger)
    left = left_in(session.id, ledger.records)
    unowned = running.difference(left.tasks if left else ())
    waiting = [each for each in records if _may_yet_be_mounted(each, running, unowned)]
    lines = _by_hand(waiting, "a mount task still runs, and may yet end mounted")
    for record in records:
        if _may_yet_be_mounted(record, running, unowned):
            continue
        try:
            lines += await _release(record, session, ledger)
        except RequestRefused as exc:
            lines += _by_hand([record], str(exc))
    return lines


def _may_yet_be_mounted(
    record: MountRecord, running: frozenset[TaskId], unowned: frozenset[TaskId]
) -> bool:
    """Tell whether one of the running tasks is the target's own, or nobody's and so perhaps its."""
    own = record.mount is None and record.attempts[-1].task in running
    return own or (record.mount_state is MountState.UNKNOWN and bool(unowned))


async def _unfinished(session: Session, ledger: Ledger) -> frozenset[TaskId]:
    """Wait for the session's mount tasks; return those that have not ended in the time for it.

    A POST that was not answered may begin a little later: its task is looked for as long as a
    run would.
    """
    left = left_in(session.id, ledger.records)
    known = left.tasks if left else frozenset()
    began = anyio.current_time()
    while True:
        tasks = await session.tasks()
        running = frozenset(task.id for task in tasks if not task.is_final)
        late = left is not None and left.in_doubt and all(task.id in known for task in tasks)
        waited = anyio.current_time() - began
        if waited >= (WAIT_FOR_TASKS if running else sum(LOOKS) if late else 0.0):
            return running
        await anyio.sleep(TICK)


async def _release(record: MountRecord, session: Session, ledger: Ledger) -> list[str]:
    """Unmount everything of one restore point in this session, and see that it is gone."""
    planned, point = record.planned, record.open_point
    if point is None:
        return []
    open_mounts: dict[Href, None] = {}
    if record.mount is not None and await session.is_mounted(record.mount):
        open_mounts[record.mount] = None
    for mount in await session.mounts(point.id, planned.source):
        open_mounts[mount.href] = None
    for href in open_mounts:
        await session.unmount(href)
        if await session.is_mounted(href):
            return _by_hand([record], "the server still lists the mount after the unmount")
    _conclude(record, ledger)
    return [f"released: {printable(planned.key)} ({counted(len(open_mounts), 'mount')})"]


def _conclude(record: MountRecord, ledger: Ledger) -> None:
    """Record that nothing of the target is open any more; its result stays what it was."""
    key = record.planned.key
    if record.phase is Phase.SUBMITTING:
        why = "the run ended before the answer"
        ledger.record(SubmissionInDoubt(at=ledger.now(), key=key, reason=why))
    if record.phase in HOLDING_PHASES:
        why = "the run ended before it was concluded"
        if record.phase is Phase.HELD:
            why = "released after the run had ended while it was held"
        ledger.record(OutOfReach(at=ledger.now(), key=key, reason=why))
    ledger.record(MountReleased(at=ledger.now(), key=key, by_hand=True))
    if not ledger[key].is_final:
        ledger.record(
            TargetConcluded(
                at=ledger.now(),
                key=key,
                result=record.standing or Result.UNKNOWN,
                mount=MountState.RELEASED,
                message=record.message if record.standing else None,
                point=about(record),
                point_why=found_how(record),
            )
        )


def _by_hand(records: Sequence[MountRecord], why: str) -> list[str]:
    """Name what a person must look at, and how."""
    if not records:
        return []  # only the session was left, and it ends by itself
    lines = [f"not released ({printable(why)}):"]
    for record in records:
        planned = record.planned
        point = record.open_point.name if record.open_point else "?"
        lines.append(
            f"  {printable(planned.key)}: {printable(planned.vm)} on backup server "
            f"{printable(planned.backup_server)} behind {printable(planned.server)}, restore point "
            f"{printable(point)}, mount {record.mount_state.value}"
        )
    lines.append(
        "  In the Veeam Backup & Replication console of that backup server, find the running "
        "file-level restore session of that restore point and stop it."
    )
    return lines
