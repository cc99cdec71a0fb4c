"""The kinds of single values a plan knows: how each is read, and how an editor checks it.

Every kind is an annotated type: a parser that takes the scalar's text, and the JSON Schema of
what may be written. The parsers raise ValueError with words for the person who wrote it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from orchestrator.core.model import (
    Cause,
    Conflict,
    OnError,
    OnTimeout,
    Order,
    OsKind,
    OsSource,
    RestorePointId,
    Source,
)
from orchestrator.core.model import Unmount as UnmountRule
from orchestrator.plan.file import quantities
from orchestrator.plan.file.api_format import ApiFormat
from orchestrator.plan.file.filters import filter_text
from orchestrator.plan.file.os_choice import OPEN_OS, OsChoice
from orchestrator.plan.file.problems import did_you_mean
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.section import JsonSchema, ReadBy
from orchestrator.plan.file.settings import (
    FailureBudget,
    HookKind,
    NotifyOn,
    PolicyName,
    SampleOrder,
    StopTasks,
)

T = TypeVar("T")

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
GUID_PATTERN = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
FINGERPRINT_PATTERN = r"^([0-9a-fA-F]{2}:?){31}[0-9a-fA-F]{2}$"
OS_CHOICES = {
    "windows": OsChoice(OsKind.WINDOWS, OsSource.PLAN),
    "linux": OsChoice(OsKind.LINUX, OsSource.PLAN),
    "auto": OPEN_OS,
}
VARIABLE_PATTERN = r"\$\{[A-Za-z_]"

_HOST_PATTERN = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)$"


def single(value: object) -> str:
    """Return `value` if it is one scalar's text.

    Raises:
        ValueError: it is a list or a mapping.
    """
    if not isinstance(value, str):
        kind = "list" if isinstance(value, list) else "mapping"
        raise ValueError(f"write a single value here, not a {kind}")  # noqa: TRY004 - a mistake in the plan, not in the program
    return value


def scalar(parse: Callable[[str], T]) -> ReadBy:
    """Return what reads one scalar with `parse`."""
    return ReadBy(lambda value: parse(single(value)))


def text_schema(pattern: str | None = None, *examples: str) -> JsonSchema:
    """Return the JSON Schema of a scalar that matches `pattern` or holds a variable."""
    schema = {"type": ["string", "number", "boolean"]} if pattern is None else text_like(pattern)
    return JsonSchema({**schema, "examples": list(examples)} if examples else schema)


def text_like(pattern: str) -> dict[str, Any]:
    """Return the JSON Schema of a text that matches `pattern` or holds a variable."""
    return {"type": "string", "pattern": f"{pattern}|{VARIABLE_PATTERN}"}


def count_schema(least: int) -> JsonSchema:
    """Return the JSON Schema of a whole number, also as text or from a variable."""
    text = text_like(quantities.COUNT_PATTERN)
    return JsonSchema({"anyOf": [{"type": "integer", "minimum": least}, text]})


def words_schema(words: Iterable[str]) -> JsonSchema:
    """Return the JSON Schema of one of `words`, or a variable."""
    return JsonSchema(
        {"anyOf": [{"enum": [*words]}, {"type": "string", "pattern": VARIABLE_PATTERN}]}
    )


def choice(words: Iterable[str] | Mapping[str, T], noun: str) -> tuple[ReadBy, JsonSchema]:
    """Return how one of `words` is read, and its JSON Schema; `noun` is their plural.

    The words of an enumeration mean its members.
    """
    meanings = words if isinstance(words, Mapping) else {str(each): each for each in words}
    return scalar(lambda text: word(text, meanings, noun)), words_schema(meanings)


# --- parsers -----------------------------------------------------------------------------


def matching(text: str, pattern: str, advice: str, limit: int = 60) -> str:
    """Return `text` if it has the form; `advice` says of another what it is not, and what to do.

    At most `limit` characters of it are shown.
    """
    if not quantities.matches(pattern, text):
        raise ValueError(f"{shown(text, limit)} {advice}")
    return str(text)


def without_tilde(text: str) -> str:
    """Return a path that does not begin with the home directory's short form."""
    if text.startswith("~"):
        raise ValueError("'~' is not expanded: write the path out, or relative to the plan")
    return text


def line(text: str) -> str:
    """Return a text of one line with something on it."""
    if not text.strip():
        raise ValueError("this is empty: write a text")
    if not text.isprintable():
        raise ValueError(f"{shown(text)} holds a line break or control character: remove it")
    if text != text.strip():
        raise ValueError(f"{shown(text)} starts or ends with a space: remove it")
    if len(text) > 500:
        raise ValueError("this text is too long: at most 500 characters")
    return str(text)


def paragraph(text: str) -> str:
    """Return a text that may have several lines."""
    if not text.strip():
        raise ValueError("this is empty: write a text or remove the key")
    return text.strip()


def name(text: str) -> str:
    """Return a name that can be part of a key such as `wave/server/vm`."""
    advice = "is no name: use letters, digits, '.', '_' and '-', at most 64, "
    return matching(text, NAME_PATTERN, advice + "a letter or digit first")


def version(text: str) -> int:
    """Return the version of the plan format, which is 1."""
    if text != "1":
        raise ValueError(f"version {shown(text)} is not known: this program reads 'version: 1'")
    return 1


def guid(text: str) -> RestorePointId:
    """Return a restore point's id in lower case; the server's `urn:` form is taken too."""
    bare = text.rpartition(":")[2] if text.lower().startswith("urn:veeam:") else text
    if not quantities.matches(GUID_PATTERN, bare):
        raise ValueError(
            f"{shown(text)} is no restore point id: "
            "write a GUID such as 9b414afe-e957-4d40-a144-7d02de9a041c"
        )
    return RestorePointId(bare.lower())


def fingerprint(text: str) -> str:
    """Return a SHA-256 fingerprint as 64 lower-case hex digits."""
    advice = "is no SHA-256 fingerprint: write 32 pairs of hex digits, "
    text = matching(text, FINGERPRINT_PATTERN, advice + "with or without ':' between them", 110)
    return text.replace(":", "").lower()


def url(text: str) -> str:
    """Return an Enterprise Manager's address as `https://host:port`, without a path."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("this is no address: write https://HOST:9398") from None
    if parts.scheme == "http":
        raise ValueError(
            "plain http would send the password readable to everybody on the way: write https"
        )
    if parts.scheme != "https" or not parts.netloc:
        address = text.rpartition("@")[2]  # without an account
        raise ValueError(f"{shown(address)} is no address: write https://HOST:9398")
    if "@" in parts.netloc:
        raise ValueError("an account has no place in the address: use 'username' and 'password'")
    if parts.query or parts.fragment or parts.path not in {"", "/", "/api", "/api/"}:
        raise ValueError("the address ends after the port: leave path and query out")
    shown_host = f"[{host}]" if ":" in host else host
    if not quantities.matches(_HOST_PATTERN, shown_host):
        raise ValueError(f"{shown(host)} is no host name or IP address")
    if port is None:
        raise ValueError("name the port: Enterprise Manager's own default is 9398")
    if port == 0:
        raise ValueError("port 0 cannot be called: Enterprise Manager's own default is 9398")
    return f"https://{shown_host}:{port}"


def api_version(text: str) -> str:
    """Return the REST API version to ask for at logon."""
    advice = "is no API version: write v1_5, v1_6, v1_7 or latest"
    return matching(text, r"^(latest|v1_[5-9])$", advice)


def absolute_path(path: str, base: Path) -> str:
    """Return `path` as an absolute one; a relative path starts at `base`."""
    # Not Path.resolve(): a link is followed when the file is read, not when the plan is.
    return os.path.abspath(base / path)  # noqa: PTH100 - for the reason above


def failures(text: str) -> FailureBudget:
    """Return a failure budget: a number of targets or a percentage."""
    if text.endswith("%"):
        return FailureBudget(fraction=quantities.fraction(text))
    try:
        return FailureBudget(count=quantities.count(text))
    except ValueError:
        raise ValueError(
            f"{shown(text)} is neither a number nor a percentage such as 20%"
        ) from None


def word(text: str, words: Mapping[str, T], noun: str) -> T:
    """Return what one of some words means; `noun` is their plural."""
    if text not in words:
        raise ValueError(f"{shown(text)} is not known here: {did_you_mean(text, words, noun=noun)}")
    return words[text]


_at_least_one = partial(quantities.count, least=1)


def _attempts(text: str) -> int:
    number = _at_least_one(text)
    if number > 100:
        raise ValueError(f"{number} attempts are too many: at most 100")
    return number


# --- kinds -------------------------------------------------------------------------------

Line = Annotated[str, scalar(line), text_schema()]
Paragraph = Annotated[str, scalar(paragraph), text_schema()]
Name = Annotated[str, scalar(name), text_schema(NAME_PATTERN)]
Version = Annotated[int, scalar(version), JsonSchema({"enum": [1, "1"]})]
Mode = Annotated[str, *choice(["drill", "recovery"], "modes")]
Unmount = Annotated[UnmountRule, *choice(UnmountRule, "choices")]
Guid = Annotated[
    RestorePointId,
    scalar(guid),
    text_schema(rf"{GUID_PATTERN}|^[uU][rR][nN]:", "9b414afe-e957-4d40-a144-7d02de9a041c"),
]
Fingerprint = Annotated[str, scalar(fingerprint), text_schema(FINGERPRINT_PATTERN)]
Url = Annotated[str, scalar(url), text_schema("^https://", "https://em-hq.example.net:9398")]
ApiVersion = Annotated[str, scalar(api_version), words_schema(["latest", "v1_5", "v1_6", "v1_7"])]
ApiFormatWord = Annotated[ApiFormat, *choice(ApiFormat, "formats")]
FilePath = Annotated[
    str, scalar(lambda text: str(PurePath(line(without_tilde(text))))), text_schema()
]
Policy = Annotated[PolicyName, *choice(PolicyName, "policies")]
SearchOrder = Annotated[Order, *choice(Order, "orders")]
SampleWord = Annotated[SampleOrder, *choice(SampleOrder, "orders")]
CauseWord = Annotated[Cause, *choice(Cause, "causes")]
Filter = Annotated[str, scalar(filter_text), text_schema()]
StopTasksWord = Annotated[StopTasks, *choice(StopTasks, "rules for stopping tasks")]
OnErrorWord = Annotated[OnError, *choice(OnError, "reactions to an error")]
OnTimeoutWord = Annotated[OnTimeout, *choice(OnTimeout, "reactions to a timeout")]
HookKindWord = Annotated[HookKind, *choice(HookKind, "kinds of webhooks")]
NotifyOnWord = Annotated[NotifyOn, *choice(NotifyOn, "events")]
Os = Annotated[OsChoice, *choice(OS_CHOICES, "operating systems")]
ConflictWord = Annotated[Conflict, *choice(Conflict, "answers to a busy machine")]
SourceKind = Annotated[Source, *choice(Source, "sources")]
Increase = Annotated[
    float, scalar(quantities.increase), text_schema(quantities.PERCENT_PATTERN, "50%")
]
Failures = Annotated[
    FailureBudget,
    scalar(failures),
    JsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                text_like(f"{quantities.COUNT_PATTERN}|{quantities.PERCENT_PATTERN}"),
            ],
            "examples": ["20%", 5],
        }
    ),
]
_durations = text_schema(quantities.DURATION_PATTERN, "90s", "20m", "3h", "1d")
Duration = Annotated[float, scalar(quantities.duration), _durations]
PositiveDuration = Annotated[float, scalar(quantities.positive_duration), _durations]
Instant = Annotated[
    datetime,
    scalar(quantities.instant),
    text_schema(quantities.TIME_PATTERN, "2026-11-20T02:00:00Z", "2026-11-20T02:00:00+01:00"),
]
Count = Annotated[int, scalar(quantities.count), count_schema(0)]
Mounts = Annotated[int, scalar(_at_least_one), count_schema(1)]
Attempts = Annotated[int, scalar(_attempts), count_schema(1)]
Truth = Annotated[
    bool,
    scalar(quantities.truth),
    JsonSchema({"anyOf": [{"type": "boolean"}, text_like("^(true|false)$")]}),
]
