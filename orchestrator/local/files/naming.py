"""Names of guest files, made safe for any disk. Pure: the same names give the same answer.

A safe name stays as it is. Any other is altered as little as possible and gets the beginning
of its own hash, `report~1a2b3c4d.txt`, so that it can neither meet the name that it now
resembles nor another one altered alike. The same happens to names that a disk which ignores
case, or stores characters decomposed, would take for one another.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

NAME_BYTES = 240
"""Longest name: disks take 255 bytes, and `.part` must fit behind it."""
EXTENSION_BYTES = 20
"""What is kept as an extension of a name that has to be cut."""
PART = ".part"
"""Suffix of a file that is still being written; no other name may have it."""

_STEPS = (0, 8, 16, 32, 64)
"""Hexadecimal digits of the hash that a name is given while it still meets another."""
_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\.|$)",
    re.IGNORECASE,
)


def local_names(names: Iterable[str], tag: str = "") -> Mapping[str, str]:
    """Return for each guest name one of its own to be saved under, in one directory.

    The answer does not depend on the order. `tag` becomes part of every name.
    """
    step = {name: int(_altered(name) != name) for name in names}
    while True:
        made = {name: _rendered(name, _STEPS[step[name]], tag) for name in step}
        met = Counter(map(folded, made.values()))
        crowded = [name for name, given in made.items() if met[folded(given)] > 1]
        if not crowded:
            return made
        for name in crowded:
            step[name] = min(step[name] + 1, len(_STEPS) - 1)


def tagged(name: str, tag: str) -> str:
    """Return a name of the user's own choice with `tag` before its extension."""
    stem, extension = _split(name)
    return _joined(stem, f"@{tag}" if tag else "", extension)


def folded(name: str) -> str:
    """Return what names have in common that some disk takes for one another."""
    plain = unicodedata.normalize("NFKC", name).upper().casefold()
    return unicodedata.normalize("NFKC", plain)


def _rendered(name: str, digits: int, tag: str) -> str:
    stem, extension = _split(_altered(name))
    suffix = f"~{_hash(name)[:digits]}" if digits else ""
    return _joined(stem, suffix + (f"@{tag}" if tag else ""), extension)


def _altered(name: str) -> str:
    """Return the name with everything replaced that some system reads as more than a name."""
    plain = unicodedata.normalize("NFC", name)
    plain = "".join(char if char.isprintable() else "_" for char in plain)
    plain = _FORBIDDEN.sub("_", plain).strip(" ").rstrip(". ")
    if plain.casefold().endswith(PART):
        plain = f"{plain[: -len(PART)]}_part"
    if not plain or plain.startswith(("-", "~")) or _DEVICE.match(plain):
        plain = f"_{plain}"
    stem, extension = _split(plain)
    return _joined(stem, "", extension)


def _split(name: str) -> tuple[str, str]:
    """Split off the extension with its dot, if it is one: letters and digits behind a stem."""
    stem, dot, extension = name.rpartition(".")
    size = len(extension.encode("utf-8", "replace"))
    if not stem.strip(".") or not extension.isalnum() or size > EXTENSION_BYTES:
        return name, ""
    return stem, dot + extension


def _joined(stem: str, suffix: str, extension: str) -> str:
    """Join the parts, the stem cut so that the whole fits."""
    room = NAME_BYTES - len((suffix + extension).encode("utf-8", "replace"))
    encoded = stem.encode("utf-8", "replace")
    if len(encoded) > room:
        stem = encoded[:room].decode("utf-8", "ignore")
    whole = f"{stem}{suffix}{extension}"
    return whole if suffix or extension else whole.rstrip(". ")


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
