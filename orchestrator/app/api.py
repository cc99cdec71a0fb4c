"""The declared Python API: what `orchestrator.__all__` names. Everything else is internal.

plan = load_plan(Path("drill.yaml"))
outcome = anyio.run(run, plan, Options(state=Path("state")))
for target in outcome.report.targets:
    print(target.key, target.result, target.mount)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.app import runner
from orchestrator.app.outcome import Outcome as Outcome
from orchestrator.app.readiness import checking
from orchestrator.app.readiness.findings import Readiness as Readiness
from orchestrator.app.rehearsing import rehearse as rehearse
from orchestrator.app.wiring import Choices, Plan, World
from orchestrator.core.errors import CannotResume as CannotResume
from orchestrator.core.errors import JournalError as JournalError
from orchestrator.core.errors import OrchestratorError as OrchestratorError
from orchestrator.core.errors import PlanError as PlanError
from orchestrator.core.errors import RunLocked as RunLocked
from orchestrator.core.errors import RunNotFound as RunNotFound
from orchestrator.core.events import RunStarted
from orchestrator.core.exit_codes import ExitCode as ExitCode
from orchestrator.core.model import MountState as MountState
from orchestrator.core.model import Result as Result
from orchestrator.plan.choose.locked import load_any
from orchestrator.report.values import Report as Report

Options = Choices
NO_VARIABLES: Mapping[str, str] = {}


def load_plan(path: Path, *, variables: Mapping[str, str] = NO_VARIABLES) -> Plan:
    """Return the plan, or locked plan, of a file. Nothing is sent and no secret is read.

    Raises:
        PlanError: the file is not a valid plan; it holds every problem.
    """
    return load_any(path, overrides=variables)


async def run(plan: Plan, options: Options, *, signals: bool = False) -> Outcome:
    """Carry out a plan, from the first logon to the last unmount, and write its reports.

    With `signals`, SIGINT and SIGTERM stop the run as they stop the command.

    Raises:
        PlanError: the plan writes into guests and the options do not allow it.
        RunLocked: another process runs this plan.
        JournalError: the journal cannot be opened; nothing was sent.
    """
    return await runner.run_plan(plan, options, world=World(signals=signals))


async def resume(
    run_id: str, options: Options, *, plan: Path | None = None, signals: bool = False
) -> Outcome:
    """Continue a run (an id, the start of one, or `last`). Safe to repeat.

    `plan` is where its plan file is now, if it moved.

    Raises:
        RunNotFound, RunLocked: there is no such run, or its process is alive.
        CannotResume: it never began, or the plan has changed; nothing was sent.
    """

    def plan_of(begun: RunStarted) -> Plan:
        return load_any(plan or Path(begun.plan_path), overrides=begun.overrides)

    return await runner.resume(run_id, plan_of, options, world=World(signals=signals))


async def check(plan: Plan, options: Options, *, strict: bool = False) -> Readiness:
    """Ask every server whether the plan could be run now. Changes nothing."""
    return await checking.check(plan, options, strict=strict)
