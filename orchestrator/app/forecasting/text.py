"""A forecast for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.app.forecasting.asking import Answer
from orchestrator.app.forecasting.what_if import in_words
from orchestrator.core.text import counted, duration, printable, rough
from orchestrator.engine.forecast.binding import BindingLimit
from orchestrator.engine.forecast.history import WITHOUT_HISTORY
from orchestrator.engine.forecast.outlook import Forecast, Met, Range, RtoForecast

NAME = 20
SHOWN = 20
"""Objectives of single targets that are listed; the others are counted, and are in the JSON."""


def lines_of(answer: Answer) -> Iterator[str]:
    """Yield the forecast: its end, its waves, objectives, what binds, and what it rests on."""
    found = answer.forecast
    if not found.targets:
        yield "no target has a restore point: nothing to forecast"
        return
    yield f"{counted(found.targets, 'target')}: {in_range(found.makespan)}"
    if answer.as_planned is not None:
        yield f"with {printable(in_words(answer.changes))}; {compared(answer.as_planned, found)}"
    if answer.deadline is not None:
        words = "it is expected to end the run" if answer.exceeds_deadline else IN_TIME
        unsure = answer.forecast.makespan.high_s > answer.deadline and not answer.exceeds_deadline
        yield f"deadline {duration(answer.deadline)}: {'it may end the run' if unsure else words}"
    yield ""
    yield from _waves(found)
    yield from _objectives(found)
    yield ""
    yield from (binding(each) for each in found.limits[:3])
    if not found.limits:
        yield NOTHING_PACED if answer.is_paced else NOTHING_BINDS
    yield from grounds(answer)


NOTHING_BINDS = "no limit delays the end: its longest mounts and the order of the waves decide"
NOTHING_PACED = (
    "no number of mounts delays the end: its longest mounts, the order of the waves, the start "
    "interval and the ramp decide"
)


IN_TIME = "the expected end is before it; a target that begins late may get no time"


def in_range(each: Range) -> str:
    """Return `about 20 min (18 min to 24 min)`."""
    return f"about {rough(each.about_s)} ({rough(each.low_s)} to {rough(each.high_s)})"


def compared(planned: Forecast, found: Forecast) -> str:
    """Return how the end with other limits compares with that of the plan's own."""
    before, after = planned.makespan.about_s, found.makespan.about_s
    difference = after - before
    if abs(difference) < max(1.0, 0.01 * before):
        return f"the plan's own limits: about the same ({rough(before)})"
    word = "shorter" if difference < 0 else "longer"
    return f"the plan's own limits: about {rough(before)}, so {rough(abs(difference))} {word}"


def binding(each: BindingLimit) -> str:
    """Return a line about one limit."""
    name = printable(each.name)
    return f"{name}={each.mounts} binds for {each.share:.0%} of the run ({rough(each.seconds)})"


def _waves(found: Forecast) -> Iterator[str]:
    yield f"{'WAVE':<{NAME}} {'TARGETS':>7}  {'START':<12} {'END':<12} END BETWEEN"
    for wave in found.waves:
        start, end = rough_from(wave.start.about_s), rough_from(wave.end.about_s)
        between = f"{rough_from(wave.end.low_s)} and {rough_from(wave.end.high_s)}"
        name = printable(wave.name, NAME)
        yield f"{name:<{NAME}} {wave.targets:>7}  {start:<12} {end:<12} {between}"


def rough_from(seconds: float) -> str:
    """Return a moment of the run."""
    return "0 s" if seconds < 1 else rough(seconds)


def _objectives(found: Forecast) -> Iterator[str]:
    """Yield those of the run and its waves, then of the targets those that will be missed."""
    single = [each for each in found.objectives if each.is_of_target]
    missed = [each for each in single if each.status is Met.MISSED]
    if found.objectives:
        yield ""
    for each in found.objectives:
        if not each.is_of_target:
            yield from objective(each)
    for each in missed[:SHOWN]:
        yield from objective(each)
    if len(missed) > SHOWN:
        yield f"and {counted(len(missed) - SHOWN, 'more target')} with a missed RTO, see --json"
    for status in (Met.MET, Met.UNKNOWN):
        count = sum(each.status is status for each in single)
        if count:
            yield f"RTO of {counted(count, 'target')}: {status.value}"


def objective(each: RtoForecast) -> Iterator[str]:
    """Yield the lines about one objective."""
    yield f"RTO of {printable(each.scope, 50)}, {duration(each.target_s)}: {each.status.value}"
    why = [f"expected {in_range(each.expected)}"] if each.expected is not None else []
    why += [printable(each.why)] if each.why else []
    yield f"  {'; '.join(why)}"


def grounds(answer: Answer) -> Iterator[str]:
    """Yield what the forecast rests on, and what it leaves out."""
    found, run = answer.forecast, answer.overheads.run
    if found.without_history:
        share = found.without_history / found.targets
        yield (
            f"no history for {found.without_history} of {found.targets} targets ({share:.0%}): "
            f"{WITHOUT_HISTORY:.0f} s a mount"
        )
    if found.without_history < found.targets:
        last = "mount" if found.plays == 1 else f"{found.plays} mounts"
        yield f"from the last {last} of each machine in earlier runs"
    yield (
        f"logon and listing {duration(found.begins_s)}, {duration(found.per_mount_s)} a submission "
        f"(run {run})"
        if run is not None
        else "without logon, listing and submissions: no run of this plan has mounted anything"
    )
    if answer.is_paced:
        yield "with the plan's start interval and ramp, which `--limit` does not change"
    yield "without failures, retries, overload and other runs"
