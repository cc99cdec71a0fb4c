"""A summary on a terminal: no word is broken, and nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.wrapping import for_stdout, wrapped

LONG = (
    "  databases/hq/sql01 on vbr-hq-01: not concluded: last seen running (restore point "
    "sql01@2026-11-23)"
)


def test_a_long_line_goes_on_further_in() -> None:
    """At 80 columns, between words."""
    assert wrapped(f"MAY BE MOUNTED:\n{LONG}\n", 80).split("\n") == [
        "MAY BE MOUNTED:",
        "  databases/hq/sql01 on vbr-hq-01: not concluded: last seen running (restore",
        "    point sql01@2026-11-23)",
        "",
    ]


def test_a_word_that_is_too_long_stays_whole() -> None:
    """Whoever copies a path or a command gets all of it."""
    path = "/var/lib/" + "x" * 90

    assert path in wrapped(f"Reports: {path}", 80).split()


def test_what_is_no_terminal_gets_the_text_as_it_is() -> None:
    """A pipe is read by programs."""
    assert for_stdout(LONG) == LONG


@given(st.lists(st.text("ab- ", max_size=200)), st.integers(40, 120))
def test_no_word_is_broken_or_lost(lines: list[str], width: int) -> None:
    """Only where lines end changes."""
    text = "\n".join(lines)

    assert wrapped(text, width).split() == text.split()
