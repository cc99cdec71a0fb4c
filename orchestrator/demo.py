"""The demo: simulated servers, a plan, the real run, the real reports, in one go.

Everything is as in earnest: separate server processes, HTTPS, a journal on disk. Only the
servers are simulated, and their mounts take seconds instead of minutes.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from orchestrator.assembly import Choices
from orchestrator.conducting import Outcome, conduct
from orchestrator.plan.loading import load_plan
from orchestrator.progress import View
from orchestrator.simulator.plans import plan_for
from orchestrator.simulator.process import PASSWORD_VARIABLE, Settings, Simulation, simulation
from orchestrator.simulator.truth import GroundTruth

SITES = ("hq", "dr", "branch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
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


async def demonstrate(directory: Path, view: View, *, targets: int, servers: int) -> Shown:
    """Run the demo with its files in `directory`.

    Raises:
        JournalError, RunLocked: as for any run.
    """
    password = secrets.token_urlsafe(16)
    chosen = settings_for(servers, machines=1500, password=password, duration_range=(0.5, 3.0))
    path = _prepared(directory) / "plan.yaml"
    async with simulation(chosen, password=password) as running:
        path.write_text(plan_for(running, targets=targets, name="demo"), encoding="utf-8")
        outcome = await _run(path, directory, view, running)
        return Shown(outcome=outcome, truth=await running.truth(), plan=path)


def _prepared(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


async def _run(path: Path, directory: Path, view: View, running: Simulation) -> Outcome:
    os.environ[PASSWORD_VARIABLE] = running.password
    choices = Choices(
        state=directory / "state", report=directory / "report", reason="bulk-restore demo"
    )
    return await conduct(load_plan(path), choices, view=view)
