"""`orphans`: which open file-level restores a run may have left, and what a person must do.

Read-only: each server gets one logon, one or two queries and the logoff. Nothing is removed: once
its logon session is lost, no request can reach a mount.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import anyio
from msgspec import Struct

from orchestrator.app.wiring import World, clients
from orchestrator.core.activity import COLLECTED_WITHIN_S, Activity
from orchestrator.core.errors import AccessDenied, OrchestratorError
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import ServerName
from orchestrator.core.orphaned import Orphan, orphans_among
from orchestrator.core.policy import clock_correction
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, duration, moment, printable, timestamp
from orchestrator.em.client import Client
from orchestrator.plan.file.settings import RestorePlan

PATIENCE = 60.0
"""Seconds within which a server must have answered."""


class Look(Struct, kw_only=True):
    """What one server showed; `trouble`: why it showed nothing."""

    server: ServerName
    left: Sequence[MountRecord]
    """The targets whose mount may be open there."""
    shown: Sequence[Activity] | None = None
    trouble: str | None = None
    clock_offset_s: float = 0.0


class Orphans(Struct, frozen=True, kw_only=True):
    """The answer: per server what was seen, and the sessions that the run may have made."""

    run: str
    asked_at: datetime
    looks: Sequence[Look]
    found: Sequence[tuple[ServerName, Orphan]]
    started_at: datetime

    @property
    def code(self) -> int:
        """0: none is shown; 3: some; 4: no server that was asked shows any sessions."""
        if self.found:
            return ExitCode.IN_DOUBT
        blind = bool(self.looks) and all(each.shown is None for each in self.looks)
        return ExitCode.UNUSABLE if blind else ExitCode.GOOD


async def find_orphans(run_state: RunState, plan: RestorePlan, world: World) -> Orphans:
    """Ask every server on which a mount of a run may be open for its restores; change nothing.

    Raises:
        OrchestratorError: not for a server's trouble, which is in the answer.
    """
    started, now = run_state.started, world.wall_clock()
    left: dict[ServerName, list[MountRecord]] = {}
    for record in run_state.records.values():
        if record.may_be_open and record.attempts:
            left.setdefault(record.planned.server, []).append(record)
    for server in run_state.unaudited:
        left.setdefault(server, [])
    looks = [Look(server=name, left=records) for name, records in left.items()]
    by_name = {client.server: client for client in clients(plan, world)}
    async with anyio.create_task_group() as tasks:
        for look in looks:
            tasks.start_soon(_ask, look, by_name.get(look.server))
    second = (now - started.started_at).total_seconds()
    found = [
        (look.server, orphan)
        for look in looks
        for orphan in orphans_among(
            look.shown or (), look.left, started.started_at, look.clock_offset_s, second
        )
    ]
    return Orphans(
        run=started.run, asked_at=now, looks=looks, found=found, started_at=started.started_at
    )


async def _ask(look: Look, client: Client | None) -> None:
    if client is None:
        look.trouble = "the plan has no such server any more"
        return
    look.trouble = f"no answer in {duration(PATIENCE)}"
    with anyio.move_on_after(PATIENCE):
        try:
            async with client.logon() as session:
                look.clock_offset_s = clock_correction(session.clock_offset_s)
                look.shown = await session.restores()
                look.trouble = None
        except AccessDenied:
            look.trouble = "not visible to this role"
        except OrchestratorError as exc:
            look.trouble = str(exc)


def as_lines(answer: Orphans) -> list[str]:
    """Return the answer for a person; each orphan with what to do."""
    lines = [
        f"{printable(server)}: {printable(orphan.activity.name)} on "
        f"{printable(orphan.activity.backup_server)}, open since "
        f"{moment(orphan.activity.began_at)}: perhaps the mount of "
        f"{printable(orphan.record.planned.key)}, asked for at "
        f"{moment(_asked(answer, orphan))} (restore point {_point(orphan)}). {_to_do(orphan)}"
        for server, orphan in answer.found
    ]
    for look in answer.looks:
        unseen = len(look.left) - sum(server == look.server for server, _ in answer.found)
        lines += [f"{printable(look.server)}: {_seen(look, unseen)}"]
    if not answer.looks:
        lines.append(f"{answer.run}: nothing is left mounted, so no server was asked")
    return lines


def _seen(look: Look, unseen: int) -> str:
    if look.shown is None:
        return f"restores cannot be seen: {printable(look.trouble or 'not asked')}"
    words = f"{counted(len(look.shown), 'open restore')} shown"
    if unseen > 0:
        words += f"; nothing shown of {counted(unseen, 'target')} that may be mounted"
    old = duration(COLLECTED_WITHIN_S)
    return f"{words} (data up to {old} old: what is not shown may be there all the same)"


def _asked(answer: Orphans, orphan: Orphan) -> datetime:
    return answer.started_at + timedelta(seconds=orphan.attempt.submitted_at)


def _point(orphan: Orphan) -> str:
    point = orphan.record.open_point
    return printable(point.name if point is not None else orphan.attempt.point)


def _to_do(orphan: Orphan) -> str:
    where = printable(orphan.activity.backup_server)
    return (
        f"In the Veeam console of {where}, see who opened this session; if it is this run's, stop "
        "it there"
    )


def as_json(answer: Orphans) -> dict[str, Any]:
    """Return the answer as JSON values; fields may be added, never removed."""
    return {
        "v": 1,
        "run": answer.run,
        "asked_at": timestamp(answer.asked_at),
        "exit_code": int(answer.code),
        "servers": [
            {
                "server": look.server,
                "visible": look.shown is not None,
                "message": look.trouble,
                "open_restores": None if look.shown is None else len(look.shown),
                "may_be_mounted": len(look.left),
            }
            for look in answer.looks
        ],
        "orphans": [
            {
                "server": server,
                "backup_server": orphan.activity.backup_server,
                "vm": orphan.activity.vm,
                "session": orphan.activity.name,
                "session_id": orphan.activity.id,
                "began_at": timestamp(orphan.activity.began_at),
                "target": orphan.record.planned.key,
                "point": orphan.record.open_point.name if orphan.record.open_point else None,
                "asked_at": timestamp(_asked(answer, orphan)),
                "to_do": _to_do(orphan),
            }
            for server, orphan in answer.found
        ],
    }
