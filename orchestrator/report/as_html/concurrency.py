"""How many mounts each server carried, beside what it was given, and when it was out of reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.core.lifecycle import HOLDING_PHASES, Phase
from orchestrator.report.as_html.drawing import (
    HINT,
    LEFT,
    TOP,
    WIDTH,
    axis,
    end_of,
    picture,
    short,
    x_of,
)
from orchestrator.report.as_html.markup import shown
from orchestrator.report.server_values import OutageReport, ServerReport
from orchestrator.report.values import Report, TargetReport

USING_A_SLOT = HOLDING_PHASES | {Phase.OUT_OF_REACH}

EXPLAINED = (
    '<p class="soft">Dashed: as many as the server was given, fewer while it was overloaded or '
    "came back. Shaded: it could not be used.</p>"
)


def over_time(report: Report) -> str:
    """Return for each server how many mounts were open or under way over time, and its limit."""
    until = end_of(report)
    pictures = []
    for server in report.servers:
        steps = open_over_time([each for each in report.targets if each.server == server.name])
        if len(steps) > 1:
            pictures.append(_curve(server, steps, report, until))
    if pictures:
        pictures.insert(0, HINT)
    if pictures and any(server.paces or server.outages for server in report.servers):
        pictures.append(EXPLAINED)
    return "".join(pictures)


def open_over_time(targets: Sequence[TargetReport]) -> list[tuple[float, int]]:
    """Return (second, mounts that are, or may be, open or under way from then on), in order.

    What may still be open at the end of the run does not end there.
    """
    changes: dict[float, int] = {0.0: 0}
    for target in targets:
        last = target.spans[-1] if target.may_be_open and target.spans else None
        for span in target.spans:
            if span.phase in USING_A_SLOT:
                changes[span.start] = changes.get(span.start, 0) + 1
                if span is not last:
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
    given = max((each.mounts or 0 for each in server.paces), default=0)
    top = max(most, given, server.mounts_limit or 0, 1)
    height = 70

    def y(level: float) -> float:
        return TOP + height * (1 - level / top)

    line, at_x, at_y = f"M{LEFT} {short(y(0))}", float(LEFT), round(y(0), 1)
    for at, level in steps:
        along, down = round(x_of(at, until) - at_x, 1), round(y(level) - at_y, 1)
        line += (f"h{short(along)}" if along else "") + (f"v{short(down)}" if down else "")
        at_x, at_y = at_x + along, at_y + down
    parts = [
        *axis(report, until, TOP + height),
        f'<text x="0" y="{TOP + 14}" class="name">{shown(server.name, 26)}</text>',
        f'<text x="10" y="{TOP + 32}">most at once: {most}</text>',
        *(_outage(each, until, height) for each in server.outages),
        f'<path class="curve" d="{line}H{WIDTH}"/>',
    ]
    if server.mounts_limit is not None:
        parts.append(f'<text x="10" y="{TOP + 48}">limit: {server.mounts_limit}</text>')
    if server.mounts_limit is not None or server.paces:
        parts.append(f'<path class="limit" d="{_allowed(server, until, y)}"/>')
    return picture(TOP + height + 6, parts, f"Open mounts of {server.name} over time")


def _allowed(server: ServerReport, until: float, y: Callable[[float], float]) -> str:
    """Return the line of what a server was given: the plan's limit, or less while it had trouble.

    Without a limit in the plan there is a line only while it was given less than it could take.
    """
    line, drawing = "", False
    changes = [(each.at_s, each.mounts) for each in server.paces]
    for at, mounts in ((0.0, None), *changes):
        level = server.mounts_limit if mounts is None else mounts
        x = short(x_of(at, until))
        if level is None:
            line += f"H{x}" if drawing else ""
        else:
            line += f"H{x}V{short(y(level))}" if drawing else f"M{x} {short(y(level))}"
        drawing = level is not None
    return f"{line}H{WIDTH}" if drawing else line


def _outage(outage: OutageReport, until: float, height: float) -> str:
    """Return the ground of the time in which a server could not be used."""
    left = x_of(outage.start_s, until)
    right = x_of(until if outage.end_s is None else outage.end_s, until)
    return (
        f'<path class="outage" d="M{short(left)} {TOP}H{short(max(right, left + 1))}'
        f'v{height}H{short(left)}z"><title>{shown(outage.reason)}</title></path>'
    )
