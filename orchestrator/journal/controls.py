"""Requests to a living run, as files that only its owner can read and make.

A directory beside the journal holds one file per request, whose name sorts by the time it was made,
and one per answer. Each appears whole, by its renaming. Who removes a request has it: the process
of the run, or whoever asked and does not wait any longer.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import DecodeError, Struct
from msgspec.json import decode, encode

from orchestrator.core.controls import Answer, Control
from orchestrator.core.errors import JournalError
from orchestrator.journal.locking import is_held, taken
from orchestrator.journal.store import private_directory, private_file
from orchestrator.log import Log

log = Log(__name__)

REQUEST, ANSWER = ".request", ".answer"
AWAITED, CONTENT = ".awaited", ".content"
"""A file that is locked as long as somebody waits, and the bytes of a file that was asked for."""
LARGEST = 65_536
"""Bytes of a request that is read."""


def new_control_id() -> str:
    """Return an id that sorts by the time at which it was made."""
    return f"{time.time_ns():020d}-{secrets.token_hex(4)}"


class ControlFiles:
    """The requests to one run, and the answers; implements `ports.controls.Controls`."""

    def __init__(self, directory: Path) -> None:
        """`directory` is made with the first request."""
        self._directory = directory

    # --- who asks ----------------------------------------------------------------------------

    def ask(self, control: Control) -> None:
        """Put a request where the run's process looks.

        Raises:
            JournalError: the state directory does not take it.
        """
        private_directory(self._directory.parent)
        private_directory(self._directory)
        try:
            self._put(control.id + REQUEST, control)
        except OSError as exc:
            raise JournalError(f"{self._directory} cannot be written: {exc.strerror}") from exc

    def withdraw(self, control: str) -> bool:
        """Take a request back; False: the run's process has it."""
        try:
            (self._directory / (control + REQUEST)).unlink()
        except OSError:
            return False
        return True

    def answer_to(self, control: str) -> Answer | None:
        """Return the answer to a request, once it is there, and remove it."""
        path = self._directory / (control + ANSWER)
        try:
            found = decode(path.read_bytes(), type=Answer)
        except (OSError, DecodeError):
            return None
        path.unlink(missing_ok=True)
        return found

    @contextmanager
    def waiting(self, control: str) -> Iterator[None]:
        """Let the run's process see that somebody waits for an answer, until this ends.

        It ends with this process, too, however that dies: it is a lock. What was put beside the
        answer is removed.

        Raises:
            JournalError: the state directory does not take it, or its file system has no locks.
        """
        private_directory(self._directory.parent)
        private_directory(self._directory)
        path = self._directory / (control + AWAITED)
        try:
            private_file(path)
            file = path.open("w", encoding="utf-8")
        except OSError as exc:
            raise JournalError(f"{path} cannot be written: {exc.strerror}") from exc
        with file:
            try:
                taken(file, self._directory)
                yield
            finally:
                self.drop(control)

    def content_size(self, control: str) -> int:
        """Return how many bytes of the file that is asked for are there so far."""
        for name in (control + CONTENT, control + CONTENT + ".part"):
            with suppress(OSError):
                return (self._directory / name).stat().st_size
        return 0

    # --- the run's process -------------------------------------------------------------------

    def take(self) -> Iterator[Control]:
        """Yield what is asked for, the oldest first; what cannot be read is refused."""
        try:
            names = sorted(each for each in os.listdir(self._directory) if each.endswith(REQUEST))  # noqa: PTH208 - the cheapest look, once a second
        except OSError:
            return
        for name in names:
            path = self._directory / name
            try:
                with path.open("rb") as file:
                    content = file.read(LARGEST)
                path.unlink()
                control = decode(content, type=Control)
            except FileNotFoundError:
                continue  # it was withdrawn
            except (OSError, DecodeError) as exc:
                log.warning("control.unreadable", file=name, why=str(exc))
                with suppress(OSError):
                    path.unlink()
                why = f"the request cannot be read, of which {LARGEST} bytes are: {exc}"
                self.answer(Answer(id=name.removesuffix(REQUEST), refused=why))
                continue
            if control.id + REQUEST == name:
                yield control

    def answer(self, answer: Answer) -> None:
        """Put the answer where whoever asked looks; a failure is logged."""
        try:
            self._put(answer.id + ANSWER, answer)
        except (OSError, UnicodeError) as exc:
            log.warning("control.not_answered", control=answer.id, why=str(exc))

    def is_awaited(self, control: str) -> bool:
        """Return whether whoever asked still waits: their lock is held."""
        try:
            with (self._directory / (control + AWAITED)).open(encoding="utf-8") as file:
                return is_held(file)
        except OSError:
            return False

    def content_path(self, control: str) -> str:
        """Return the path of the file that is put beside an answer; no part of it is a link."""
        return str(self._directory.resolve() / (control + CONTENT))

    def drop(self, control: str) -> None:
        """Remove all that is there of a request, also what a process left that was killed."""
        with suppress(OSError):
            for path in self._directory.iterdir():
                if path.name.startswith(f"{control}."):
                    path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything: it was for a process that has ended."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _put(self, name: str, value: Struct) -> None:
        fresh, path = self._directory / f"{name}.new", self._directory / name
        private_file(fresh)
        fresh.write_bytes(encode(value))
        fresh.replace(path)
