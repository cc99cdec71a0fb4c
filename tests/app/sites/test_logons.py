"""How often earlier workers have logged on: a server locks accounts that do so too often."""

from __future__ import annotations

from orchestrator.app.sites.served_shard import logons_of
from orchestrator.core.events import Event, ServerParked, SessionOpened, ShardTaken
from orchestrator.core.model import ServerName, SessionId

HQ = ServerName("hq")


def taken(at: float) -> ShardTaken:
    """Return that a worker begins."""
    return ShardTaken(at=at, server=HQ, worker="anna", host="host", epoch=1, used_until=at)


def opened(at: float) -> SessionOpened:
    """Return that a logon was answered."""
    return SessionOpened(at=at, server=HQ, session=SessionId("one"), user="drill", api_version="1")


def parked(at: float, not_before: float | None = None) -> ServerParked:
    """Return that the server could not be used."""
    return ServerParked(at=at, server=HQ, reason="no answer came", not_before=not_before)


def logons(*events: Event) -> list[float]:
    """Return when there may have been a logon, for who takes the shard after 100 seconds."""
    return list(logons_of(events, 100.0))


def test_a_recorded_session_is_one_logon() -> None:
    """However its worker ended."""
    assert logons(taken(1.0), opened(2.0)) == [2.0]
    assert logons(taken(1.0), opened(2.0), parked(9.0), taken(50.0), opened(51.0)) == [2.0, 51.0]


def test_who_recorded_nothing_may_have_logged_on() -> None:
    """Until it was taken over."""
    assert logons(taken(1.0)) == [100.0]
    assert logons(taken(1.0), taken(50.0), opened(51.0)) == [50.0, 51.0]


def test_a_logon_whose_answer_was_lost_counts() -> None:
    """And it may have been repeated until the worker was taken over."""
    assert logons(taken(1.0), parked(2.0)) == [2.0, 100.0]
    assert logons(taken(1.0), parked(2.0), opened(30.0)) == [2.0, 30.0]


def test_who_has_to_wait_with_a_logon_has_sent_none() -> None:
    """Else each taking would count as one, and the wait of who takes over would never end."""
    assert logons(taken(1.0), parked(2.0, 300.0)) == []
    assert logons(taken(1.0), parked(2.0, 60.0)) == [100.0]
    assert logons(taken(1.0), parked(2.0, 60.0), taken(50.0), parked(51.0, 60.0)) == [100.0]
    assert logons(taken(1.0), parked(2.0, 40.0), taken(50.0), opened(51.0)) == [50.0, 51.0]
