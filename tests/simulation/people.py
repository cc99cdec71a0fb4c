"""The people at the second terminal of a story: they ask what `steers` has drawn, as `ctl` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup

from orchestrator.app.browsing import Seen, listed
from orchestrator.app.controlling import ask
from orchestrator.core.controls import Control, Look
from orchestrator.core.errors import JournalError, RunNotFound
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import RunId
from orchestrator.core.run_state import RunState
from orchestrator.journal import State
from tests.simulation.steered import Overseer
from tests.simulation.steers import Answerer, Peek, Request

ANSWERED = frozenset({ExitCode.GOOD, ExitCode.USAGE})

LATER_S = 1000.0
"""Seconds after the last request when somebody sets all limits as in the plan."""

AGAIN_S = 7.0
"""Seconds after which somebody who was not answered asks once more that the run goes on."""


class People:
    """Everybody who steers one run, in all its processes."""

    def __init__(self, overseer: Overseer, state: Path, run: RunId) -> None:
        """They ask through the state directory, once there is a run."""
        self._overseer, self._steers = overseer, overseer.steers
        self._directory, self._run = state, run
        self._number = 0
        self._answers: dict[str, int | None] = {}
        """What each request was answered with, by the words of whoever asked; None: nothing."""
        self._asked: set[int] = set()

    async def steer(self) -> None:
        """Ask what is left to be asked, until cancelled."""
        async with anyio.create_task_group() as tasks:
            if self._steers.gate is not None:
                for answerer in self._steers.gate.people:
                    tasks.start_soon(self._approve, answerer)
            tasks.start_soon(self._let_go_on)
            for peek in self._steers.peeks:
                tasks.start_soon(self._peek, peek)
            for place, request in enumerate(self._steers.requests):
                if place not in self._asked:
                    await anyio.sleep(max(0.0, request.at - anyio.current_time()))
                    self._asked.add(place)
                    if request.verb == "retry":
                        tasks.start_soon(self._try_again, request, tasks)
                    else:
                        await self._make(request, tasks)
            await anyio.sleep(LATER_S)
            await self._raise_again()

    async def _raise_again(self) -> None:
        """Set all limits as in the plan, so that nothing waits for a lower one for ever."""
        words = self._overseer.lowered
        while words and await self._ask("limits", words) not in ANSWERED:  # noqa: ASYNC110 - nothing tells that it moves
            await anyio.sleep(AGAIN_S)

    async def _make(self, request: Request, tasks: TaskGroup) -> None:
        words = request.words
        if request.verb in {"skip", "retry"}:
            key = self._chosen(request)
            if key is None:
                return
            words = (key,)
        code = await self._ask(request.verb, words, beyond_plan=request.beyond_plan)
        if code == ExitCode.GOOD and request.verb == "pause":
            tasks.start_soon(self._continue_after, request.pause_s)

    async def _try_again(self, request: Request, tasks: TaskGroup) -> None:
        """Wait until some target is not good: there is something to try again."""
        while not self._overseer.has_failed:  # noqa: ASYNC110 - the journal tells it
            await anyio.sleep(2.0)
        await self._make(request, tasks)

    async def _let_go_on(self) -> None:
        """Let a run go on that another process left paused."""
        if self._overseer.paused:
            await self._continue_after(200.0)

    async def _continue_after(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        while await self._ask("continue", ()) not in ANSWERED:  # noqa: ASYNC110 - nothing tells that it moves
            await anyio.sleep(AGAIN_S)

    async def _approve(self, answerer: Answerer) -> None:
        while self._overseer.awaited is None:  # noqa: ASYNC110 - the journal tells it
            await anyio.sleep(1.0)
        await anyio.sleep(answerer.after_s)
        await self._ask("approve", ("second",), user=answerer.user, reject=answerer.reject)

    async def _ask(
        self, verb: str, words: tuple[str, ...], user: str = "dora", **options: Any
    ) -> int | None:
        """Ask for something; return the exit code, or None where there is no run yet."""
        control, state = self._control(verb, words, user, **options), State(self._directory)
        try:
            summary = state.summary(self._run)
        except (RunNotFound, JournalError):
            return None
        self._answers[control.id] = None
        done = await ask(state, summary, control)
        if self._overseer.hears():  # else what it read is thrown away with its process
            self._answers[control.id] = done.code
        self._overseer.hits["control_unanswered"] += done.code not in {0, 2}
        return done.code

    def _control(self, verb: str, words: tuple[str, ...], user: str, **options: Any) -> Control:
        """Return a request, whose reason tells it from all others."""
        self._number += 1
        made_id = f"{self._number:020d}-{0:08x}"
        return Control(
            id=made_id,
            verb=verb,
            words=words,
            user=user,
            host="terminal",
            reason=made_id,
            **options,
        )

    async def _peek(self, peek: Peek) -> None:
        """Look into a mount that is held now, or into any other target in vain."""
        await anyio.sleep(max(0.0, peek.at - anyio.current_time()))
        records = self._records()
        held = [key for key, each in records.items() if each.phase is Phase.HELD]
        among = sorted(held or records)
        if not among:
            return
        key = among[int(peek.dice * 1000) % len(among)]
        words = (key,) if peek.path is None else (key, peek.path)
        control, state = self._control(Look.BROWSE, words, "dora"), State(self._directory)
        self._answers[control.id] = None
        found = await listed(state, state.summary(self._run), control)
        if self._overseer.hears():
            is_seen = isinstance(found, Seen)
            self._answers[control.id] = ExitCode.GOOD if is_seen else None

    def _chosen(self, request: Request) -> str | None:
        """Return the key of a target: one that can be skipped or tried again, or any other."""
        records = self._records()
        fitting = [
            key
            for key, each in records.items()
            if (not each.ever_submitted and not each.is_final) == (request.verb == "skip")
            and (request.verb == "skip" or (each.is_final and each.result in {"failed", "skipped"}))
        ]
        among = sorted(fitting if fitting and request.dice < 0.85 else records)
        return among[int(request.dice * 1000) % len(among)] if among else None

    def _records(self) -> Mapping[str, MountRecord]:
        state = self.state()
        return {} if state is None else {str(key): each for key, each in state.records.items()}

    def state(self) -> RunState | None:
        """Return what the journal tells; None where there is no run."""
        try:
            return State(self._directory).replay(self._run)
        except (RunNotFound, JournalError):
            return None

    def judge(self, report: Mapping[str, Any]) -> None:
        """Check that what was answered is in the report once, and what was refused is not."""
        told = [each["reason"] for each in report.get("controls", ())]
        for reason, code in self._answers.items():
            count = told.count(reason)
            least = 1 if code == ExitCode.GOOD else 0
            most = 0 if code in {ExitCode.USAGE, ExitCode.LOCKED} else 1
            assert least <= count <= most, f"{reason} was answered {code}, and is there {count}x"
        assert set(told) <= set(self._answers), f"{told}, and asked was {self._answers}"
