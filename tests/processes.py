"""Real servers over HTTPS, and the command as a real process beside them.

Machines are busy, so no test may depend on how fast one of them is. Wait for what a process says
(`until_running` and its like), let servers stall until what must come first has come, and bound
only what would be waited for otherwise, such as a request that is never answered.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import Any, Protocol

from anyio.from_thread import BlockingPortal, start_blocking_portal

from orchestrator.app.demo import settings_for
from orchestrator.simulator.certificates import Certificate, self_signed
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.manager import SimSession, SimTask, SimulatedManager
from orchestrator.simulator.plans import ServedManagers, plan_for
from orchestrator.simulator.process import PASSWORD_VARIABLE, Settings, listening, simulation
from orchestrator.simulator.server import HttpFace
from orchestrator.simulator.truth import GroundTruth
from tests.warm import WarmProcess, can_start

Face = Callable[[SimulatedManager, FaultScript], HttpFace]

PASSWORD = "n0t-a-real-password"
STATEFUL = frozenset(
    {
        *("run", "resume", "status", "watch", "ctl", "unmount", "report", "list", "trend"),
        *("coverage", "submit", "work", "stop", "forecast", "browse"),
    }
)
"""Commands that take --state."""

STREAMS = {"stdin", "stdout", "stderr"}

PATIENCE_S = 120.0
"""A command that says nothing for so long, or does not end, hangs. No test measures by it."""

_started: list[subprocess.Popen[Any]] = []
"""What tests have started and `end_leftovers` has not seen yet."""


class Witnessed(ServedManagers, Protocol):
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


@dataclass(slots=True)
class Stall:
    """Keeps all mounts but the first `after` in the making until it is over.

    So what a test does meanwhile comes before their end, however slow the machine is.
    """

    after: int
    _waiting: list[Callable[[], None]] = field(default_factory=list)
    _is_over: bool = False

    def finish(self, mount: Callable[[], None]) -> None:
        """Let a mount be finished, now or later."""
        self.after -= 1
        if self._is_over or self.after >= 0:
            mount()
        else:
            self._waiting.append(mount)

    def end(self) -> None:
        """Finish what waits, and let no other mount wait."""
        self._is_over = True
        while self._waiting:
            self._waiting.pop()()


class Stalling(SimulatedManager):
    """A server whose mounts are finished when a stall lets them."""

    def __init__(self, stall: Stall, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._stall = stall

    def _operation_done(self, session: SimSession, task: SimTask, backup_server: str) -> None:
        self._stall.finish(partial(super()._operation_done, session, task, backup_server))


@asynccontextmanager
async def here(
    settings: Sequence[Settings], stall: Stall | None = None, face: Face = HttpFace
) -> AsyncIterator[Here]:
    """Serve in this process; nothing that is measured should run beside it."""
    kind = SimulatedManager if stall is None else partial(Stalling, stall)
    async with AsyncExitStack() as stack:
        certificate = self_signed(Path(stack.enter_context(TemporaryDirectory())))
        urls: dict[str, str] = {}
        truths: list[GroundTruth] = []
        for each in settings:
            server = listening(
                each,
                certificate.certificate,
                certificate.key,
                manager_class=kind,
                face_class=face,
            )
            port, truth = await stack.enter_async_context(server)
            urls[each.name] = f"https://127.0.0.1:{port}"
            truths.append(truth)
        yield Here(settings, urls, certificate, truths)


@dataclass(slots=True)
class Servers:
    """Running simulated servers, seen from code without an event loop."""

    portal: BlockingPortal
    simulation: Witnessed
    stall: Stall | None = None

    def go_on(self) -> None:
        """Let servers that stall finish their mounts from now on."""
        assert self.stall is not None
        self.portal.call(self.stall.end)

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
def servers(
    *,
    count: int = 2,
    seconds: tuple[float, float] = (0.1, 0.5),
    stall_after: int | None = None,
) -> Iterator[Servers]:
    """Serve `count` servers over HTTPS whose mounts take as many seconds as `seconds` says.

    After `stall_after` mounts they finish none until `go_on`.
    """
    chosen = settings_for(count, machines=60, password=PASSWORD, duration_range=seconds)
    with served(chosen, stall_after=stall_after) as running:
        yield running


@contextmanager
def served(
    settings: Sequence[Settings],
    *,
    apart: bool = False,
    stall_after: int | None = None,
    face: Face = HttpFace,
) -> Iterator[Servers]:
    """Serve whatever the settings say, each `apart` in a process or all of them in this one.

    Their password is PASSWORD. Only those in this process can stall, or have another `face`.
    """
    try:
        with start_blocking_portal() as portal:
            stall = None if stall_after is None else Stall(stall_after)
            context: AbstractAsyncContextManager[Witnessed] = here(settings, stall, face)
            if apart:
                context = simulation(settings, password=PASSWORD)
            with portal.wrap_async_context_manager(context) as running:
                yield Servers(portal, running, stall)
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
    address: str | None = None
    """The database where runs are recorded; None: a directory of this place."""
    is_cold: bool = False
    """Whether each command starts as users start it, and none as a copy: see `tests.warm`."""

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
            argv += ["--state", self.address or str(self.directory / "state")]
        if verb in {"run", "submit"}:
            argv += ["--report", str(self.report)]
        return argv

    def start(
        self, verb: str, *more: str | Path, through: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[str]:
        """Start a command with pipes; `through` is a program that goes on as the command."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
        options.setdefault("stderr", subprocess.PIPE)
        argv, env = [*through, *self.arguments(verb, *more)], self.environ()
        is_cold = self.is_cold or through or options.keys() != STREAMS or not can_start(env)
        kind = subprocess.Popen[str] if is_cold else WarmProcess
        process = kind(argv, text=True, env=env, **options)
        ends_with_its_test(process)
        return process

    def call(
        self, verb: str, *more: str | Path, within: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with self.start(verb, *more) as process:
            try:
                out, err = process.communicate(timeout=within)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

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


def until_said(process: subprocess.Popen[str], words: str) -> str:
    """Read stderr until a line holds these words, or begins to; return all that was read."""
    assert process.stderr is not None
    said = ""
    with _not_for_ever(process):
        while words not in said:
            more = process.stderr.read(1)
            assert more, f"never said: {said}"
            said += more
    return said


def _events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    with _not_for_ever(process):
        for line in process.stdout:
            yield json.loads(line)


@contextmanager
def _not_for_ever(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process that hangs, so that whoever reads what it says goes on."""
    timer = Timer(PATIENCE_S, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def ended(process: subprocess.Popen[str], within: float = PATIENCE_S) -> tuple[int, str, str]:
    """Wait for the end; return exit code, the rest of stdout, and stderr."""
    out, err = process.communicate(timeout=within)
    return process.returncode, out, err


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process as a power cut would, and wait for it."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)


def ends_with_its_test(process: subprocess.Popen[Any]) -> None:
    """Let a process be ended if a test fails before it does that."""
    _started.append(process)


def end_leftovers() -> None:
    """End what a test that failed has left running."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            kill(process)
