"""Beside a run: its view, whoever else shows it, the process's signals, the machine's sleep."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

import anyio
import structlog

from orchestrator.engine.run import Run
from orchestrator.events import RunNoted
from orchestrator.outlook import Expected
from orchestrator.ports import Observer
from orchestrator.progress import View
from orchestrator.runstate import RunState

log = structlog.get_logger(__name__)

SUSPENSION_TICK = 15.0
"""Seconds between looks whether the machine was suspended; shorter ones go unnoticed."""

Signals = AsyncIterator[signal.Signals]


class Companion(Observer, Protocol):
    """An observer that also does something of its own beside the run."""

    def expect(self, expected: Expected) -> None:
        """Know what earlier runs say of durations; called before everything else."""
        ...

    def take_over(self, found: RunState) -> None:
        """Begin with what earlier processes of the run did; called before the first event."""
        ...

    async def accompany(self, now: Callable[[], float]) -> None:
        """Go on until cancelled, which is at the run's end; what must follow then is bounded.

        `now` is the run's clock.
        """
        ...


@contextmanager
def caught_signals() -> Iterator[Signals]:
    """Catch what would end the process; whoever obeys it reads it from what is yielded.

    From before the run until after its reports: a signal in between is never the end of one.
    SIGHUP says that the terminal is gone, which is no reason to stop.
    """
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        yield signals


@asynccontextmanager
async def accompanied(
    run: Run,
    view: View,
    signals: Signals | None,
    boot_clock: Callable[[], float],
    companions: Sequence[Companion] = (),
) -> AsyncIterator[None]:
    """Draw the view, obey signals and look for suspensions while the run goes on."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_draw, run, view)
        tasks.start_soon(_note_suspensions, run, boot_clock)
        for companion in companions:
            tasks.start_soon(_beside, run, companion)
        if signals is not None:
            tasks.start_soon(_obey, run, signals)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with harmless(view):
                view.close()


async def unless_signalled(signals: Signals | None, work: Callable[[], Awaitable[None]]) -> bool:
    """Do what a run does after its end, until a signal says that there is no time for it.

    Returns whether it was done.
    """
    done = False
    async with anyio.create_task_group() as tasks:

        async def cut_short(signals: Signals) -> None:
            async for number in signals:
                if number != signal.SIGHUP:
                    tasks.cancel_scope.cancel()

        if signals is not None:
            tasks.start_soon(cut_short, signals)
        await work()
        done = True
        tasks.cancel_scope.cancel()
    return done


@contextmanager
def harmless(onlooker: View | Companion) -> Iterator[None]:
    """Keep what goes wrong in who only looks on from the run, and tell it in the log."""
    try:
        yield
    except Exception:
        log.warning("onlooker.failed", onlooker=type(onlooker).__name__, exc_info=True)


async def _draw(run: Run, view: View) -> None:
    """Draw now and then; a view that cannot draw is asked no more."""
    with harmless(view):
        while True:
            await anyio.sleep(view.interval_s)
            view.draw(run.ledger.now())


async def _beside(run: Run, companion: Companion) -> None:
    """Let a companion do its part."""
    with harmless(companion):
        await companion.accompany(run.ledger.now)


async def _note_suspensions(run: Run, boot_clock: Callable[[], float]) -> None:
    """Say in the report that the machine slept: its times do not count that."""
    asleep = boot_clock() - anyio.current_time()
    while True:
        await anyio.sleep(SUSPENSION_TICK)
        before, asleep = asleep, boot_clock() - anyio.current_time()
        if asleep - before >= SUSPENSION_TICK:
            slept = f"this machine was suspended for {asleep - before:.0f} s"
            message = f"{slept}, which the times in this report do not count"
            run.ledger.record(RunNoted(at=run.ledger.now(), message=message))


async def _obey(run: Run, signals: Signals) -> None:
    """Stop the run gently on the first signal, at once on the second; outlive the terminal."""
    async for number in signals:
        if number != signal.SIGHUP:
            run.stop(signal.Signals(number).name)
        else:
            log.info("terminal.gone")
