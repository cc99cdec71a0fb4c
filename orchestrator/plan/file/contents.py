"""The kinds of values that say what must be true of a guest's files, and what to copy of them."""

from __future__ import annotations

from typing import Annotated, Any

from orchestrator.core.expressions import ExpressionRefused, compiled
from orchestrator.plan.file import quantities
from orchestrator.plan.file.guest_paths import GUEST_PATH_PATTERN, guest_path, holds_control, quoted
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.scalars import (
    choice,
    line,
    matching,
    scalar,
    single,
    text_like,
    text_schema,
    without_tilde,
)
from orchestrator.plan.file.section import JsonSchema, ReadBy

SHA256_PATTERN = r"^[0-9a-fA-F]{64}$"
MAGIC_PATTERN = r"^[0-9a-fA-F]{2}( ?[0-9a-fA-F]{2}){0,63}$"
LONGEST_TEXT = 4096
LONGEST_EXPRESSION = 500


def sha256(text: str) -> str:
    """Return a file's SHA-256 as 64 lower-case hex digits."""
    return matching(text, SHA256_PATTERN, "is no SHA-256: write its 64 hex digits", 80).lower()


def magic(text: str) -> str:
    """Return the bytes a file begins with, as lower-case hex digits without spaces."""
    advice = "is no row of bytes: write 1 to 64 pairs of hex digits, such as 4D 5A"
    return matching(text, MAGIC_PATTERN, advice).replace(" ", "").lower()


def searched_text(text: str) -> str:
    """Return the text that a file must contain; it may have several lines."""
    if not text:
        raise ValueError("this is empty: every file contains that")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"this text is too long: at most {LONGEST_TEXT} characters")
    if holds_control(text, but="\t\r\n"):
        raise ValueError("this text holds a control character: remove it")
    return str(text)


def expression(text: str) -> str:
    """Return a regular expression that can be searched for in linear time.

    Raises:
        ValueError: it is none, or asks for look-around, back-references or the like.
    """
    if not text:
        raise ValueError("this is empty: every file matches that")
    if len(text) > LONGEST_EXPRESSION:
        raise ValueError(f"this expression is too long: at most {LONGEST_EXPRESSION} characters")
    try:
        compiled(text)
    except ExpressionRefused as exc:
        raise ValueError(f"{shown(text)} {exc}") from None
    return str(text)


def name_glob(text: str) -> str:
    """Return a pattern for the names in a directory."""
    if not text.strip():
        raise ValueError("this is empty: write a pattern such as *.log")
    if "/" in text or "\\" in text:
        raise ValueError(f"{shown(text)} is no pattern for names: leave the directory out")
    if holds_control(text) or len(text) > 255:
        raise ValueError(f"{shown(text)} matches no name that a file can have")
    return str(text)


def volume(text: str) -> int:
    """Return the bytes of a size that must not be zero."""
    count = quantities.size(text)
    if count <= 0:
        raise ValueError(f"{shown(text)} is nothing at all: give more than 0B")
    return count


def volume_name(text: str) -> str:
    """Return the name under which a mount shows a volume.

    Raises:
        ValueError: no volume is called that.
    """
    volume = line(text)
    if "/" in volume or "\\" in volume:
        raise ValueError(f"{quoted(volume)} is a path: write the volume's name alone, 'Volume$1:'")
    return volume


def local_path(text: str) -> str:
    """Return a path on this machine; one that ends in `/` is a directory."""
    path = line(without_tilde(text))
    return path + "/" if path.rpartition("/")[2] in {".", ".."} else path


def command_line(value: Any) -> tuple[str, ...]:
    """Return a program and its arguments.

    Raises:
        ValueError: it is no list of texts, or names no program.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("write [PROGRAM, ARGUMENT...], a list: no shell is involved")
    argv = tuple(single(part) for part in value)
    line(without_tilde(argv[0]))
    if any(holds_control(part, but="\t\n") or len(part) > LONGEST_TEXT for part in argv):
        raise ValueError("an argument holds a control character or is far too long")
    return tuple(str(part) for part in argv)


def name_globs(value: Any) -> tuple[str, ...]:
    """Return the patterns of names of which none may be there."""
    if not isinstance(value, list) or not value:
        raise ValueError("write a list of patterns, such as ['*.locked', '*DECRYPT*']")
    return tuple(name_glob(single(part)) for part in value)


# --- kinds -------------------------------------------------------------------------------

_GLOB_SCHEMA: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_globs = JsonSchema({"type": "array", "minItems": 1, "items": _GLOB_SCHEMA})


def _digits_schema(pattern: str) -> dict[str, Any]:
    """Return the schema of hex digits, which may be a number to an editor."""
    return {"anyOf": [text_like(pattern), {"type": "number"}]}


GuestPath = Annotated[
    str,
    scalar(guest_path),
    text_schema(GUEST_PATH_PATTERN, r"C:\Windows\System32\config\SYSTEM", "/etc/nginx/nginx.conf"),
]
_sizes = text_schema(quantities.SIZE_PATTERN, "512KiB", "5GiB", "500MB")
Size = Annotated[int, scalar(quantities.size), _sizes]
Volume = Annotated[int, scalar(volume), _sizes]
Tolerance = Annotated[
    float, scalar(quantities.fraction), text_schema(quantities.PERCENT_PATTERN, "10%")
]
Sha256 = Annotated[str, scalar(sha256), JsonSchema(_digits_schema(SHA256_PATTERN))]
Magic = Annotated[
    str,
    scalar(magic),
    JsonSchema({**_digits_schema(MAGIC_PATTERN), "examples": ["4D 5A", "504b0304"]}),
]
SearchedText = Annotated[str, scalar(searched_text), text_schema()]
Expression = Annotated[str, scalar(expression), text_schema(None, "^server_name +pay\\.")]
NameGlob = Annotated[str, scalar(name_glob), JsonSchema({**_GLOB_SCHEMA, "examples": ["*.mdf"]})]
VOLUME_PATTERN = r"^[^/\\]+$"
VolumeName = Annotated[
    str, scalar(volume_name), text_schema(VOLUME_PATTERN, "Volume$1:", "vol_3f9a17c2")
]
NameGlobs = Annotated[tuple[str, ...], ReadBy(name_globs), _globs]
CommandLine = Annotated[tuple[str, ...], ReadBy(command_line), _globs]
LocalPath = Annotated[str, scalar(local_path), text_schema()]
Original = Annotated[str, *choice(["original"], "places to write to")]
