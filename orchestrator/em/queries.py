"""The server's own query language: literals and filters."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

LONGEST_URL = 5000
"""Characters of an address. Source: reference 18.1, trap 54: proxies refuse from 8,200 on."""
FILTER_LENGTH = LONGEST_URL - 500
"""Characters of a filter as it is sent: host, type, order and page take the rest."""
NAMES_PER_QUERY = 40
"""Machine names in one query."""
IDS_PER_QUERY = 200
"""Task ids in one query."""


def quoted(value: str) -> str:
    """Return `value` as a filter literal: in double quotes, a quote inside doubled.

    Source: reference 3.2; an unquoted value with spaces silently matches something else.
    """
    return '"' + value.replace('"', '""') + '"'


def fits(condition: str) -> bool:
    """Return whether a filter is short enough to be sent."""
    return len(quote(condition, safe="")) <= FILTER_LENGTH


def batches(field: str, values: Iterable[str], most: int = NAMES_PER_QUERY) -> Iterable[str]:
    """Yield filters that name several values each, short enough for one URL.

    A value that is too long on its own is a filter on its own.
    """
    batch: list[str] = []
    size = 0
    for value in dict.fromkeys(values):
        condition = f"{field}=={quoted(value)}"
        length = len(quote(condition, safe="")) + 3
        if batch and (len(batch) >= most or size + length > FILTER_LENGTH):
            yield ",".join(batch)
            batch, size = [], 0
        batch.append(condition)
        size += length
    if batch:
        yield ",".join(batch)
