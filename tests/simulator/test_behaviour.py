"""The knobs of a simulated server take the values that the documents name, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.simulator.behaviour import KINDS, WORDS, Behaviour, allowed, read_knob


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_default_is_read_back_as_it_is_documented(name: str) -> None:
    """The documents write it as the command line takes it."""
    default = getattr(Behaviour(), name)
    written = str(default).lower() if default is None or isinstance(default, bool) else str(default)

    assert read_knob(name, written) == default
    assert read_knob(name, str(default)) == default
    assert allowed(name)


@pytest.mark.parametrize(
    ("name", "word"), [(name, w) for name in sorted(WORDS) for w in WORDS[name]]
)
def test_each_word_is_taken(name: str, word: str) -> None:
    """As text of the command line, too; a word of no meaning is refused with all that have one."""
    knobs: dict[str, Any] = {name: read_knob(name, word)}
    assert getattr(replace(Behaviour(), **knobs), name) == word

    knobs[name] = f"x{word}"
    with pytest.raises(ValueError, match=f"{name}=x{word}: it is one of these: .*`{word}`"):
        Behaviour(**knobs)
