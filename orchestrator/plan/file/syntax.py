"""The YAML parser's complaints, in words for the person who wrote the plan."""

from __future__ import annotations

from typing import Final

import yaml

from orchestrator.plan.file.problems import START, Position, Problems


def position_of_byte(data: bytes, exc: yaml.reader.ReaderError) -> Position:
    """Return line and column of the byte offset at which reading stopped."""
    head = data[: exc.position].decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    return Position(head.count("\n") + 1, len(head) - (head.rfind("\n") + 1) + 1)


def reader_words(exc: yaml.reader.ReaderError) -> str:
    """Return what is wrong with a byte that no YAML file may hold."""
    if "control characters" in str(exc.reason):
        return "there is a control character here: remove it (in double quotes, write it as \\xNN)"
    return "not valid UTF-8 from here on: save the file as UTF-8"


_SYNTAX: Final = {
    "mapping values are not allowed in this context": (
        "a ':' that starts a value cannot stand here: check the indentation, "
        "or put the text in quotes"
    ),
    "found character that cannot start any token": (
        "this character cannot start a value: indent with spaces, not tabs, "
        "and put texts that start with @, ` or % in quotes"
    ),
    "did not find expected key": "a key is expected here: check indentation and quotes above",
    "did not find expected '-' indicator": (
        "an item ('- ') is expected here: check the indentation"
    ),
    "did not find expected ',' or '}'": "a ',' or '}' is missing here: check the braces",
    "did not find expected ',' or ']'": "a ',' or ']' is missing here: check the brackets",
    "did not find expected node content": "a value is missing here: check brackets and braces",
    "found unexpected end of stream": "the file ends in the middle of a quoted text",
    "could not find expected ':'": "a ':' is missing after this key",
    "found unknown escape character": (
        "this backslash starts no known escape: use 'single quotes' for Windows paths"
    ),
    "block sequence entries are not allowed in this context": (
        "an item ('- ') cannot start here: put it on its own line"
    ),
    "did not find expected <document start>": (
        "text after the end of the document: check the indentation of this line"
    ),
}


def syntax_words(exc: yaml.MarkedYAMLError, problems: Problems) -> tuple[Position, str]:
    """Return where the parser stopped and what to do; the end of the file is its last line."""
    mark = exc.problem_mark or exc.context_mark
    raw = str(exc.problem or exc.context or "not readable")
    words = _SYNTAX.get(raw, f"not valid YAML: {raw}")
    if mark is None:
        return START, words
    position = Position(mark.line + 1, mark.column + 1)
    last = problems.source.last_line
    if position.line > last:
        position = Position(last, len(problems.source.line(last)) + 1)
    line = problems.source.line(position.line)
    if line[position.column - 2 : position.column] == "${":
        words = "inside { } and [ ] a text with ${...} needs quotes: '${name}'"
    start = exc.context_mark
    if start is not None and exc.problem and start.line + 1 < position.line:
        words += f" (what is not finished started at {start.line + 1}:{start.column + 1})"
    return position, words
