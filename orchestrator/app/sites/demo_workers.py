"""The workers of the demo as processes: the terminal does not reach them, and none outlives it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ENDS_WITHIN_S = 10.0
"""Seconds in which a worker that is asked to must have ended."""

GUARD = """
trap '' INT TERM HUP
cat >/dev/null
kill -KILL 0
"""
"""Waits for the end of its input, which is the end of the demo, and ends its process group."""


@contextmanager
def workers(url: str, key: Path, sites: Sequence[str]) -> Iterator[None]:
    """Start a worker per site; each may serve every site, and has room for its part.

    They are in a process group of their own: Ctrl-C in the terminal is for the demo alone, which
    decides what becomes of them. They hand over at the end, and are killed after an exception,
    or with the demo.
    """
    rest = max(1, len(sites) - 1)
    room = str(-(-(len(sites) + 1) // rest))  # all but one of them can serve everything
    named = [word for site in sites for word in ("--site", site)]
    command = [sys.executable, "-m", "orchestrator", "work", *named, "--shards", room]
    command += ["--token-key", str(key), "--state", url, "--quiet"]
    processes: list[subprocess.Popen[bytes]] = []
    guard = subprocess.Popen(  # noqa: S603 - a constant script
        ["/bin/sh", "-c", GUARD], stdin=subprocess.PIPE, process_group=0
    )
    try:
        for _ in sites:
            process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdin=subprocess.DEVNULL, process_group=guard.pid
            )
            processes.append(process)
        yield
        _hand_over(processes)
    finally:
        guard.communicate()  # it ends those that are left, and itself
        for each in processes:
            each.wait()


def _hand_over(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End workers in order, as far as they do so in time."""
    for each in processes:
        each.terminate()
    for each in processes:
        try:
            each.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            return
