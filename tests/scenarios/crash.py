"""Deaths of a process in virtual time, as `kill -9` would leave things.

What was committed stays, the network falls silent at once, and whatever the dying process
still does while it unwinds reaches nobody: its state directory is thrown away.
"""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import Awaitable, Callable

import anyio
import pytest

from orchestrator.journal import RunJournal
from orchestrator.simulator.faults import Fault, FaultScript
from tests.scenarios.drill import Drill, Stage
from tests.virtual.sites import host


class Doom:
    """Lets processes of a stage die at a step, at a time of the run, or when something is so.

    Steps are counted over the life of one process: before and after each commit of the journal,
    before and after each request takes effect.
    """

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Watch everything that leaves a process of `stage`."""
        self._stage = stage
        self._scope = anyio.CancelScope()
        self._at_step: float = math.inf
        self._saved = stage.state.with_name("saved")
        self.steps = 0
        self.dead = False
        write = RunJournal._write

        def doomed(journal: RunJournal, *rows: object) -> None:
            self.passes()
            write(journal, *rows)  # type: ignore[arg-type]  # exactly what it was given
            self.passes()

        monkeypatch.setattr(RunJournal, "_write", doomed)
        for face in stage.sites.faces.values():
            face.faults = _Doomed(face.faults, self)

    async def lives(
        self,
        process: Callable[[], Awaitable[Drill]],
        *,
        at_step: float = math.inf,
        at_s: float = math.inf,
        when: Callable[[], bool] | None = None,
    ) -> Drill | None:
        """Return what came of the process, or None if it died at `at_step` or `at_s` seconds.

        It also dies within a tenth of a second of what `when` asks for.
        """
        self.steps, self.dead, self._at_step = 0, False, at_step
        done: Drill | None = None
        failed: Exception | None = None
        with anyio.CancelScope() as self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._dies_at, at_s)
                if when is not None:
                    tasks.start_soon(self._dies_when, when)
                try:
                    done = await process()
                except Exception as exc:  # noqa: BLE001 - raised again, outside of the group
                    failed = exc
                tasks.cancel_scope.cancel()
        if self.dead:
            self._bury()
            return None
        if failed is not None:
            raise failed
        return done

    async def _dies_at(self, at_s: float) -> None:
        if at_s < math.inf:
            await anyio.sleep(max(0.0, at_s - self._stage.now))
            self.die()

    async def _dies_when(self, it_is_so: Callable[[], bool]) -> None:
        while not self.dead:
            await anyio.sleep(0.1)
            if it_is_so():
                self.die()

    def passes(self) -> bool:
        """Count a step; True if the process dies of it."""
        self.steps += 1
        if self.steps == self._at_step:
            self.die()
            return True
        return False

    def dies_after(self, steps: int) -> None:
        """Let the process die so many steps from now; 0: at the next one."""
        self._at_step = self.steps + 1 + steps

    def die(self) -> None:
        """Keep what is on disk, silence the network, and end the process."""
        if self.dead:
            return
        self.dead = True
        if self._stage.state.exists():
            shutil.copytree(self._stage.state, self._saved, ignore=shutil.ignore_patterns("*-shm"))
        network = self._stage.sites.network
        for name in self._stage.sites.managers:
            network.refusing.add(host(name))
            network.cut(host(name))
        asyncio.get_running_loop().call_soon(self._scope.cancel)  # not from within a shield

    def _bury(self) -> None:
        """Leave to the next process only what this one had on disk when it died."""
        stage = self._stage
        for directory in (stage.state, stage.report):
            if directory.exists():
                shutil.rmtree(directory)
        if self._saved.exists():
            self._saved.rename(stage.state)
        for name in stage.sites.managers:
            stage.sites.network.refusing.discard(host(name))


class _Doomed(FaultScript):
    """A fault script in which a request may be the last one."""

    def __init__(self, inner: FaultScript, doom: Doom) -> None:
        super().__init__()
        self._inner = inner
        self._doom = doom

    def strike(self, method: str, path: str, now: float, query: str = "") -> Fault | None:
        if self._doom.passes():
            return Fault(kind="drop_before")
        if self._doom.passes():
            return Fault(kind="drop_after")
        return self._inner.strike(method, path, now, query)
