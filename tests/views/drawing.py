"""Draws runs on stderr, as a process of its own: `python -m tests.views.drawing STORY...`.

Between two frames it writes FRAME on stderr, so that the reader can look at each one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from orchestrator.core.events import DeadlinePassed, Event, RunHalted, ServerParked, StopRequested
from orchestrator.core.model import ServerName
from orchestrator.views.choice import choose_view
from orchestrator.views.live import LiveView
from tests.report.payloads import PAYLOADS
from tests.views.story import (
    HOSTILE,
    accepted,
    failed,
    finished,
    key,
    planned,
    see,
    started,
    submitted,
    told,
    verified,
    wave,
)

FRAME = "\x1b[0m"
"""Changes nothing on a terminal, and no frame contains it twice in a row."""
END = "the report follows here"


def crowded(words: str) -> Iterator[Event]:
    """Yield a run with more servers, open mounts and failures than a small screen has rows."""
    servers = [f"{words}{number}" for number in range(9)]
    yield started(*servers, plan=words)
    machines = [(f"{words}{number}", server) for server in servers for number in range(4)]
    for vm, server in machines:
        yield planned(vm, server)
    yield wave(1)
    for place, (vm, server) in enumerate(machines):
        at = 10.0 + place
        match place % 4:
            case 0:
                yield from verified(vm, at, server)
            case 1:
                yield from failed(vm, at, words, server)
            case _:
                yield submitted(vm, at, server)
                yield accepted(vm, at + 1, server)
                yield DeadlinePassed(at=at + 2, key=key(vm, server), phase="mount", allowed_s=1)
        yield ServerParked(at=at, server=ServerName(server), reason=words)
    yield StopRequested(at=80, signal="SIGINT", forced=False)
    yield RunHalted(at=81, reason="budget", detail=words)
    yield finished(90, 5)


def large() -> Iterator[Event]:
    """Yield a run of 5,000 targets over three servers, 200 of them under way."""
    servers = ("hq", "dr", "branch")
    yield started(*servers, limit=80)
    machines = [(f"vm{number:04}", servers[number % 3]) for number in range(5000)]
    for vm, server in machines:
        yield planned(vm, server)
    yield wave(1)
    for place, (vm, server) in enumerate(machines[:600]):
        at = 2 + place / 10
        yield from failed(vm, at, "no disk", server) if place % 9 == 0 else verified(vm, at, server)
    for place, (vm, server) in enumerate(machines[600:800]):
        yield submitted(vm, 70 + place / 100, server)
    yield finished(90, 5)


def payloads() -> Iterator[Event]:
    """Yield a run in which every word from outside is another payload."""
    yield from crowded("".join(PAYLOADS[:8]))
    names = [f"{payload}{place}" for place, payload in enumerate(PAYLOADS)]
    for name, payload in zip(names, PAYLOADS, strict=True):
        yield planned(name, f"{''.join(PAYLOADS[:8])}0")
        yield from failed(name, 100, payload, f"{''.join(PAYLOADS[:8])}0")


STORIES: dict[str, Callable[[], Iterator[Event]]] = {
    "plain": lambda: crowded("srv"),
    "hostile": lambda: crowded(HOSTILE),
    "long": lambda: crowded("x" * 500),
    "payloads": payloads,
    "large": large,
    "wide": lambda: crowded("ファイル" * 40),
}


def main(name: str) -> None:
    """Draw a frame after every event, then end as the command does: with the report."""
    view = choose_view(sys.stderr, os.environ)
    assert isinstance(view, LiveView)
    for place, (event, record) in enumerate(told(STORIES[name]())):
        see(view, event, record)
        if place % (500 if name == "large" else 20):
            continue
        view.draw(event.at)
        sys.stderr.write(FRAME + FRAME)
        sys.stderr.flush()
    view.close()
    sys.stderr.write(FRAME + FRAME + END + "\n")
    print(END)  # noqa: T201 - stands for the report


if __name__ == "__main__":
    for each in sys.argv[1:]:
        main(each)
