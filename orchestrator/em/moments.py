"""Times and names of rows, in whichever form they came."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.core.text import printable

EARLIEST_YEAR, LATEST_YEAR = 1970, 9998
"""Years of a real time. Source: reference 18.2; 1753, 1601, 1 and 9999 are seen as "none"."""


def called(name: str | None) -> str:
    """Return the name of a row that cannot be read, safe to show."""
    return f": {printable(name, 100)!r}" if name else ""


def moment(text: str | None) -> datetime | None:
    """Return a server time as aware UTC; None where there is none that could be used.

    Without an offset it is UTC. A year before 1970 or from 9999 on is a serialiser's word for
    "no value", and one that cannot be kept or read is no time either: it spoils nothing else.
    Source: reference 1.4 and 18.2, trap 62: a fraction of 0 to 7 digits.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if EARLIEST_YEAR <= found.year <= LATEST_YEAR else None
