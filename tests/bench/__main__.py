"""`make bench`: every figure that the README promises, measured in one go.

Absolute times depend on the machine, so its speed stands above the table. `--readme` writes
the tables into README.md, between its two marks.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import arrangements, real, renderings, start, views, virtual
from tests.bench.figures import Figure, table

README = Path(__file__).parents[2] / "README.md"
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
        arrangements.figures,
        virtual.figures,
        views.figures,
        renderings.figures,
        real.figures,
        real.pages,
        real.growth,
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
            f"Measured with Python {platform.python_version()} on a machine that adds ten "
            f"million numbers in a Python loop in {speed:.2f} s.",
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
    if "--readme" in sys.argv:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return 0 if all(figure.is_kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
