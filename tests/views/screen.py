"""A terminal to test against: a real pty whose far side is read, and what it would show."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.processes import ends_with_its_test

_PIECES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\x00-\x1f\x7f-\x9f])|([^\x00-\x1f\x7f-\x9f]+)")


@dataclass(slots=True)
class Screen:
    """What stands on a terminal of a fixed size, and what has scrolled off its top."""

    rows: int
    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    scrolled: list[str] = field(default_factory=list)
    row: int = 0
    column: int = 0
    cursor_shown: bool = True

    def feed(self, text: str) -> None:
        """Obey the few sequences that a frame is made of; any other is an error."""
        for piece in _PIECES.finditer(text):
            numbers, letter, control, plain = piece.groups()
            if letter:
                self._sequence(numbers, letter)
            elif control:
                self._control(control)
            else:
                self._print(plain)

    def narrowed(self, columns: int) -> Screen:
        """Return the screen after somebody made it narrower: it wraps what is too long now."""
        narrow = Screen(rows=self.rows, columns=columns)
        narrow.feed("\r\n".join([*self.scrolled, *self.lines]))
        return narrow

    def _sequence(self, numbers: str, letter: str) -> None:
        match numbers, letter:
            case _, "m":
                pass
            case "?25", "l" | "h":
                self.cursor_shown = letter == "h"
            case "2", "K":
                assert self.column == 0, "frames clear whole lines, then write them anew"
                self.lines[self.row] = ""
            case _, "A":
                self.row = max(0, self.row - int(numbers or 1))
            case _:
                raise AssertionError(f"a frame needs no ESC[{numbers}{letter}")

    def _control(self, char: str) -> None:
        match char:
            case "\r":
                self.column = 0
            case "\n":
                self._down()
            case _:
                raise AssertionError(f"a frame needs no {char!r}")

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")
        if len(self.lines) > self.rows:
            self.scrolled.append(self.lines.pop(0))
            self.row -= 1

    def _print(self, text: str) -> None:
        for char in text:
            width = 2 if unicodedata.east_asian_width(char) in "WF" else 1
            if self.column + width > self.columns:
                self.column = 0
                self._down()
            self.lines[self.row] += char
            self.column += width


def drawn_in_a_pty(module: str, *args: str, rows: int, columns: int) -> tuple[str, str, int]:
    """Run a module with stderr on a pty of that size; return stderr, stdout and exit code."""
    return Drawn([sys.executable, "-m", module, *args], rows=rows, columns=columns).to_its_end()


PATIENCE_S = 120.0
"""A program that writes nothing for so long hangs."""

LONGEST_S = 600.0
"""So does one that still writes after so long."""


class Drawn:
    """A program whose stderr is a pty of some size."""

    def __init__(self, argv: Sequence[str], *, rows: int, columns: int) -> None:
        """Start it."""
        self.size = rows, columns
        self._seen = bytearray()
        self._ended = False
        self._due = time.monotonic() + LONGEST_S
        self._ours, self.process = _started(argv, rows, columns)
        ends_with_its_test(self.process)

    def until(self, words: str) -> Screen:
        """Read on until the screen shows these words; return the screen."""
        while True:
            screen = self.screen()
            if any(words in line for line in screen.lines):
                return screen
            if not self._read():
                break
        self.process.kill()
        raise AssertionError(f"{words!r} was not shown, but: {self.screen().lines}")

    def screen(self) -> Screen:
        """Return what stands on the terminal by what was read so far."""
        rows, columns = self.size
        screen = Screen(rows=rows, columns=columns)
        text = self._seen.decode(errors="ignore")
        end = len(text) if self._ended else text.rfind("\n") + 1  # never half a sequence
        screen.feed(text[:end])
        return screen

    def to_its_end(self) -> tuple[str, str, int]:
        """Wait for the end; return stderr, stdout and exit code."""
        while self._read():
            pass
        self._ended = True
        os.close(self._ours)
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return self._seen.decode(), out.decode(), self.process.returncode

    def _read(self) -> bool:
        patience = min(PATIENCE_S, max(0.0, self._due - time.monotonic()))
        ready, _, _ = select.select([self._ours], [], [], patience)
        if not (ready and patience):
            self.process.kill()
            raise AssertionError(f"it hangs at: {self.screen().lines}")
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:
            return False  # EIO: on Linux the far side of a pty ends so
        self._seen += chunk
        return bool(chunk)


def _started(argv: Sequence[str], rows: int, columns: int) -> tuple[int, subprocess.Popen[bytes]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in {"CI", "COLUMNS", "LINES", "NO_COLOR"}
    }
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environ | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    return ours, child
