"""The end of a session is on disk before the logoff: a kill between the two loses nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from orchestrator.core.events import Event, SessionEnded
from orchestrator.engine.ledger import Ledger
from orchestrator.simulator.manager import SimSession, SimulatedManager
from tests.scenarios.drill import Site, staged

pytestmark = pytest.mark.anyio


async def test_the_end_of_a_session_is_recorded_before_the_logoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a later process would take a session that was logged off for one that was lost."""
    recorded: list[int] = []
    log_off = SimulatedManager.log_off

    def witnessed(manager: SimulatedManager, session: SimSession) -> None:
        with closing(sqlite3.connect(stage.state / "journal.sqlite")) as journal:
            rows = journal.execute("SELECT count(*) FROM events WHERE type = 'SessionEnded'")
            recorded.append(rows.fetchone()[0])
        log_off(manager, session)

    monkeypatch.setattr(SimulatedManager, "log_off", witnessed)
    async with staged(tmp_path, monkeypatch, [Site(machines=2), Site("dr", machines=1)]) as stage:
        await stage.run()

        assert stage.sites.truth.sessions_closed == 2
        assert len(recorded) == 2
        assert all(ends >= number for number, ends in enumerate(recorded, 1))


async def test_without_the_record_of_its_end_a_session_is_not_logged_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may be slow, and the process be killed then: a later one can still ask the session."""
    durable, record = Ledger.durable, Ledger.record
    ended: list[Event] = []

    def recorded(ledger: Ledger, event: Event) -> object:
        ended.extend([event] if isinstance(event, SessionEnded) else [])
        return record(ledger, event)

    async def slowly(ledger: Ledger) -> None:
        await anyio.sleep(10.0 if ended else 0.0)
        await durable(ledger)

    monkeypatch.setattr(Ledger, "record", recorded)
    monkeypatch.setattr(Ledger, "durable", slowly)
    async with staged(tmp_path, monkeypatch, [Site(machines=2)]) as stage:
        drill = await stage.run()

        assert drill.outcome.code == 0
        assert len(ended) == 1
        assert stage.sites.truth.sessions_closed == 0
