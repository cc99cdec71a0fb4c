"""The table of selectors is whole."""

from __future__ import annotations

from orchestrator.plan.file.schema import TargetFile
from orchestrator.plan.file.selectors import KEYS, SELECTORS, SelectorKind


def test_every_kind_has_a_row_and_a_key_of_the_plan() -> None:
    """A selector that only one of them knows would fail in the middle of a plan."""
    assert set(SELECTORS) == set(SelectorKind)
    assert set(KEYS) <= set(TargetFile.keys)
