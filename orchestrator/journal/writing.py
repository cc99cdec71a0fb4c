"""Writing one run: `append` buffers, `durable` waits for a group commit.

Whoever waits first commits for everybody who has appended by then. The commit runs in one
worker thread, so the loop never waits for the disk; `inline` does it on the spot, for
virtual time, where there are no threads. A failed commit is never repeated: after an I/O
error nobody knows what the disk has kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import anyio
import anyio.to_thread

from orchestrator.errors import JournalError
from orchestrator.events import (
    Event,
    MountKept,
    MountReleased,
    TargetPlanned,
    TaskAccepted,
    UnmountStarted,
    to_json,
)
from orchestrator.journal.store import chained
from orchestrator.model import MountKey, RunId

FLUSH_EVERY = 0.5
"""Seconds after which an event is on disk even if nobody waits for it."""

Row = tuple[str, int, float, str, bytes, bytes]


class RunJournal:
    """The journal of one run, open for writing; implements `ports.Journal`."""

    def __init__(
        self, connection: sqlite3.Connection, run: RunId, seq: int, head: bytes, *, inline: bool
    ) -> None:
        """`seq` and `head` are those of the last record that is there already."""
        self._connection = connection
        self._run = run
        self._seq = seq
        self._head = head
        self._inline = inline
        self._rows: list[Row] = []
        self._durations: list[tuple[str, str, str, float]] = []
        self._machines: dict[MountKey, tuple[str, str]] = {}
        self._accepted: dict[MountKey, float] = {}
        self._kept: dict[MountKey, float] = {}
        self._committed = seq
        self._committing: anyio.Event | None = None
        self._failed: str | None = None
        self._appended = anyio.Event()
        self._thread = anyio.CapacityLimiter(1)

    @property
    def head(self) -> str:
        """Hash of the last appended record, as hex."""
        return self._head.hex()

    def append(self, event: Event) -> None:
        """Take an event. Cheap; durable after the next `durable()`, or soon.

        Raises:
            JournalError: an earlier commit failed; nothing can be kept any more.
        """
        if self._failed is not None:
            raise JournalError(self._failed)
        kind, body = type(event).__name__, to_json(event)
        self._seq += 1
        self._head = chained(self._head, self._run, self._seq, kind, body)
        self._rows.append((self._run, self._seq, event.at, kind, body, self._head))
        self._appended.set()
        self._time(event)

    async def durable(self) -> None:
        """Return when everything appended so far is on disk.

        Raises:
            JournalError: it is not, and will not be.
        """
        wanted = self._seq
        while self._committed < wanted:
            if self._failed is not None:
                raise JournalError(self._failed)
            if self._committing is not None:
                await self._committing.wait()
            else:
                await self._commit()

    async def flush_now_and_then(self) -> None:
        """Commit what nobody waits for; run it beside the run until it is cancelled."""
        while self._failed is None:
            await self._appended.wait()
            await anyio.sleep(FLUSH_EVERY)
            if self._rows and self._failed is None:
                try:
                    await self.durable()
                except JournalError:
                    return  # the next append says so

    async def _commit(self) -> None:
        done = self._committing = anyio.Event()
        rows, self._rows = self._rows, []
        self._appended = anyio.Event()
        durations, self._durations = self._durations, []
        last = self._seq
        try:
            with anyio.CancelScope(shield=True):
                if self._inline:
                    self._write(rows, durations)
                else:
                    await anyio.to_thread.run_sync(
                        self._write, rows, durations, limiter=self._thread
                    )
            self._committed = last
        except (sqlite3.Error, RuntimeError) as exc:  # RuntimeError: not even a thread is left
            self._failed = f"the journal cannot be written: {exc}"
            raise JournalError(self._failed) from exc
        finally:
            if self._committed < last and self._failed is None:
                self._failed = "the journal cannot be written: a commit broke off"
            self._committing = None
            done.set()

    def _write(self, rows: Sequence[Row], durations: Sequence[tuple[str, str, str, float]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
        if durations:
            self._connection.executemany(
                "INSERT INTO durations (run, server, vm, seconds) VALUES (?, ?, ?, ?)", durations
            )
        self._connection.execute("COMMIT")

    def _time(self, event: Event) -> None:
        """Note how long a machine's mount took, from accepted to released, for later runs.

        Without the time for which it was held open: another run may hold nothing.
        """
        match event:
            case TargetPlanned(key=key):
                self._machines[key] = (event.server, event.vm)
            case TaskAccepted(key=key):
                self._accepted[key] = event.at
            case MountKept(key=key):
                self._kept[key] = event.at
            case UnmountStarted(key=key) if key in self._kept and key in self._accepted:
                self._accepted[key] += event.at - self._kept.pop(key)
            case MountReleased(key=key, by_hand=False):
                began = self._accepted.pop(key, None)
                if began is not None and key in self._machines:
                    server, vm = self._machines[key]
                    self._durations.append((self._run, server, vm, event.at - began))
            case _:
                return
