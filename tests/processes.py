"""Real servers over HTTPS, and the command as a real process beside them."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from anyio.from_thread import BlockingPortal, start_blocking_portal

from orchestrator.app.demo import settings_for
from orchestrator.simulator.certificates import Certificate, self_signed
from orchestrator.simulator.plans import Served, plan_for
from orchestrator.simulator.process import PASSWORD_VARIABLE, Settings, listening, simulation
from orchestrator.simulator.truth import GroundTruth

PASSWORD = "n0t-a-real-password"
STATEFUL = frozenset(
    {"run", "resume", "status", "watch", "unmount", "report", "list", "trend", "coverage"}
)
"""Commands that take --state."""


class Witnessed(Served, Protocol):
    """Simulated servers that tell what really happened."""

    async def truth(self) -> GroundTruth:
        """Return it, over all servers."""


@dataclass(frozen=True, slots=True)
class Here:
    """Simulated servers in a thread of this process: as real, and sooner there."""

    settings: Sequence[Settings]
    urls: Mapping[str, str]
    certificate: Certificate
    truths: Sequence[GroundTruth]

    async def truth(self) -> GroundTruth:
        """Return what really happened so far, over all servers."""
        return GroundTruth.from_json([truth.as_json() for truth in self.truths])


@asynccontextmanager
async def here(settings: Sequence[Settings]) -> AsyncIterator[Here]:
    """Serve in this process; nothing that is measured should run beside it."""
    async with AsyncExitStack() as stack:
        certificate = self_signed(Path(stack.enter_context(TemporaryDirectory())))
        urls: dict[str, str] = {}
        truths: list[GroundTruth] = []
        for each in settings:
            server = listening(each, certificate.certificate, certificate.key)
            port, truth = await stack.enter_async_context(server)
            urls[each.name] = f"https://127.0.0.1:{port}"
            truths.append(truth)
        yield Here(settings, urls, certificate, truths)


@dataclass(slots=True)
class Servers:
    """Running simulated servers, seen from code without an event loop."""

    portal: BlockingPortal
    simulation: Witnessed

    def truth(self) -> GroundTruth:
        """Return what really happened so far."""
        return self.portal.call(self.simulation.truth)

    def plan(self, directory: Path, *, targets: int, name: str = "process-drill") -> Path:
        """Write a plan that fits and return its path."""
        path = directory / "plan.yaml"
        text = plan_for(
            self.simulation,
            targets=targets,
            name=name,
            server_mounts=6,
            run_mounts=10,
            backup_server_mounts=3,
        )
        path.write_text(text, encoding="utf-8")
        return path


@contextmanager
def servers(*, count: int = 2, seconds: tuple[float, float] = (0.1, 0.5)) -> Iterator[Servers]:
    """Serve `count` servers over HTTPS whose mounts take as many seconds as `seconds` says."""
    chosen = settings_for(count, machines=60, password=PASSWORD, duration_range=seconds)
    with served(chosen) as running:
        yield running


@contextmanager
def served(settings: Sequence[Settings], *, apart: bool = False) -> Iterator[Servers]:
    """Serve whatever the settings say, each `apart` in a process or all of them in this one.

    Their password is PASSWORD.
    """
    try:
        with start_blocking_portal() as portal:
            context: AbstractAsyncContextManager[Witnessed] = here(settings)
            if apart:
                context = simulation(settings, password=PASSWORD)
            with portal.wrap_async_context_manager(context) as running:
                yield Servers(portal, running)
    finally:
        _forget_connections()


def _forget_connections() -> None:
    """Let go, here and now, of connections that the servers' loop had half open at its end.

    They are those of processes that were killed; later they would be held against another test.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@dataclass(slots=True)
class Place:
    """Where one test keeps its journal and reports, and how it calls the command."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """The report directory."""
        return self.directory / "report"

    def values(self) -> dict[str, Any]:
        """Return report.json."""
        found: dict[str, Any] = json.loads((self.report / "report.json").read_text())
        return found

    def arguments(self, verb: str, *more: str | Path) -> list[str]:
        """Return argv of a command that uses this place's journal, and its report directory."""
        argv = [sys.executable, "-m", "orchestrator", verb, *map(str, more)]
        if verb in STATEFUL:
            argv += ["--state", str(self.directory / "state")]
        if verb == "run":
            argv += ["--report", str(self.report)]
        return argv

    def start(
        self, verb: str, *more: str | Path, through: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command with pipes; `through` is a program that goes on as the command."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(
            [*through, *self.arguments(verb, *more)], text=True, env=self.environ(), **options
        )

    def call(self, verb: str, *more: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.arguments(verb, *more),
            text=True,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=300,
        )

    def environ(self) -> dict[str, str]:
        """Return the environment of its commands."""
        kept = {key: value for key, value in os.environ.items() if "BULK_RESTORE" not in key}
        return {**kept, PASSWORD_VARIABLE: PASSWORD, **self.environment}


def until_running(process: subprocess.Popen[str], count: int) -> None:
    """Read `--json` events until the tasks of `count` targets were accepted."""
    seen: set[str] = set()
    for event in _events(process):
        if event["type"] == "target" and event["phase"] == "running":
            seen.add(event["key"])
            if len(seen) >= count:
                return
    raise AssertionError(f"the run ended when {len(seen)} targets had been running")


def until_stopping(process: subprocess.Popen[str]) -> None:
    """Read `--json` events until the run has noticed a signal."""
    for event in _events(process):
        if event["type"] == "run" and event["state"] == "stopping":
            return
    raise AssertionError("the run ended before it noticed a signal")


def until_waiting_for_runs(process: subprocess.Popen[str]) -> None:
    """Read `--json` events until the run waits for another one of its state directory."""
    if not any(event.get("state") == "waiting_for_runs" for event in _events(process)):
        raise AssertionError("the run ended and had waited for no other one")


def until_noted(process: subprocess.Popen[str]) -> str:
    """Read `--json` events until the run notes something about itself; return that."""
    for event in _events(process):
        if event["type"] == "run" and event["state"] == "note":
            return str(event["message"])
    raise AssertionError("the run ended without a note")


def _events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; return exit code, the rest of stdout, and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def kill(process: subprocess.Popen[str]) -> None:
    """End a process as a power cut would, and wait for it."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
