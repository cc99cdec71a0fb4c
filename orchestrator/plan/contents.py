"""The kinds of values that say what must be true of a guest's files, and what to copy of them."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from orchestrator.plan import quantities
from orchestrator.plan.guest_paths import GUEST_PATH_PATTERN, guest_path, holds_control
from orchestrator.plan.quantities import shown
from orchestrator.plan.scalars import (
    VARIABLE_PATTERN,
    choice_schema,
    count_schema,
    line,
    scalar,
    single,
    text_schema,
    word,
)

SHA256_PATTERN = r"^[0-9a-fA-F]{64}$"
MAGIC_PATTERN = r"^[0-9a-fA-F]{2}( ?[0-9a-fA-F]{2}){0,63}$"
LONGEST_TEXT = 4096
LONGEST_EXPRESSION = 500

_sha256 = re.compile(SHA256_PATTERN, re.ASCII)
_magic = re.compile(MAGIC_PATTERN, re.ASCII)


def sha256(text: str) -> str:
    """Return a file's SHA-256 as 64 lower-case hex digits."""
    if _sha256.match(text) is None:
        raise ValueError(f"{shown(text, 80)} is no SHA-256: write its 64 hex digits")
    return text.lower()


def magic(text: str) -> str:
    """Return the bytes a file begins with, as lower-case hex digits without spaces."""
    if _magic.match(text) is None:
        raise ValueError(
            f"{shown(text)} is no row of bytes: write 1 to 64 pairs of hex digits, such as 4D 5A"
        )
    return text.replace(" ", "").lower()


def searched_text(text: str) -> str:
    """Return the text that a file must contain; it may have several lines."""
    if not text:
        raise ValueError("nothing stands here: every file contains that")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"this text is too long: at most {LONGEST_TEXT} characters")
    if holds_control(text, but="\t\r\n"):
        raise ValueError("this text holds a control character: remove it")
    return str(text)


def expression(text: str) -> str:
    """Return a regular expression that can be searched for in reasonable time.

    The obvious way to search for ages is refused, not every one: whoever searches needs a
    time limit all the same.
    """
    if not text:
        raise ValueError("nothing stands here: every file matches that")
    if len(text) > LONGEST_EXPRESSION:
        raise ValueError(f"this expression is too long: at most {LONGEST_EXPRESSION} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what may mean something else one day
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"{shown(text)} is no regular expression: {exc}") from None
    if _repeats_a_repetition(text):
        raise ValueError(
            f"{shown(text)} repeats a group that repeats something itself, which may be "
            "searched for without end: simplify it"
        )
    return str(text)


_token = re.compile(
    r"(?P<open>\((?:\?(?:P?<\w+>|[a-zA-Z-]*:|<?[=!]))?)|(?P<close>\))|(?P<or>\|)"
    r"|(?P<more>[*+]|\{\d*,\})|(?P<some>\?|\{\d+(?:,\d+)?\})"
    r"|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.",
    re.DOTALL,
)


@dataclass(slots=True)
class _Group:
    """What was seen of an open group: in the branch after its last `|`, and before that."""

    atoms: int = 0
    repeats: bool = False
    is_repetition: bool = False
    """Whether some branch is nothing but one repeated thing."""

    def end_branch(self) -> None:
        self.is_repetition |= self.atoms == 1 and self.repeats
        self.atoms, self.repeats = 0, False


def _repeats_a_repetition(text: str) -> bool:
    """Return whether something like `(a+)+` stands in an expression: the plainest trap."""
    groups, closed = [_Group()], False
    for found in _token.finditer(text):
        if found["more"]:
            if closed:
                return True
            groups[-1].repeats = True
        elif found["open"]:
            groups.append(_Group())
        elif found["or"]:
            groups[-1].end_branch()
        elif found["close"] and len(groups) > 1:
            groups[-1].end_branch()
            closed = groups.pop().is_repetition
            groups[-1].atoms += 1
            groups[-1].repeats |= closed
            continue
        elif not found["some"]:
            groups[-1].atoms += 1
        closed = False
    return False


def name_glob(text: str) -> str:
    """Return a pattern for the names in a directory."""
    if not text.strip():
        raise ValueError("nothing stands here: write a pattern such as *.log")
    if "/" in text or "\\" in text:
        raise ValueError(f"{shown(text)} is no pattern for names: leave the directory out")
    if holds_control(text) or len(text) > 255:
        raise ValueError(f"{shown(text)} matches no name that a file can have")
    return str(text)


def volume(text: str) -> int:
    """Return the bytes of a size that must not be zero."""
    found = quantities.size(text)
    if found <= 0:
        raise ValueError(f"{shown(text)} is nothing at all: give more than 0B")
    return found


def number_of_files(text: str) -> int:
    """Return how many files, at least one."""
    return quantities.count(text, least=1)


def local_path(text: str) -> str:
    """Return a path on this machine; one that ends in `/` is a directory."""
    if text.startswith("~"):
        raise ValueError("'~' is not expanded: write the path out, or relative to the plan")
    path = line(text)
    return path + "/" if path.rpartition("/")[2] in {".", ".."} else path


def original(text: str) -> str:
    """Return where files are written in a guest; there is only the original place."""
    return word(text, {"original": "original"}, "places to write to")


def command_line(value: Any) -> tuple[str, ...]:
    """Return a program and its arguments.

    Raises:
        ValueError: it is no list of texts, or names no program.
    """
    if not isinstance(value, list) or not value:
        raise ValueError("write [PROGRAM, ARGUMENT...], a list: no shell is involved")
    argv = tuple(single(part) for part in value)
    if argv[0].startswith("~"):
        raise ValueError("'~' is not expanded: write the path out, or relative to the plan")
    line(argv[0])
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

GuestPath = Annotated[
    str,
    scalar(guest_path),
    text_schema(GUEST_PATH_PATTERN, r"C:\Windows\System32\config\SYSTEM", "/etc/nginx/nginx.conf"),
]
Size = Annotated[
    int, scalar(quantities.size), text_schema(quantities.SIZE_PATTERN, "512KiB", "5GiB", "500MB")
]
Volume = Annotated[
    int, scalar(volume), text_schema(quantities.SIZE_PATTERN, "512KiB", "5GiB", "500MB")
]
Files = Annotated[int, scalar(number_of_files), count_schema(1)]
Tolerance = Annotated[
    float, scalar(quantities.fraction), text_schema(quantities.PERCENT_PATTERN, "10%")
]
Sha256 = Annotated[
    str,
    scalar(sha256),
    # Digits alone are a number to an editor.
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"{SHA256_PATTERN}|{VARIABLE_PATTERN}"},
                {"type": "number"},
            ]
        }
    ),
]
Magic = Annotated[
    str,
    scalar(magic),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"{MAGIC_PATTERN}|{VARIABLE_PATTERN}"},
                {"type": "number"},
            ],
            "examples": ["4D 5A", "504b0304"],
        }
    ),
]
SearchedText = Annotated[str, scalar(searched_text), text_schema()]
Expression = Annotated[str, scalar(expression), text_schema(None, "^server_name +pay\\.")]
NameGlob = Annotated[
    str, scalar(name_glob), WithJsonSchema({**_GLOB_SCHEMA, "examples": ["*.mdf"]})
]
NameGlobs = Annotated[
    tuple[str, ...],
    PlainValidator(name_globs),
    WithJsonSchema({"type": "array", "minItems": 1, "items": _GLOB_SCHEMA}),
]
CommandLine = Annotated[
    tuple[str, ...],
    PlainValidator(command_line),
    WithJsonSchema({"type": "array", "minItems": 1, "items": _GLOB_SCHEMA}),
]
LocalPath = Annotated[str, scalar(local_path), text_schema()]
Original = Annotated[str, scalar(original), choice_schema(["original"])]
