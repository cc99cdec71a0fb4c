"""check: whether a plan could be run now."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail, unless_terminated
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import inert

if TYPE_CHECKING:
    from orchestrator.app.readiness.findings import Readiness
    from orchestrator.app.stores import Place
    from orchestrator.core.parts import Part


@click.command("check")
@options.plan_argument
@click.option("--json", "as_json", is_flag=True, help="Print all answers as JSON.")
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all answers to this file as JUnit, too. What cannot be seen is skipped there.",
)
@click.option(
    "--on-change",
    is_flag=True,
    help="Print only what has changed since the last check of the plan with this state directory, "
    "and nothing if nothing has: for a timer that sends mail.",
)
@click.option("--strict", is_flag=True, help="Treat warnings as problems.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1.0, max=3600.0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for all answers of one server.",
)
@options.set_option
@options.only_option
@options.shard_option
@options.state_option
@options.output_options
def check_command(
    plan: Path,
    as_json: bool,
    junit: Path | None,
    on_change: bool,
    strict: bool,
    timeout: float,
    overrides: dict[str, str],
    only: tuple[str, ...],
    shard: Part | None,
    state: Place | None,
    output: options.Output,
) -> None:
    """Check whether PLAN, or a locked plan, could run now. Changes nothing on any server.

    Checks all servers at the same time, with one logon each: trust, logon, role, clock and
    inventory. Then checks every target: its restore point, its age, and anything that would
    prevent the mount, such as a job that is seen at work on its machine. Facts that the account's
    role cannot see are reported as not visible, and what is not shown is never reported as good.
    The state directory remembers the answers, and the next check says what has changed. Exit code
    0, or 4 if there is a problem.
    """
    from orchestrator.app.readiness import as_junit
    from orchestrator.app.readiness.as_json import readiness_json
    from orchestrator.app.readiness.checking import check
    from orchestrator.app.readiness.text import text
    from orchestrator.app.wiring import Choices
    from orchestrator.plan.choose.locked import load_any

    if on_change and state is not None and not isinstance(state, Path):
        fail(ExitCode.USAGE, "--on-change: only a state directory remembers the last check")
    source = load_any(plan, overrides=overrides)
    choices = Choices(
        state=state or options.default_state(), only=only, part=shard, overrides=overrides
    )

    ask = partial(check, source, choices, patience=timeout, strict=strict)
    readiness = unless_terminated(ask)
    changed = _changes(choices.state, readiness, make=on_change)
    if junit is not None:
        _write(junit, as_junit.junit(readiness))
    if on_change:
        answer = "".join(f"{line}\n" for line in changed)
    elif as_json:
        answer = readiness_json(readiness)
    else:
        answer = text(readiness, quiet=output.quiet, verbose=bool(output.verbose))
        answer += _named([] if output.quiet else changed)
    click.echo(answer, nl=False)
    end(ExitCode.GOOD if readiness.is_ready else ExitCode.UNUSABLE)


SHOWN = 20
"""Changes that are named after the answers."""


def _named(changed: list[str]) -> str:
    """Return what has changed, to stand after the answers; nothing if nothing has."""
    lines = ["", "Changed since the last check:", *(f"  {each}" for each in changed[:SHOWN])]
    if len(changed) > SHOWN:
        lines.append(f"  and {len(changed) - SHOWN} more, see --on-change")
    return "\n".join(lines) + "\n" if changed else ""


def _changes(state: Place, readiness: Readiness, *, make: bool) -> list[str]:
    """Return what has changed since the last check, and remember this one.

    With a first check everything is new, and nothing is said. A state directory is not made for it,
    unless `make` says that the answer is wanted.
    """
    from orchestrator.app.readiness.changes import changed_since, last_check, remember

    if not isinstance(state, Path) or not (make or state.is_dir()):
        return []
    before = last_check(state, readiness.plan)
    trouble = remember(state, readiness)
    if trouble is not None:
        click.echo(inert(f"bulk-restore: {trouble}"), err=True)
    return [] if before is None else changed_since(before, readiness)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        fail(ExitCode.LOCAL_IO, f"{path} cannot be written: {exc}")
