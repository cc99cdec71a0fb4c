"""The command as a real process: its streams, files, arguments, environment, and children."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.app.demo import settings_for
from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE
from tests.hostile.searching import assert_nowhere, holding, secrets_of
from tests.processes import PATIENCE_S, Place, Servers, ended, served, until_running

pytestmark = pytest.mark.process

PASSWORD = 'pä:ss "w\\ord/+%41&<x>'
REFERENCE = f"{{env: {PASSWORD_VARIABLE}}}"


@pytest.fixture
def running() -> Iterator[Servers]:
    """Serve two servers that finish no mount until `go_on`."""
    settings = settings_for(2, machines=60, password=PASSWORD, duration_range=(0.1, 0.2))
    with served(settings, stall_after=0) as servers:
        yield servers


def plan_with(running: Servers, directory: Path, *references: str) -> Path:
    """Write a plan whose servers' passwords are found by these references, in turn."""
    path = running.plan(directory, targets=4)
    text = path.read_text(encoding="utf-8")
    assert text.count(REFERENCE) == len(references)
    for reference in references:
        text = text.replace(REFERENCE, reference, 1)
    path.write_text(text, encoding="utf-8")
    return path


def secret_file(directory: Path) -> str:
    """Write the password where only its owner may read it; return the reference to it."""
    path = directory / "secret.txt"
    path.write_text(PASSWORD, encoding="utf-8")
    path.chmod(0o600)
    return f"{{file: {json.dumps(str(path))}}}"


def secret_program(directory: Path) -> str:
    """Write a program that knows the password and notes what it was told; return a reference."""
    program = directory / "ask.py"
    program.write_text(
        "import pathlib, sys\n"
        "told = pathlib.Path('/proc/self/environ').read_bytes() + repr(sys.argv).encode()\n"
        f"pathlib.Path({str(directory / 'told')!r}).write_bytes(told)\n"
        f"print({PASSWORD!r})\n",
        encoding="utf-8",
    )
    return f"{{command: {json.dumps([sys.executable, str(program)])}}}"


def tokens_in(state: Path) -> list[str]:
    """Return the session tokens that the side file holds now."""
    (side,) = state.glob("sessions-*.json")
    found = json.loads(side.read_text(encoding="utf-8"))
    return [kept["token"] for sessions in found.values() for kept in sessions]


def about(process: subprocess.Popen[str], what: str) -> bytes:
    """Return what the system tells everybody, or the owner, about a process."""
    return Path(f"/proc/{process.pid}/{what}").read_bytes()


def modes(directory: Path) -> set[tuple[str, str]]:
    """Return the kinds of things below a directory, itself included, with their modes."""
    found = [directory, *directory.rglob("*")]
    return {
        ("directory" if path.is_dir() else "file", oct(stat.S_IMODE(path.stat().st_mode)))
        for path in found
    }


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_whole_run_gives_nothing_away(running: Servers, tmp_path: Path, umask: int) -> None:
    """Streams at the loudest level, files, arguments, environment, a child's too, and core
    dumps; files are for their owner alone, whatever the umask.
    """
    secret = tmp_path / "secret"
    secret.mkdir()
    place = Place(tmp_path / "own", {PASSWORD_VARIABLE: "another"})
    plan = plan_with(running, tmp_path, secret_file(secret), secret_program(secret))
    options = ("--yes", "--json", "-vvv", "--log-format", "json")

    process = place.start("run", plan, *options, umask=umask)
    until_running(process, 1)
    tokens = tokens_in(place.directory / "state")
    seen = [about(process, what) for what in ("cmdline", "environ")]
    seen.append((secret / "told").read_bytes())
    cores = about(process, "limits").decode()
    running.go_on()
    code, out, err = ended(process)

    secrets = secrets_of(ACCOUNT, PASSWORD, tokens)
    assert (code, len(tokens)) == (0, 2)
    assert not any(holding(secrets, text) for text in seen)
    assert_nowhere(secrets, place.directory, out, err)
    assert modes(place.directory / "state") == {("directory", "0o700"), ("file", "0o600")}
    assert modes(place.report) == {("directory", "0o700"), ("file", "0o600")}
    limit = next(line for line in cores.splitlines() if line.startswith("Max core file size"))
    assert limit.split()[4:6] == ["0", "0"]


def test_a_crash_of_the_program_prints_no_secret(running: Servers, tmp_path: Path) -> None:
    """An exception nobody expected, deep in a request, ends with a message and no local values."""
    place = Place(tmp_path / "own", {PASSWORD_VARIABLE: PASSWORD})
    plan = plan_with(running, tmp_path, REFERENCE, REFERENCE)
    planted = (
        "import sys\n"
        "from orchestrator.em import transport\n"
        "async def mistaken(*arguments):\n"
        "    raise RuntimeError('planted')\n"
        "transport.feed_body = mistaken\n"
        "from orchestrator.__main__ import main\n"
        "main()\n"
    )
    argv = place.arguments("run", plan, "--yes", "-vvv")

    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", planted, *argv[3:]],
        capture_output=True,
        text=True,
        check=False,
        env=place.environ(),
        timeout=PATIENCE_S,
    )

    assert done.returncode == 70
    assert "planted" in done.stderr
    assert_nowhere(secrets_of(ACCOUNT, PASSWORD, []), place.directory, done.stdout, done.stderr)
