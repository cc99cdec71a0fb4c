"""`--on-finish` as a real process: what it gets, what it does not see, and how it ends."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio
import pytest

from orchestrator.app.notify.command import tell_command
from orchestrator.app.notify.composing import Notice, RunEnding, composed_end
from tests.report.builders import finished, life, run_of

pytestmark = [pytest.mark.anyio, pytest.mark.process]


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend: real time, for the processes are real."""
    return "asyncio"


def notice() -> Notice:
    """Return the message that a run ended."""
    ending = RunEnding(exit_code=1, missed=(), report="/reports/a b")
    return next(composed_end(run_of(life("a"), [finished(exit_code=1)]), ending))


def python(code: str) -> list[str]:
    """Return argv of a Python program."""
    return [sys.executable, "-c", code]


async def test_it_gets_the_message_and_the_facts_but_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON on stdin, facts in the environment; the plan's secrets and our options are left out."""
    monkeypatch.setenv("EM_PASSWORD", "secret-of-the-plan")
    monkeypatch.setenv("BULK_RESTORE_RUN_ON_FINISH", "again and again")
    monkeypatch.setenv("MAIL_HOST", "mail.example.net")
    seen = tmp_path / "seen.json"
    code = (
        "import json, os, sys; "
        f"json.dump([dict(os.environ), json.load(sys.stdin)], open({str(seen)!r}, 'w'))"
    )

    why = await tell_command(python(code), notice(), withheld=frozenset({"EM_PASSWORD"}))

    environment, message = json.loads(seen.read_text())
    assert why is None
    assert {k: v for k, v in environment.items() if k.startswith("BULK_RESTORE")} == {
        "BULK_RESTORE_RUN": "20261123T060000Z-7f3a",
        "BULK_RESTORE_PLAN": "payments-tier1",
        "BULK_RESTORE_MODE": "drill",
        "BULK_RESTORE_EXIT_CODE": "1",
        "BULK_RESTORE_REPORT": "/reports/a b",
    }
    assert environment["MAIL_HOST"] == "mail.example.net"
    assert "secret-of-the-plan" not in seen.read_text()
    assert (message["event"], message["v"]) == ("finished", 1)


@pytest.mark.parametrize(
    ("argv", "timeout", "why"),
    [
        (python("raise SystemExit(7)"), 60, "ended with exit code 7"),
        (["/nowhere/at/all"], 60, "cannot be started: No such file or directory"),
        (["a\x00b"], 60, "cannot be started: embedded null byte"),
        (python("import os; os.kill(os.getpid(), 9)"), 60, "ended with exit code -9"),
        (python("import time; time.sleep(600)"), 0.5, "did not end within 0.5 s"),
    ],
)
async def test_what_goes_wrong_is_returned(argv: list[str], timeout: float, why: str) -> None:
    """In words for stderr; nothing is raised."""
    said = await tell_command(argv, notice(), timeout=timeout)

    assert said is not None
    assert said.startswith("--on-finish: ")
    assert why in said


async def test_one_that_does_not_read_is_no_trouble() -> None:
    """A closed stdin is its own business."""
    assert await tell_command(python("import os; os.close(0)"), notice()) is None


async def test_nothing_it_started_outlives_it(tmp_path: Path) -> None:
    """Its process group ends with it, also when we are told to stop."""
    mark = tmp_path / "pid"
    code = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"open({str(mark)!r}, 'w').write(str(p.pid)); time.sleep(600)"
    )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell_command, python(code), notice())
        while not (mark.exists() and mark.read_text()):  # noqa: ASYNC110 - a real process
            await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()

    child = int(mark.read_text())
    with anyio.fail_after(60):  # else both would sleep for ten minutes
        while _runs(child):  # noqa: ASYNC110 - a real process
            await anyio.sleep(0.02)


def _runs(process: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(process, 0)
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
