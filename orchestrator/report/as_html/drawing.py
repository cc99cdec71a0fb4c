"""What the pictures share: the scale, the axis, and shapes in as few characters as possible."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import timedelta

from orchestrator.core.text import local_moment, time_of_day
from orchestrator.report.as_html.markup import scrolled, shown
from orchestrator.report.values import Report

WIDTH, LEFT, TOP, LABEL = 1000, 190, 34, 54
HINT = '<p class="hint">Wider than this screen: scroll the picture sideways.</p>'
TICKS = (10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def end_of(report: Report) -> float:
    """Return where the pictures of a run end, in seconds on its clock."""
    last = max((span.end for target in report.targets for span in target.spans), default=0.0)
    return max(report.run.duration_s, last, 1.0)


def x_of(at: float, until: float) -> float:
    """Return where a second of the run is drawn."""
    return LEFT + (WIDTH - LEFT) * at / until


def ends(start: float, end: float, until: float) -> tuple[float, float]:
    """Return where a bar begins and how wide it is; what took no time is still a hair wide."""
    x = x_of(start, until)
    return x, max(x_of(end, until) - x, 0.4)


def bar(start: float, end: float, y: float, until: float) -> str:
    """Return a bar as a path to be stroked; its style gives the height and the dashes."""
    x, width = ends(start, end, until)
    return f"M{short(x)} {short(y)}h{short(width)}"


def short(number: float, digits: int = 1) -> str:
    """Return a number in as few characters as SVG takes."""
    text = f"{number:.{digits}f}".rstrip("0").rstrip(".")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def axis(report: Report, until: float, bottom: float) -> Iterator[str]:
    """Yield lines and labels, local time above UTC where it is another; and the run's stops."""
    run = report.run
    step = next((tick for tick in TICKS if until / tick <= 8), 86400 * math.ceil(until / 691200))
    for place in range(int(until // step) + 1):
        x = x_of(place * step, until)
        at = run.started_at + timedelta(seconds=place * step)
        yield f'<path class="axis" d="M{short(x)} {TOP - 2}V{short(bottom)}"/>'
        if x > WIDTH - LABEL:
            continue
        if run.utc_offset_s:
            here = local_moment(at, run.utc_offset_s)[11:19]
            yield f'<text x="{short(x + 2)}" y="11">{here}</text>'
        yield f'<text x="{short(x + 2)}" y="24">{time_of_day(at)}</text>'
    for stop in run.stops:
        line = f"M{short(x_of(stop.at_s, until))} {TOP - 2}V{short(bottom)}"
        yield f'<path class="stop" d="{line}"><title>{shown(stop.why)}</title></path>'
    yield '<text x="0" y="11">local time</text>' if run.utc_offset_s else ""
    yield '<text x="0" y="24">UTC</text>'


def picture(height: float, parts: Iterable[str], title: str) -> str:
    """Return a picture that may be scrolled where it is wider than the page."""
    name = shown(title)
    return scrolled(
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{''.join(parts)}</svg>",
        f"{name}, may be scrolled sideways",
    )
