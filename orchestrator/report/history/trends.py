"""How a plan, or single targets, went over the last runs, with a small plot of plain characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

from msgspec import Struct

from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, duration, printable, table_moment
from orchestrator.report.as_json import plain_values
from orchestrator.report.caveats import narrowed
from orchestrator.report.foreseen import error_of
from orchestrator.report.history.comparison import busy_s
from orchestrator.report.objectives import makespan_s, measured, measured_over, usual_s
from orchestrator.report.summary import summarize
from orchestrator.report.text import words
from orchestrator.report.under_way import shown_totals
from orchestrator.report.values import ForecastReport

WIDTH = 80
BAR = 22
SHOWN = 20
"""Targets whose trend is shown as text; the others are counted, and are in the JSON."""


class Sample(Struct, frozen=True, kw_only=True):
    """One run of the trend. Seconds; None where nothing was measured."""

    run: str
    started_at: datetime
    outcome: str
    narrowed: str | None = None
    """Why the run took only a part of its plan, and how much of it; None: it took all."""
    duration_s: float | None
    rto_s: float | None
    rpo_s: float | None
    makespan_s: float | None = None
    """From the first wave's beginning to the last one's end; only of whole runs."""
    usual_s: float | None = None
    """The median that this was compared with; None: the run was not compared."""
    forecast: ForecastReport | None = None
    """What was expected of the run; None: nothing, or this is a target."""


class Trend(Struct, frozen=True, kw_only=True):
    """Samples of one plan or target, the oldest first."""

    name: str
    samples: tuple[Sample, ...]


def trend_of_plan(name: str, states: Iterable[RunState]) -> Trend:
    """Return how the runs went as wholes; `states` are the newest first."""
    samples = []
    for state in states:
        rto, rpo = measured_over(state.records.values(), state)
        report = summarize(state, goes_on=True)  # an end that is not there has no results
        counts = [
            f"{count} {words(result)}"
            for result, count in shown_totals(report).items()
            if count and result != "targets"
        ]
        marks = ["not ended"] * (state.finished is None)
        marks += ["SIMULATED"] * bool(state.simulated_servers)
        marks += ["NARROWED"] * (report.run.narrowed is not None)
        compared = next((each for each in report.objectives if each.kind == "regression"), None)
        if compared is not None and not compared.met:
            took = compared.actual_s
            reached = "not measured" if took is None else duration(took)
            marks.append(f"SLOWER, {reached} of {duration(compared.target_s)}")
        samples.append(
            Sample(
                run=report.run.id,
                started_at=report.run.started_at,
                outcome="; ".join([*marks, ", ".join(counts) or "no targets"]),
                narrowed=report.run.narrowed,
                duration_s=report.run.duration_s,
                rto_s=rto,
                rpo_s=rpo,
                makespan_s=None if narrowed(state) else makespan_s(state),
                usual_s=usual_s(state),
                forecast=report.run.forecast,
            )
        )
    return Trend(name=name, samples=tuple(reversed(samples)))


def counting(states: Iterable[RunState], last: int) -> list[RunState]:
    """Return the first `last` runs of real servers; where there is none, those of simulated ones.

    A run over simulated servers says nothing of real ones.
    """
    real: list[RunState] = []
    simulated: list[RunState] = []
    for state in states:
        (simulated if state.simulated_servers else real).append(state)
        if len(real) == last:
            break
    return real or simulated[:last]


def matches(record: MountRecord, glob: str) -> bool:
    """Return whether a target's key, label or machine matches `glob`, as `--only` takes it."""
    planned = record.planned
    return any(fnmatchcase(name, glob) for name in (planned.key, planned.label, planned.vm))


def trends_of_targets(glob: str, states: Iterable[RunState]) -> list[Trend]:
    """Return the trend of every target that matches `glob`, by its key."""
    by_key: dict[str, list[Sample]] = {}
    for state in states:
        for key, record in state.records.items():
            if matches(record, glob):
                by_key.setdefault(key, []).append(_sample(record, state))
    return [
        Trend(name=key, samples=tuple(reversed(samples))) for key, samples in sorted(by_key.items())
    ]


def _sample(record: MountRecord, state: RunState) -> Sample:
    rto, rpo = measured(record, state)
    result = record.result.value if record.result else "not concluded"
    return Sample(
        run=state.started.run,
        started_at=state.started.started_at,
        narrowed=narrowed(state),
        outcome=result if not record.may_be_open else f"{result}, may be mounted",
        duration_s=busy_s(record),
        rto_s=rto,
        rpo_s=rpo,
    )


# --- as JSON and as text ---------------------------------------------------------------------


def trend_values(trends: Sequence[Trend]) -> list[dict[str, Any]]:
    """Return trends as plain JSON values."""
    return [
        {"name": trend.name, "runs": [plain_values(sample) for sample in trend.samples]}
        for trend in trends
    ]


def trend_lines(trends: Sequence[Trend]) -> list[str]:
    """Return trends for a terminal of 80 columns: no colour, nothing but plain characters."""
    lines: list[str] = []
    for trend in trends[:SHOWN]:
        lines += [*_one(trend), ""]
    if len(trends) > SHOWN:
        lines.append(f"and {counted(len(trends) - SHOWN, 'more target')}, see --json")
    return lines[:-1] if lines and not lines[-1] else lines


def _one(trend: Trend) -> list[str]:
    heading = f"{'STARTED (UTC)':<16} {'DURATION':<12} {'RTO':<12} {'RPO':<12} COMPARED"
    longest = max((sample.duration_s or 0.0 for sample in trend.samples), default=0.0)
    lines = [_cut(trend.name, WIDTH), heading]
    for sample in trend.samples:
        times = "".join(
            f"{'-' if value is None else duration(value):<13}"
            for value in (sample.duration_s, sample.rto_s, sample.rpo_s)
        )
        lines.append(f"{table_moment(sample.started_at)} {times}{_bar(sample, longest)}".rstrip())
        lines.append(f"  {_cut(f'{sample.run}: {sample.outcome}', WIDTH - 2)}")
    return [*lines, *_forecasts(trend)]


def _forecasts(trend: Trend) -> list[str]:
    """Return a line about how good the forecasts of the runs were, if there were any."""
    made = [each.forecast for each in trend.samples if each.forecast is not None]
    errors = {each: error for each in made if (error := error_of(each)) is not None}
    if not errors:
        return []
    off = [abs(error) for error in errors.values()]
    inside = sum(each.low_s <= (each.actual_s or 0.0) <= each.high_s for each in errors)
    return [
        f"forecasts of {counted(len(off), 'run')}: {median(off):.0%} off (median), "
        f"{max(off):.0%} at most; {inside} of {len(off)} within the range"
    ]


def _cut(text: str, width: int) -> str:
    """Return hostile text in at most `width` columns, whatever its escapes need."""
    return printable(printable(text), width)


def _bar(sample: Sample, longest: float) -> str:
    """Return a bar as long as the duration is, beside the longest one; none if not measured."""
    if sample.duration_s is None or longest <= 0:
        return ""
    return "#" * max(1, round(BAR * sample.duration_s / longest))
