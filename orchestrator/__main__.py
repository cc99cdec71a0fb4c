"""`bulk-restore` and `python -m orchestrator`: streams and core dumps, then the command line."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from contextlib import suppress
from typing import NoReturn

PR_SET_DUMPABLE = 4
"""Source: prctl(2)."""

FEWER_COLLECTIONS = 10_000
"""Objects between two looks for garbage; Python's 700 cost 40 ms of CPU while it imports."""


def settle() -> None:
    """Make the process safe to hold secrets, and to run without a terminal or on a stuck one."""
    from orchestrator.views import streams

    _give_streams()
    streams.install()
    _dump_no_core()


def _give_streams() -> None:
    """Open those of stdin, stdout and stderr that were closed; what is written there is lost.

    Otherwise the next file takes their number, and a message would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process
            setattr(sys, name, stream)


def _dump_no_core() -> None:
    """Let no crash write our memory, with its passwords and tokens, anywhere.

    The limit is for files, and children inherit it; a dump that the kernel pipes to a program
    obeys only the flag, which also keeps debuggers of the same user away.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    gc.set_threshold(FEWER_COLLECTIONS)
    from orchestrator.cli import command

    settle()
    try:
        try:
            command(prog_name="bulk-restore")
        except Exception as exc:  # noqa: BLE001 - outside of every command, such as its import
            from orchestrator.cli.ending import unforeseen

            unforeseen(exc)
    except SystemExit as exc:
        if isinstance(exc.code, int) and _may_leave_at_once():
            _leave(exc.code)
        raise


def _may_leave_at_once() -> bool:
    """Return whether nothing waits for the end: no thread with work, no profiler or debugger."""
    others = (each for each in threading.enumerate() if each is not threading.main_thread())
    watched = sys.getprofile() is not None or sys.gettrace() is not None
    return not watched and all(each.daemon for each in others)


def _leave(code: int) -> NoReturn:
    """End without freeing, one by one, what the system frees at once: that costs 80 ms of CPU."""
    from orchestrator.views import streams

    with suppress(OSError, KeyboardInterrupt):
        streams.finish()
    os._exit(code)


if __name__ == "__main__":
    main()
