"""Sizes and times as outcomes show them: expected as a plan writes it, observed in words."""

from __future__ import annotations

from datetime import UTC, datetime

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: int) -> str:
    """Return bytes as a person reads them: `5.2 GiB`, `512 bytes`."""
    if abs(count) < 1024:
        return f"{count} byte" + ("" if count == 1 else "s")
    amount = float(count)
    for unit in _UNITS:
        amount /= 1024
        if abs(amount) < 1023.95 or unit == _UNITS[-1]:
            return f"{amount:.1f} {unit}"
    raise AssertionError("unreachable")


def exactly(count: int) -> str:
    """Return bytes without loss beside the readable form: `4.0 KiB (4095 bytes)`."""
    return size(count) if abs(count) < 1024 else f"{size(count)} ({count} bytes)"


def written_size(count: int) -> str:
    """Return bytes as a plan writes them, without loss: `5GiB`, `1500B`."""
    for power, unit in reversed(tuple(enumerate(_UNITS, start=1))):
        whole, rest = divmod(count, 1024**power)
        if whole and not rest:
            return f"{whole}{unit}"
    return f"{count}B"


def written_duration(seconds: float) -> str:
    """Return a duration as a plan writes it, without loss: `6h`, `90m`, `1.5s`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def duration(seconds: float) -> str:
    """Return a duration as a person reads it: `3d 4h`, `2h 13m`, `45 s`."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes else f"{whole} s"


def age(modified_at: datetime, created_at: datetime) -> tuple[float, str]:
    """Return how old a file was when its restore point was made, in seconds and in words.

    A negative age is a clock that was wrong: the file is newer than its restore point.
    """
    seconds = (created_at - modified_at).total_seconds()
    shown = f"{modified_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if seconds < 0:
        return seconds, f"{shown}, {duration(-seconds)} after the restore point (clock skew?)"
    return seconds, f"{shown}, {duration(seconds)} before the restore point"
