"""The pictures: when each target was in which phase, and how many mounts each server carried.

Drawn as SVG without script. Up to `NAMED` targets have a lane with their name and a title
that shows on hover; more than that share thin lanes, and each phase is one path, so that
5,000 targets stay small.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import groupby

from orchestrator.lifecycle import HOLDING_PHASES
from orchestrator.report.as_html.markup import local, shown
from orchestrator.report.as_html.style import PHASE_COLOURS
from orchestrator.report.summary import Report, ServerReport, TargetReport
from orchestrator.report.text import duration

WIDTH, LEFT, TOP = 1000, 190, 34
NAMED = 150
"""Targets that get a lane with a name."""
LANE, THIN, HEAD = 16, 1.2, 20
TICKS = (10, 30, 60, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400)


def gantt(report: Report) -> str:
    """Return the timeline of every target, grouped by wave and server; nothing without one."""
    targets = [target for target in report.targets if target.spans]
    if not targets:
        return ""
    until = _until(report)
    named = len(targets) <= NAMED
    height = LANE if named else THIN
    parts: list[str] = []
    paths: dict[str, list[str]] = {}
    y = float(TOP)
    order = {wave.name: place for place, wave in enumerate(report.waves)}
    ordered = sorted(targets, key=lambda each: (order.get(each.wave, 0), each.server))
    for (wave, server), lanes in groupby(ordered, key=lambda each: (each.wave, each.server)):
        parts.append(f'<text x="0" y="{y + 14:.0f}" class="name">{shown(wave)} · {shown(server)}')
        parts.append("</text>")
        y += HEAD
        for target in lanes:
            if named:
                parts.append(_lane(target, y, until))
            else:
                _collect(target, y, until, paths)
            y += height
    parts += [f'<path class="p-{phase}" d="{"".join(found)}"/>' for phase, found in paths.items()]
    return _svg(y + 4, [*_axis(report, until, y), *parts], "Timeline of all targets") + _legend()


def _until(report: Report) -> float:
    last = max((span.end for target in report.targets for span in target.spans), default=0.0)
    return max(report.run.duration_s, last, 1.0)


def _x(at: float, until: float) -> float:
    return LEFT + (WIDTH - LEFT) * at / until


def _lane(target: TargetReport, y: float, until: float) -> str:
    bars = "".join(
        f'<path class="p-{span.phase}" d="{_bar(span.start, span.end, y + 2, LANE - 4, until)}"/>'
        for span in target.spans
    )
    said = "; ".join(
        f"{span.phase.replace('_', ' ')} {duration(span.end - span.start)}"
        for span in target.spans
        if span.end > span.start
    )
    title = f"{target.key}: {target.result.value}, mount {target.mount.value}. {said}"
    name = shown(target.label, 26)
    return (
        f"<g><title>{shown(title, 600)}</title>"
        f'<text x="10" y="{y + 12:.0f}">{name}</text>{bars}</g>'
    )


def _collect(target: TargetReport, y: float, until: float, paths: dict[str, list[str]]) -> None:
    for span in target.spans:
        paths.setdefault(span.phase, []).append(
            _bar(span.start, span.end, y, max(THIN - 0.2, 0.8), until)
        )


def _bar(start: float, end: float, y: float, height: float, until: float) -> str:
    """Return a rectangle as a path; what took no time at all is still a hair wide."""
    x = _x(start, until)
    width = max(_x(end, until) - x, 0.4)
    return f"M{_short(x)} {_short(y)}h{_short(width)}v{_short(height)}h-{_short(width)}z"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _axis(report: Report, until: float, bottom: float) -> Iterator[str]:
    """Yield lines and labels: local time above, UTC below it."""
    run = report.run
    step = next((tick for tick in TICKS if until / tick <= 8), 86400 * math.ceil(until / 691200))
    for place in range(int(until // step) + 1):
        x = _x(place * step, until)
        at = run.started_at + timedelta(seconds=place * step)
        here = local(at, run.utc_offset_s)[11:19]
        yield f'<path class="axis" d="M{_short(x)} {TOP - 2}V{_short(bottom)}"/>'
        yield f'<text x="{_short(x + 2)}" y="11">{here}</text>'
        yield f'<text x="{_short(x + 2)}" y="24">{at:%H:%M:%S}Z</text>'
    yield '<text x="0" y="11">local time</text><text x="0" y="24">UTC</text>'


def _legend() -> str:
    boxes = "".join(
        f'<span><svg viewBox="0 0 8 8"><rect class="p-{phase}" width="8" height="8"/></svg>'
        f"{phase.replace('_', ' ')}</span>"
        for phase in PHASE_COLOURS
    )
    return f'<p class="legend soft">{boxes}</p>'


def _svg(height: float, parts: Iterable[str], title: str) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
        f"<title>{shown(title)}</title>{''.join(parts)}</svg></div>"
    )


# --- how many mounts were open ------------------------------------------------------------


def concurrency(report: Report) -> str:
    """Return for each server how many mounts were open or under way over time, and its limit."""
    until = _until(report)
    pictures = []
    for server in report.servers:
        steps = open_over_time([each for each in report.targets if each.server == server.name])
        if len(steps) > 1:
            pictures.append(_curve(server, steps, report, until))
    return "".join(pictures)


def open_over_time(targets: Sequence[TargetReport]) -> list[tuple[float, int]]:
    """Return (second, mounts open or under way from then on), in order."""
    changes: dict[float, int] = {0.0: 0}
    for target in targets:
        for span in target.spans:
            if span.phase in HOLDING_PHASES:
                changes[span.start] = changes.get(span.start, 0) + 1
                changes[span.end] = changes.get(span.end, 0) - 1
    steps, level = [], 0
    for at in sorted(changes):
        level += changes[at]
        steps.append((at, level))
    return steps


def _curve(
    server: ServerReport, steps: Sequence[tuple[float, int]], report: Report, until: float
) -> str:
    most = max(level for _at, level in steps)
    top = max(most, server.mounts_limit or 0, 1)
    height = 70

    def y(level: float) -> float:
        return TOP + height * (1 - level / top)

    line = f"M{_short(_x(0, until))} {_short(y(0))}"
    last = None
    for at, level in steps:
        x = _short(_x(at, until))
        if last != (x, level):
            line += f"H{x}V{_short(y(level))}"
        last = (x, level)
    parts = [
        *_axis(report, until, TOP + height),
        f'<text x="0" y="{TOP + 14}" class="name">{shown(server.name, 26)}</text>',
        f'<text x="10" y="{TOP + 32}">most at once: {most}</text>',
        f'<path class="curve" d="{line}H{WIDTH}"/>',
    ]
    if server.mounts_limit is not None:
        limit = _short(y(server.mounts_limit))
        parts.append(f'<path class="limit" d="M{LEFT} {limit}H{WIDTH}"/>')
        parts.append(f'<text x="10" y="{TOP + 48}">limit: {server.mounts_limit}</text>')
    return _svg(TOP + height + 6, parts, f"Open mounts of {server.name} over time")
