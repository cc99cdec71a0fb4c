"""What is between one worker and the database, and what goes wrong there, by a seed.

What a worker has sent is on its way, whatever becomes of the worker: a statement is done at the
database although who sent it was killed, and a late one although its sender has given it up.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from orchestrator.core.errors import DatabaseAway, OrchestratorError
from tests.simulation.sites.database import SimulatedDatabase
from tests.simulation.sites.processes import of_nobody

T = TypeVar("T")

ANSWER_S = 15.0
"""As `database.link.ANSWER_S`: then a connection without an answer is given up."""


@dataclass(slots=True, kw_only=True)
class Trouble:
    """What a link does to statements. Seconds; shares of all statements."""

    delay_s: tuple[float, float] = (0.001, 0.004)
    """The least and the most that a way takes, there and back."""
    slow: float = 0.0
    """Share of the ways that take `slow_s` at most."""
    slow_s: float = 3.0
    lost_before: float = 0.0
    """Share of the statements that never arrive: the connection breaks."""
    lost_after: float = 0.0
    """Share of the statements that are done, and whose answer is lost."""
    late: float = 0.0
    """Share of the statements that are given up, and arrive all the same, up to `late_s` later."""
    late_s: float = 20.0


class _Statement:
    """One statement on its way."""

    __slots__ = ("answer", "do", "found", "generation")

    def __init__(self, do: Callable[[], Any], answer: asyncio.Future[Any], generation: int) -> None:
        self.do, self.answer = do, answer
        self.found: Any = None
        """What the database has answered."""
        self.generation = generation
        """Which of the connections of the link it goes over: a new one after each break."""


class _Way:
    """One connection: it carries one statement after another, and gives up one without answer."""

    def __init__(self, link: Link) -> None:
        self._link, self._loop = link, asyncio.get_running_loop()
        self.sent: _Statement | None = None
        """What is under way."""
        self.is_taken = False
        """Whether it is somebody's, from `free` to `leave`."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._until = 0.0
        self._looks = False

    async def free(self) -> None:
        """Return once nothing is under way, in turn; it is the caller's then, until `leave`."""
        if not self.is_taken:
            self.is_taken = True
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Let the next one have it."""
        self.sent = None
        if not self._waiting:
            self.is_taken = False
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.is_taken = False

    def be_patient(self) -> None:
        """Give up what is under way unless its answer comes in time."""
        self._until = self._loop.time() + ANSWER_S
        if not self._looks:
            self._looks = True
            self._loop.call_at(self._until, self._look)

    def _look(self) -> None:
        self._looks = False
        if self.sent is None:
            return
        if self._loop.time() < self._until:
            self._looks = True
            self._loop.call_at(self._until, self._look)
        elif not self.sent.answer.done():
            self._link.hits["answer_given_up"] += 1
            away = DatabaseAway("the database is away: no answer came")
            self.sent.answer.set_exception(away)


@dataclass(slots=True)
class Link:
    """One worker's way to the database; implements `database.Wire`."""

    database: SimulatedDatabase
    rng: random.Random
    trouble: Trouble = field(default_factory=Trouble)
    hits: Counter[str] = field(default_factory=Counter)
    is_cut: bool = False
    _generation: int = 0
    _held: list[Callable[[], object]] = field(default_factory=list)
    _ways: dict[str, _Way] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _nobody: Context = field(default_factory=of_nobody)
    """In which a statement is on its way."""
    _random: Callable[[], float] = field(init=False)

    def __post_init__(self) -> None:
        """Hear of the database's end."""
        self.database.on_break(self.break_all)
        self._random = self.rng.random

    async def carry(self, connection: str, statement: Callable[[], T]) -> T:
        """Have a statement done and return its answer; see `database.Wire`."""
        way = self._ways.get(connection)
        if way is None:
            way = self._ways[connection] = _Way(self)
        if way.is_taken:
            await way.free()
        way.is_taken = True
        try:
            answer = self._loop.create_future()
            sent = way.sent = _Statement(statement, answer, self._generation)
            self._send(sent)
            way.be_patient()
            found: T = await answer
            return found
        finally:
            way.leave()

    # --- what goes wrong -----------------------------------------------------------------------

    def cut(self) -> None:
        """Let nothing pass until `mend`; nobody is told."""
        self.is_cut = True

    def mend(self) -> None:
        """Let pass what was held up, in its order, and everything after it."""
        self.is_cut = False
        held, self._held = self._held, []
        for passes in held:
            passes()

    def break_all(self) -> None:
        """Break every connection: who waits for an answer learns that there is none."""
        self._generation += 1

    # --- the way of a statement ----------------------------------------------------------------

    def _send(self, sent: _Statement) -> None:
        dice, trouble = self._random(), self.trouble
        if dice < trouble.lost_before:
            self.hits["request_lost"] += 1
            self._later(self._way(), self._fail, sent)
        elif dice < trouble.lost_before + trouble.late:
            self.hits["request_late"] += 1
            self._later(self._way(), self._fail, sent)
            self._later(self.rng.uniform(0.0, trouble.late_s), self._do, sent)
        else:
            self._later(self._way(), self._arrive, sent)

    def _way(self) -> float:
        trouble = self.trouble
        if self._random() < trouble.slow:
            self.hits["slow"] += 1
            return self.rng.uniform(0.0, trouble.slow_s)
        least, most = trouble.delay_s
        return least + (most - least) * self._random()  # as `uniform`

    def _later(self, seconds: float, act: Callable[[_Statement], object], sent: _Statement) -> None:
        self._loop.call_later(seconds, self._pass, act, sent, context=self._nobody)

    def _pass(self, act: Callable[[_Statement], object], sent: _Statement) -> None:
        if self.is_cut:
            self.hits["held_up"] += 1
            self._held.append(partial(act, sent))
        else:
            act(sent)

    def _arrive(self, sent: _Statement) -> None:
        if sent.generation != self._generation:
            self._fail(sent)
            return
        self._do(sent)
        if self._random() < self.trouble.lost_after:
            self.hits["answer_lost"] += 1
            self._later(self._way(), self._fail, sent)
        else:
            self._later(self._way(), self._deliver, sent)

    def _do(self, sent: _Statement) -> None:
        """Do a statement at the database; what comes of it may be why there is no answer."""
        try:
            sent.found = sent.do()
        except OrchestratorError as exc:
            sent.found = exc

    def _deliver(self, sent: _Statement) -> None:
        if sent.generation != self._generation:
            self._fail(sent)
        elif not sent.answer.done():
            if isinstance(sent.found, OrchestratorError):
                sent.answer.set_exception(sent.found)
            else:
                sent.answer.set_result(sent.found)

    def _fail(self, sent: _Statement) -> None:
        if not sent.answer.done():
            sent.answer.set_exception(DatabaseAway("the database is away: the connection broke"))
