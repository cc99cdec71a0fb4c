"""Real programs that judge a guest: started, answered, limited, ended."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from orchestrator.core.errors import SessionLost
from orchestrator.core.proof import Ended, ExecCheck
from orchestrator.local import programs
from orchestrator.local.programs import ChildProcesses
from tests.scenarios.demanding import demand
from tests.scenarios.drill import Site, drill
from tests.scenarios.guests import File, Guests

pytestmark = [pytest.mark.anyio, pytest.mark.process]

EXAMPLE = Path(__file__).parent / "examples" / "enough_rows.py"
BRIEFING: dict[str, object] = {"protocol": 1, "vm": "sql01", "roots": ["C:", "E:"]}


@pytest.fixture
def anyio_backend() -> str:
    """Real processes need real time."""
    return "asyncio"


async def guest(request: Mapping[str, object]) -> Mapping[str, object]:
    """Answer as a guest with two files would."""
    if request.get("verb") != "list":
        return {"ok": False, "error": "no such verb"}
    return {"ok": True, "entries": [{"name": "a"}, {"name": "b"}], "of": request["path"]}


async def ran(code: str, *, timeout: float = 60.0, withheld: frozenset[str] = frozenset()) -> Ended:
    """Run a few lines of Python as a program."""
    argv = [sys.executable, "-c", code]
    return await ChildProcesses(withheld).run(argv, BRIEFING, guest, timeout=timeout)


@pytest.mark.parametrize(
    ("least", "ended"),
    [
        ("2", Ended(code=0, message="2 entries in E:")),
        ("3", Ended(code=1, message="2 entries in E:")),
    ],
)
async def test_the_example_program_judges_a_guest(least: str, ended: Ended) -> None:
    """It is briefed, asks, is answered, tells, and ends with its verdict."""
    argv = [sys.executable, str(EXAMPLE), least]

    assert await ChildProcesses().run(argv, BRIEFING, guest, timeout=60) == ended


async def test_the_example_program_judges_a_mount_in_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing between the plan and the program is replaced but the servers."""
    guests = Guests(lambda point: {"C:/boot.ini": File(), "E:/a": File(), "E:/b": File()})
    argv = (sys.executable, str(EXAMPLE), "2")
    demand(monkeypatch, {"rows": [ExecCheck(argv=argv)]})
    site = Site(machines=1, mount_s=0.1)

    done = await drill(tmp_path, monkeypatch, [site], face=guests.face)

    target = done.target("hq-app0000")
    assert (target["result"], target["mount"]) == ("verified", "released")
    assert [each["observed"] for each in target["checks"]] == ["2 entries in E:"]


async def test_exit_code_and_last_words_are_told() -> None:
    """The last line of standard error stands for a message that was not sent."""
    ended = await ran("import sys; print('first\\nlast \\n', file=sys.stderr); sys.exit(2)")

    assert ended == Ended(code=2, complaint="last")


async def test_a_program_that_never_reads_or_says_anything_is_heard() -> None:
    """Whatever is said to it is lost, and its exit code counts."""
    assert await ran("pass") == Ended(code=0)


async def test_what_is_no_request_is_answered_with_an_error() -> None:
    """Lines that are no JSON object, and verbs that do not exist."""
    ended = await ran(
        "import json, sys\n"
        "input()\n"
        "for line in ('nonsense', '[1]', '{\"verb\": \"delete\"}', '{}'):\n"
        "    print(line, flush=True)\n"
        "    assert json.loads(input())['ok'] is False\n"
    )

    assert ended == Ended(code=0)


async def test_its_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the plan's own, and not those of anybody else."""
    monkeypatch.setenv("EM_PASSWORD", "not-a-real-password")
    monkeypatch.setenv("BULK_RESTORE_SECRET", "not-a-real-password")
    monkeypatch.setenv("LANG", "not-a-real-password")
    code = "import json, os; print(json.dumps({'message': json.dumps(dict(os.environ))}))"

    ended = await ran(code, withheld=frozenset({"LANG"}))

    seen = json.loads(ended.message)
    assert set(seen) <= {*programs.HARMLESS} - {"LANG"}
    assert seen["PATH"] == os.environ["PATH"]


async def test_a_program_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    """The time limit kills the whole process group."""
    note = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {note}; wait"  # a shell: it is there at once

    ended = await ChildProcesses().run(["sh", "-c", script], BRIEFING, guest, timeout=3.0)

    assert ended.code is None
    assert ended.why == "the program did not end within 3 s"
    assert await gone(int(note.read_text()))


async def test_a_child_that_keeps_the_pipes_open_holds_nothing_up(tmp_path: Path) -> None:
    """The program's own end is the end."""
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        'print(\'{"message": "done"}\')\n'
    )

    ended = await ran(code)

    assert ended == Ended(code=0, message="done")
    assert await gone(int(note.read_text()))


async def gone(pid: int) -> bool:
    """Tell whether a process ends: init may take a moment to bury it."""
    for _ in range(1200):
        try:
            facts = await anyio.Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        if facts.rpartition(")")[2].split()[0] == "Z":
            return True
        await anyio.sleep(0.05)
    return False


async def test_a_program_is_ended_when_its_check_is_cancelled() -> None:
    """The cancellation goes through, and the process is gone by then."""
    with anyio.move_on_after(2) as scope:
        await ran("import time; time.sleep(60)")

    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("print('x' * 100_000); import time; time.sleep(60)", "a line of more than 65536 bytes"),
        (
            "import time\nfor _ in range(400): print('x' * 60_000)\ntime.sleep(60)",
            "more than 16777216 bytes",
        ),
    ],
)
async def test_a_program_that_writes_too_much_is_ended(code: str, why: str) -> None:
    """Nobody reads without limit."""
    ended = await ran(code)

    assert ended.code is None
    assert why in ended.why


async def test_any_amount_of_complaints_is_read_and_forgotten() -> None:
    """Standard error never blocks a program; only its end is kept."""
    ended = await ran("import sys\nfor n in range(100_000): print('x' * 100, n, file=sys.stderr)")

    assert ended.code == 0
    assert ended.complaint == "x" * 100 + " 99999"


@pytest.mark.parametrize("argv", [["/nowhere/at/all"], ["/"], ["bad\0name"]])
async def test_a_program_that_cannot_be_started_says_so(argv: list[str]) -> None:
    """The reason is the system's."""
    ended = await ChildProcesses().run(argv, BRIEFING, guest, timeout=5)

    assert ended.code is None
    assert ended.why.startswith("the program cannot be started: ")


def open_descriptors() -> set[str]:
    """Return the file descriptors of this process, the one that looks left out."""
    return {each.name for each in Path("/proc/self/fd").iterdir() if each.exists()}


async def test_a_shortage_of_descriptors_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaks, and nothing but this check fails."""
    before = open_descriptors()
    pairs, pipe = [], os.pipe

    def short() -> tuple[int, int]:
        pairs.append(1)
        if len(pairs) > 2:
            raise OSError(24, "Too many open files")
        return pipe()

    monkeypatch.setattr(os, "pipe", short)

    ended = await ran("pass")

    assert ended.why == "the program cannot be started: Too many open files"
    assert open_descriptors() == before


async def test_what_answering_raises_is_raised() -> None:
    """As it is, and not in a group: the engine knows what a lost session means."""

    async def lost(request: Mapping[str, object]) -> Mapping[str, object]:
        raise SessionLost("gone")

    argv = [sys.executable, "-c", 'print(\'{"verb": "list"}\', flush=True); input(); input()']

    with pytest.raises(SessionLost):
        await ChildProcesses().run(argv, BRIEFING, lost, timeout=60)
