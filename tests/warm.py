"""Commands that start warm: copies of a process that has imported everything already.

A cold start costs 0.3 s of CPU, nearly all of it for imports, and the tests start some hundred
commands. A copy is a real process all the same, and a child of the test's: with its own pid,
arguments, working directory, environment, standard streams and umask, with Python's own handling
of signals, and with the end that Python makes of it. What a test says about starting, imports,
or the limits and flags of a process needs a cold one: see `tests.processes.Place`.

    the test             asks, over a socket, with the three streams of the command
    this module's main   forks, and what it forks forks again and ends at once
    the copy             is adopted by the test's process, says its pid, and becomes the command
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import inspect
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
"""Source: prctl(2). Orphans below the caller become its children."""

REQUEST_BYTES = 1 << 17
PATIENCE_S, ENDS_WITHIN_S = 120.0, 10.0
_LOCK = Lock()
"""Held from the request for a copy until it is adopted: only one thread of a process may adopt."""
ROOT = Path(__file__).parents[1]
NOT_IMPORTED = ("orchestrator.__main__", "orchestrator.simulator.__main__")

ENDS = ["p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite"]

READ_AT_START = ("PYTHON", "LANG", "LC_", "LD_", "OPENSSL_", "MALLOC_")
"""How variables begin that Python and its libraries read as they start, and a copy does not."""


def can_start(env: Mapping[str, str]) -> bool:
    """Return whether a copy is what a cold start in this environment would be."""
    return sys.platform == "linux" and _is_as_known() and _read_at_start(env) == _HERE


def _is_as_known() -> bool:
    """Return whether this Python's `Popen` hands over what `WarmProcess` takes."""
    named = list(inspect.signature(subprocess.Popen._execute_child).parameters)  # type: ignore[attr-defined]
    return named[7:8] == ["env"] and named[11:17] == ENDS


def _read_at_start(env: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


_HERE = _read_at_start(os.environ)


class WarmProcess(subprocess.Popen[str]):
    """A command that starts as a copy; for what calls it, it is as any other process."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Have a copy made, instead of executing a program; called by `Popen`'s own `__init__`.

        Behind the arguments: executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo,
        creationflags, shell, and the two ends of stdin, stdout and stderr.
        """
        env, ends = rest[5], rest[9:15]
        theirs = (ends[0], ends[3], ends[5])
        try:
            streams = [number if end == -1 else end for number, end in enumerate(theirs)]
            with _LOCK, _adopting():
                self.pid = _starter().start(args, env, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*ends)  # type: ignore[attr-defined]  # as `Popen` does


class _Starter:
    """The process of which copies are made."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(PATIENCE_S)
        with theirs:
            command = [sys.executable, "-m", __name__]
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdin=theirs.fileno(), cwd=ROOT
            )
        atexit.register(self.close)

    def start(self, argv: Sequence[str], env: Mapping[str, str], streams: Sequence[int]) -> int:
        """Return the pid of a new child that is about to become the command."""
        request = {"argv": list(argv), "env": dict(env), "cwd": str(Path.cwd()), "umask": _umask()}
        try:
            socket.send_fds(self._ours, [json.dumps(request).encode()], streams)
            return int(self._ours.recv(20))
        except BaseException:  # what is said later would be taken for the answer to the next
            _starter.cache_clear()
            self._end_started()
            self.close()
            raise

    def _end_started(self) -> None:
        """End the copies of which nobody has heard: who asked for them has gone."""
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
            self._ours.settimeout(ENDS_WITHIN_S)
            while said := self._ours.recv(20):
                os.kill(int(said), signal.SIGKILL)
                os.waitpid(int(said), 0)

    def close(self) -> None:
        """End it."""
        self._ours.close()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@cache
def _starter() -> _Starter:
    return _Starter()


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


@contextmanager
def _adopting() -> Iterator[None]:
    """Let what is orphaned below this process meanwhile become its child."""
    control = ctypes.CDLL(None, use_errno=True).prctl
    if control(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    try:
        yield
    finally:
        control(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


# --- the process of which copies are made -----------------------------------------------------


def main() -> None:
    """Make copies until nobody can ask for them; returns in a copy that is to be the command."""
    asked, adopter = socket.socket(fileno=os.dup(0)), os.getppid()
    _import_all()
    while True:
        data, streams, *_ = socket.recv_fds(asked, REQUEST_BYTES, 3)
        if not data:
            sys.exit()
        between = os.fork()
        if not between:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            break
        os.waitpid(between, 0)
        for each in streams:
            os.close(each)
    while (parent := os.getppid()) == between:
        time.sleep(0)
    if parent != adopter:
        os._exit(1)  # who asked waits no more
    said = os.dup(asked.detach())
    for number, each in enumerate(streams):
        os.dup2(each, number)
    _become(json.loads(data))
    os.write(said, b"%d" % os.getpid())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _import_all() -> None:
    """Import what commands may import, and let no copy look for garbage in it."""
    package = import_module("orchestrator")
    for module in pkgutil.walk_packages(package.__path__, "orchestrator."):
        if module.name not in NOT_IMPORTED:
            import_module(module.name)
    gc.collect()
    gc.freeze()


def _become(request: Mapping[str, Any]) -> None:
    """Take over what a program that is executed takes over from who does that."""
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    sys.argv = request["argv"][2:]  # behind `python -m`
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(number, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _stream(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a standard stream as Python opens it, with the encoding of this process's."""
    is_bare = bool(number) and like.write_through
    raw: Any = open(number, "wb" if number else "rb", 0 if is_bare else -1, closefd=False)  # noqa: SIM115 - for as long as the process
    return io.TextIOWrapper(
        raw,
        encoding=like.encoding,
        errors=like.errors,
        newline="\n" if number else None,
        line_buffering=number == 2 or raw.isatty(),
        write_through=is_bare,
    )


if __name__ == "__main__":
    main()
    runpy.run_module("orchestrator", run_name="__main__", alter_sys=True)
