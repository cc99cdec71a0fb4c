"""Rehearsals: simulated servers for a plan of the user's, a scenario of what goes wrong, the run.

The servers are separate processes behind HTTPS, as in the demo. No secret of the plan is read,
and nothing is sent to its servers or webhooks.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace as replace_settings
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.app.outcome import Outcome
from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices, World
from orchestrator.core.policy import WatchPolicy
from orchestrator.plan.file.loading import NO_OVERRIDES, load_plan, load_plan_text
from orchestrator.plan.file.named_files import read_bytes
from orchestrator.simulator.process import PASSWORD_VARIABLE, Settings, Simulation, simulation
from orchestrator.simulator.rehearsal.copying import FIRST_WORDS, rehearsal_copy
from orchestrator.simulator.rehearsal.planned import RehearsedServer, plain, rehearsed
from orchestrator.simulator.rehearsal.scenario import ServerMishaps, apply_scenario

COPY = "rehearsal.yaml"
NO_KNOBS: Mapping[str, Any] = MappingProxyType({})
FAST = 1200.0
WATCH = WatchPolicy(longest=0.5, activity=1.0)
"""What takes a moment is looked at in a moment."""


class Rehearsal(Struct, frozen=True, kw_only=True):
    """Running servers of a rehearsal. `path` is the copy of the plan that leads to them."""

    path: Path
    servers: list[RehearsedServer]
    urls: Mapping[str, str]
    simulation: Simulation
    password: str


@asynccontextmanager
async def rehearsing(
    plan: Path,
    path: Path,
    *,
    scenario: Path | None = None,
    overrides: Mapping[str, str] = NO_OVERRIDES,
    at: datetime | None = None,
    speed: float = 60.0,
    short_waits: bool = False,
    behaviour: Mapping[str, Any] = NO_KNOBS,
) -> AsyncIterator[Rehearsal]:
    """Start the servers of a plan, write its copy to `path`, end them on the way out.

    `at` is what their clocks show when they start; by default the real time. Mounts take two
    minutes over `speed`. Nothing at `path` but an earlier copy is replaced.

    Raises:
        PlanError: the plan or the scenario is not valid; nothing was started.
        OSError: the copy cannot be written, or something else is there.
    """
    _require_own(path)
    loaded = load_plan(plan, overrides=overrides)
    now = datetime.now(UTC)
    ahead_s = 0.0 if at is None else (now - at).total_seconds()  # guests are not set back
    servers = rehearsed(loaded.plan, at or now, guests_ahead_s=ahead_s)
    mishaps: Mapping[str, ServerMishaps] = {each.name: ServerMishaps() for each in servers}
    if scenario is not None:
        mishaps = apply_scenario(scenario, servers)
    password = os.environ.get(PASSWORD_VARIABLE) or secrets.token_urlsafe(16)
    knobs = {"stage_s": 1.0 / speed, "shows_activity": "by_role", **behaviour}
    living = [
        replace_settings(
            _settings(each, mishaps[each.name], password, knobs),
            seed=number,
            duration_scale=1.0 / speed,
            starts_at=None if at is None else at.isoformat(),
        )
        for number, each in enumerate(servers, start=1)
        if not mishaps[each.name].dead
    ]
    await anyio.Path(path.parent).mkdir(parents=True, exist_ok=True, mode=0o700)
    dead = [each.name for each in servers if mishaps[each.name].dead]
    async with simulation(living, password=password) as running:
        with _closed_ports(dead) as nowhere:
            urls = {**running.urls, **nowhere}
            text = rehearsal_copy(
                read_bytes(plan),
                loaded,
                urls,
                fingerprint=running.certificate.fingerprint_sha256,
                overrides=overrides,
                short_waits=short_waits,
            )
            _write(path, text)
            yield Rehearsal(
                path=path, servers=servers, urls=urls, simulation=running, password=password
            )


def _settings(
    server: RehearsedServer, mishaps: ServerMishaps, password: str, knobs: Mapping[str, Any]
) -> Settings:
    """Return what the process of a server is started with, apart from its times."""
    return Settings(
        name=server.name,
        seed=1,
        password=password,
        behaviour=knobs,
        stock=plain(server.stock),
        role=mishaps.role,
        faults=mishaps.faults,
    )


def _write(path: Path, text: str) -> None:
    load_plan_text(text.encode(), path)  # what is written can be run
    path.write_text(text, encoding="utf-8")


def _require_own(path: Path) -> None:
    """See that no file but an earlier copy is overwritten: it may be the plan itself.

    Raises:
        FileExistsError: there is another file.
    """
    if path.exists() and not path.read_bytes().startswith(FIRST_WORDS.encode()):
        raise FileExistsError(errno.EEXIST, "this is no copy of an earlier rehearsal", str(path))


@contextmanager
def _closed_ports(names: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield addresses that nobody listens at, and nobody else can take meanwhile."""
    sockets = []
    try:
        urls = {}
        for name in names:
            taken = socket.socket()
            sockets.append(taken)
            taken.bind(("127.0.0.1", 0))
            urls[name] = f"https://127.0.0.1:{taken.getsockname()[1]}"
        yield urls
    finally:
        for taken in sockets:
            taken.close()


async def rehearse(
    plan: Path,
    directory: Path,
    *,
    scenario: Path | None = None,
    variables: Mapping[str, str] = NO_OVERRIDES,
    at: datetime | None = None,
    options: Choices | None = None,
) -> Outcome:
    """Run a plan against simulated servers that have all it names; `scenario` says what fails.

    For tests of a plan. Everything is written below `directory`, where state and reports of the
    `options` do not count. `at` is what the servers' clocks show; pauses between attempts and
    `keep_failed` are short. No secret of the plan is read; nothing is sent to its servers or hooks.
    Safe to repeat.

    Raises:
        PlanError: the plan or the scenario is not valid; nothing was started.
        RunLocked, JournalError: as for any run.
    """
    started = rehearsing(
        plan,
        directory / COPY,
        scenario=scenario,
        overrides=variables,
        at=at,
        speed=FAST,
        short_waits=True,
    )
    async with started as rehearsal:
        choices = replace(
            options or Choices(state=directory / "state"),
            state=directory / "state",
            report=directory / "report",
        )
        with _password(rehearsal.password):
            return await run_plan(
                load_plan(rehearsal.path), choices, world=World(signals=False, watch=WATCH)
            )


@contextmanager
def _password(value: str) -> Iterator[None]:
    """Let the copy's reference find the password of its servers."""
    before = os.environ.get(PASSWORD_VARIABLE)
    os.environ[PASSWORD_VARIABLE] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[PASSWORD_VARIABLE]
        else:
            os.environ[PASSWORD_VARIABLE] = before
