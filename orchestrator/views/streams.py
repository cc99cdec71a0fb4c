"""Standard output and standard error that never block the event loop.

A stream that is open but not read (a hung terminal, Ctrl-S, a paused pager, a stuck collector)
blocks whoever writes to it. Here a thread writes, out of a bounded queue, so the event loop
never does. The file itself stays as it is: O_NONBLOCK would hold for every process that shares
it. A text that the stream's encoding cannot say is written escaped.

    install()              # before anything is written
    never_wait()           # a command that acts: what nobody reads is dropped and counted
    finish()               # at the end: writes what waits, as long as somebody reads
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import select
import signal
import sys
import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TextIO

from orchestrator.core.text import counted

LIMIT_BYTES = 8 * 1024 * 1024
"""Bytes that wait for the reader of one file."""

LAST_BYTES = 256 * 1024
"""Bytes that may wait beyond that: what a program must read last, such as the summary."""

PATIENCE_S = 10.0
"""Seconds without a byte read, after which the end of the process waits no longer."""

LEAST_S = 1.0
"""Seconds that the end waits even for a reader that has read nothing for long."""

CHUNK_BYTES = 4096
"""Bytes of one write; a pipe takes so many as one piece. Source: pipe(7), PIPE_BUF."""

GONE = frozenset({errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ENOTCONN})
"""Errors that mean only that the reader is gone; EIO is that of a closed terminal."""


class Writer:
    """Writes to one open file from a thread; several outputs may share it, in their order."""

    def __init__(self, number: int, *, limit: int = LIMIT_BYTES) -> None:
        """`number` is the file's; the thread starts with the first bytes."""
        self._number, self._limit = number, limit
        self._changed = threading.Condition()
        self._waiting: deque[memoryview] = deque()
        self._size = 0
        self._moved_at = 0.0
        """When bytes were last taken, or began to wait; seconds of the monotonic clock."""
        self._thread: threading.Thread | None = None
        self._given_up = False
        self.failure: OSError | None = None
        """Why nothing can be written any more."""

    @property
    def is_behind(self) -> bool:
        """Whether anything waits to be written."""
        return self._size > 0

    def put(self, data: bytes, *, last: bool = False, wait: bool = False) -> bool:
        """Queue bytes, whole or not at all; return whether they were queued.

        `last` may use the room that is kept for the end; `wait` waits for room, without a limit.
        """
        with self._changed:
            limit = self._limit + (LAST_BYTES if last else 0)
            while self._size and self._size + len(data) > limit and self.failure is None:
                if not wait or self._given_up:
                    return False
                self._wait(None)
            if self.failure is not None:
                return True  # nobody is there who could miss it
            if not self._size:
                self._moved_at = monotonic()
            self._waiting.append(memoryview(data))
            self._size += len(data)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_on, daemon=True, name="output")
                self._thread.start()
        return True

    def drain(self, patience: float | None) -> None:
        """Wait until everything is written, or nothing is read for `patience` seconds."""
        with self._changed:
            earliest = monotonic() + LEAST_S
            while self._size and self.failure is None and not self._given_up:
                if patience is None:
                    self._wait(None)
                    continue
                left = max(self._moved_at + patience, earliest) - monotonic()
                if left <= 0:
                    self._given_up = True
                self._wait(max(0.0, left))

    def _wait(self, seconds: float | None) -> None:
        """Wait for a change; after an interrupt nothing waits any more, now or at the end."""
        try:
            self._changed.wait(seconds)
        except BaseException:
            self._given_up = True
            raise

    def _write_on(self) -> None:
        # The main thread may wait in a call that only a signal of its own interrupts.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                chunk = self._next_chunk()
            failure = self._write(chunk)
            with self._changed:
                self._size -= len(chunk)
                self._moved_at = monotonic()
                if failure is not None:
                    self.failure, self._size = failure, 0
                    self._waiting.clear()
                self._changed.notify_all()
            if failure is not None:
                return

    def _next_chunk(self) -> bytes:
        """Take the next bytes; several short texts are written as one."""
        parts = [self._waiting.popleft()]
        size = len(parts[0])
        while self._waiting and size + len(self._waiting[0]) <= CHUNK_BYTES:
            parts.append(self._waiting.popleft())
            size += len(parts[-1])
        if size > CHUNK_BYTES:  # then it is a single one
            self._waiting.appendleft(parts[0][CHUNK_BYTES:])
            return bytes(parts[0][:CHUNK_BYTES])
        return b"".join(parts)

    def _write(self, data: bytes) -> OSError | None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:  # somebody who shares the file has set O_NONBLOCK
                ready = select.poll()
                ready.register(self._number, select.POLLOUT)
                ready.poll()
            except OSError as exc:
                return exc
        return None


class Output(io.TextIOBase):
    """A text stream over a Writer; it never fails, and blocks only where it `waits`."""

    encoding = "utf-8"
    """That of the stream; characters that it does not have are escaped."""
    errors = "backslashreplace"
    waits = False
    """True where nothing may be lost: then a full queue is waited for. See `never_wait`."""

    def __init__(self, stream: TextIO, writer: Writer) -> None:
        """Write to the file of `stream`, in its encoding."""
        self._number = stream.fileno()
        self.encoding = stream.encoding or "utf-8"
        self._is_terminal = stream.isatty()
        self.writer = writer
        self._missing = 0
        """Lines that were dropped and are not reported yet."""

    def fileno(self) -> int:
        """Return the file's number."""
        return self._number

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self._is_terminal

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write a text as one piece; if the queue is full, report it as missing in the next one."""
        if not isinstance(text, str):
            raise TypeError("this stream takes text")
        count = self._missing
        gap = f"bulk-restore: {counted(count, 'line')} missing here: not read in time\n"
        if self.offer(gap * bool(count) + text):
            self._missing = 0
        else:
            self._missing += max(1, text.count("\n"))
        return len(text)

    def offer(self, text: str, *, last: bool = False) -> bool:
        """Write a text as one piece, unless the queue is full; return whether it was written."""
        data = text.encode(self.encoding, self.errors)
        return not data or self.writer.put(data, last=last, wait=self.waits)

    def flush(self) -> None:
        """Do nothing: everything written is on its way."""


def install() -> None:
    """Put an Output in the place of stdout and stderr; what is written to stdout is waited for.

    Both keep their order where they are the same file.
    """
    writers: dict[tuple[int, int], Writer] = {}
    for name in ("stdout", "stderr"):
        stream: TextIO = getattr(sys, name)
        status = os.fstat(stream.fileno())
        writer = writers.setdefault((status.st_dev, status.st_ino), Writer(stream.fileno()))
        output = Output(stream, writer)
        output.waits = name == "stdout"
        setattr(sys, name, output)
    atexit.register(_finish_at_exit)


def never_wait() -> None:
    """Drop what is not read in time, on stdout too: the command acts, and must end."""
    for output in _outputs():
        output.waits = False


def finish() -> None:
    """Write what still waits: all of it where that is data, else as long as it is read.

    Raises:
        OSError: data could not be written; not that its reader went away, which is no fault.
    """
    for output in _outputs():
        output.writer.drain(None if output.waits else PATIENCE_S)
    for output in _outputs():
        failure = output.writer.failure
        if failure is not None and output.waits and failure.errno not in GONE:
            output.waits = False  # this is told once
            raise failure


def _outputs() -> list[Output]:
    return [each for each in (sys.stdout, sys.stderr) if isinstance(each, Output)]


def _finish_at_exit() -> None:
    with suppress(OSError, KeyboardInterrupt):
        finish()
