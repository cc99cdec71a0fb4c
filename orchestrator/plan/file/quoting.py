"""Text as a plan file holds it: whatever a name is made of, it stays one value of one line."""

from __future__ import annotations

import json
import re

from orchestrator.plan.file.scalars import line

_plain = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._ -]*[A-Za-z0-9._-])?", re.ASCII)
_starts_a_word = re.compile(r"[A-Za-z]", re.ASCII)
_meant_otherwise = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that other readers of YAML take for something else than a text."""
_marker = re.compile(r"#(?=#)|:(?=:)")


def can_be_written(text: str) -> bool:
    """Return whether a plan can hold `text` as a name: it reads one line, printable, not empty."""
    try:
        line(text)
    except ValueError:
        return False
    return True


def quoted(text: str, *, variables: bool = True) -> str:
    """Return the YAML scalar that reads as `text`, plain where every reader agrees.

    A `${` is written so that it is no variable; not where a plan knows no `variables`. What a CI
    system could obey in a log is escaped.
    """
    if variables:
        text = text.replace("${", "$${")
    is_a_word = _plain.fullmatch(text) and _starts_a_word.match(text)
    if is_a_word and text.casefold() not in _meant_otherwise:
        return text
    shown = "".join(
        char if char.isprintable() else json.dumps(char)[1:-1]
        for char in json.dumps(text, ensure_ascii=False)
    )
    return _marker.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)
