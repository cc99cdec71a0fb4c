"""`make bench`: every figure of docs/reference/figures.md, measured in one go.

Absolute times depend on the machine, so its speed is above the table. `--page` writes
the tables into that page, between its two marks.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.core.version import __version__
from tests.bench import (
    arrangements,
    exchanges,
    few,
    first_plan,
    forecasts,
    forms,
    real,
    renderings,
    sites,
    start,
    views,
    virtual,
)
from tests.bench.figures import Figure, table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "figures.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def speed_s() -> float:
    """Return the seconds that this machine needs for ten million additions in Python."""
    began = time.process_time()
    total = 0
    for number in range(10_000_000):
        total += number
    return time.process_time() - began


def _all() -> Iterator[Figure]:
    for source in (
        start.figures,
        first_plan.figures,
        arrangements.figures,
        forecasts.figures,
        virtual.figures,
        virtual.troubled,
        virtual.slow,
        views.figures,
        renderings.figures,
        exchanges.figures,
        forms.figures,
        real.figures,
        real.pages,
        real.growth,
        real.beside_naive,
        few.figures,
        sites.figures,
    ):
        for figure in source():
            print(figure.row, file=sys.stderr, flush=True)
            yield figure


def main() -> int:
    """Measure, print, perhaps write; return 1 if a promise is not kept."""
    speed = speed_s()
    figures = list(_all())
    text = "\n".join(
        [
            f"Measured with bulk-restore {__version__} and Python {platform.python_version()} on a "
            f"machine that adds ten million numbers in a Python loop in {speed:.2f} s.",
            "",
            table(figures),
            "",
            "The same job beside two programs that people write first: 300 mounts of 1 to 6 s "
            "over 3 servers, 12 at once on each.",
            "",
            real.comparison(),
        ]
    )
    print(text)
    if "--page" in sys.argv:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return 0 if all(figure.is_kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
