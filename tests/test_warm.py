"""A command that starts as a copy is what it is when it starts cold."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen

import pytest

from tests.processes import PATIENCE_S, Place
from tests.warm import WarmProcess, _starter, can_start

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


def test_threads_that_start_commands_at_once_each_get_their_own(tmp_path: Path) -> None:
    """Also the first ones: while one adopts its copy, another must not stop adopting."""
    _starter.cache_clear()

    def started(number: int) -> str:
        with Place(tmp_path).start("simulate", "--machines", str(number)) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            process.terminate()
            return said

    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(started, range(1, 9)))

    assert all(said), said
