"""The text of a `query` selector: what can be seen to be wrong before it is sent.

Source: reference 3.2: comparisons `field op value`, `;` is AND, `,` is OR, parentheses group;
values stand in double quotes, a quote inside doubled. Which fields there are only the server
knows; it refuses what it does not understand, and then only this entry fails.
"""

from __future__ import annotations

import re

from orchestrator.plan.file.quantities import shown

MAX_FILTER = 4000
"""Characters of a filter: percent-encoded it must leave room in a URL of 16 KB."""

HINT = "write FIELD==\"VALUE\", joined by ';' (and) or ',' (or)"

_token = re.compile(
    r'\s*(?:(?P<op>==|!=|>=|<=|>|<)|(?P<mark>[;,()])|(?P<value>"(?:[^"]|"")*")'
    r'|(?P<word>[^\s"=!<>;,()][^"=!<>;,()]*))'
)


def filter_text(text: str) -> str:
    """Return the text of a filter that has the form of one.

    Raises:
        ValueError: the server could not read it either.
    """
    if not text.strip():
        raise ValueError(f"this query asks for nothing: {HINT}")
    if not text.isprintable():
        raise ValueError("a query is one line without control characters")
    if len(text) > MAX_FILTER:
        raise ValueError(f"this query is too long: at most {MAX_FILTER} characters")
    _check(_tokens(text.strip()))
    return text.strip()


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(text):
        match = _token.match(text, place)
        if match is None:
            if text[place:].lstrip().startswith('"'):
                raise ValueError("a double quote of this query is not closed")
            raise ValueError(f"this query cannot be read at {shown(text[place:], 20)}: {HINT}")
        tokens.append((str(match.lastgroup), match[match.lastgroup or 0]))
        place = match.end()
    return tokens


def _check(tokens: list[tuple[str, str]]) -> None:
    """See that comparisons and marks take turns, and that parentheses close."""
    depth = place = 0
    while True:
        while tokens[place : place + 1] == [("mark", "(")]:
            depth, place = depth + 1, place + 1
        kinds = [kind for kind, _ in tokens[place : place + 3]]
        if kinds not in (["word", "op", "value"], ["word", "op", "word"]):
            at = tokens[place][1] if place < len(tokens) else "its end"
            raise ValueError(f"this query has no comparison at {shown(at, 20)}: {HINT}")
        place += 3
        while depth and tokens[place : place + 1] == [("mark", ")")]:
            depth, place = depth - 1, place + 1
        if place == len(tokens):
            break
        if tokens[place] not in (("mark", ";"), ("mark", ",")):
            raise ValueError(
                f"this query needs ';' or ',' before {shown(tokens[place][1], 20)}: {HINT}"
            )
        place += 1
    if depth:
        raise ValueError("a parenthesis of this query is not closed")
