"""Locks of plans and runs: which process works on what; a dead process's locks free themselves."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from orchestrator.core.errors import JournalError, RunLocked
from orchestrator.core.model import RunId
from orchestrator.core.parts import Part
from orchestrator.core.policy import STALLED_AFTER_SIGNS
from orchestrator.core.records import Stall
from orchestrator.journal.locking import is_held, is_same_file, taken
from orchestrator.journal.store import private_directory, private_file
from orchestrator.log import Log

log = Log(__name__)

ADVICE = "wait for it to end, or stop it with SIGINT"


class RunLocks:
    """The locks in a state directory."""

    directory: Path

    @contextmanager
    def plan_lock(
        self, plan: str, run: RunId, part: Part | None = None, *, signs_s: float | None = None
    ) -> Iterator[None]:
        """Hold the lock of a plan and of one run of it; a dead process's locks free themselves.

        A run of a part shares the plan's lock with the other parts of the same number of parts.
        `signs_s`: the holder calls `show_life` so often, in seconds; None: it never does.

        Raises:
            RunLocked: another process runs this plan, or works on this run; the message says which.
            JournalError: a lock cannot be written, or the file system has no locks.
        """
        what = f"the plan {plan!r} is being run already"
        path = self._lock_path(plan)
        with ExitStack() as stack:
            if part is None:
                stack.enter_context(self._held(path, what, run))
            else:
                stack.enter_context(self._shared(path, what, run))
                stack.enter_context(self._held_part(path, what, run, part))
            stack.enter_context(self._held_run(plan, run, signs_s))
            yield

    @contextmanager
    def _held_part(self, path: Path, what: str, run: RunId, part: Part) -> Iterator[None]:
        """Hold the lock of a part of a plan, whose own lock is shared.

        Two that divide the plan differently overlap. Each takes its own lock before it looks for
        the other's, so at most one of them goes on, perhaps none.
        """
        of_part = path.with_name(f"{path.stem}-{part.number}-of-{part.of}.lock")
        with self._held(of_part, f"shard {part} of {what}", run):
            try:
                for other in sorted(self.directory.glob(f"{path.stem}-*-of-*.lock")):
                    if not other.stem.endswith(f"-of-{part.of}") and _is_taken(other):
                        holder = _holder(other.read_text(encoding="utf-8"))
                        divided = f"{what}, divided in another way"
                        raise RunLocked(f"{divided} ({holder}); {ADVICE}")
                yield
            finally:
                with suppress(OSError):  # unlinked while it is held: see `_held`
                    of_part.unlink(missing_ok=True)

    @contextmanager
    def _shared(self, path: Path, what: str, run: RunId) -> Iterator[None]:
        """Hold the lock of a file together with others that share it; it names none of them."""
        with self._lock_file(path) as file:
            if not taken(file, self.directory, shared=True) or not is_same_file(file, path):
                raise RunLocked(f"{what} ({_holder(file.read())}); {ADVICE}")
            _explain_what_a_dead_process_left(file.read(), run)
            with suppress(OSError):
                os.ftruncate(file.fileno(), 0)
            yield

    @contextmanager
    def run_lock(self, plan: str, run: RunId, *, signs_s: float | None = None) -> Iterator[None]:
        """Hold the lock of one run, whose process must be gone; its plan may run otherwise.

        Nobody resumes or unmounts the run meanwhile. The plan's lock is held too if it is free.
        `signs_s` as for that.

        Raises:
            RunLocked: another process works on this run.
            JournalError: as for the plan's lock.
        """
        path = self._lock_path(plan)
        with self._held_run(plan, run, signs_s), ExitStack() as stack:
            try:
                stack.enter_context(
                    self._held(path, f"the plan {plan!r} is being run already", run)
                )
            except RunLocked:
                if _is_held_for(path, run):  # by an earlier version, whose runs had no lock
                    raise
            yield

    @contextmanager
    def _held_run(self, plan: str, run: RunId, signs_s: float | None) -> Iterator[None]:
        """Hold the lock of a run, and leave no file of it behind."""
        path = self._run_lock_path(plan, run)
        with self._held(path, f"another process works on run {run}", run, signs_s):
            try:
                yield
            finally:
                with suppress(OSError):  # unlinked while it is held: see `_held`
                    path.unlink(missing_ok=True)

    @contextmanager
    def _held(
        self, path: Path, what: str, run: RunId, signs_s: float | None = None
    ) -> Iterator[None]:
        """Hold the lock of a file and write the holder into it; `what`: another holder's work."""
        with self._lock_file(path) as file:
            if not taken(file, self.directory) or not is_same_file(file, path):
                holder, other = self._holder_of(path, file.read())  # gone: it was just let go
                raise RunLocked(f"{what} ({holder}); {ADVICE}", other)
            _explain_what_a_dead_process_left(file.read(), run)
            mine: dict[str, object] = {"pid": os.getpid(), "host": socket.gethostname(), "run": run}
            if signs_s is not None:
                mine["signs_s"] = signs_s
            try:
                os.ftruncate(file.fileno(), 0)
                os.pwrite(file.fileno(), json.dumps(mine).encode(), 0)
            except OSError as exc:
                raise JournalError(f"the lock {path} cannot be written: {exc.strerror}") from exc
            yield
            with suppress(OSError):  # whoever reads it later finds a lock that is free
                os.ftruncate(file.fileno(), 0)

    def _lock_file(self, path: Path) -> TextIO:
        private_directory(self.directory)
        try:
            private_file(path)
            return path.open("r+", encoding="utf-8")
        except OSError as exc:
            raise JournalError(f"the lock {path} cannot be used: {exc.strerror}") from exc

    def _holder_of(self, path: Path, text: str) -> tuple[str, str | None]:
        """Return who holds a lock, and which run: that in it, or of a part that shares it."""
        if not text:
            for part in sorted(self.directory.glob(f"{path.stem}-*-of-*.lock")):
                with suppress(OSError):
                    if _is_taken(part):
                        text = part.read_text(encoding="utf-8")
                        break
        return _holder(text), _run_in(text)

    def is_alive(self, plan: str, run: RunId) -> bool:
        """Return whether a living process on this machine works on a run of a plan."""
        return _is_held_for(self._run_lock_path(plan, run), run) or _is_held_for(
            self._lock_path(plan), run
        )

    def show_life(self, plan: str, run: RunId) -> None:
        """Show that the process which holds a run's lock moves. Safe to repeat; it never fails.

        The sign is the time at the file of the lock: it needs no room on the disk, and no other
        process can keep it from being given.
        """
        with suppress(OSError):  # the lock is just being let go
            os.utime(self._run_lock_path(plan, run))

    def stalled(self, plan: str, run: RunId) -> Stall | None:
        """Return since when the process that holds a run's lock does not move; see `ports.Store`.

        It was stopped, or hangs. None also for a holder that promised no signs of life: an
        earlier version.
        """
        try:
            with self._run_lock_path(plan, run).open("r", encoding="utf-8") as file:
                if not is_held(file):
                    return None
                seen = os.fstat(file.fileno()).st_mtime
                text = file.read() or "{}"
            held = json.loads(text)
            if held.get("run") != run or "signs_s" not in held:
                return None
            allowed = STALLED_AFTER_SIGNS * float(held["signs_s"])
        except (OSError, ValueError, TypeError):
            return None
        if abs(time.time() - seen) <= allowed:  # a clock may have been set back meanwhile
            return None
        return Stall(since=datetime.fromtimestamp(seen, UTC), who=_process(held))

    def _lock_path(self, plan: str) -> Path:
        return self.directory / f"plan-{hashlib.sha256(plan.encode()).hexdigest()[:16]}.lock"

    def _run_lock_path(self, plan: str, run: RunId) -> Path:
        name = hashlib.sha256(f"{plan}\0{run}".encode()).hexdigest()[:16]
        return self.directory / f"run-{name}.lock"


def _explain_what_a_dead_process_left(text: str, run: RunId) -> None:
    """Return whose lock this was, if its process ended without giving it back."""
    if text and f'"{run}"' not in text:  # not where its own run is gone on with
        log.warning(
            "lock.left_by_dead_process",
            was=_holder(text),
            look="bulk-restore status shows what it left; bulk-restore unmount releases it",
        )


def _is_taken(path: Path) -> bool:
    """Return whether another process holds a lock."""
    try:
        with path.open("r", encoding="utf-8") as file:
            return is_held(file)
    except FileNotFoundError:  # it was given back meanwhile
        return False


def _is_held_for(path: Path, run: RunId) -> bool:
    """Return whether another process holds a lock for this run."""
    try:
        with path.open("r", encoding="utf-8") as file:
            if is_held(file):
                return bool(json.loads(file.read() or "{}").get("run") == run)
    except (OSError, ValueError):
        return False
    return False


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"run {found['run']}, {_process(found)}"
    except (ValueError, KeyError, TypeError):
        return "its lock file does not say by whom"


def _run_in(text: str) -> str | None:
    """Return the run that a lock names; None: it names none."""
    try:
        return str(json.loads(text)["run"])
    except (ValueError, KeyError, TypeError):
        return None


def _process(held: Mapping[str, object]) -> str:
    return f"process {held['pid']} on {held['host']}"
