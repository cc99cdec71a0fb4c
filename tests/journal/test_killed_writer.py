"""After kill -9 the journal holds everything that it had called durable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.journal import State
from tests.journal.sample import RUN, note, started

WRITER = """
import sys
from pathlib import Path
import anyio
from orchestrator.journal import State
from tests.journal.sample import note, started

async def write() -> None:
    async with State(Path(sys.argv[1])).open_run(started()) as journal:
        journal.append(started())
        for number in range(1, 1_000_000):
            journal.append(note(number))
            if number % 3 == 0:
                await journal.durable()
                print(number, flush=True)

anyio.run(write)
"""


@pytest.mark.process
@pytest.mark.parametrize("reported", [1, 7, 40])
def test_a_killed_writer_leaves_everything_it_reported_durable(
    tmp_path: Path, reported: int
) -> None:
    """After kill -9 in the middle the chain is valid and holds all that was called durable."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    ) as writer:
        assert writer.stdout is not None
        seen = [writer.stdout.readline() for _line in range(reported)]
        writer.send_signal(signal.SIGKILL)
        seen += writer.stdout.readlines()
    last = max(int(line) for line in seen if line.endswith("\n"))

    events = list(State(tmp_path).events(RUN))

    assert writer.returncode == -signal.SIGKILL
    assert events == [started(), *map(note, range(1, len(events)))]
    assert len(events) > last
