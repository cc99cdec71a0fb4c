"""One notation for each kind of amount, made in one module."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from orchestrator.core import text

ROOT = Path(text.__file__).parent

BY_ITSELF = re.compile(
    r""":[,.0-9]*[fg]\}[ ]?(?:s|h|min|minutes|seconds|bytes|[KMGT]iB)\b  # {seconds:g} s
    | \}[ ](?:seconds|MiB|GiB)\b                                          # {count // 2**20} MiB
    | %H:%M | strftime\(                                                  # {at:%H:%M}
    | ['"]s['"][ ]\*                                                      # 's' * (count != 1)
    """,
    re.VERBOSE,
)
"""How an amount is formatted by hand."""

MACHINES_READ = {"plan/fitting.py"}
"""Modules that write moments for keys and files."""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (4.25, "4.2 s"),
        (9.0, "9 s"),
        (42.4, "42 s"),
        (59.7, "1 min"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (3725, "1 h 2 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    """In their two greatest units; a tenth of a second where it matters."""
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 byte"), (512, "512 bytes"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**60, "1.0 EiB")],
)
def test_sizes(count: int, words: str) -> None:
    """In binary units, with one digit."""
    assert text.size(count) == words


def test_moments() -> None:
    """In UTC to the second, wherever they were made."""
    at = datetime(2026, 11, 28, 23, 5, 12, tzinfo=timezone(timedelta(hours=1)))

    assert text.moment(at) == "2026-11-28 22:05:12 UTC"
    assert text.time_of_day(at) == "22:05:12 UTC"
    assert text.table_moment(at) == "2026-11-28 22:05"
    assert text.local_moment(at.astimezone(UTC), 3600) == "2026-11-28 23:05:12 +01:00"


def test_nobody_else_formats_amounts() -> None:
    """Else there are soon five notations again."""
    modules = {path.relative_to(ROOT).as_posix(): path for path in ROOT.rglob("*.py")}
    others = {
        name: BY_ITSELF.findall(path.read_text("utf-8"))
        for name, path in modules.items()
        if name != "text.py" and name not in MACHINES_READ and not name.startswith("simulator/")
    }

    assert {name: found for name, found in others.items() if found} == {}
