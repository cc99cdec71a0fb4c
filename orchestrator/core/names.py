"""Which names are the same: Windows compares without case, Linux exactly.

Source: NTFS compares names by their upper case, character by character, so `ß` is not `ss`.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from msgspec import Struct

from orchestrator.core.model import OsKind

_BOTH_SLASHES = re.compile(r"[\\/]+")
_SLASH = re.compile(r"/+")


class PathRules(Struct, frozen=True):
    """The rules for names and paths of one operating system."""

    os_kind: OsKind

    def folded(self, text: str) -> str:
        """Return `text` so that equal names become equal texts."""
        return _upper(text) if self.os_kind is OsKind.WINDOWS else text

    def same(self, one: str, other: str) -> bool:
        """Tell whether two names mean the same entry."""
        return self.folded(one) == self.folded(other)

    def path_key(self, path: str) -> str:
        """Return a path so that paths of the same file become equal texts."""
        return self.folded("/".join(self.segments(path)))

    def matches(self, name: str, glob: str) -> bool:
        """Tell whether a name matches a pattern with `*`, `?` and `[...]`."""
        return fnmatchcase(self.folded(name), self.folded(glob))

    def segments(self, path: str) -> tuple[str, ...]:
        """Return the names of which a path consists; on Linux a backslash is part of a name."""
        slashes = _BOTH_SLASHES if self.os_kind is OsKind.WINDOWS else _SLASH
        return tuple(segment for segment in slashes.split(path) if segment)


def _upper(text: str) -> str:
    return "".join(high if len(high := char.upper()) == 1 else char for char in text)
