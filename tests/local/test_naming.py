"""Names of guest files become safe, readable, and never the same."""

from __future__ import annotations

import random

import pytest

from orchestrator.local.files.naming import NAME_BYTES, PART, folded, local_names
from tests.local.hostile import HOSTILE

ALPHABET = (
    *"aAbBcoOnNuUlLpPtTrR109~@-_ .",
    *("..", "/", "\\", ":", "*", '"', "<", "|", "?", "\0", "\n", "\x1b", "\x7f", ".part", "com1"),
    *("\u202e", "\u200b", "e\u0301", "\u00e9", "\u00df", "ss", "\u212a", "k", "\ufb01", "fi"),
    *("\u0130", "\u0131", "\uff0f", "\u6f22", "\U0001f4a9", "\ud800", "x" * 120),
)
DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}


def assert_safe(name: str) -> None:
    """The name means one file of the directory it is used in, on every system."""
    assert name
    assert name not in {".", ".."}
    assert not set(name) & set('/\\:*?"<>|\0')
    assert name.isprintable()
    assert len(name.encode()) <= NAME_BYTES
    assert name[-1] not in ". "
    assert name[0] not in "- "
    assert name.partition(".")[0].rstrip(" ").casefold() not in DEVICES
    assert not name.casefold().endswith(PART)


def test_every_hostile_name_is_made_safe_and_stays_apart() -> None:
    """Sixty and more names in one directory: as many safe ones."""
    made = local_names(HOSTILE)

    assert len(set(HOSTILE)) >= 60
    for name in made.values():
        assert_safe(name)
    assert len({folded(name) for name in made.values()}) == len(HOSTILE)


def test_two_hundred_thousand_random_names_are_safe_and_distinct() -> None:
    """In directories of a hundred names each: safe, distinct, whatever their order."""
    rng = random.Random(20261123)

    for _ in range(2_000):
        names = {"".join(rng.choices(ALPHABET, k=rng.randint(0, 5))) for _ in range(130)}
        some = sorted(names)[:100]
        made = local_names(some)
        for name in made.values():
            assert_safe(name)
        assert len({folded(name) for name in made.values()}) == len(some)


def test_the_answer_does_not_depend_on_the_order() -> None:
    """Or a resumed run would give a file another name."""
    names = list(HOSTILE)
    random.Random(1).shuffle(names)

    assert local_names(names) == local_names(HOSTILE)


@pytest.mark.parametrize(
    "name", ["ledger.csv", ".bashrc", "Büro-Süd 2026.xlsx", "a b.tar.gz", "100%.txt", "x~1"]
)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    """Nobody looks for a file under another name than it has."""
    assert local_names([name]) == {name: name}


@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [
        ("../../etc/passwd", ".._.._etc_passwd~", ""),
        ("CON.txt", "_CON~", ".txt"),
        ("a:b.doc", "a_b~", ".doc"),
        ("x" * 300 + ".txt", "xxxx", ".txt"),
    ],
)
def test_an_altered_name_can_still_be_read(name: str, begins: str, ends: str) -> None:
    """What it was can be seen, and its extension stays."""
    made = local_names([name])[name]

    assert made.startswith(begins)
    assert made.endswith(ends)


def test_a_name_made_to_meet_an_altered_one_does_not() -> None:
    """A guest that knows the rule gains nothing by it."""
    first = local_names(["a:b"])["a:b"]

    made = local_names(["a:b", first, "a?b"])

    assert len({folded(name) for name in made.values()}) == 3


def test_a_tag_stands_before_the_extension() -> None:
    """Files of another restore point stand beside the first."""
    assert local_names(["ledger.csv"], "20261122T020011Z") == {
        "ledger.csv": "ledger@20261122T020011Z.csv"
    }
