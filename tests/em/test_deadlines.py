"""The total time of a request: what ends it, and what does not."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from orchestrator.em.deadlines import GRACE_S, Deadlines

pytestmark = pytest.mark.anyio


async def test_what_takes_too_long_ends_and_what_does_not_is_left_alone() -> None:
    """Each has its own time, whatever the others have."""
    deadlines = Deadlines()
    ended: dict[str, float] = {}

    async def work(name: str, limit: float, takes: float) -> None:
        try:
            with deadlines.within(limit):
                await anyio.sleep(takes)
        except TimeoutError:
            ended[name] = anyio.current_time() - began

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, "late", 100.0, 1000.0)
        tasks.start_soon(work, "early", 10.0, 1000.0)
        tasks.start_soon(work, "fast", 20.0, 1.0)

    assert ended == pytest.approx({"early": 10.0 + GRACE_S, "late": 100.0 + GRACE_S})


async def test_an_answer_that_waits_to_be_read_is_not_late() -> None:
    """Where this process stood still, it finds time over and answer at once: the answer counts."""
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    answer = loop.create_future()

    with deadlines.within(10.0):
        loop.call_later(10.0 + GRACE_S / 2, answer.set_result, "here")
        assert await answer == "here"


async def test_a_cancelled_request_is_cancelled_and_not_late() -> None:
    """Also where its time is over at the same moment: who cancels must see it."""
    deadlines = Deadlines()

    with anyio.CancelScope() as scope:
        scope.deadline = anyio.current_time() + 10.0 + GRACE_S
        with deadlines.within(10.0):
            await anyio.sleep(1000.0)

    assert scope.cancelled_caught
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await anyio.sleep(1.0)


async def test_what_is_under_way_ends_in_time_after_the_session_too() -> None:
    """Closing the connections does not end a request that waits for its body."""
    deadlines = Deadlines()
    deadlines.loop.call_later(1.0, deadlines.close)

    with pytest.raises(TimeoutError), deadlines.within(10.0):
        await anyio.sleep(1000.0)


async def test_one_after_another_share_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands that end in time set a timer only where the last one has run."""
    deadlines = Deadlines()
    set_at: list[float] = []
    call_at = deadlines.loop.call_at

    def counted(when: float, *args: object) -> asyncio.TimerHandle:
        set_at.append(when)
        return call_at(when, *args)  # type: ignore[arg-type]

    for _ in range(1000):
        with monkeypatch.context() as patched:
            patched.setattr(deadlines.loop, "call_at", counted)
            with deadlines.within(120.0):
                pass
        await anyio.sleep(1.0)

    assert len(set_at) <= 10
