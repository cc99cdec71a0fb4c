"""The gate in front of a server: who waits, who passes, and who is told that it is over."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import ServerUnusable
from orchestrator.core.model import ServerName
from orchestrator.engine.circuit_breaker import CircuitBreaker, Refusals

pytestmark = pytest.mark.anyio


def gate_and_changes() -> tuple[CircuitBreaker, list[bool]]:
    """Return a gate, and what it was after each change it told of."""
    changes: list[bool] = []
    gate = CircuitBreaker(ServerName("hq"), lambda: changes.append(gate.is_open))
    return gate, changes


async def passing(gate: CircuitBreaker, log: list[str], name: str) -> None:
    """Pass the gate, and write down when or why not."""
    try:
        await gate.passed()
    except ServerUnusable as exc:
        log.append(f"{name}: {exc}")
    else:
        log.append(f"{name} at {anyio.current_time():g}")


def test_a_gate_starts_closed_and_usable() -> None:
    """Nothing is sent before the first logon, and nothing is given up yet."""
    gate, changes = gate_and_changes()

    assert (gate.is_open, gate.given_up, changes) == (False, None, [])


async def test_everybody_who_waits_passes_once_it_opens() -> None:
    """Opening wakes all of them; an open gate holds nobody up."""
    gate, _ = gate_and_changes()
    log: list[str] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(passing, gate, log, "a")
        tasks.start_soon(passing, gate, log, "b")
        await anyio.sleep(3)
        assert log == []
        gate.open()
        await anyio.sleep(1)
        await passing(gate, log, "c")

    assert sorted(log) == ["a at 3", "b at 3", "c at 4"]


async def test_a_gate_that_closed_again_at_once_lets_nobody_slip_through() -> None:
    """Whoever is woken looks again before going on."""
    gate, _ = gate_and_changes()
    log: list[str] = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(passing, gate, log, "a")
        await anyio.sleep(1)
        gate.open()
        gate.close()
        await anyio.sleep(1)
        assert log == []
        gate.open()

    assert log == ["a at 2"]


@pytest.mark.parametrize("was_open", [False, True])
async def test_giving_up_is_final_and_told_to_everybody(was_open: bool) -> None:
    """Nobody waits for a server that will not be used again, whoever opens it later."""
    gate, changes = gate_and_changes()
    log: list[str] = []

    async with anyio.create_task_group() as tasks:
        if not was_open:
            tasks.start_soon(passing, gate, log, "a")
            await anyio.sleep(1)
        else:
            gate.open()
        changes.clear()
        gate.give_up("out of reach")
        gate.give_up("for another reason")
        gate.open()
        gate.close()
        await passing(gate, log, "b")

    assert sorted(log) == ["a: hq: out of reach"] * (not was_open) + ["b: hq: out of reach"]
    assert (gate.is_open, gate.given_up, changes) == (False, "out of reach", [False])


@pytest.mark.parametrize("how", ["close", "give up"])
async def test_whoever_waits_for_trouble_hears_of_it(how: str) -> None:
    """`shut` returns when the gate closes for whatever reason, and at once if it is closed."""
    gate, _ = gate_and_changes()
    gate.open()
    heard: list[float] = []

    async def listen() -> None:
        await gate.shut()
        heard.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        await anyio.sleep(5)
        assert heard == []
        gate.close() if how == "close" else gate.give_up("why")
        await anyio.sleep(1)
        await listen()

    assert heard == [5, 6]


async def test_shut_waits_for_the_next_time_after_the_gate_was_opened_again() -> None:
    """An old closing is not heard twice."""
    gate, _ = gate_and_changes()
    gate.open()
    gate.close()
    gate.open()

    with anyio.move_on_after(10) as waited:
        await gate.shut()

    assert waited.cancelled_caught


@given(st.lists(st.sampled_from(["open", "close", "give_up"]), max_size=12))
def test_each_change_is_told_exactly_once(steps: list[str]) -> None:
    """What is told is what changed: never a repetition, and nothing after giving up."""
    gate, changes = gate_and_changes()
    expected: list[bool] = []
    is_open = over = False
    for step in steps:
        before = (is_open, over)
        over = over or step == "give_up"
        is_open = not over and (step == "open" or (is_open and step != "close"))
        expected += [is_open] * (before != (is_open, over))

        gate.give_up("over") if step == "give_up" else getattr(gate, step)()

        assert (gate.is_open, gate.given_up) == (is_open, "over" if over else None)
    assert changes == expected


def test_refusals_that_stand_alone_are_no_series() -> None:
    """Answers between them take more away than they add."""
    refusals = Refusals()
    series = []

    for _each in range(50):
        series.append(refusals.add())
        for _answer in range(4):
            refusals.answered()

    assert not any(series)


def test_refusals_without_an_answer_between_them_are_a_series() -> None:
    """After one the next refusal is trouble at once, until answers have shown that it is over."""
    refusals = Refusals()

    first = [refusals.add() for _each in range(5)]
    refusals.answered()
    later = [refusals.add() for _each in range(2)]

    assert first == [False, False, False, True, True]
    assert later == [False, True]


@given(st.lists(st.booleans(), max_size=300))
def test_a_server_that_answers_less_than_two_of_three_is_in_trouble(answers: list[bool]) -> None:
    """However the refusals are spread."""
    refusals = Refusals()
    is_series = False
    for good in answers:
        if good:
            refusals.answered()
        else:
            is_series = refusals.add() or is_series

    assert is_series or answers.count(False) < 4 + answers.count(True) / 2
