"""A story per seed: servers, their moods, and what goes wrong until calm returns.

Faults happen only before `CALM_S`; afterwards everything must come to its end by itself. The
same seed always tells the same story.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from orchestrator.core.exit_codes import ExitCode
from orchestrator.engine.run import Run
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Drill, Site, drill
from tests.virtual.clock import run_virtual, uncollected
from tests.virtual.sites import Sites, host

CALM_S = 900.0
"""Virtual seconds after which nothing goes wrong any more."""

ENDS_S = 3 * 3600.0
"""No story lasts longer: outage, task and unmount deadlines all fit well within it."""

TASKS, MOUNTS, MOUNT = r"/tasks|/query", r"/mounts$", r"/mounts/\d+"
ANYWHERE = ""

LIMITED = """defaults:
  timeouts: {{mount: 10m, unmount: 3m}}
  retries: {{attempts: {attempts}, delay: 5s}}
limits: {{outage: {outage}m, failures: {failures}}}
"""


@dataclass(slots=True)
class Story:
    """What a seed stands for."""

    seed: int
    sites: list[Site]
    limits: str
    troubles: list[tuple[float, str, str]] = field(default_factory=list)
    """Network troubles as (second, what, server)."""
    signals: list[tuple[float, str]] = field(default_factory=list)


def told(seed: int) -> Story:
    """Return the story of a seed."""
    rng = random.Random(seed)
    names = ["hq", "dr", "branch"][: rng.choice([1, 1, 2, 3])]
    evil = rng.choice([0.0, 0.02, 0.1, 0.3])
    sites = [_site(rng, name, evil) for name in names]
    limits = LIMITED.format(
        attempts=rng.choice([1, 2, 3]),
        outage=rng.choice([2, 10, 40]),
        failures=rng.choice(["100%", "100%", "2"]),
    )
    story = Story(seed, sites, limits)
    for name in names:
        for what, back in (("refuse", "answer"), ("swallow", "answer"), ("cut", "")):
            if rng.random() < evil:
                at = rng.uniform(0, CALM_S * 0.8)
                story.troubles.append((at, what, name))
                if back:
                    story.troubles.append((rng.uniform(at, CALM_S), back, name))
    if rng.random() < 0.2:
        first = rng.uniform(0, CALM_S)
        story.signals = [(first, rng.choice(["SIGINT", "SIGTERM"]))]
        if rng.random() < 0.5:
            story.signals.append((first + rng.uniform(0, 120), "SIGTERM"))
    return story


def _site(rng: random.Random, name: str, evil: float) -> Site:
    mood = Behaviour(
        href_host=rng.choice(["localhost", "request", "evil.example.org"]),
        related=rng.choice(["other_family", "own_family", "absent"]),
        related_answers=rng.random() < 0.5,
        operation_finished_share=rng.choice([0.0, 0.3, 1.0]),
        operation_finished_s=rng.choice([0.4, 30.0]),
        empty_mounts_are_404=rng.random() < 0.5,
        filters_tasks=rng.random() < 0.7,
        purge_finished_after=rng.choice([None, None, 60.0]),
        cancel_leaves_mount=rng.random() < 0.5,
        backup_server_slots=rng.choice([1, 4, 64]),
        unmount_s=rng.choice([0.0, 5.0]),
        latency_s=rng.choice([0.0, 0.05, 1.0]),
        message_share=rng.choice([0.0, 1.0]),
        byte_order_mark=rng.random() < 0.2,
        shuffle_attributes=rng.random() < 0.2,
    )
    return Site(
        name,
        machines=rng.randint(2, 5),
        backup_servers=rng.randint(1, 2),
        behaviour=mood,
        faults=list(_faults(rng, evil)),
        limit=rng.randint(1, 4),
        mount_s=rng.choice([5.0, 60.0, 240.0]),
    )


def _faults(rng: random.Random, evil: float) -> Iterator[Fault]:
    usual = (
        ("drop_before", ANYWHERE),
        ("drop_after", ANYWHERE),
        ("drop_before", MOUNTS),
        ("drop_after", MOUNTS),
        ("reset_mid_body", ANYWHERE),
        ("truncated", ANYWHERE),
        ("truncated", MOUNTS),
        ("html_503", ANYWHERE),
        ("xml_503", ANYWHERE),
        ("error_500", ANYWHERE),
        ("error_500", MOUNTS),
        ("html_200", ANYWHERE),
        ("html_200", TASKS),
        ("delay", ANYWHERE),
        ("black_hole", MOUNTS),
        ("black_hole", TASKS),
    )
    for kind, path in usual:
        if rng.random() < 0.35:
            yield Fault(
                kind=kind,
                path=path,
                probability=evil * rng.choice([0.2, 1.0]),
                until_s=CALM_S,
                seconds=rng.choice([1.0, 30.0, 200.0]),
                retry_after=rng.choice([None, "1", "30", "soon", "99999999"]),
            )
    for kind, share in (("forget_session", 0.3), ("restart", 0.3), ("unauthorized", 0.2)):
        if rng.random() < share and evil:
            yield Fault(
                kind=kind,
                path=rng.choice([MOUNTS, TASKS, MOUNT]),
                skip=rng.randint(0, 15),
                count=1,
                until_s=CALM_S,
            )


@uncollected()
def played(seed: int, directory: Path) -> Drill:
    """Play the story of a seed to its end; the invariants are checked on the way."""
    story = told(seed)

    async def happen(sites: Sites, run: Run) -> None:
        events = [*story.troubles, *((at, "signal", name) for at, name in story.signals)]
        for at, what, name in sorted(events):
            await anyio.sleep(max(0.0, at - anyio.current_time()))
            if what == "signal":
                run.stop(name)
            elif what == "cut":
                sites.network.cut(host(name))
            elif what == "refuse":
                sites.network.refusing.add(host(name))
            elif what == "swallow":
                sites.network.swallowing.add(host(name))
            else:
                sites.network.refusing.discard(host(name))
                sites.network.swallowing.discard(host(name))

    async def play() -> Drill:
        with pytest.MonkeyPatch.context() as patch, anyio.fail_after(ENDS_S):
            return await drill(
                directory,
                patch,
                story.sites,
                extra=story.limits,
                meanwhile=happen,
                seed=seed,
            )

    done = run_virtual(play)
    assert done.outcome.code != ExitCode.INTERNAL, done.outcome.trouble
    return done
