"""A user's own program that judges a mounted guest, run as a child process.

It is started without a shell. Its standard input is JSON, one object a line: first the
briefing (target, server, vm, os, point, roots, `protocol`), then one answer for each request.
What it writes to standard output is JSON lines too: requests (`engine.answering` lists the
verbs; all of them read), or `{"message": "what to show in the report"}`, which is not
answered. It reads the answer before it asks again: who only asks is not heard for ever. Its
exit code is the verdict: 0 good, 1 bad, 2 a warning; anything else means that the check could
not be made::

    import json, sys
    about = json.loads(sys.stdin.readline())
    print(json.dumps({"verb": "list", "path": about["roots"][-1]}), flush=True)
    answer = json.loads(sys.stdin.readline())
    if not answer["ok"]:
        sys.exit(answer["error"])  # to standard error, with exit code 1
    print(json.dumps({"message": f"{len(answer['entries'])} entries"}), flush=True)

Its environment holds a handful of harmless variables and never a secret. What it prints is
limited, and neither it nor its process group outlives its check.
"""

from __future__ import annotations

import json
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

import anyio
from anyio.abc import Process
from msgspec import Struct

from orchestrator.core.ports.local import Answering
from orchestrator.core.proof import Ended
from orchestrator.core.text import duration

HARMLESS = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""Environment variables that a program gets, where they are set."""

LINE_LIMIT = 64 * 1024
OUTPUT_LIMIT = 16 * 1024 * 1024
"""Bytes of one line, and of all lines, that a program may write to standard output."""

COMPLAINT_LIMIT = 4096
"""Bytes of standard error of which the last line is shown; the rest is read and forgotten."""

LAST_WORDS_S = 1.0
"""Seconds after its end in which what it wrote before is still read."""

REAP_S = 10.0
"""Seconds that a killed program may take to be gone; one that hangs in the system may not be."""


class ChildProcesses:
    """Runs programs as child processes; implements `ports.Programs`."""

    def __init__(self, withheld: frozenset[str] = frozenset()) -> None:
        """`withheld` are environment variables that hold secrets of the plan."""
        self._environment = {
            name: os.environ[name]
            for name in HARMLESS
            if name in os.environ and name not in withheld
        }

    async def run(
        self,
        argv: Sequence[str],
        briefing: Mapping[str, object],
        answer: Answering,
        *,
        timeout: float,
    ) -> Ended:
        """Run a program to its end, or end it when its time is up."""
        try:
            with _Pipes() as pipes:
                process = await self._started(argv, pipes)
                talk = _Dialogue(process, pipes, answer)
                try:
                    pipes.handed_over()
                    with anyio.move_on_after(timeout) as limit:
                        await talk.until_the_end(briefing)
                finally:
                    await _reap(process)
        except _NotStarted as exc:
            return Ended(why=f"the program cannot be started: {exc}")
        if talk.failure is not None:
            raise talk.failure
        why = talk.broken
        if limit.cancelled_caught:
            why = f"the program did not end within {duration(timeout)}"
        return Ended(
            code=None if why else process.returncode,
            why=why,
            message=talk.message,
            complaint=talk.complaint,
        )

    async def _started(self, argv: Sequence[str], pipes: _Pipes) -> Process:
        try:
            return await anyio.open_process(
                list(argv),
                stdin=pipes.its_input,
                stdout=pipes.its_output,
                stderr=pipes.its_errors,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as exc:
            raise _NotStarted(exc.strerror or str(exc)) from None
        except ValueError as exc:  # a NUL in an argument
            raise _NotStarted(str(exc)) from None


class _NotStarted(Exception):
    """The program cannot be started; the message is the reason."""


async def _reap(process: Process) -> None:
    """Kill what is left of a program and of what it started, and leave no zombie."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(REAP_S, shield=True):
        await process.wait()


class _Pipes:
    """The three pipes to a program. They are ours, so that its children cannot keep us waiting."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> Self:
        try:
            self.its_input, self.input = self._pair()
            self.output, self.its_output = self._pair()
            self.errors, self.its_errors = self._pair()
        except OSError as exc:
            self._close(*self._open)
            raise _NotStarted(exc.strerror) from None
        for ours in (self.input, self.output, self.errors):
            os.set_blocking(ours, False)
        return self

    def _pair(self) -> tuple[int, int]:
        reading, writing = os.pipe()
        self._open |= {reading, writing}
        return reading, writing

    def __exit__(self, *_exc: object) -> None:
        self._close(*self._open)

    def handed_over(self) -> None:
        """Close the program's ends here: it has its own now."""
        self._close(self.its_input, self.its_output, self.its_errors)

    def _close(self, *ends: int) -> None:
        for end in ends:
            self._open.discard(end)
            os.close(end)


async def _read(pipe: int) -> bytes:
    """Return what comes next; nothing is the end."""
    while True:
        await anyio.wait_readable(pipe)
        with suppress(BlockingIOError):
            return os.read(pipe, LINE_LIMIT)


async def _tell(pipe: int, message: Mapping[str, object]) -> None:
    """Write one line; it is no error if the program does not read it."""
    rest = memoryview(json.dumps(message).encode() + b"\n")
    with suppress(BrokenPipeError):
        while rest:
            await anyio.wait_writable(pipe)
            with suppress(BlockingIOError):
                rest = rest[os.write(pipe, rest) :]


class _Dialogue:
    """The dialogue with a program, until it ends or must be ended."""

    def __init__(self, process: Process, pipes: _Pipes, answer: Answering) -> None:
        self._process = process
        self._pipes = pipes
        self._answer = answer
        self._stderr: deque[int] = deque(maxlen=COMPLAINT_LIMIT)
        self.message = ""
        self.broken = ""
        """Why it was ended before its time, or nothing."""
        self.failure: Exception | None = None
        """What answering it has raised."""

    @property
    def complaint(self) -> str:
        """The last line of its standard error that is not empty."""
        lines = bytes(self._stderr).decode("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    async def until_the_end(self, briefing: Mapping[str, object]) -> None:
        """Brief the program, answer it, and return once it has ended or broken the rules."""
        async with anyio.create_task_group() as tasks:
            heard = anyio.Semaphore(0)

            async def listen() -> None:
                if await self._serve(briefing):
                    heard.release()
                else:
                    tasks.cancel_scope.cancel()

            async def overhear() -> None:
                while chunk := await _read(self._pipes.errors):
                    self._stderr.extend(chunk)
                heard.release()

            tasks.start_soon(listen)
            tasks.start_soon(overhear)
            await self._process.wait()
            with anyio.move_on_after(LAST_WORDS_S):
                await heard.acquire()
                await heard.acquire()
            tasks.cancel_scope.cancel()

    async def _serve(self, briefing: Mapping[str, object]) -> bool:
        """Answer until its output ends; False if it must be ended."""
        lines = _Lines(self._pipes.output)
        try:
            await _tell(self._pipes.input, briefing)
            while (line := await lines.next()) is not None:
                reply = await self._reply(line)
                if reply is not None:
                    await _tell(self._pipes.input, reply)
        except _TooMuchOutput as exc:
            self.broken = str(exc)
            return False
        except Exception as exc:  # noqa: BLE001 - it goes on outside of the task group
            self.failure = exc
            return False
        return True

    async def _reply(self, line: bytes) -> Mapping[str, object] | None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"ok": False, "error": "a line must be one JSON object"}
        if "verb" not in request and isinstance(request.get("message"), str):
            self.message = request["message"]
            return None
        return await self._answer(request)


class _TooMuchOutput(Exception):
    """The program writes more than the limits allow."""


class _Lines(Struct):
    """The lines that come out of a pipe, none too long and not too many."""

    pipe: int
    rest: bytes = b""
    total: int = 0

    async def next(self) -> bytes | None:
        """Return the next line, or None at the end.

        Raises:
            _TooMuch: a line is too long, or all of them together are.
        """
        while b"\n" not in self.rest:
            if len(self.rest) > LINE_LIMIT:
                raise _TooMuchOutput(f"the program wrote a line of more than {LINE_LIMIT} bytes")
            if self.total > OUTPUT_LIMIT:
                raise _TooMuchOutput(f"the program wrote more than {OUTPUT_LIMIT} bytes")
            chunk = await _read(self.pipe)
            if not chunk:
                line, self.rest = self.rest, b""
                return line or None
            self.rest += chunk
            self.total += len(chunk)
        line, _, self.rest = self.rest.partition(b"\n")
        return line
