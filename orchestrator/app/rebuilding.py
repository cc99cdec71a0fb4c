"""The reports of a run, made from what is recorded of it and from nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from orchestrator.core.ports.store import Store
from orchestrator.report.evidence.writing import (
    remove_outdated,
    require_no_more,
    stage_evidence,
)
from orchestrator.report.summary import summarize
from orchestrator.report.writing import write


def rebuild(
    journal: Store,
    run: str,
    directory: Path | None,
    sign: Callable[[bytes], bytes] | None = None,
) -> list[Path]:
    """Write the reports of a run and their evidence from the journal; return the files.

    Raises:
        OSError: a file cannot be written.
        JournalError: there is no such run, its journal cannot be trusted, or it knows less than
            the evidence that is there.
    """
    summary = journal.summary(run)
    name = summary.run
    process_gone = not journal.is_running(summary)  # looked at first: it may end meanwhile
    run_state, mark = journal.replay_to_head(name)
    while True:
        run_state.process_gone = process_gone
        report = summarize(run_state, chain_head=mark.head, goes_on=not process_gone)
        place = directory or Path(run_state.report_dir)
        require_no_more(place, name, journal.records(name))
        records = journal.records(name, upto=mark)
        evidence = partial(stage_evidence, run_state, report, records, sign)
        broken: list[Exception] = []
        try:
            paths = write(report, place, beside=evidence, left_out=broken)
        except OSError:
            remove_outdated(place, name, report.run.exit_code)
            raise
        if broken:
            raise broken[0]
        before = mark
        run_state, mark = journal.replay_to_head(name)
        if mark == before or run_state.finished is None:
            return paths
        # else the run has ended meanwhile, and its report must not be an older one
