"""This machine runs out of file descriptors: it says so, waits, and blames no server."""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.test_disk import check
from tests.processes import Place, Servers, ended, servers, until_noted, until_running

pytestmark = pytest.mark.process


def exhaust(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Let a process open nothing more, and keep what it has; return what it was allowed before."""
    _, hard = allowed = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
    return allowed


def be_impatient(plan: Path) -> None:
    """Let the plan wait no longer than a few seconds for what cannot be used."""
    text = plan.read_text()
    plan.write_text(text.replace("\nlimits: {", "\nlimits: {outage: 5s, "))
    assert plan.read_text() != text


@pytest.fixture
def slower() -> Iterator[Servers]:
    """Serve two servers whose mounts last longer than a connection for POSTs is kept."""
    with servers(seconds=(3.0, 3.5)) as running:
        yield running


def test_a_run_waits_until_there_are_descriptors_again(slower: Servers, place: Place) -> None:
    """No server is parked, no target fails, and the report says what was missing."""
    plan = slower.plan(place.directory, targets=24)
    process = place.start("run", plan, "--yes", "--json")
    until_running(process, 2)

    allowed = exhaust(process)
    note = until_noted(process)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, allowed)
    code, out, err = ended(process)

    assert code == 0, err
    assert re.search(r"this machine, not \w+, is short of something: Too many open files", note)
    assert "ulimit -n" in note
    assert note in place.values()["warnings"]
    assert '"state": "parked"' not in out.replace('":"', '": "')
    check(slower, place, plan)
    assert slower.truth().logons == 2


def test_a_run_that_cannot_even_begin_says_why(slow: Servers, place: Place) -> None:
    """Too few descriptors for a logon look like neither a wrong certificate nor a dead server."""
    plan = slow.plan(place.directory, targets=4)
    be_impatient(plan)

    process = place.start(
        "run", plan, "--yes", through=["sh", "-c", 'ulimit -n 18; exec "$@"', "sh"]
    )
    code, out, err = ended(process)

    assert code in {4, 5, 74}, out
    assert "Too many open files" in out + err
    assert "cannot be reached" not in out
    assert "out of reach" not in out
    assert slow.truth().logons == 0
