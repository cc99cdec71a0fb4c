"""Simulated servers that a command serves, and the signal that ends it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import pytest

from orchestrator.cli.simulating import serve_until_stopped
from orchestrator.core.exit_codes import ExitCode

pytestmark = pytest.mark.anyio


async def test_a_signal_in_the_moment_in_which_the_servers_answer_ends_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not too late to end the start, and too early for counts: nothing was shown."""
    starting, answering = anyio.Event(), anyio.Event()

    async def signals() -> AsyncIterator[signal.Signals]:
        await starting.wait()
        answering.set()  # the start goes on behind what this signal leads to
        yield signal.SIGTERM

    @contextmanager
    def receiver(*_: signal.Signals) -> Iterator[AsyncIterator[signal.Signals]]:
        yield signals()

    @asynccontextmanager
    async def servers() -> AsyncIterator[None]:
        starting.set()
        await answering.wait()
        yield

    def never(_: None) -> None:
        pytest.fail("served after the signal")

    monkeypatch.setattr(anyio, "open_signal_receiver", receiver)
    with pytest.raises(SystemExit) as caught:
        await serve_until_stopped(servers(), never)  # type: ignore[arg-type]  # never called

    assert caught.value.code == ExitCode.SIGTERM
