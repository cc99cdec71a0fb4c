"""What the live view costs beside a run of 5,000 targets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.core.events import Event
from orchestrator.views.live import LiveView
from tests.bench.figures import Figure
from tests.views.story import planned, see, started, told, verified, wave

TARGETS, SLOTS, MOUNT_S = 5000, 240, 12.0
SERVERS = ("hq", "dr", "branch", "lab")


def _run() -> list[Event]:
    """Return every event of a run that ends 20 mounts in a second."""
    events: list[Event] = []
    for number in range(TARGETS):
        server = SERVERS[number % len(SERVERS)]
        begin = number // SLOTS * MOUNT_S + number % SLOTS * MOUNT_S / SLOTS
        life = verified(f"machine{number:04}", begin, server)
        # the story's mounts take six seconds: the end of each comes that much later
        events += life[:2] + [_later(event) for event in life[2:]]
    begun = [started(*SERVERS, limit=SLOTS // len(SERVERS)), wave(0)]
    targets = [
        planned(f"machine{number:04}", SERVERS[number % len(SERVERS)]) for number in range(TARGETS)
    ]
    return [begun[0], *targets, begun[1], *sorted(events, key=lambda event: event.at)]


def _later(event: Event) -> Event:
    from msgspec.structs import replace

    return replace(event, at=event.at + MOUNT_S - 6)


def figures() -> Iterator[Figure]:
    """Measure the CPU of counting and drawing, four frames a second, against the run's time."""
    story = list(told(_run()))
    with Path(os.devnull).open("w", encoding="utf-8") as terminal:
        view = LiveView(terminal)
        began, next_frame = time.process_time(), 0.0
        for event, record in story:
            while event.at >= next_frame:
                view.draw(next_frame)
                next_frame += view.interval_s
            see(view, event, record)
        view.close()
        cpu = time.process_time() - began
    yield Figure(
        what="live view of 5,000 targets, 240 mounts open, 20 ended in a second: of one core",
        value=100 * cpu / story[-1][0].at,
        limit=3,
        unit="%",
    )
