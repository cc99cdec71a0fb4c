"""Run a drill from Python: embedding.py PLAN DIRECTORY."""

import sys
from pathlib import Path

import anyio

from orchestrator import ExitCode, Options, PlanError, check, load_plan, run


async def drill(path: Path, directory: Path) -> int:
    """Check a plan, run it, and print the result of each target."""
    try:
        plan = load_plan(path)
    except PlanError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return ExitCode.USAGE
    options = Options(state=directory / "state", report=directory / "report")

    readiness = await check(plan, options)
    for finding in readiness.findings:
        if finding.status == "problem":
            print(f"{finding.name}: {finding.detail}", file=sys.stderr)

    outcome = await run(plan, options, signals=True)
    for target in outcome.report.targets:
        print(target.key, target.result, target.mount)
    return outcome.code


if __name__ == "__main__":
    sys.exit(anyio.run(drill, Path(sys.argv[1]), Path(sys.argv[2])))
