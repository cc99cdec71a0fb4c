"""The planted bugs stay plantable: whoever changes a line that one breaks mends its patch."""

from __future__ import annotations

import pytest

from tests.mutants import ROOT, Mutant, copied, mutants, plant

DEMANDED = {
    "operation-finished-is-final",
    "limit-plus-one",
    "lost-post-repeated",
    "intent-not-durable",
    "resume-repeats-post",
    "new-session-404-is-unmounted",
    "session-change-ignored",
    "slot-freed-before-unmount",
    "silent-leftover",
    "unknown-is-success",
}
"""The ten bugs of this field that no suite may miss."""


def test_there_are_enough() -> None:
    """At least twenty, the ten worst among them."""
    names = {mutant.name for mutant in mutants()}

    assert names >= DEMANDED
    assert len(names) >= 20


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_names_tests_that_exist(mutant: Mutant) -> None:
    """Each says what it breaks, and who catches it."""
    assert mutant.about.endswith(".")
    assert mutant.caught_by
    for test in mutant.caught_by:
        path, _, name = test.partition("::")
        function = name.partition("[")[0].rpartition("::")[2]
        assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8")


def test_every_mutant_can_be_planted() -> None:
    """Every patch applies to the program as it is."""
    with copied() as directory:
        for mutant in mutants():
            assert plant(mutant, directory, only_try=True) == "", mutant.name
