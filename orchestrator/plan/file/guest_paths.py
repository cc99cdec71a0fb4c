r"""Paths inside of a guest: `C:\Windows`, `D:/Data`, `Volume$0:\boot`, `/etc/nginx`.

They stay as the plan writes them. Only complete paths are taken, so that a path means the same
file everywhere in the plan, and none leads elsewhere by `..`.
"""

from __future__ import annotations

import re
import unicodedata

from orchestrator.core.model import OsKind
from orchestrator.core.text import printable

WINDOWS_PATTERN = r"^([A-Za-z]|[Vv]olume\$?[0-9]+):[\\/]"
GUEST_PATH_PATTERN = rf"{WINDOWS_PATTERN}|^/"
LONGEST = 4096

_windows = re.compile(WINDOWS_PATTERN, re.ASCII)
_separators = re.compile(r"[\\/]")
_impossible = re.compile(r'[<>:"|?*]')


def quoted(text: str) -> str:
    """Return a path in quotes for a message: backslashes as they are, nothing that steers."""
    return f"'{printable(text, 120)}'"


def guest_path(text: str) -> str:
    """Return a complete path of a Windows or Linux guest.

    Raises:
        ValueError: it is relative, leads elsewhere, or no guest can have it.
    """
    if len(text) > LONGEST:
        raise ValueError(f"this path is too long: at most {LONGEST} characters")
    if holds_control(text):
        raise ValueError(f"{quoted(text)} holds a line break or control character: remove it")
    start = _windows.match(text)
    if start is None and not text.startswith("/"):
        raise ValueError(_not_complete(text))
    rest = text[start.end() :] if start else text[1:]
    parts = (_separators.split(rest) if start else rest.split("/")) if rest else []
    for number, part in enumerate(parts):
        if part in {".", ".."}:
            raise ValueError(f"{quoted(text)} goes by {part!r}: write the path it leads to")
        if not part and number < len(parts) - 1:
            raise ValueError(
                f"{quoted(text)} has two separators in a row: one is enough, "
                "also for backslashes in 'single quotes'"
            )
        impossible = _impossible.search(part) if start else None
        if impossible is not None:
            hint = ": names are chosen by 'glob'" if impossible[0] in "*?" else ""
            raise ValueError(
                f"{quoted(text)} holds {impossible[0]!r}, which no Windows name has{hint}"
            )
    return str(text)


def _not_complete(text: str) -> str:
    if not text.strip():
        return "this is empty: write a complete path of the guest"
    if text.startswith("\\\\"):
        return f"{quoted(text)} is a network path: only the guest's own volumes are mounted"
    return (
        f"{quoted(text)} is no complete path: start with a volume (C:\\, Volume$0:\\) "
        "for Windows, with / for Linux"
    )


def os_of(path: str) -> OsKind:
    """Return the system of the guests that can have `path`."""
    return OsKind.LINUX if path.startswith("/") else OsKind.WINDOWS


def base_name(path: str) -> str:
    """Return the last name of a guest path, or nothing for a volume."""
    if os_of(path) is OsKind.LINUX:
        return path.rstrip("/").rpartition("/")[2]
    name = _separators.split(path.rstrip("\\/"))[-1]
    return "" if name.endswith(":") else name


def holds_control(text: str, *, but: str = "") -> bool:
    """Return whether a text holds a control character that is not in `but`."""
    return any(unicodedata.category(char) in {"Cc", "Cs"} for char in text if char not in but)
