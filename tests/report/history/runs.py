"""A state directory with several runs, written as a run writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from click.testing import CliRunner, Result
from msgspec.structs import replace

from orchestrator.cli import command
from orchestrator.core.events import Event, RunStarted, SessionOpened
from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.journal import State
from tests.journal.sample import written
from tests.report.builders import STARTED_AT, finished, started


def run_id(number: int) -> RunId:
    """Return the id of the run with this number."""
    return RunId(f"20261123T060000Z-{number:04x}")


def beginning(
    number: int, at: datetime | None = None, *, plan: str = "payments-tier1", **changes: Any
) -> RunStarted:
    """Return the first event of the run with this number, a day after the one before."""
    first = started(plan=plan, waves=("directory", "databases"), **changes)
    return replace(
        first, run=run_id(number), started_at=at or STARTED_AT + timedelta(days=number - 1)
    )


def keep(
    state: Path,
    first: RunStarted,
    lives: Iterable[Sequence[Event]],
    *,
    ended: bool = True,
    exit_code: int = 0,
    seconds: float = 60.0,
) -> RunId:
    """Write one run into the state directory."""
    events = [event for life in lives for event in life]
    if ended:
        end = first.started_at + timedelta(seconds=seconds)
        events.append(replace(finished(at=seconds, exit_code=exit_code), finished_at=end))
    anyio.run(written, State(state), events, first)
    return first.run


def logged_on(*, simulated: bool) -> Event:
    """Return a logon; a simulated server says of itself that it is one."""
    return SessionOpened(
        at=0.0,
        server=ServerName("hq"),
        session=SessionId("1c7e94b2"),
        user="u",
        api_version="v1_7",
        simulated=simulated,
    )


def called(state: Path, *arguments: str | Path) -> Result:
    """Return what a command says and how it ends."""
    return CliRunner().invoke(command, [*map(str, arguments), "--state", str(state)])
