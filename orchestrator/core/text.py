"""How amounts and times are written, one notation per kind, and how foreign text is made safe.

    durations    12.4 s    4 min 10 s    1 h 2 min    2 d 4 h
    sizes        512 bytes    1.5 GiB
    moments      2026-11-28 22:05:12 UTC; for programs 2026-11-28T22:05:12.000Z
    plurals      1 mount    2 mounts

A plan's own values are shown as a plan writes them: `90s`, `5GiB`. Text that came from a server
or a plan goes to people through `printable`, then through the `escape_…` of what shows it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import overload

DAY, HOUR, MINUTE = 86_400, 3_600, 60
UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def counted(number: int, thing: str, several: str = "") -> str:
    """Return `1 mount`, `2 mounts`; `several` is the plural where an s does not make it."""
    return f"{number} {thing if number == 1 else several or thing + 's'}"


# --- durations ------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Return `4.2 s`, `42 s`, `12 min 5 s`, `3 h 2 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{whole} s"
    for length, name, small, small_name in (
        (DAY, "d", HOUR, "h"),
        (HOUR, "h", MINUTE, "min"),
        (MINUTE, "min", 1, "s"),
    ):
        if whole >= length:
            rest = whole % length // small
            return f"{whole // length} {name}" + (f" {rest} {small_name}" if rest else "")
    raise AssertionError("unreachable")


def rough(seconds: float) -> str:
    """Return an estimate no finer than it can be: to 5 seconds, from ten minutes on to a minute."""
    if seconds >= 10 * HOUR:
        return f"{seconds / HOUR:.0f} h"
    step = MINUTE if seconds >= 10 * MINUTE else 5
    return duration(max(step, round(seconds / step) * step))


def clock(seconds: float) -> str:
    """Return a time on the run's clock, which is no duration: `0:07`, `1:02:03`."""
    minutes, left = divmod(max(0, int(seconds)), MINUTE)
    hours, minutes = divmod(minutes, MINUTE)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def plan_duration(seconds: float) -> str:
    """Return a duration as a plan writes it, without loss: `6h`, `90m`, `1.5s`."""
    for unit, length in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


# --- sizes ----------------------------------------------------------------------------------


def size(count: float) -> str:
    """Return bytes as `5.2 GiB` or `512 bytes`."""
    if abs(count) < 1024:
        return counted(int(count), "byte")
    amount = float(count)
    for unit in UNITS:
        amount /= 1024
        if abs(amount) < 1023.95 or unit == UNITS[-1]:
            return f"{amount:.1f} {unit}"
    raise AssertionError("unreachable")


def exact_size(count: int) -> str:
    """Return bytes without loss beside the readable form: `4.0 KiB (4095 bytes)`."""
    return size(count) if abs(count) < 1024 else f"{size(count)} ({count} bytes)"


def plan_size(count: int) -> str:
    """Return bytes as a plan writes them, without loss: `5GiB`, `1500B`."""
    for power, unit in reversed(tuple(enumerate(UNITS, start=1))):
        whole, rest = divmod(count, 1024**power)
        if whole and not rest:
            return f"{whole}{unit}"
    return f"{count}B"


# --- moments --------------------------------------------------------------------------------


def moment(at: datetime) -> str:
    """Return a moment in UTC to the second: `2026-11-28 22:05:12 UTC`."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def time_of_day(at: datetime) -> str:
    """Return a moment whose date is known to the reader: `22:05:12 UTC`."""
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"


def table_moment(at: datetime) -> str:
    """Return a moment to the minute, for a table with UTC in its head."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"


def local_moment(at: datetime, offset_s: float) -> str:
    """Return a moment in a machine's local time, with its offset: `2026-11-28 23:05:12 +01:00`."""
    sign, minutes = ("-" if offset_s < 0 else "+"), int(abs(offset_s)) // MINUTE
    moved = at.astimezone(UTC) + timedelta(seconds=offset_s)
    return f"{moved:%Y-%m-%d %H:%M:%S} {sign}{minutes // 60:02}:{minutes % 60:02}"


@overload
def timestamp(at: datetime, timespec: str = ...) -> str: ...


@overload
def timestamp(at: None, timespec: str = ...) -> None: ...


def timestamp(at: datetime | None, timespec: str = "milliseconds") -> str | None:
    """Return a moment for programs: RFC 3339 in UTC with Z; `auto` gives all digits there are."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


# --- terminals, logs and CI systems ---------------------------------------------------------


def printable(text: str, limit: int = 300) -> str:
    """Return `text` safe to show: control and bidirectional characters escaped, shortened.

    For everything that came from a server or a plan and goes to a terminal, a log or a
    report. Newlines and tabs are escaped too: one value, one line. No CI system finds a command
    in it.
    """
    shown = text[: limit + 1]
    if not shown.isprintable():
        shown = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
            for char in shown
        )
    return inert(shown if len(text) <= limit else shown[: limit - 1] + "…")


def inert(text: str) -> str:
    """Return lines in which no CI system finds a command: one character of it is escaped.

    GitHub obeys `::` at the start of a line, after any space, and `##[` anywhere in it; Azure
    obeys `##vso[` anywhere.
    """
    if "::" not in text and "##" not in text:
        return text
    return _CI_COMMAND.sub(lambda found: f"{found[1] or ''}\\x{ord(found[0][-1]):02x}", text)


def printable_json(document: str) -> str:
    """Return a JSON document that is safe to show: what could steer a terminal or CI is escaped.

    It still means the same: such characters stand only inside of its texts.
    """
    import json  # not for every --help

    shown = _UNUSUAL.sub(
        lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], document
    )
    return _CI_MARKER.sub("\\\\u0023", shown)


_UNUSUAL = re.compile(r"[^\n\x20-\x7e]")
_CI_MARKER = re.compile(r"#(?=#[A-Za-z]*\[)")
_CI_COMMAND = re.compile(rf"{_CI_MARKER.pattern}|^([^\S\n]*):(?=:)", re.MULTILINE)


def escape_github(text: str, *, in_property: bool = False) -> str:
    """Return text for a workflow command's message, or for one of its properties.

    Source: GitHub, workflow commands; actions/toolkit, command.ts.
    """
    return _percent(text, "%\r\n:," if in_property else "%\r\n")


def escape_azure(text: str) -> str:
    """Return text that the agent decodes to the same; it knows `%` as %AZP25.

    Source: Azure Pipelines, logging commands.
    """
    return _percent(text.replace("%", "%AZP25"), "\r\n;]")


def _percent(text: str, characters: str) -> str:
    for char in characters:  # '%' is the first
        text = text.replace(char, f"%{ord(char):02X}")
    return text


# --- markup ---------------------------------------------------------------------------------

_FORBIDDEN_IN_XML = r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_IN_MARKDOWN = r"""(?xi)
    \\(?=[!-/:-@\[-`{-~]|$) | [`*\[\]<>|~&@#$]        # anywhere
    | (?<![^\W_])_ | _(?![^\W_])  # not inside a word
    | :(?=/|[\w+-]+:)            # addresses, :emoji:
    | (?<=www)\. | (?<=^www)\.
    | [!%^](?=\w) | \{(?=[+-])    # GitLab's references and changes
    | ^[-+=](?=.)   # lists and headings
    | (?:(?<=^\d) | (?<=^\d\d) | (?<=^\d\d\d))[.)](?=\s|$)
"""
"""Punctuation that Markdown or an extension of it gives a meaning where it is."""


def escape_markup(text: str) -> str:
    """Return text for between the tags of HTML or XML, and for Slack.

    Source: Slack, formatting message text: it knows no other special characters.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape_html(text: str) -> str:
    """Return text for HTML, between tags or in an attribute."""
    return escape_markup(text).replace('"', "&quot;").replace("'", "&#x27;")


def escape_xml(text: str) -> str:
    """Return text for between XML's tags; characters that XML forbids are replaced."""
    return escape_markup(re.sub(_FORBIDDEN_IN_XML, "\N{REPLACEMENT CHARACTER}", text))


def xml_attribute(text: str) -> str:
    """Return an attribute's value for XML, in quotes: single ones around double ones."""
    value = escape_xml(text)
    for char in "\n\r\t":
        value = value.replace(char, f"&#{ord(char)};")
    if '"' in value and "'" not in value:
        return f"'{value}'"
    return '"' + value.replace('"', "&quot;") + '"'


def xml_in_ascii(document: str) -> str:
    """Return a document with a reference for every character that is not ASCII."""
    return _UNUSUAL.sub(lambda char: f"&#x{ord(char[0]):x};", document)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line.

    What Markdown would read as markup, links or mentions is escaped, and nothing else, so that
    the file reads as text too.
    """
    return re.sub(_IN_MARKDOWN, lambda char: _markdown_char(char[0]), printable(text).strip())


def _markdown_char(char: str) -> str:
    """Return a character that is shown: a backslash where that is enough, else a reference."""
    return f"\\{char}" if char in "\\`*_[]|" else f"&#{ord(char)};"


def escape_label(text: str, *, quote: bool = True) -> str:
    """Return text for a Prometheus label, or without `quote` for a HELP line."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
