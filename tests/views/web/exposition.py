"""A strict reader of Prometheus' text format 0.0.4, written from its description."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
VALUE = re.compile(r"[+-]?(Inf|NaN|[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?)")
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
ESCAPES = {"\\": "\\", "n": "\n", '"': '"'}

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Metric:
    """One metric as it was read."""

    about: str
    kind: str = ""
    samples: dict[Labels, float] = field(default_factory=dict)


def read(text: str) -> dict[str, Metric]:
    """Return all metrics; an AssertionError for whatever the format does not allow."""
    assert text.endswith("\n")
    assert "\r" not in text
    found: dict[str, Metric] = {}
    current = ""
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            current, _, about = line.removeprefix("# HELP ").partition(" ")
            assert NAME.fullmatch(current)
            assert current not in found, "the lines of a metric stand together, once"
            found[current] = Metric(_unescaped(about, "n\\"))
        elif line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            assert name == current
            assert kind in TYPES
            assert not found[name].kind
            assert not found[name].samples, "the type stands before the samples"
            found[name].kind = kind
        else:
            name, labels, value = _sample(line)
            assert name == current
            assert found[name].kind
            assert labels not in found[name].samples, "a sample stands there once"
            found[name].samples[labels] = value
    assert all(metric.samples for metric in found.values())
    return found


def _sample(line: str) -> tuple[str, Labels, float]:
    matched = NAME.match(line)
    assert matched, line
    labels: list[tuple[str, str]] = []
    place = matched.end()
    if line[place] == "{":
        place += 1
        while line[place] != "}":
            label = LABEL.match(line, place)
            assert label, line
            assert line[label.end() : label.end() + 2] == '="'
            text, place = _quoted(line, label.end() + 2)
            labels.append((label[0], text))
            if line[place] == ",":
                place += 1
            else:
                assert line[place] == "}"
        place += 1
    assert line[place] == " "
    value = line[place + 1 :]
    assert VALUE.fullmatch(value), line
    assert len(dict(labels)) == len(labels)
    return matched[0], tuple(labels), float(value)


def _quoted(line: str, start: int) -> tuple[str, int]:
    end = start
    while line[end] != '"':
        end += 2 if line[end] == "\\" else 1
    return _unescaped(line[start:end], 'n\\"'), end + 1


def _unescaped(text: str, allowed: str) -> str:
    out, place = "", 0
    while place < len(text):
        if text[place] == "\\":
            assert text[place + 1] in allowed, text
            out += ESCAPES[text[place + 1]]
            place += 2
        else:
            out += text[place]
            place += 1
    return out
