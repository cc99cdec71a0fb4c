"""Delays and limits: pure functions of attempt, age and load. The engine sleeps."""

from __future__ import annotations

import random

from msgspec import Struct

CLOCK_SLACK = 2.0
"""Seconds by which a measured clock offset may be wrong: Date headers have whole seconds."""
FUTURE_SLACK = 5.0
"""Seconds after which a restore point made "later than now" is from the future."""


def clock_correction(offset_s: float | None) -> float:
    """Return by how many seconds a server's clock is taken to be ahead; 0 where unknown."""
    return 0.0 if offset_s is None or abs(offset_s) <= CLOCK_SLACK else offset_s


class Backoff(Struct, frozen=True, kw_only=True):
    """Pauses between repetitions, in seconds: `first`, growing by `factor` up to `ceiling`."""

    first: float
    ceiling: float
    factor: float = 2.0
    jitter: float = 0.2

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Return the pause after the `attempt`-th try (from 1), spread by `jitter`."""
        plain = self.first * self.factor ** min(attempt - 1, 32)
        return min(self.ceiling, plain) * rng.uniform(1 - self.jitter, 1 + self.jitter)


class WatchPolicy(Struct, frozen=True, kw_only=True):
    """How often a session's tasks are read, in seconds.

    A finished mount is noticed half an interval late on average, so an interval of 2·e·d
    makes a mount of d seconds idle for the share e. Bounds come from the tasks in flight: one
    read serves them all. With few of them it finds few that have ended, so from `few` on it
    comes at most once in `calm` seconds, and somewhat more often for fewer. Mounts shorter than
    `brief` would idle too long: there it may fall to `shortest`. At `many` it is `crowded` or
    more, and from twice as many on its upper bound sinks from `longest` to `crowded`: a read per
    second is little for so many.

    No read is made while no task can have ended, as far as anybody knows.
    """

    idle_share: float = 0.013
    shortest: float = 0.1
    crowded: float = 1.0
    longest: float = 15.0
    many: int = 50
    calm: float = 2.5
    few: int = 7
    brief: float = 12.0
    activity: float = 60.0
    """Seconds between two looks at what else is at work on a server, at least."""

    def interval(self, *, in_flight: int, expected: float, nearest: float = 0.0) -> float:
        """Return the pause until the next read of `in_flight` tasks of `expected` seconds.

        None of them should end within the `nearest` seconds.
        """
        load = in_flight / self.many
        sparse: float = min(1.0, in_flight / self.few) ** 0.5 * min(1.0, expected / self.brief) ** 3
        lowest = max(self.shortest, self.crowded * min(1.0, load) ** 2, self.calm * sparse)
        relief = min(max(load - 2, 0.0), 1.0)
        highest = self.longest - (self.longest - self.crowded) * relief
        pause = max(2 * self.idle_share * expected, lowest)
        return min(max(nearest, 0.0) + pause, highest)

    def growing(self, age: float) -> float:
        """Return the pause between reads of a task `age` seconds old, if no more is known."""
        return min(max(age, 2.5 * self.shortest), self.calm, self.longest)


RECONNECT = Backoff(first=2.0, ceiling=30.0)
"""Between probes of a server that does not answer: at most 60 requests in 10 minutes."""

RELEASE = Backoff(first=1.0, ceiling=15.0)
"""Between repetitions of an unmount whose answer was lost or that the server failed."""

KEEP_ALIVE_AFTER = 600.0
"""Idle seconds after which a session is used, long before the server forgets it.

Source: a token dies after 15 minutes without a request, and its mounts go with it.
"""

KEEP_HELD_AFTER = 120.0
"""The same where mounts are held open: nothing else uses that session, perhaps for hours."""

SESSION_IDLE_LIMIT = 900.0
"""Idle seconds after which the server forgets a session (documented: 15 minutes)."""

PROOF_AFTER = 180.0
"""Seconds after a mount POST before nothing can come of it any more: the client's own patience.

The same for a request to stop a task.
"""

LEASE_LIFE = 6.0
"""Seconds for which a lease is its holder's after each renewal, on the database's clock.

Source: measured, 11 runs with a worker killed or frozen: its successor had taken the session up
5.6 to 7.8 s later.
"""

LEASE_MARGIN = 1.0
"""Seconds before that from which on its holder is not sure of it any more.

They pay for a clock that runs 5 % slower than the database's, 0.3 s over a lease, and for the way
from the last look to the network.
"""

SEEN_WITHIN = 20.0
"""Seconds within which a living process of a run shows that it lives, whatever holds it up."""

SIGN_EVERY = 10.0
"""Seconds between two signs that a process which works on a run still moves."""

STALLED_AFTER_SIGNS = 3
"""So many of them missed in a row, and its run is stalled: after 30 seconds."""

DENIED_FOR = 30.0
"""Seconds for which the service itself must deny a session before it counts as gone.

A service that is just starting, or a node of it that does not know the session, denies one that
lives. Giving it up would leave its mounts open with nobody watching them.
"""

DEADLINE = (
    "By when everything is unmounted, from the start or resume of the run: 90m, 3h. A target that "
    "cannot end in time is not begun (skipped: no time), and holds are cut short."
)
"""What `--deadline` and `limits.deadline` do."""
