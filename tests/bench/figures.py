"""What a benchmark says: a figure, what was wanted, what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value; `limit` is the most it may be, None where nothing is promised."""

    what: str
    value: float
    limit: float | None = None
    unit: str = ""
    digits: int = 2

    @property
    def is_kept(self) -> bool:
        """Whether the promise holds."""
        return self.limit is None or self.value <= self.limit

    @property
    def row(self) -> str:
        """Return the figure as a row of a Markdown table."""
        unit = f" {self.unit}" if self.unit else ""
        wanted = "" if self.limit is None else f"≤ {self.limit:g}{unit}"
        mark = "" if self.is_kept else " **missed**"
        return f"| {self.what} | {wanted} | {self.value:.{self.digits}f}{unit}{mark} |"


def table(figures: Iterable[Figure]) -> str:
    """Return all figures as a Markdown table."""
    return "\n".join(["| figure | wanted | measured |", "| --- | --- | --- |", *rows(figures)])


def rows(figures: Iterable[Figure]) -> list[str]:
    """Return the rows of the table."""
    return [figure.row for figure in figures]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of `values` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
