"""The demo: simulated servers, a plan, the real run, the real reports, in one go.

Everything but the servers is real: separate server processes, HTTPS, a journal on disk. The
servers are simulated, and their mounts take seconds instead of minutes.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import anyio
from msgspec import Struct

from orchestrator.app.outcome import Outcome
from orchestrator.app.runner import run_plan
from orchestrator.app.wiring import Choices
from orchestrator.plan.file.loading import load_plan
from orchestrator.simulator.plans import plan_for
from orchestrator.simulator.process import PASSWORD_VARIABLE, Settings, simulation
from orchestrator.simulator.truth import GroundTruth
from orchestrator.views.view import View

SITES = ("hq", "dr", "branch")


class Demo(Struct, frozen=True, kw_only=True):
    """What a demo did, and what really happened on the servers."""

    outcome: Outcome
    truth: GroundTruth
    plan: Path


def settings_for(
    servers: int,
    *,
    machines: int,
    password: str,
    seed: int = 1,
    duration_range: tuple[float, float] | None = None,
    duration_scale: float = 1.0,
) -> list[Settings]:
    """Return the settings of `servers` simulated servers with thousands of machines."""
    names = [SITES[n] if n < len(SITES) else f"site{n + 1}" for n in range(servers)]
    return [
        Settings(
            name=name,
            seed=seed + number,
            machines=machines,
            password=password,
            duration_range=duration_range,
            duration_scale=duration_scale,
        )
        for number, name in enumerate(names)
    ]


async def demonstrate(directory: Path, view: View, *, targets: int, servers: int) -> Demo:
    """Run the demo with its files in `directory`.

    Raises:
        JournalError, RunLocked: as for any run.
    """
    password = secrets.token_urlsafe(16)
    settings = settings_for(servers, machines=1500, password=password, duration_range=(0.5, 3.0))
    await anyio.Path(directory).mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / "plan.yaml"
    async with simulation(settings, password=password) as running:
        path.write_text(plan_for(running, targets=targets, name="demo"), encoding="utf-8")
        os.environ[PASSWORD_VARIABLE] = password
        choices = Choices(
            state=directory / "state", report=directory / "report", reason="bulk-restore demo"
        )
        outcome = await run_plan(load_plan(path), choices, view=view)
        return Demo(outcome=outcome, truth=await running.truth(), plan=path)
