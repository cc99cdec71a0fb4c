"""When each target was in which phase.

Drawn as SVG without script. Up to `NAMED` targets have a lane with their name and a title
that shows on hover; more than that share lanes as thin as needed to be looked at as one
picture, and each phase is one path, so that 5,000 targets stay small. What is not good is
marked in both.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.report.as_html.drawing import LEFT, TOP, axis, bar, end_of, ends, picture, short
from orchestrator.report.as_html.markup import shown
from orchestrator.report.as_html.order import groups
from orchestrator.report.as_html.sections import concern
from orchestrator.report.as_html.style import PHASE_COLOURS
from orchestrator.report.summary import Report, TargetReport
from orchestrator.report.text import duration

NAMED = 150
"""Targets that get a lane with a name."""
LANE, HEAD = 16, 20
THIN, THINNEST, TALL = 1.2, 0.24, 1200
"""Lanes without a name are this high at most and at least, and together about this high."""


MARKS = {"bad": "not good", "doubt": "needs a person"}


def gantt(report: Report) -> str:
    """Return the timeline of every target, grouped by wave and server; nothing without one."""
    targets = [target for target in report.targets if target.spans]
    if not targets:
        return ""
    until = end_of(report)
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
    parts = [*axis(report, until, y), *parts, *crowd.paths()]
    return picture(y + 4, parts, "Timeline of all targets") + _legend(marks=not named)


def _lane(target: TargetReport, y: float, until: float) -> str:
    bars = "".join(
        f'<path class="p-{span.phase}" d="{bar(span.start, span.end, y + 2, LANE - 4, until)}"/>'
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
        for kind, found in self._drawn.items():
            is_phase = kind.startswith("p-")
            thick = short(self._height if is_phase else max(self._height, 1.5), 2)
            said = kind.removeprefix("p-").replace("_", " ") if is_phase else MARKS[kind]
            yield (
                f'<path class="thin {kind}" stroke-width="{thick}" d="{"".join(found)}">'
                f"<title>{said}</title></path>"
            )


def _legend(*, marks: bool) -> str:
    boxes = "".join(
        f'<span><svg viewBox="0 0 8 8"><rect class="p-{phase}" width="8" height="8"/></svg>'
        f"{phase.replace('_', ' ')}</span>"
        for phase in PHASE_COLOURS
    )
    how = "<p>A mark at the left of a lane: the target is not good.</p>" if marks else ""
    return f'<p class="legend soft">{boxes}</p>{how}'
