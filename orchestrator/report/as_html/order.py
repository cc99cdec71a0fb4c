"""In which order targets stand in pictures and tables: by wave as they ran, then by server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from orchestrator.report.summary import Report, TargetReport


def groups(
    report: Report, targets: Iterable[TargetReport]
) -> Iterator[tuple[str, str, list[TargetReport]]]:
    """Yield wave, server and the targets that have both."""
    order = {wave.name: place for place, wave in enumerate(report.waves)}
    ordered = sorted(targets, key=lambda each: (order.get(each.wave, 0), each.wave, each.server))
    for (wave, server), found in groupby(ordered, key=lambda each: (each.wave, each.server)):
        yield wave, server, list(found)
