"""Turns: a worker with too little room serves, one after another, the shards that wait for others.

What a shard waits for, a wave or a slot of its run, may be for a shard to give that nobody serves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from orchestrator.app.sites.served import Served
from orchestrator.core.model import RunId, ServerName

IDLE_S = 10.0
"""Seconds after which a shard that only waits has had its turn."""

LONGEST_S = 60.0
"""Seconds that this grows to, twice as long each time, while its turns are in vain: each costs its
next worker a look at the session, or a logon."""


class Turns:
    """How long each shard of a worker has only waited, and how often that was in vain."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._since: dict[Served, float] = {}
        self._giving: set[Served] = set()
        self._in_vain = Counter[tuple[RunId, ServerName]]()

    def look(self, served: Iterable[Served], now: float) -> Served | None:
        """Return the shard whose turn is over, if there is one: that which waits longest.

        None while another one is just given back.

        To be called about once a second; `now` is on this machine's clock.
        """
        self._since = {each: self._since.get(each, now) for each in served if each.waits}
        if self._giving:
            return None
        over = [
            (since, each.lease.server, each)
            for each, since in self._since.items()
            if now - since >= min(IDLE_S * 2 ** self._in_vain[each.shard], LONGEST_S)
        ]
        return min(over)[2] if over else None

    def end(self, served: Served) -> None:
        """Note that the turn of a shard has ended, and that it is about to be given back."""
        self._giving.add(served)
        self._in_vain[served.shard] = 0 if served.has_mounted else self._in_vain[served.shard] + 1

    def given(self, served: Served) -> None:
        """Note that a shard was given back. Safe to repeat."""
        self._giving.discard(served)
        self._since.pop(served, None)
