"""A command that starts as a copy is what it is when it starts cold."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests import warm
from tests.processes import PATIENCE_S, Place
from tests.warm import WarmProcess, can_start

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not can_start(os.environ), reason="only cold starts here"),
]


@pytest.mark.parametrize(
    "arguments",
    [("schema", "plan"), ("validate", "none.yaml"), ("validate", "plan.yaml"), ("list",), ("no",)],
)
def test_it_says_and_returns_the_same(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments and its working directory are its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text("name: [")

    warm, cold = (Place(tmp_path, is_cold=is_cold).call(*arguments) for is_cold in (False, True))

    assert (warm.returncode, warm.stdout, warm.stderr) == (
        cold.returncode,
        cold.stdout,
        cold.stderr,
    )
    assert cold.stdout or cold.stderr


def test_it_is_a_child_that_signals_end(tmp_path: Path) -> None:
    """What it is killed by is known, and its streams are closed."""
    process = Place(tmp_path).start("simulate", "--machines", "1")
    assert type(process) is WarmProcess
    assert process.stderr is not None
    assert process.stdout is not None
    process.stdout.readline()

    os.kill(process.pid, signal.SIGKILL)

    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL


def test_what_python_reads_as_it_starts_needs_a_cold_start(tmp_path: Path) -> None:
    """Such as the encoding of the streams; and so does whoever asks for it."""
    places = Place(tmp_path, {"PYTHONIOENCODING": "ascii"}), Place(tmp_path, is_cold=True)
    for place in places:
        with place.start("schema", "plan") as process:
            process.communicate(timeout=PATIENCE_S)
            assert type(process) is Popen


def test_a_thread_that_starts_a_command_waits_for_another_one(tmp_path: Path) -> None:
    """While one adopts its copy, another must neither stop that nor make a second starter."""
    with ThreadPoolExecutor(2) as threads:
        with warm._LOCK:
            waiting = [threads.submit(Place(tmp_path).call, "schema", "plan") for _ in range(2)]
            done, _ = wait(waiting, timeout=1.0)
        said = {each.result(timeout=PATIENCE_S).returncode for each in waiting}

    assert not done
    assert said == {0}


def test_what_an_interrupted_start_has_begun_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows its pid, so nobody else would; and the next start is answered by its own."""

    send = socket.send_fds

    def interrupted(*given: Any) -> None:
        send(*given)
        raise KeyboardInterrupt

    Place(tmp_path).call("schema", "plan")
    starter, before = warm._starter()._process, children()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "send_fds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Place(tmp_path).start("simulate", "--machines", "1")

    assert starter.returncode == 0
    assert children() == before - {starter.pid}
    assert Place(tmp_path).call("schema", "plan").returncode == 0


def children() -> set[int]:
    """Return the processes whose parent this one is, ended or not."""
    threads = Path("/proc/self/task").iterdir()
    return {int(pid) for each in threads for pid in (each / "children").read_text().split()}
