"""Durations, sizes, times, percentages and counts, as a person writes them in a plan.

Every function takes the text of one scalar and returns the value, or raises ValueError with
a sentence that says what is wrong and how to write it. Units are never guessed.
"""

from __future__ import annotations

import re
from datetime import datetime

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
PERCENT_PATTERN = r"^[0-9]+(\.[0-9]+)?%$"
COUNT_PATTERN = r"^[0-9]+$"
TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DECIMAL = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES = _DECIMAL | {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_LONGEST_S = 366 * 86400.0
_LARGEST_BYTES = 2**60
_LARGEST_COUNT = 1_000_000_000
_LARGEST_INCREASE = 100


def matches(pattern: str, text: str) -> re.Match[str] | None:
    """Return how a text begins with `pattern`, of which a digit is one of ASCII."""
    return re.match(pattern, text, re.ASCII)


def shown(text: str, limit: int = 60) -> str:
    """Return `text` quoted for a message: one line, control characters escaped, shortened."""
    return repr(text if len(text) <= limit else text[:limit] + "…")


def duration(text: str) -> float:
    """Return the seconds that `text` (`90s`, `20m`, `3h`, `1d`, `500ms`) means."""
    match = matches(DURATION_PATTERN, text)
    if match is None:
        hint = f", such as {text}m" if matches(COUNT_PATTERN, text) and len(text) < 6 else ""
        raise ValueError(
            f"{shown(text)} is not a duration: write a number with a unit (s, m, h, d){hint}"
            + ("" if hint else ", such as 20m")
        )
    unit = match.group(2)
    seconds = float(text[: -len(unit)]) * _SECONDS[unit]
    if seconds > _LONGEST_S:
        raise ValueError(f"{shown(text)} is too long: at most 366d")
    return seconds


def positive_duration(text: str) -> float:
    """Return the seconds of a duration that must not be zero."""
    seconds = duration(text)
    if seconds <= 0:
        raise ValueError(f"{shown(text)} is no time at all: give more than 0s")
    return seconds


def size(text: str) -> int:
    """Return the bytes that `text` (`512KiB`, `5GiB`, `500MB`) means."""
    match = matches(SIZE_PATTERN, text)
    if match is None:
        raise ValueError(
            f"{shown(text)} is not a size: write a number with a unit "
            "(B, kB, MB, GB, KiB, MiB, GiB), such as 5GiB"
        )
    unit = match.group(2)
    number = text[: -len(unit)]
    whole, _, rest = number.partition(".")
    if len(whole) > 19 or int(whole) * _BYTES[unit] > _LARGEST_BYTES:
        raise ValueError(f"{shown(text)} is too large")
    return int(whole) * _BYTES[unit] + (int(float(f"0.{rest}") * _BYTES[unit]) if rest else 0)


def instant(text: str) -> datetime:
    """Return the moment that an RFC 3339 `text` with an offset means."""
    if matches(TIME_PATTERN, text) is None:
        raise ValueError(
            f"{shown(text)} is not a time: write RFC 3339 with an offset, "
            "such as 2026-11-20T02:00:00Z or 2026-11-20T02:00:00+01:00"
        )
    try:
        moment = datetime.fromisoformat(text.upper())
        moment.utctimetuple()  # the offset may lead out of the calendar
    except (ValueError, OverflowError):
        raise ValueError(f"{shown(text)} is not a time: there is no such moment") from None
    return moment


def fraction(text: str) -> float:
    """Return the fraction that a percentage such as `20%` means."""
    if matches(PERCENT_PATTERN, text) is None:
        raise ValueError(f"{shown(text)} is not a percentage: write a number and %, such as 20%")
    value = float(text[:-1]) / 100
    if value > 1:
        raise ValueError(f"{shown(text)} is more than everything: at most 100%")
    return value


def increase(text: str) -> float:
    """Return the fraction that a percentage such as `50%` means, also one of more than 100%."""
    if matches(PERCENT_PATTERN, text) is None:
        raise ValueError(f"{shown(text)} is not a percentage: write a number and %, such as 50%")
    value = float(text[:-1]) / 100
    if value > _LARGEST_INCREASE:
        raise ValueError(f"{shown(text)} is too much: at most {100 * _LARGEST_INCREASE}%")
    return value


def count(text: str, *, least: int = 0) -> int:
    """Return the whole number in `text`, at least `least`."""
    if matches(COUNT_PATTERN, text) is None:
        if matches(COUNT_PATTERN, text.removeprefix("-")):
            raise ValueError(f"{shown(text)} is too small: at least {least}")
        raise ValueError(f"{shown(text)} is not a whole number")
    if len(text) > 10 or int(text) > _LARGEST_COUNT:
        raise ValueError(f"{shown(text)} is too large: at most {_LARGEST_COUNT}")
    if int(text) < least:
        raise ValueError(f"{text} is too small: at least {least}")
    return int(text)


def truth(text: str) -> bool:
    """Return what `true` or `false` means; no other word is taken."""
    if text not in {"true", "false"}:
        raise ValueError(f"{shown(text)} is neither true nor false: write one of the two")
    return text == "true"
