"""The volumes that a mount shows: which of them a path means, and what they say of the guest.

A Windows guest whose volumes a Linux server mounts has no drive letters: they have random ids.
Source: reference 6.1 for `C:` and `Volume$0:`, 9 and trap 70 for the ids; the volumes of a Linux
guest are not documented, so only `/` says that it is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from orchestrator.checks.outcomes import UNDECIDED, Unreadable
from orchestrator.core.model import OsKind
from orchestrator.core.names import PathRules
from orchestrator.core.text import printable

_LETTER = re.compile(r"[A-Za-z]:", re.ASCII)
_NUMBERED = re.compile(r"volume\$?[0-9]+:", re.ASCII | re.IGNORECASE)


def system_of(roots: Sequence[str]) -> OsKind | None:
    """Return which system the volumes of a guest show it to have; None where they do not say.

    Their names are as the server wrote them.
    """
    if any(_LETTER.fullmatch(root) or _NUMBERED.fullmatch(root) for root in roots):
        return OsKind.WINDOWS
    return OsKind.LINUX if any(root.startswith("/") for root in roots) else None


def windows_volume(name: str, roots: Sequence[str], volumes: Mapping[str, str]) -> str | Unreadable:
    """Return the one of `roots` that the first part of a Windows path means, or why none does.

    A volume of that name, else the one that the plan's `volumes` names for the letter. Where a
    mount shows no drive letters, nothing can be said of what is on `C:`.
    """
    same = PathRules(OsKind.WINDOWS).same
    for root in roots:
        if same(root, name):
            return root
    shown = printable(", ".join(roots), 200)
    mapped = volumes.get(name[:-1].upper()) if _LETTER.fullmatch(name) else None
    for root in roots if mapped is not None else ():
        if same(root.removesuffix(":"), (mapped or "").removesuffix(":")):
            return root
    letters = any(_LETTER.fullmatch(root) for root in roots)
    numbers = any(_NUMBERED.fullmatch(root) for root in roots)
    if letters or (numbers and _NUMBERED.fullmatch(name)) or not _is_volume(name):
        return Unreadable(f"there is no volume {printable(name, 40)}, only {shown}")
    why = f"{UNDECIDED}: this mount shows no drive letters (volumes: {shown})"
    if mapped is not None:
        why += f", nor the {printable(mapped, 40)} that the plan's `volumes` names for it"
    return Unreadable(why, undecided=True)


def _is_volume(name: str) -> bool:
    return bool(_LETTER.fullmatch(name) or _NUMBERED.fullmatch(name))
