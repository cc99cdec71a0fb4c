"""How often an account is logged on to, whatever becomes of its logons; virtual time."""

from __future__ import annotations

import anyio
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import (
    EnterpriseManagerError,
    LogonRefused,
    LogonTooSoon,
    ResponseLost,
    ServiceBusy,
)
from orchestrator.em.budget import LOGONS, LOST, WINDOW_S, LogonBudget
from orchestrator.simulator.faults import Fault
from tests.em.logons import Desk, desk
from tests.em.rawserver import Request

pytestmark = pytest.mark.anyio

MNGR = "/sessionMngr/"


async def log_on(at: Desk) -> type[Exception] | None:
    """Log on and off again; return what went wrong."""
    try:
        async with at.client.logon():
            return None
    except EnterpriseManagerError as exc:
        return type(exc)


async def keep_trying(at: Desk, seconds: float, pause: float) -> list[float]:
    """Log on again and again; return when a logon arrived at the server."""
    arrived: list[float] = []
    end = anyio.current_time() + seconds
    while anyio.current_time() < end:
        before = len(at.sent("POST", MNGR))
        await log_on(at)
        arrived += [anyio.current_time()] * (len(at.sent("POST", MNGR)) - before)
        await anyio.sleep(pause)
    return arrived


def most_in_a_window(times: list[float]) -> int:
    """Return the most of these moments that lie within any 10 minutes."""
    return max((sum(0 <= other - each < WINDOW_S for other in times) for each in times), default=0)


def test_the_logons_of_earlier_workers_count() -> None:
    """Until they are ten minutes old, whoever sent them."""
    now = 1000.0
    budget = LogonBudget(lambda: now)
    budget.earlier([700.0, *range(100, 100 + LOGONS)])

    with pytest.raises(LogonTooSoon) as caught:
        budget.require("hq")
    assert caught.value.wait_s == WINDOW_S - (100 + LOGONS - 1)

    now += caught.value.wait_s
    budget.require("hq")


async def test_an_account_is_logged_on_to_six_times_in_ten_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trap 57: a server whose sessions end at once never costs endless logons."""
    async with desk(monkeypatch) as at:
        times = await keep_trying(at, 3600.0, 7.0)

    assert most_in_a_window(times) == LOGONS == 6
    assert len(times) > 30  # it goes on in the next window


async def test_a_logon_that_is_too_soon_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error carries the seconds, and the wait is enough."""
    async with desk(monkeypatch) as at:
        for _ in range(LOGONS):
            assert await log_on(at) is None
            await anyio.sleep(10.0)
        with pytest.raises(LogonTooSoon, match="accounts lock") as too_soon:
            async with at.client.logon():
                pass
        assert 500.0 < too_soon.value.wait_s <= 540.0

        await anyio.sleep(too_soon.value.wait_s)
        assert await log_on(at) is None


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="drop_after", method="POST", path=MNGR),
        Fault(kind="proxy_page", method="POST", path=MNGR),
        Fault(kind="html_200", method="POST", path=MNGR),
        Fault(kind="truncated", method="POST", path=MNGR),
        Fault(kind="hollow_204", method="POST", path=MNGR),
    ],
    ids=lambda fault: fault.kind,
)
async def test_a_logon_whose_answer_is_lost_is_repeated_twice_in_ten_minutes(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """Trap 55: a proxy that loses every answer would lock the account, and fill the server."""
    async with desk(monkeypatch, faults=[fault]) as at:
        times = await keep_trying(at, 3600.0, 7.0)

    assert most_in_a_window(times) == LOST == 3


async def test_after_a_lost_logon_the_service_is_asked_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """During an outage behind a proxy no logon is wasted: recovery finds the budget unspent."""
    dead = True

    def proxy(request: Request) -> web.Response | None:
        page = b"<html><title>Bad Gateway</title></html>"
        return web.Response(status=502, body=page) if dead else None

    async with desk(monkeypatch, override=proxy) as at:
        assert await log_on(at) is ResponseLost
        for _ in range(20):
            assert await log_on(at) is ServiceBusy
        assert len(at.sent("POST", MNGR)) == 1

        dead = False
        assert await log_on(at) is None


async def test_what_never_reached_the_account_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service that says it is busy, or no connection at all, wears nothing out."""
    busy = Fault(kind="xml_503", method="POST", path=MNGR, count=10)
    async with desk(monkeypatch, faults=[busy]) as at:
        for _ in range(10):
            assert await log_on(at) is ServiceBusy
        at.network.refusing.add("em-hq.example.net")
        at.network.cut("em-hq.example.net")
        for _ in range(10):
            await log_on(at)
        at.network.refusing.clear()

        assert await log_on(at) is None


async def test_a_refused_logon_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 19: it is what locks an account."""
    async with desk(monkeypatch, password="wrong-password") as at:
        found = [await log_on(at) for _ in range(LOGONS + 1)]

    assert found == [*[LogonRefused] * LOGONS, LogonTooSoon]


@given(st.lists(st.tuples(st.floats(0.0, 900.0), st.booleans()), max_size=40))
def test_no_window_ever_holds_more(steps: list[tuple[float, bool]]) -> None:
    """Whatever the pauses and losses, both limits hold in every 10 minutes."""
    now = 0.0
    budget = LogonBudget(lambda: now)
    sent: list[tuple[float, bool]] = []
    for pause, lost in steps:
        now += pause
        if budget.wait_s:
            continue
        logon = budget.sent()
        sent.append((now, lost))
        if not lost:
            budget.answered(logon)

    assert most_in_a_window([at for at, _ in sent]) <= LOGONS
    assert most_in_a_window([at for at, lost in sent if lost]) <= LOST
