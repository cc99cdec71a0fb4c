"""The clock by which a lease, or a logon session, runs out."""

from __future__ import annotations

import time


def boot_clock() -> float:
    """Return the seconds since this machine was started, those asleep included.

    The servers' clocks and the database's go on while this machine sleeps. `time.monotonic` stands
    still then on Linux, so what has run out meanwhile would look good. Source: clock_gettime(2).

    Raises:
        AttributeError: this system has no such clock; see `HAS_BOOT_CLOCK`.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


HAS_BOOT_CLOCK = hasattr(time, "CLOCK_BOOTTIME")
"""Linux has one; macOS and Windows have none."""
