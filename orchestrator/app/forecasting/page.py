"""A forecast as one HTML file: no script, nothing from outside. Every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from orchestrator.app.forecasting.asking import Answer
from orchestrator.app.forecasting.text import (
    binding,
    compared,
    grounds,
    in_range,
    rough_from,
)
from orchestrator.app.forecasting.what_if import in_words
from orchestrator.core.text import clock, counted, duration
from orchestrator.engine.forecast.outlook import Forecast, Met, RtoForecast
from orchestrator.report.as_html.drawing import (
    HINT,
    LABEL,
    LEFT,
    TICKS,
    TOP,
    WIDTH,
    bar,
    picture,
    short,
    x_of,
)
from orchestrator.report.as_html.markup import cards, more, section, shown
from orchestrator.report.as_html.style import SHEET, policy

ROW, HEIGHT = 22, 90
SHOWN = 500
"""Objectives in the table; all are in the JSON."""

OWN = "svg .range{stroke:var(--soft);stroke-width:2;fill:none}svg .bar{stroke-width:12}"
EXPLAINED = '<p class="soft">Thin lines: the range in which the wave is expected to end.</p>'

CLASSES = {Met.MET: "good", Met.MISSED: "bad", Met.UNKNOWN: "doubt"}


def render(answer: Answer) -> str:
    """Return the page: the end of the run, a picture, waves, objectives and limits."""
    found, sheet = answer.forecast, f"{SHEET}\n{OWN}"
    title = f"Forecast of {shown(answer.plan)}"
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(sheet)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><title>{title}</title>'
        f"<style>{sheet}</style></head>\n<body><main>\n<h1>{title}</h1>"
    )
    parts = (
        _first(answer),
        section("Waves", _gantt(found), EXPLAINED, _waves(found)) if found.targets else "",
        section("Open mounts over time", _curve(found)) if found.targets else "",
        section("Objectives", _objectives(found.objectives)),
        section("Limits", _limits(found)),
        section("What it rests on", *(f"<p>{shown(line)}</p>" for line in grounds(answer))),
    )
    return "".join((head, *parts, "</main></body></html>\n"))


def _first(answer: Answer) -> str:
    found = answer.forecast
    missed = any(each.status is Met.MISSED for each in found.objectives)
    kind = "bad" if missed or answer.exceeds_deadline else "good"
    if not found.targets:
        return '<div class="answer"><b>No target has a restore point.</b></div>'
    lines = [
        f"<b>{shown(in_range(found.makespan))}</b>",
        f" for {counted(found.targets, 'target')}",
    ]
    if answer.as_planned is not None:
        lines.append(f"<p>with {shown(in_words(answer.changes))}; ")
        lines.append(f"{shown(compared(answer.as_planned, found))}</p>")
    if answer.deadline is not None:
        lines.append(f"<p>deadline: {duration(answer.deadline)}</p>")
    return f'<div class="answer {kind}">{"".join(lines)}</div>'


def _end_of(found: Forecast) -> float:
    return max(found.makespan.high_s, 1.0)


def _axis(until: float, bottom: float) -> Iterator[str]:
    """Yield lines and the time since the start of the run."""
    step = next((tick for tick in TICKS if until / tick <= 8), 86400 * math.ceil(until / 691200))
    for place in range(int(until // step) + 1):
        x = x_of(place * step, until)
        yield f'<path class="axis" d="M{short(x)} {TOP - 2}V{short(bottom)}"/>'
        if x <= WIDTH - LABEL:
            yield f'<text x="{short(x + 2)}" y="24">{clock(place * step)}</text>'


def _gantt(found: Forecast) -> str:
    """Return a bar for each wave, with the range of its end."""
    until, bottom = _end_of(found), TOP + ROW * len(found.waves)
    parts = [*_axis(until, bottom)]
    for place, wave in enumerate(found.waves):
        y = TOP + ROW * (place + 0.5)
        ends = (wave.end.about_s, wave.end.low_s, wave.end.high_s)
        about, low, high = (short(x_of(at, until)) for at in ends)
        title = f"{wave.name}: ends {in_range(wave.end)}"
        parts += [
            f'<text x="0" y="{short(y + 4)}" class="name">{shown(wave.name, 26)}</text>',
            f'<path class="bar p-running" d="{bar(wave.start.about_s, ends[0], y, until)}">'
            f"<title>{shown(title)}</title></path>",
            f'<path class="range" d="M{low} {short(y)}H{high}M{about} {short(y - 9)}v18"/>',
        ]
    return HINT + picture(bottom + 6, parts, "Waves over time")


def _curve(found: Forecast) -> str:
    """Return how many mounts are open over time, in the middle play."""
    until = _end_of(found)
    most = max((level for _at, level in found.open_mounts), default=1) or 1

    def y(level: float) -> float:
        return TOP + HEIGHT * (1 - level / most)

    line = f"M{LEFT} {short(y(0))}"
    for at, level in found.open_mounts:
        line += f"H{short(x_of(at, until))}V{short(y(level))}"
    parts = [
        *_axis(until, TOP + HEIGHT),
        f'<text x="0" y="{TOP + 14}" class="name">most at once: {most}</text>',
        f'<path class="curve" d="{line}"/>',
    ]
    return picture(TOP + HEIGHT + 6, parts, "Open mounts over time")


def _waves(found: Forecast) -> str:
    rows = (
        (
            shown(wave.name),
            str(wave.targets),
            rough_from(wave.start.about_s),
            rough_from(wave.end.about_s),
            f"{rough_from(wave.end.low_s)} to {rough_from(wave.end.high_s)}",
        )
        for wave in found.waves
    )
    return cards(("Wave", "Targets", "Start", "End", "End between"), rows)


def _objectives(objectives: Sequence[RtoForecast]) -> str:
    order = (Met.MISSED, Met.UNKNOWN, Met.MET)
    worst = sorted(objectives, key=lambda each: order.index(each.status))
    rows = (
        (
            shown(each.scope),
            duration(each.target_s),
            shown(in_range(each.expected)) if each.expected is not None else shown(""),
            f'<b class="{CLASSES[each.status]}">{each.status.value}</b>',
            shown(each.why),
        )
        for each in worst[:SHOWN]
    )
    table = cards(("RTO of", "Objective", "Expected", "Status", "Why"), rows)
    return table + more(len(worst) - SHOWN, ", see --json")


def _limits(found: Forecast) -> str:
    if not found.limits:
        return "<p>No limit delays the end.</p>" if found.targets else ""
    return "".join(f"<p>{shown(binding(each))}</p>" for each in found.limits)
