"""The pictures: when each target was in which phase, and how many mounts each server carried.

Drawn as SVG without script. Up to `NAMED` targets have a lane with their name and a title
that shows on hover; more than that share lanes as thin as needed to be looked at as one
picture, and each phase is one path, so that 5,000 targets stay small. What is not good is
marked in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from orchestrator.lifecycle import HOLDING_PHASES
from orchestrator.report.as_html.markup import local, shown
from orchestrator.report.as_html.order import groups
from orchestrator.report.as_html.sections import concern
from orchestrator.report.as_html.style import PHASE_COLOURS
from orchestrator.report.summary import Report, ServerReport, TargetReport
from orchestrator.report.text import duration

WIDTH, LEFT, TOP, LABEL = 1000, 190, 34, 54
NAMED = 150
"""Targets that get a lane with a name."""
LANE, HEAD = 16, 20
THIN, THINNEST, TALL = 1.2, 0.24, 1200
"""Lanes without a name are this high at most and at least, and together about this high."""
TICKS = (10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


MARKS = {"bad": "not good", "doubt": "needs a person"}


def gantt(report: Report) -> str:
    """Return the timeline of every target, grouped by wave and server; nothing without one."""
    targets = [target for target in report.targets if target.spans]
    if not targets:
        return ""
    until = _until(report)
    named = len(targets) <= NAMED
    height = LANE if named else min(THIN, max(THINNEST, TALL / len(targets)))
    parts: list[str] = []
    crowd = _Crowd(height, until)
    y = float(TOP)
    for wave, server, lanes in groups(report, targets):
        name = f"{shown(wave, 60)} · {shown(server, 60)}"
        parts.append(f'<text x="0" y="{y + 14:.0f}" class="name">{name}</text>')
        y += HEAD
        for target in lanes:
            if named:
                parts.append(_lane(target, y, until))
            else:
                crowd.add(target, y + height / 2)
            y += height
    parts = [*_axis(report, until, y), *parts, *crowd.paths()]
    return _svg(y + 4, parts, "Timeline of all targets") + _legend(marks=not named)


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
    kind = concern(target)
    coloured = f' class="{kind}"' if kind else ""
    return (
        f"<g><title>{shown(title, 600)}</title>"
        f'<text x="10" y="{y + 12:.0f}"{coloured}>{shown(target.label, 26)}</text>{bars}</g>'
    )


class _Crowd:
    """Many targets in few paths: each bar is a stroke, and begins where the last one ended."""

    def __init__(self, height: float, until: float) -> None:
        self._height, self._until = height, until
        self._drawn: dict[str, list[str]] = {}
        self._pen: dict[str, tuple[float, float]] = {}

    def add(self, target: TargetReport, y: float) -> None:
        """Draw a target's phases, and a mark before them if it is not good."""
        for span in target.spans:
            self._stroke(f"p-{span.phase}", *_ends(span.start, span.end, self._until), y)
        if kind := concern(target):
            self._stroke(kind, LEFT - 9, 6, y)

    def _stroke(self, kind: str, x: float, width: float, y: float) -> None:
        """Draw from where the pen is, and count with what was written: no error adds up."""
        at_x, at_y = self._pen.get(kind, (0.0, 0.0))
        right, down, along = round(x - at_x, 1), round(y - at_y, 2), round(width, 1)
        move = "m" if kind in self._pen else "M"
        self._drawn.setdefault(kind, []).append(
            f"{move}{_short(right)} {_short(down, 2)}h{_short(along)}"
        )
        self._pen[kind] = (at_x + right + along, at_y + down)

    def paths(self) -> Iterator[str]:
        """Yield a path for each phase and for each kind of mark."""
        for kind, found in self._drawn.items():
            is_phase = kind.startswith("p-")
            thick = _short(self._height if is_phase else max(self._height, 1.5), 2)
            said = kind.removeprefix("p-").replace("_", " ") if is_phase else MARKS[kind]
            yield (
                f'<path class="thin {kind}" stroke-width="{thick}" d="{"".join(found)}">'
                f"<title>{said}</title></path>"
            )


def _ends(start: float, end: float, until: float) -> tuple[float, float]:
    """Return where a bar begins and how wide it is; what took no time is still a hair wide."""
    x = _x(start, until)
    return x, max(_x(end, until) - x, 0.4)


def _bar(start: float, end: float, y: float, height: float, until: float) -> str:
    """Return a rectangle as a path."""
    x, width = _ends(start, end, until)
    return f"M{_short(x)} {_short(y)}h{_short(width)}v{_short(height)}h-{_short(width)}z"


def _short(number: float, digits: int = 1) -> str:
    """Return a number in as few characters as SVG takes."""
    text = f"{number:.{digits}f}".rstrip("0").rstrip(".")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _axis(report: Report, until: float, bottom: float) -> Iterator[str]:
    """Yield lines and labels: local time above, UTC below it."""
    run = report.run
    step = next((tick for tick in TICKS if until / tick <= 8), 86400 * math.ceil(until / 691200))
    for place in range(int(until // step) + 1):
        x = _x(place * step, until)
        at = run.started_at + timedelta(seconds=place * step)
        here = local(at, run.utc_offset_s)[11:19]
        yield f'<path class="axis" d="M{_short(x)} {TOP - 2}V{_short(bottom)}"/>'
        if x > WIDTH - LABEL:
            continue
        yield f'<text x="{_short(x + 2)}" y="11">{here}</text>'
        yield f'<text x="{_short(x + 2)}" y="24">{at:%H:%M:%S}Z</text>'
    yield '<text x="0" y="11">local time</text><text x="0" y="24">UTC</text>'


def _legend(*, marks: bool) -> str:
    boxes = "".join(
        f'<span><svg viewBox="0 0 8 8"><rect class="p-{phase}" width="8" height="8"/></svg>'
        f"{phase.replace('_', ' ')}</span>"
        for phase in PHASE_COLOURS
    )
    how = "<p>A mark at the left of a lane: the target is not good.</p>" if marks else ""
    return f'<p class="legend soft">{boxes}</p>{how}'


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

    line, at_x, at_y = f"M{LEFT} {_short(y(0))}", float(LEFT), round(y(0), 1)
    for at, level in steps:
        along, down = round(_x(at, until) - at_x, 1), round(y(level) - at_y, 1)
        line += (f"h{_short(along)}" if along else "") + (f"v{_short(down)}" if down else "")
        at_x, at_y = at_x + along, at_y + down
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
