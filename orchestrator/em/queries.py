"""The server's own query language: literals and filters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

NAMES_PER_QUERY = 40
FILTER_BYTES = 5000
"""Machine names in one query: as many as keep the URL well below HTTP.sys's 16 KB."""


def quoted(value: str) -> str:
    """Return `value` as a filter literal: in double quotes, a quote inside doubled.

    Source: reference 3.2; an unquoted value with spaces silently matches something else.
    """
    return '"' + value.replace('"', '""') + '"'


def batches(field: str, names: Sequence[str]) -> Iterable[str]:
    """Yield filters that name several machines each, short enough for one URL."""
    batch: list[str] = []
    size = 0
    for name in dict.fromkeys(names):
        condition = f"{field}=={quoted(name)}"
        length = len(quote(condition, safe="")) + 3
        if batch and (len(batch) >= NAMES_PER_QUERY or size + length > FILTER_BYTES):
            yield ",".join(batch)
            batch, size = [], 0
        batch.append(condition)
        size += length
    if batch:
        yield ",".join(batch)
