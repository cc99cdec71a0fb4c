"""What the process owes its secrets and its terminal: no core dump, and no need of a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.test_disk import check
from tests.processes import PATIENCE_S, Place, Servers, ended, servers, until_running

pytestmark = pytest.mark.process

CRASH = """
import os, resource, signal
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
{before}
signal.signal(signal.SIGABRT, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGABRT)
"""
SETTLED = "from orchestrator.__main__ import settle; settle()"


def dumps_core(directory: Path, before: str) -> bool:
    """Tell whether a process that crashes after `before` leaves its memory behind."""
    code = f"import os; os.chdir({str(directory)!r})\n" + CRASH.format(before=before)
    process = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    return os.WCOREDUMP(os.waitpid(process, 0)[1])


def test_a_crash_leaves_no_core_dump(tmp_path: Path) -> None:
    """Memory with passwords and tokens is written nowhere, even where the limits allow it."""
    if not dumps_core(tmp_path, before=""):
        pytest.skip("this machine dumps no core of anybody")

    assert not dumps_core(tmp_path, before=SETTLED)


@pytest.mark.parametrize("file_limit", [True, False], ids=["limit", "flag"])
def test_the_limit_and_the_flag_each_forbid_the_dump(file_limit: bool) -> None:
    """The limit is inherited by programs that fetch secrets; the flag binds piped dumps too."""
    ask = (
        "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
        if file_limit
        else "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    code = f"{SETTLED}\n{ask}"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ("(0, 0)" if file_limit else "0")


def test_the_command_settles_first(stalled: Servers, place: Place) -> None:
    """A run that already talks to servers cannot dump core, whatever its caller allowed."""
    process = place.start("run", stalled.plan(place.directory, targets=4), "--yes", "--json")
    until_running(process, 1)

    limit = resource.prlimit(process.pid, resource.RLIMIT_CORE)
    stalled.go_on()

    assert limit == (0, 0)
    assert ended(process)[0] == 0


@pytest.fixture
def stalled_later() -> Iterator[Servers]:
    """Serve two servers that finish one mount, and no other until `go_on`."""
    with servers(stall_after=1) as running:
        yield running


def test_a_lost_terminal_does_not_stop_a_run(stalled_later: Servers, place: Place) -> None:
    """The run outlives its terminal: SIGHUP and failing writes, then unmounts and a report."""
    plan = stalled_later.plan(place.directory, targets=12)
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = place.start(
        "run", plan, "--yes", stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=own_terminal
    )
    os.close(theirs)
    seen = b""
    while b"mounted" not in seen:  # by the live view as by the lines of a CI
        seen += os.read(ours, 4096)

    os.close(ours)  # the kernel sends SIGHUP to whoever has this terminal
    stalled_later.go_on()
    code = process.wait(PATIENCE_S)

    assert code == 0
    check(stalled_later, place, plan)
    assert place.values()["totals"]["mounted"] == 12


def test_hang_ups_do_not_stop_a_run(stalled: Servers, place: Place) -> None:
    """However often SIGHUP comes, nothing changes."""
    plan = stalled.plan(place.directory, targets=8)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 1)

    for _ in range(5):
        process.send_signal(signal.SIGHUP)
    stalled.go_on()
    code, _, err = ended(process)

    assert code == 0, err
    check(stalled, place, plan)


@pytest.mark.parametrize(
    ("closed", "form"),
    [("1>&-", "--json"), ("2>&-", "--verbose"), ("0<&- 1>&- 2>&-", "--verbose")],
)
def test_a_run_that_was_started_without_streams_is_whole(
    closed: str, form: str, quick: Servers, place: Place
) -> None:
    """Messages for closed streams go nowhere, least of all into the journal."""
    plan = quick.plan(place.directory, targets=3)

    process = place.start(
        "run", plan, "--yes", form, through=["sh", "-c", f'exec "$@" {closed}', "sh"]
    )
    code = ended(process)[0]

    assert code == 0
    check(quick, place, plan)
    rebuilt = place.directory / "rebuilt"
    assert place.call("report", "last", "--report", rebuilt).returncode == 0
    assert (rebuilt / "report.json").read_bytes() == (place.report / "report.json").read_bytes()
