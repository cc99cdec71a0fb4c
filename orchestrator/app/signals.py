"""Beside a run: its views, the signals of the process, and the sleep of the machine."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext

import anyio

from orchestrator.app.wiring import World
from orchestrator.core.events import RunNoted
from orchestrator.core.text import duration
from orchestrator.engine.run import Run
from orchestrator.log import Log
from orchestrator.views.view import View
from orchestrator.views.web.web_view import WebView

log = Log(__name__)

SUSPENSION_TICK = 15.0
"""Seconds between looks whether the machine was suspended; shorter ones go unnoticed."""

HURRIED_S = 0.7
"""Seconds for telling of the end of a run that was to end at once."""

Signals = AsyncIterator[signal.Signals]


def caught_signals(world: World) -> AbstractContextManager[Signals | None]:
    """Catch the signals that would end the process, where that is wanted.

    From before the run until after its reports: a signal in between is never the end of one.
    SIGHUP says that the terminal is gone, which is no reason to stop.
    """
    if not world.signals:
        return nullcontext()
    return anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@asynccontextmanager
async def serve_views(
    run: Run,
    view: View,
    signals: Signals | None,
    boot_clock: Callable[[], float],
    background: Sequence[WebView] = (),
) -> AsyncIterator[None]:
    """Draw the view, obey signals and look for suspensions while the run goes on."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_draw, run, view)
        tasks.start_soon(_note_suspensions, run, boot_clock)
        for each in background:
            tasks.start_soon(_serve, run, each)
        if signals is not None:
            tasks.start_soon(_obey, run, signals)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            with harmless(view):
                view.close()


async def unless_signalled(
    signals: Signals | None, work: Callable[[], Awaitable[None]], *, hurried: bool = False
) -> bool:
    """Do what a run does after its end, until a signal says that there is no time for it.

    Where a second one has said so before (`hurried`), it gets `HURRIED_S` seconds. Returns
    whether it was done.
    """
    done = False
    async with anyio.create_task_group() as tasks:

        async def cut_short(signals: Signals) -> None:
            async for number in signals:
                if number != signal.SIGHUP:
                    tasks.cancel_scope.cancel()

        if signals is not None:
            tasks.start_soon(cut_short, signals)
        with anyio.move_on_after(HURRIED_S if hurried else math.inf):
            await work()
            done = True
        tasks.cancel_scope.cancel()
    return done


@contextmanager
def harmless(observer: View | WebView) -> Iterator[None]:
    """Log exceptions from views instead of letting them stop the run."""
    try:
        yield
    except Exception:
        log.warning("onlooker.failed", onlooker=type(observer).__name__, exc_info=True)


def harmlessly(observer: View | WebView, do: Callable[..., None], *args: object) -> bool:
    """Call a function of a view; return whether it succeeded, and log its exception if not."""
    with harmless(observer):
        do(*args)
        return True
    return False


async def _draw(run: Run, view: View) -> None:
    """Draw now and then; a view that cannot draw is asked no more."""
    with harmless(view):
        while True:
            await anyio.sleep(view.interval_s)
            view.draw(run.ledger.now())


async def _serve(run: Run, view: WebView) -> None:
    """Serve a view in the background."""
    with harmless(view):
        await view.serve(run.ledger.now)


async def _note_suspensions(run: Run, boot_clock: Callable[[], float]) -> None:
    """Note in the report that the machine slept: its times do not count that."""
    asleep = boot_clock() - anyio.current_time()
    while True:
        await anyio.sleep(SUSPENSION_TICK)
        before, asleep = asleep, boot_clock() - anyio.current_time()
        if asleep - before >= SUSPENSION_TICK:
            slept = f"this machine was suspended for {duration(asleep - before)}"
            message = f"{slept}, which the times in this report do not count"
            run.ledger.record(RunNoted(at=run.ledger.now(), message=message))


async def _obey(run: Run, signals: Signals) -> None:
    """Stop the run gently on the first signal, at once on the second; outlive the terminal."""
    async for number in signals:
        if number != signal.SIGHUP:
            run.stop(signal.Signals(number).name)
        else:
            log.info("terminal.gone")
