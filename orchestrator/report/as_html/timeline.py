"""When each target was in which phase.

Drawn as SVG without script. Up to `NAMED` targets have a lane with their name and a title
that shows on hover; more than that share lanes as thin as needed to be looked at as one
picture, and each phase is one path, so that 5,000 targets stay small. What is not good is
marked in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.core.text import duration
from orchestrator.report.as_html.drawing import (
    HINT,
    LEFT,
    TOP,
    axis,
    bar,
    end_of,
    ends,
    picture,
    short,
)
from orchestrator.report.as_html.markup import shown
from orchestrator.report.as_html.sections import concern
from orchestrator.report.as_html.style import PHASES
from orchestrator.report.as_html.targets import groups
from orchestrator.report.values import Report, TargetReport

NAMED = 150
"""Targets that get a lane with a name."""
LANE, HEAD = 16, 20
THIN, THINNEST, TALL = 1.2, 0.24, 1200
"""Lanes without a name are this high at most and at least; a picture is about this high."""


MARKS = {"bad": "not good", "doubt": "needs a person"}


def gantt(report: Report) -> str:
    """Return the timeline of every target, grouped by wave and server; nothing without one."""
    targets = [target for target in report.targets if target.spans]
    if not targets:
        return ""
    named = len(targets) <= NAMED
    drawn = _with_names(report, targets) if named else _without_names(report, targets)
    return HINT + drawn + _legend(report, marks=not named)


def _with_names(report: Report, targets: Sequence[TargetReport]) -> str:
    """Return a lane with a name for each target, in pictures that fit on a page each."""
    until = end_of(report)
    drawn: list[str] = []
    parts: list[str] = []
    y = float(TOP)

    def finish() -> None:
        number = f", part {len(drawn) + 1}" if drawn else ""
        whole = [*axis(report, until, y), *parts]
        drawn.append(picture(y + 4, whole, f"Timeline of all targets{number}"))

    for wave, server, lanes in groups(report, targets):
        for place, target in enumerate(lanes):
            if y + HEAD + LANE > TALL:
                finish()
                parts, y = [], float(TOP)
            if place == 0 or not parts:
                parts.append(_name(wave, server, y))
                y += HEAD
            parts.append(_lane(target, y, until))
            y += LANE
    finish()
    return "".join(drawn)


def _without_names(report: Report, targets: Sequence[TargetReport]) -> str:
    """Return thin lanes without names in one picture."""
    until = end_of(report)
    height = min(THIN, max(THINNEST, TALL / len(targets)))
    thin_lanes = _ThinLanes(height, until)
    parts: list[str] = []
    y = float(TOP)
    for wave, server, lanes in groups(report, targets):
        parts.append(_name(wave, server, y))
        y += HEAD
        for target in lanes:
            thin_lanes.add(target, y + height / 2)
            y += height
    parts = [*axis(report, until, y), *parts, *thin_lanes.paths()]
    return picture(y + 4, parts, "Timeline of all targets")


def _name(wave: str, server: str, y: float) -> str:
    name = f"{shown(wave, 60)} · {shown(server, 60)}"
    return f'<text x="0" y="{y + 14:.0f}" class="name">{name}</text>'


def _lane(target: TargetReport, y: float, until: float) -> str:
    bars = "".join(
        f'<path class="bar p-{span.phase}" d="{bar(span.start, span.end, y + LANE / 2, until)}"/>'
        for span in target.spans
    )
    text = "; ".join(
        f"{span.phase.replace('_', ' ')} {duration(span.end - span.start)}"
        for span in target.spans
        if span.end > span.start
    )
    title = f"{target.key}: {target.result.value}, mount {target.mount.value}. {text}"
    kind = concern(target)
    coloured = f' class="{kind}"' if kind else ""
    return (
        f"<g><title>{shown(title, 600)}</title>"
        f'<text x="10" y="{y + 12:.0f}"{coloured}>{shown(target.label, 26)}</text>{bars}</g>'
    )


class _ThinLanes:
    """Many targets in few paths: each bar is a stroke, and begins where the last one ended."""

    def __init__(self, height: float, until: float) -> None:
        self._height, self._until = height, until
        self._drawn: dict[str, list[str]] = {}
        self._pen: dict[str, tuple[float, float]] = {}

    def add(self, target: TargetReport, y: float) -> None:
        """Draw a target's phases, and a mark before them if it is not good."""
        for span in target.spans:
            self._stroke(f"p-{span.phase}", *ends(span.start, span.end, self._until), y)
        if kind := concern(target):
            self._stroke(kind, LEFT - 9, 6, y)

    def _stroke(self, kind: str, x: float, width: float, y: float) -> None:
        """Draw from where the pen is, and count with what was written: no error adds up."""
        at_x, at_y = self._pen.get(kind, (0.0, 0.0))
        right, down, along = round(x - at_x, 1), round(y - at_y, 2), round(width, 1)
        move = "m" if kind in self._pen else "M"
        self._drawn.setdefault(kind, []).append(
            f"{move}{short(right)} {short(down, 2)}h{short(along)}"
        )
        self._pen[kind] = (at_x + right + along, at_y + down)

    def paths(self) -> Iterator[str]:
        """Yield a path for each phase and for each kind of mark."""
        for kind, strokes in self._drawn.items():
            is_phase = kind.startswith("p-")
            thick = short(self._height if is_phase else max(self._height, 1.5), 2)
            text = kind.removeprefix("p-").replace("_", " ") if is_phase else MARKS[kind]
            yield (
                f'<path class="thin {kind}" stroke-width="{thick}" d="{"".join(strokes)}">'
                f"<title>{text}</title></path>"
            )


def _legend(report: Report, *, marks: bool) -> str:
    boxes = "".join(
        '<span><svg viewBox="0 0 30 14" aria-hidden="true">'
        f'<path class="bar p-{phase}" d="M0 7h30"/>'
        f"</svg>{phase.replace('_', ' ')}</span>"
        for phase in PHASES
    )
    how = "<p>A mark at the left of a lane: the target is not good.</p>" if marks else ""
    if report.run.stops:
        text = "; ".join(f"{stop.why} after {duration(stop.at_s)}" for stop in report.run.stops)
        how += f"<p>Dashed from top to bottom: {shown(text)}.</p>"
    return f'<p class="legend soft">{boxes}</p>{how}'
