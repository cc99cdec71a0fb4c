"""The command serves its page: `run --serve`, `serve` beside a run, and 200 who only listen."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from orchestrator.app.planned_limits import limits_of
from orchestrator.cli.continuing import resume_command
from orchestrator.cli.running import run_command
from orchestrator.cli.serving import serve_command
from orchestrator.plan.file.loading import load_plan
from tests.invariants import assert_invariants
from tests.processes import PATIENCE_S, Place, Servers, kill, servers, until_running
from tests.views.web.exposition import read

pytestmark = pytest.mark.process

LINK = re.compile(r"Web view: (http://127\.0\.0\.1:(\d+)/)\?token=(\S+)")


@pytest.fixture
def quick() -> Iterator[Servers]:
    """Serve two servers whose mounts take a moment."""
    with servers() as running:
        yield running


@pytest.fixture
def stalled(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Serve two servers that finish no mount, or so many, until `go_on`."""
    with servers(stall_after=getattr(request, "param", 0)) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return this test's own journal and report directory."""
    return Place(tmp_path)


class Said:
    """What a process says on stderr, and the link in it; closes its pipes when it is left."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Read on in a thread, so that the process never waits for us."""
        self.lines: list[str] = []
        self._process = process
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def __enter__(self) -> Self:
        """Listen on."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, if it has not ended, and let go of it."""
        self._process.kill()
        self._thread.join(PATIENCE_S)
        self._process.communicate()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)

    def link(self) -> tuple[str, int, str]:
        """Return address, port and token as soon as they were printed."""
        return self.until(LINK).groups()  # type: ignore[return-value]  # three groups, always

    def place(self) -> str:
        """Return the address without a token, as soon as it was printed."""
        return self.until(re.compile(r"Web view: (http://127\.0\.0\.1:\d+/) \("))[1]

    def until(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Return the first match in what is said."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := pattern.search("".join(self.lines)):
                return found
            time.sleep(0.05)
        raise AssertionError("".join(self.lines))


PLAN = ("plan", "process-drill")


def scraped(address: str, token: str) -> dict[str, Any]:
    """Return the metrics, read strictly."""
    asked = urllib.request.Request(
        f"{address}metrics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        return read(answer.read().decode())


def until_scraped(
    address: str, token: str, name: str, labels: tuple[Any, ...], least: float
) -> dict[str, Any]:
    """Return the metrics as soon as a sample is there and not below `least`."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = scraped(address, token)
        if name in found and found[name].samples.get(labels, 0) >= least:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


@contextmanager
def listeners(port: int, token: str, count: int) -> Iterator[None]:
    """Open `count` streams of events that nobody ever reads."""
    with ExitStack() as opened:
        for _ in range(count):
            stream = opened.enter_context(socket.socket())
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.connect(("127.0.0.1", port))
            host = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}"
            stream.sendall(f"GET /events HTTP/1.1\r\n{host}\r\n\r\n".encode())
        yield


def test_a_run_is_served_beside_200_who_never_read(stalled: Servers, place: Place) -> None:
    """The run ends well, the listeners are counted, and the link stands on stderr once."""
    plan = stalled.plan(place.directory, targets=60)
    prom = place.directory / "run.prom"
    process = place.start("run", plan, "--yes", "--metrics-file", prom, "--serve", "--json")
    with Said(process) as said:
        address, port, token = said.link()
        until_running(process, 1)
        with listeners(int(port), token, 200):
            during = until_scraped(address, token, "bulk_restore_web_listeners", (PLAN,), 200)
            stalled.go_on()
            assert process.stdout is not None
            events = [json.loads(line) for line in process.stdout]
            process.wait(PATIENCE_S)

        assert process.returncode == 0, said.lines
        assert events[-1]["type"] == "summary"
        assert during["bulk_restore_run_state"].samples[(PLAN, ("state", "running"))] == 1
        assert sum("token=" in line for line in said.lines) == 1
        assert token not in (place.report / "report.html").read_text()
        assert read(prom.read_text())["bulk_restore_run_exit_code"].samples == {(PLAN,): 0}
        assert_invariants(stalled.truth(), place.values(), limits_of(load_plan(plan).plan, None))


def test_an_address_in_use_is_told_and_the_run_goes_on(quick: Servers, place: Place) -> None:
    """The page is missing, the run is not."""
    plan = quick.plan(place.directory, targets=4)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = place.call("run", plan, "--yes", f"--serve=127.0.0.1:{taken.getsockname()[1]}")

    assert done.returncode == 0, done.stderr
    assert "cannot be served" in done.stderr
    assert "the run goes on" in done.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--serve=0.0.0.0:0"], "--serve-exposed"),
        (["--serve=example.com:80"], "neither an IP address"),
        (["--serve=8080"], "is not ADDR:PORT"),
        (["--serve", "--serve-name=*.example.com"], "is not a name"),
        (["--serve", "--yes", "--serve-token-file", "{short}"], "characters or more"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_is_sent(
    more: list[str], words: str, quick: Servers, place: Place
) -> None:
    """A wrong address or token is a mistake in the command: exit code 2."""
    plan = quick.plan(place.directory, targets=4)
    short = place.directory / "short"
    short.write_text("secret\n")

    done = place.call("run", plan, "--yes", *(each.format(short=short) for each in more))

    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "secret" not in done.stderr
    assert not quick.truth().mounts


def test_another_machine_is_warned_of(quick: Servers, place: Place) -> None:
    """With --serve-exposed it is served, and what that means is said."""
    plan = quick.plan(place.directory, targets=2)

    done = place.call("run", plan, "--yes", "--serve=0.0.0.0:0", "--serve-exposed")

    assert done.returncode == 0, done.stderr
    assert "WARNING: the page is served unencrypted" in done.stderr


def test_a_second_process_follows_the_journal(stalled: Servers, place: Place) -> None:
    """`serve` shows a run beside it, sees that it was killed, and that a resume ended it."""
    plan = stalled.plan(place.directory, targets=30)
    token_file = place.directory / "token"
    token_file.write_text("a-token-that-is-long-enough\n")
    run = place.start("run", plan, "--yes", "--json")
    until_running(run, 1)
    state = ["--state", str(place.directory / "state")]
    watching = place.start("serve", "last", *state, "--serve-token-file", str(token_file))
    with Said(watching) as said:
        address, token = said.place(), "a-token-that-is-long-enough"

        def in_state(name: str) -> dict[str, Any]:
            labels = (PLAN, ("state", name))
            return until_scraped(address, token, "bulk_restore_run_state", labels, 1)

        assert token not in "".join(said.lines)
        assert in_state("running")["bulk_restore_targets"].samples[(PLAN,)] == 30
        kill(run)
        gone = in_state("interrupted")
        stalled.go_on()
        assert place.call("resume", "last").returncode in {0, 3}
        done = in_state("finished")
        watching.send_signal(signal.SIGINT)

        assert gone["bulk_restore_mounts_left"].samples[(PLAN,)] > 0
        assert any(gone["bulk_restore_server_unaudited"].samples.values())
        assert sum(done["bulk_restore_targets_concluded"].samples.values()) == 30
        watching.wait(PATIENCE_S)
        assert watching.returncode == 0


def test_serve_takes_the_options_of_run_and_resume(place: Place) -> None:
    """What is learned for one command works for the others, `--metrics-file` included."""
    taken = []
    for command in (run_command, resume_command, serve_command):
        names = {name for option in command.params for name in option.opts}
        taken.append({name for name in names if "serve" in name or "metrics" in name})

    assert taken[0] == taken[1] == taken[2]
    assert len(taken[0]) == 5


def test_serve_writes_metrics_too(quick: Servers, place: Place) -> None:
    """From the journal, for a run that was started without them."""
    assert place.call("run", quick.plan(place.directory, targets=2), "--yes").returncode == 0
    metrics = place.directory / "drill.prom"
    state = ["--state", str(place.directory / "state")]
    serving = place.start("serve", "last", *state, "--serve=127.0.0.1:0", "--metrics-file", metrics)
    with Said(serving) as said:
        said.link()
        deadline = time.monotonic() + PATIENCE_S
        while not metrics.exists():  # before it knows the plan there is nothing to write
            assert time.monotonic() < deadline
            time.sleep(0.05)
        serving.send_signal(signal.SIGINT)
        assert serving.wait(PATIENCE_S) == 0

    assert read(metrics.read_text())["bulk_restore_targets"].samples


def test_serve_says_what_it_cannot_find(place: Place) -> None:
    """Without a run there is nothing to show: exit code 2."""
    done = place.call("serve", "last", "--state", place.directory / "state")

    assert done.returncode == 2
    assert "no runs" in done.stderr


@pytest.mark.parametrize(("mode", "is_told"), [(0o644, True), (0o640, False), (0o600, False)])
def test_a_token_that_everybody_can_read_is_told(
    mode: int, is_told: bool, quick: Servers, place: Place
) -> None:
    """Prometheus' group may read it; a warning names the file and not the token."""
    token = place.directory / "token"
    token.write_text("a-token-that-is-long-enough\n")
    token.chmod(mode)
    plan = quick.plan(place.directory, targets=1)

    done = place.call("run", plan, "--yes", "--serve", "--serve-token-file", token)

    told = [line for line in done.stderr.splitlines() if "every user of this machine" in line]
    assert done.returncode == 0
    assert bool(told) is is_told
    assert "long-enough" not in done.stdout + done.stderr
    assert f"the token in {token}" in done.stderr


def test_serve_ends_where_there_is_no_page(quick: Servers, place: Place) -> None:
    """An address in use is an error of `serve`, which has nothing else to do: exit code 74."""
    assert place.call("run", quick.plan(place.directory, targets=2), "--yes").returncode == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = place.call("serve", "last", "--state", place.directory / "state", "--address", where)

    assert done.returncode == 74
    assert f"cannot be served on {where}: Address already in use" in done.stderr
    assert "--address" in done.stderr
    assert "the run goes on" not in done.stderr


def test_a_damaged_journal_is_not_shown(quick: Servers, place: Place) -> None:
    """What cannot be trusted ends `serve` with the journal's own error."""
    assert place.call("run", quick.plan(place.directory, targets=2), "--yes").returncode == 0
    with closing(sqlite3.connect(place.directory / "state" / "journal.sqlite")) as journal:
        journal.execute("UPDATE events SET body = X'7B7D' WHERE seq = 3")
        journal.commit()

    done = place.call("serve", "last", "--state", place.directory / "state")

    assert done.returncode == 74
    assert "record 3" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stalled", [8], indirect=True)
def test_resume_serves_too(stalled: Servers, place: Place) -> None:
    """The page of a resumed run begins with what was done before."""
    plan = stalled.plan(place.directory, targets=30)
    run = place.start("run", plan, "--yes", "--json")
    until_running(run, 12)
    kill(run)
    process = place.start("resume", "last", "--json", "--serve")
    with Said(process) as said:
        address, _port, token = said.link()
        until_scraped(address, token, "bulk_restore_targets", (PLAN,), 30)
        stalled.go_on()
        assert process.stdout is not None
        process.stdout.read()

        assert process.wait(PATIENCE_S) in {0, 3}, said.lines
