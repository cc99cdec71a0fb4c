"""Standard streams: what nobody reads holds up nobody, is counted, and loses nothing else."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO, cast

import pytest

from orchestrator.views.json_events import JsonEvents
from orchestrator.views.streams import LIMIT_BYTES, Output, Writer
from tests.views.story import finished, planned, started, tell

LIMIT = 100_000
"""Bytes that wait for the reader in most of these tests; a pipe takes 65,536 more."""


GAP = re.compile(r"bulk-restore: (\d+) lines? missing here: not read in time")


@dataclass(slots=True)
class Pipe:
    """A pipe whose near end is an Output; its far end is read when a test says so."""

    output: Output
    near: int
    far: int
    read: list[bytes] = field(default_factory=list)
    reader: threading.Thread | None = None

    def read_slowly(self, *, pause: float = 0.0) -> None:
        """Begin to read, with a pause after each piece."""
        self.reader = threading.Thread(target=self._read, args=[pause])
        self.reader.start()

    def _read(self, pause: float) -> None:
        while piece := os.read(self.far, 5000):
            self.read.append(piece)
            time.sleep(pause)

    def lines(self) -> list[str]:
        """Wait until everything is read, and return it."""
        if self.reader is None:
            self.read_slowly()
        self.output.writer.drain(60.0)
        os.close(self.near)
        self.near = -1
        assert self.reader is not None
        self.reader.join(60.0)
        return b"".join(self.read).decode(self.output.encoding).splitlines()


def piped(limit: int, encoding: str = "utf-8") -> Pipe:
    """Return a pipe that nobody reads."""
    far, near = os.pipe()
    stream = os.fdopen(near, "w", encoding=encoding, closefd=False)
    return Pipe(Output(stream, Writer(near, limit=limit)), near, far)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Return a pipe that nobody reads, with a small limit."""
    made = piped(LIMIT)
    yield made
    if made.near >= 0:
        os.close(made.far)  # the thread that writes into it ends with that


@pytest.mark.parametrize("shared", [False, True], ids=["blocking", "O_NONBLOCK by another process"])
def test_a_slow_reader_gets_everything_in_order(shared: bool) -> None:
    """Megabytes wait for it; what other processes do to a shared file changes nothing."""
    pipe = piped(LIMIT_BYTES)
    os.set_blocking(pipe.near, not shared)
    pipe.read_slowly(pause=0.001)

    begun = time.monotonic()
    for number in range(60_000):
        pipe.output.write(f"line {number}\n")
    took = time.monotonic() - begun

    assert pipe.lines() == [f"line {number}" for number in range(60_000)]
    assert took < 60.0


def test_what_nobody_reads_is_dropped_and_counted(pipe: Pipe) -> None:
    """Nothing blocks; the next line that is written says how many are missing before it."""
    text = "x" * 89
    for number in range(4000):
        pipe.output.write(f"{number:9} {text}\n")

    pipe.read_slowly()
    pipe.output.writer.drain(60.0)
    pipe.output.write("after\n")
    *lines, after = pipe.lines()

    expected = 0
    for line in lines:
        gap = GAP.fullmatch(line)
        if gap is None:
            assert int(line.split()[0]) == expected
        expected += 1 if gap is None else int(gap[1])
    assert expected == 4000
    assert LIMIT // 100 <= len(lines) < 2000
    assert any(GAP.fullmatch(line) for line in lines)  # the writer may find room at any time
    assert after == "after"


def test_events_say_how_many_are_missing_and_the_summary_finds_room(pipe: Pipe) -> None:
    """`missing` is the gap in `seq`; the last event is written whatever was dropped."""
    view = JsonEvents(cast("TextIO", pipe.output))
    tell(view, started(), planned("a"))
    for now in range(2000):
        view.draw(float(now))
    tell(view, finished(2000.0))
    view.sum_up(0)

    events = [json.loads(line) for line in pipe.lines()]

    assert events[-1]["type"] == "summary"
    assert events[-1]["seq"] > len(events)
    before = 0
    for event in events:
        assert event["seq"] - before - 1 == event.get("missing", 0)
        before = event["seq"]


def test_the_end_waits_no_longer_for_a_reader_that_stands_still(pipe: Pipe) -> None:
    """It has had its time while the run went on."""
    pipe.output.write("x" * 90_000)
    time.sleep(1.0)

    begun = time.monotonic()
    pipe.output.writer.drain(0.5)
    pipe.output.writer.drain(0.5)

    assert time.monotonic() - begun < 30.0  # for ever, without a limit
    assert pipe.output.writer.is_behind


def test_the_end_waits_for_a_reader_that_reads() -> None:
    """However slow it is, as long as it goes on."""
    pipe = piped(LIMIT_BYTES)
    pipe.output.write("x" * 300_000 + "\n")
    pipe.read_slowly(pause=0.05)  # 60 pieces

    pipe.output.writer.drain(2.0)

    assert not pipe.output.writer.is_behind
    assert [len(line) for line in pipe.lines()] == [300_000]


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", r"caf\xe9 \u65e5\u672c \udcff"), ("latin-1", r"café \u65e5\u672c \udcff")],
    ids=["ascii", "latin-1"],
)
def test_what_an_encoding_cannot_say_is_escaped(encoding: str, shown: str) -> None:
    """Also a file name that is no text at all."""
    pipe = piped(LIMIT, encoding)

    pipe.output.write("café 日本 \udcff\n")

    assert pipe.lines() == [shown]


def test_a_reader_that_went_away_is_no_fault(pipe: Pipe) -> None:
    """What is written afterwards is lost, and costs no memory."""
    os.close(pipe.far)
    for _ in range(50):
        pipe.output.write("x" * 10_000)
        time.sleep(0.001)

    pipe.output.writer.drain(None)

    assert isinstance(pipe.output.writer.failure, BrokenPipeError)
    assert not pipe.output.writer.is_behind
    os.close(pipe.near)
    pipe.near = -1
