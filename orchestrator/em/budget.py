"""How often an account may be logged on: accounts lock, and lost logons leave sessions behind.

One budget per account and server, kept by the client for as long as the process runs. It
sends nothing and waits for nothing: it says whether a logon may be sent now.
Source: reference traps 19, 55 and 57.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from orchestrator.core.errors import LogonTooSoon
from orchestrator.core.text import duration

WINDOW_S: Final = 600.0
LOGONS: Final = 6
"""Logons in any `WINDOW_S` seconds, whatever became of them."""

LOST: Final = 3
"""Of these, logons whose answer was lost: the first, and two that repeat it."""


class Logon(Struct):
    """One logon that was sent, on the budget's clock; lost until an answer has come."""

    at: float
    lost: bool = True


class LogonBudget:
    """The logons of one account on one server."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds and never goes back."""
        self._clock = clock
        self._sent: deque[Logon] = deque()
        self._last: Logon | None = None

    @property
    def wait_s(self) -> float:
        """Seconds until the next logon may be sent; 0 if it may be sent now."""
        now = self._clock()
        while self._sent and now - self._sent[0].at >= WINDOW_S:
            self._sent.popleft()
        lost = [logon for logon in self._sent if logon.lost]
        holding = [
            each[-limit]
            for each, limit in ((self._sent, LOGONS), (lost, LOST))
            if len(each) >= limit
        ]
        return max((logon.at + WINDOW_S - now for logon in holding), default=0.0)

    @property
    def last_was_lost(self) -> bool:
        """True if the answer of the last logon was lost: first see whether the service is there."""
        return self._last is not None and self._last.lost

    def require(self, server: str) -> None:
        """Return if a logon may be sent now.

        Raises:
            LogonTooSoon: not before `wait_s` seconds; nothing was sent.
        """
        wait_s = self.wait_s
        if wait_s > 0.0:
            lost = sum(logon.lost for logon in self._sent)
            why = f"{len(self._sent)} logons in {duration(WINDOW_S)}"
            if lost:
                why += f", {lost} of them without an answer (each may have left a session open)"
            raise LogonTooSoon(
                f"{server}: {why}; the next one waits {duration(wait_s)}, because accounts lock",
                wait_s=wait_s,
                server=server,
            )

    def sent(self) -> Logon:
        """Note that a logon is on its way; it counts as lost until `answered`."""
        self._last = Logon(self._clock())
        self._sent.append(self._last)
        return self._last

    def earlier(self, ages_s: Iterable[float]) -> None:
        """Note logons of earlier processes, sent so many seconds ago, before any of this one.

        They were answered; what is known of no other ones is not counted.
        """
        now = self._clock()
        self._sent.extend(Logon(now - age_s, lost=False) for age_s in sorted(ages_s, reverse=True))

    def answered(self, logon: Logon) -> None:
        """Note that the service itself answered, with any answer."""
        logon.lost = False

    def not_begun(self, logon: Logon) -> None:
        """Note that the logon never reached the account: it counts for nothing."""
        logon.lost = False
        self._sent.remove(logon)
