"""Checklist, "virtual time so idle expiry and long mounts test in milliseconds": the loop."""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

import anyio
import anyio.lowlevel
import pytest

from tests.virtual.clock import Deadlock, VirtualTimeLoop, run_virtual


def test_hours_pass_at_once() -> None:
    """A sleep of three hours costs no real time, and the clock shows exactly three hours."""

    async def program() -> float:
        await anyio.sleep(10_800.0)
        return anyio.current_time()

    began = time.monotonic()

    assert run_virtual(program) == 10_800.0
    assert time.monotonic() - began < 60.0


def test_timers_fire_in_the_order_of_their_time() -> None:
    """Time jumps to the next timer and never past one."""
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        order.append((name, anyio.current_time()))

    async def program() -> None:
        async with anyio.create_task_group() as tasks:
            for name, seconds in (("late", 900.0), ("early", 0.25), ("middle", 60.0)):
                tasks.start_soon(sleeper, name, seconds)

    run_virtual(program)

    assert order == [("early", 0.25), ("middle", 60.0), ("late", 900.0)]


def test_work_takes_no_time() -> None:
    """What is ready runs first: the clock stands while anything can happen."""

    async def program() -> float:
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
        time.sleep(0.01)  # noqa: ASYNC251 - real time, which must not show
        return anyio.current_time()

    assert run_virtual(program) == 0.0


def test_a_deadline_is_exact() -> None:
    """Cancellation at a deadline happens at that instant."""

    async def program() -> tuple[bool, float]:
        with anyio.move_on_after(12.5) as scope:
            await anyio.sleep(3600.0)
        return scope.cancelled_caught, anyio.current_time()

    assert run_virtual(program) == (True, 12.5)


def test_waiting_for_ever_is_an_error() -> None:
    """Nothing ready and no timer: a clear error instead of a hang."""

    async def program() -> NoReturn:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    loop = VirtualTimeLoop()
    task = loop.create_task(program())
    try:
        with pytest.raises(Deadlock, match="no timer"):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()


def test_the_same_program_takes_the_same_course() -> None:
    """Two runs are the same, instant by instant."""

    async def program() -> list[float]:
        seen: list[float] = []

        async def ticking(period: float) -> None:
            for _ in range(50):
                await anyio.sleep(period)
                seen.append(anyio.current_time() * period)

        async with anyio.create_task_group() as tasks:
            for period in (0.7, 1.1, 1.3):
                tasks.start_soon(ticking, period)
        return seen

    assert run_virtual(program) == run_virtual(program)


def test_sockets_within_the_loop_work() -> None:
    """Real loopback sockets move bytes while the clock stands, and timers still jump."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        await asyncio.sleep(600.0)
        writer.write(line.upper())
        writer.close()
        await writer.wait_closed()

    async def program() -> tuple[bytes, bool]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        # The kernel may need a moment of real time: with timers set, waiting is no deadlock.
        ticking = asyncio.create_task(ticks())
        line = await reader.readline()
        ticking.cancel()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return line, asyncio.get_running_loop().time() >= 600.0

    async def ticks() -> None:
        for _ in range(100_000):
            await asyncio.sleep(1.0)

    assert run_virtual(program) == (b"HELLO\n", True)


def test_an_exception_comes_out_as_it_was() -> None:
    """run_virtual raises what the program raised."""

    async def program() -> NoReturn:
        await anyio.sleep(1.0)
        raise LookupError("this one")

    with pytest.raises(LookupError, match="this one"):
        run_virtual(program)
