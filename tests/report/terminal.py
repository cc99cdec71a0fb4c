"""What a terminal obeys in a text, by its own rules, rather than shows."""

from __future__ import annotations

import re
import unicodedata

_STRING = (
    r"(?:\x1b[PX^_\]]|[\x90\x98\x9d\x9e\x9f])(?:(?!\x1b\\|[\x07\x9c]).)*(?:\x1b\\|[\x07\x9c])?"
)
_CONTROL = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
_ESCAPE = r"\x1b[ -/]*[0-~]?"
_SEQUENCES = re.compile(f"{_STRING}|{_CONTROL}|{_ESCAPE}|.", re.DOTALL)
"""Strings (titles, links), control sequences, escapes. Source: ECMA-48, 5.3 to 5.6 and 8.3."""
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of what is no glyph: controls, bidirectional marks, line separators, nothing."""


def obeyed(text: str) -> list[str]:
    """Return every sequence and character that steers a terminal, but the ends of lines."""
    if not any(unicodedata.category(char) in _UNSEEN for char in set(text) - {"\n"}):
        return []  # for every sequence begins with a control
    return [
        found
        for found in _SEQUENCES.findall(text)
        if len(found) > 1 or (found != "\n" and unicodedata.category(found) in _UNSEEN)
    ]
