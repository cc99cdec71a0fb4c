"""How a run ended: its exit code, its report, and where the reports were written."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
from msgspec import Struct
from msgspec.structs import replace

from orchestrator.app.notify.composing import RunEnding
from orchestrator.app.wiring import Choices
from orchestrator.core.errors import JournalError, OrchestratorError
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import RunId
from orchestrator.core.ports.store import Store
from orchestrator.core.records import RUN_CHAIN, Mark, Position
from orchestrator.core.run_state import RunState
from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.log import Log
from orchestrator.report.evidence.writing import (
    drop_evidence,
    free_place,
    kept_report,
    remove_outdated,
    stage_evidence,
)
from orchestrator.report.summary import summarize
from orchestrator.report.values import Report
from orchestrator.report.writing import write

log = Log(__name__)

RECORD_WITHIN_S = 10.0
"""Seconds in which the journal must take the final code: the process is about to end."""


class Outcome(Struct, frozen=True, kw_only=True):
    """A finished run: how the process should end, and where its reports are.

    `trouble` is what a person must know beside the report; without anything in `written`
    the report is nowhere but here. `untold` lists failed messages about the end that are not in
    the report: they change nothing.
    """

    code: int
    report: Report
    directory: Path
    written: tuple[Path, ...] = ()
    trouble: str | None = None
    untold: tuple[str, ...] = ()
    nothing_left: bool = False
    """True for a resume that found nothing to do."""


def trouble_of(run: Run) -> str | None:
    """Return what went wrong in the run itself, in words, or None."""
    return f"internal error: {run.failure!r}" if run.failure else None


def outcome_of(
    state: RunState, code: int, head: str | None, trouble: str | None, directory: str
) -> Outcome:
    """Return the outcome of a run before its reports are written."""
    report = summarize(state, chain_head=head).with_exit_code(code)
    return Outcome(code=code, report=report, directory=Path(directory), trouble=trouble)


def has_same_reports(outcome: Outcome, other: Outcome) -> bool:
    """Tell whether two outcomes have the same reports: nothing was recorded in between."""
    one, two = ((o.report.run.journal_head, o.code, o.trouble) for o in (outcome, other))
    return one == two


def ending_of(outcome: Outcome) -> RunEnding:
    """Return how a run ended, for its messages."""
    report = outcome.report
    objectives = [*report.objectives, *(o for t in report.targets for o in t.scoped_objectives())]
    return RunEnding(
        exit_code=outcome.code,
        missed=tuple(each for each in objectives if not each.met),
        report=str(outcome.directory),
        trouble=outcome.trouble,
    )


def write_reports(
    outcome: Outcome,
    state: State,
    found: RunState | None,
    choices: Choices,
    left_out: list[Exception] | None = None,
) -> Outcome:
    """Write the reports, beside the journal if their own directory does not take them.

    With the records of `found` as their evidence; None: the journal does not hold them all.
    A report that has more than the journal is kept, and the new one written beside it.

    A directory has all files of a report or none, with the exit code of the outcome: if a rendering
    fails, the others are written with the code that this has. `left_out` are such failures.
    """
    for wanted in (outcome.directory, state.directory / "reports" / outcome.report.run.id):
        place = wanted
        try:
            place = place_of(outcome.report, state, wanted)
            written = write_with_evidence(outcome.report, state, found, choices, place, left_out)
        except JournalError as exc:
            outcome = _troubled(outcome, ExitCode.LOCAL_IO, f"there is no evidence: {exc}")
            outcome = replace(outcome, report=outcome.report.without_journal(), directory=place)
            return write_reports(outcome, state, None, choices, left_out)
        except OSError as exc:
            why = f"the reports cannot be written to {place}: {exc.strerror}"
            outcome = _troubled(outcome, ExitCode.LOCAL_IO, why)
            outcome = _without_outdated(outcome, found, place)
        except Exception as exc:
            log.exception("report.internal_error")
            outcome = _troubled(outcome, ExitCode.INTERNAL, f"internal error in a report: {exc!r}")
            if left_out is not None:  # it is not in a rendering
                return _without_outdated(outcome, found, place)
            return write_reports(outcome, state, found, choices, left_out=[])
        else:
            where = f"they are in {place}" if place != outcome.directory else None
            if place != wanted:
                where = kept_report(wanted, place)
            trouble = "; ".join(filter(None, (outcome.trouble, where))) or None
            return replace(outcome, trouble=trouble, directory=place, written=written)
    if outcome.report.run.journal_head is not None:
        later = f"bulk-restore report {outcome.report.run.id} --report DIRECTORY"
        outcome = replace(outcome, trouble=f"{outcome.trouble}; make them later: {later}")
    return outcome


async def record_final_code(
    outcome: Outcome, state: State, found: RunState, choices: Choices, *, inline: bool
) -> Outcome:
    """Record the exit code of the process if it is another one than the run's, and say so.

    What was found after the run's end, such as a report directory that cannot be written, is in
    the journal then, and the reports that could be written are written again with it. A journal
    that does not hold the whole run, or does not take the record, stays as it is.
    """
    end, head = found.finished, outcome.report.run.journal_head
    if end is None or head is None or end.exit_code == outcome.code:
        return outcome
    event = replace(end, exit_code=outcome.code, trouble=outcome.trouble)
    try:
        with anyio.fail_after(RECORD_WITHIN_S):
            async with state.append_later(found.started.run, inline=inline) as journal:
                journal.append(event)
                await journal.durable()
                head = journal.head
        found.fold(event)
        directory = str(outcome.directory)
        told = outcome_of(found, outcome.code, head, outcome.trouble, directory)
        if not outcome.written:
            return told
        written = write_with_evidence(told.report, state, found, choices, outcome.directory, [])
    except Exception as exc:  # noqa: BLE001 - the code and the reports are what they were
        log.warning("run.final_code_not_recorded", why=str(exc) or type(exc).__name__)
        return outcome
    return replace(told, written=written)


def place_of(report: Report, store: Store, directory: Path) -> Path:
    """Return where the report is written: `directory`, or beside it if its report must be kept."""
    run = RunId(report.run.id)
    is_whole = report.run.journal_head is not None
    return free_place(directory, run, partial(store.records, run) if is_whole else None)


def write_with_evidence(
    report: Report,
    store: Store,
    found: RunState | None,
    choices: Choices,
    place: Path,
    left_out: list[Exception] | None = None,
) -> tuple[Path, ...]:
    """Write the renderings and, if the journal holds everything in them, the evidence.

    For the process that carried out the run: all of its records are in the run's own chain.
    """
    evidence = drop_evidence
    if found is not None and report.run.journal_head is not None:
        end = Position(found.events, bytes.fromhex(report.run.journal_head))
        records = store.records(RunId(report.run.id), upto=Mark({RUN_CHAIN: end}))
        evidence = partial(stage_evidence, found, report, records, choices.sign)
    return tuple(write(report, place, beside=evidence, left_out=left_out))


def _without_outdated(outcome: Outcome, found: RunState | None, place: Path) -> Outcome:
    """Remove a report that says another exit code from a directory that took no new one.

    A resume that found nothing to do leaves the code of the run as it was recorded.
    """
    code = outcome.report.run.exit_code
    if outcome.nothing_left and found is not None and found.finished is not None:
        code = found.finished.exit_code
    trouble = remove_outdated(place, RunId(outcome.report.run.id), code)
    return _troubled(outcome, ExitCode.LOCAL_IO, trouble) if trouble else outcome


def _troubled(outcome: Outcome, code: ExitCode, trouble: str) -> Outcome:
    """Return the outcome with one more local trouble; an internal error stays one."""
    if outcome.code == ExitCode.INTERNAL:
        code = ExitCode.INTERNAL
    if trouble in (outcome.trouble or ""):  # the same once more
        return outcome
    before = f"{outcome.trouble}; " if outcome.trouble else ""
    return replace(
        outcome,
        code=int(code),
        report=outcome.report.with_exit_code(code),
        trouble=f"{before}{trouble}",
    )


def failure_of(exc: Exception) -> tuple[int, None, str]:
    """Return exit code, no journal head, and the cause, of a run that an exception ended."""
    cause = _first_cause(exc)
    if isinstance(cause, JournalError):
        return ExitCode.LOCAL_IO, None, str(cause)
    log.error("run.internal_error", exc_info=exc)
    known = isinstance(cause, OrchestratorError)
    return ExitCode.INTERNAL, None, str(cause) if known else f"internal error: {cause!r}"


def _first_cause(exc: BaseException) -> BaseException:
    """Return the first leaf of nested exception groups; a journal's error comes first."""
    if not isinstance(exc, BaseExceptionGroup):
        return exc
    leaves = [_first_cause(each) for each in exc.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, JournalError)), leaves[0])
