"""The conductor of a run over several machines: what it finds that others have recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from msgspec.structs import replace

from orchestrator.core.events import Event, HaltAsked, RunHalted
from orchestrator.core.model import ServerName
from orchestrator.core.run_state import fold
from orchestrator.engine.conductor import Conductor
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.limits import Limits
from orchestrator.engine.orders import Orders, Selection
from tests.engine.test_ledger import ListJournal
from tests.report.builders import finished, started
from tests.report.several_chains import taken

pytestmark = pytest.mark.anyio

HQ, DR = ServerName("hq"), ServerName("dr")
FIRST = started(servers=("hq", "dr"))
ASKED = HaltAsked(at=5.0, server=HQ, reason="expect", detail="a machine is missing")
ALSO = replace(ASKED, server=DR, detail="and one more")


def recalled(*events: Event) -> tuple[Conductor, Sequence[Event]]:
    """Return a conductor that goes on with a run, and what it has recorded."""
    journal, state = ListJournal(), fold([FIRST, taken("hq", 0.0), *events])
    ledger = Ledger(journal, (), lambda: 9.0, state.records.values())
    orders = Orders(
        started=FIRST,
        selection=cast("Selection", None),  # it chooses no target here
        limits=Limits(),
        failures=None,
        deadline=None,
        outage=60.0,
    )
    conductor = Conductor(orders, ledger)
    conductor.recall(state)
    return conductor, journal.events


async def test_a_halt_that_was_asked_for_and_not_made_is_made() -> None:
    """The conductor before died between the two: its successor halts the run, once."""
    conductor, events = recalled(ASKED, ALSO)

    assert events == [RunHalted(at=9.0, reason="expect", detail="a machine is missing")]
    assert not conductor.accepting


async def test_a_halt_that_was_made_is_not_made_again() -> None:
    """Whoever asked for it."""
    conductor, events = recalled(ASKED, RunHalted(at=6.0, reason="expect", detail="x"), ALSO)

    assert events == []
    assert not conductor.accepting


async def test_what_was_asked_before_the_run_ended_halts_no_resumed_run() -> None:
    """The plan, or what the servers list, may have changed since."""
    conductor, events = recalled(ASKED, finished())

    assert events == []
    assert conductor.accepting
