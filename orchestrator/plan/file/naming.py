"""Globs over machine names: the exact spelling counts, and only without any, case does not.

The rule is the inventory's own for names: the server's comparison may ignore case.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import translate


def names_like(glob: str, names: Iterable[str]) -> frozenset[str]:
    """Return the `names` that match `glob`; in another case only if none does as it is spelt."""
    names = frozenset(names)
    exact = re.compile(translate(glob)).match
    matches = frozenset(name for name in names if exact(name))
    if matches:
        return matches
    folded = re.compile(translate(glob.casefold())).match
    return frozenset(name for name in names if folded(name.casefold()))


def names_left_out(globs: Iterable[str], names: Collection[str]) -> frozenset[str]:
    """Return the `names` that any of the `globs` of an `exclude` matches."""
    return frozenset().union(*(names_like(glob, names) for glob in globs))


def has_open_bracket(glob: str) -> bool:
    """Return whether a `[` of the glob is closed by no `]`, as `fnmatch` reads it."""
    return "[" in re.sub(r"\[!?\]?[^\]]*\]", "", glob)
