"""Logs: no secret gets into them, nothing in them is obeyed, and they never end a run."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from orchestrator.app import logs
from orchestrator.app.logs import HIDDEN
from orchestrator.log import Log, prepare

SECRET = "hunter2-c0ffee"
BASIC = "Basic c3ZjLXJlc3RvcmU6aHVudGVyMg=="
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\nfake=line\u202e\x9b31m"
STYLES = ["console", "json"]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put the process-wide set-up back after each test."""
    kept = structlog.get_config()
    names = ("asyncio", "aiohttp")
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    structlog.configure(**kept)
    prepare(logging.NOTSET, lambda: None)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def logged(style: str, *args: Any, **fields: Any) -> str:
    """Return what one warning makes of its fields."""
    stream = io.StringIO()
    logs.configure(style=style, stream=stream)
    Log(__name__).warning(*args, **fields)
    return stream.getvalue()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "name",
    [
        *("password", "Password", "user_password", "passwd", "secret", "client_secret", "token"),
        *("session_token", "authorization", "Authorization", "cookie", "Set-Cookie"),
        *("X-RestSvcSessionId", "credentials"),
    ],
)
@pytest.mark.parametrize(
    "value",
    [SECRET, SECRET.encode(), [SECRET], {"is": SECRET}, None],
    ids=lambda v: type(v).__name__,
)
def test_a_secret_name_hides_whatever_is_under_it(style: str, name: str, value: object) -> None:
    """In any spelling, of any type; the name stays, so that one sees that there was something."""
    line = logged(style, "logon", **{name: value})

    assert SECRET not in line
    assert name in line
    assert HIDDEN in line


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "headers",
    [
        {"X-RestSvcSessionId": SECRET},
        {"Authorization": f"Basic {SECRET}"},
        {"outer": {"inner": [{"password": SECRET}]}},
        [("ok", {"Cookie": SECRET})],
    ],
    ids=["header", "basic", "deep", "in a list"],
)
def test_a_secret_name_hides_inside_of_values_too(style: str, headers: object) -> None:
    """Headers logged as a mapping give nothing away."""
    assert SECRET not in logged(style, "sent", headers=headers)


TEXTS = [
    BASIC,
    f"sent Authorization: {BASIC} to hq",
    f"authorization={BASIC.lower()}",
    f"Bearer {SECRET}",
    f"X-RestSvcSessionId: {SECRET}",
    f"x-restsvcsessionid={SECRET}",
    f"{{'X-RestSvcSessionId': '{SECRET}'}}",
    f'{{"X-RestSvcSessionId": "{SECRET}"}}',
    f"Login(user='svc', password='{SECRET} {SECRET}')",
    f"password={SECRET}",
    f"https://svc:{SECRET}@hq.example:9398/api/",
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("place", ["event", "argument", "value", "object", "exception"])
def test_a_secret_inside_a_text_is_hidden(style: str, place: str, text: str) -> None:
    """Wherever it came in: the message, its arguments, a value, an object, an exception."""
    match place:
        case "event":
            line = logged(style, text)
        case "argument":
            line = logged(style, "sent %s", text)
        case "value":
            line = logged(style, "sent", why=text)
        case "object":
            line = logged(style, "sent", why=OSError(text))
        case _:
            line = logged(style, "sent", exc_info=OSError(text))

    assert SECRET not in line
    assert BASIC.split()[1].lower() not in line.lower()
    assert HIDDEN in line


@pytest.mark.parametrize("style", STYLES)
def test_what_is_no_secret_is_left_alone(style: str) -> None:
    """A log that hides everything is of no use."""
    line = logged(style, "watcher.ended", server="hq", why="503 of https://hq:9398/api/", tries=3)

    assert HIDDEN not in line
    for words in ("watcher.ended", "hq", "503 of https://hq:9398/api/", "3"):
        assert words in line


@pytest.mark.parametrize("style", STYLES)
def test_a_traceback_holds_no_local_variable(style: str) -> None:
    """It says where and what, but not what the variables held."""

    def logging_on(word: str) -> None:
        held = [word, word.upper()]
        raise RuntimeError(f"no answer after {len(held)} tries")

    stream = io.StringIO()
    logs.configure(style=style, stream=stream, verbosity=1)
    try:
        logging_on(SECRET)
    except RuntimeError:
        Log(__name__).exception("mount.internal_error")

    line = stream.getvalue()
    assert "RuntimeError: no answer after 2 tries" in line
    assert "in logging_on" in line
    assert SECRET not in line
    assert SECRET.upper() not in line


@pytest.mark.parametrize("style", STYLES)
def test_an_exception_is_one_line_unless_somebody_asks_for_more(style: str) -> None:
    """What was raised, and nothing that spans lines or is secret."""
    stream = io.StringIO()
    logs.configure(style=style, stream=stream)
    try:
        raise RuntimeError(f"no answer\npassword={SECRET}")
    except RuntimeError:
        Log(__name__).exception("mount.internal_error")

    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "RuntimeError: no answer" in line
    assert "Traceback" not in line
    assert SECRET not in line


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"why": HOSTILE},
        {"number": 1, "share": 0.5, "yes": True, "none": None},
        {"names": ["a", HOSTILE], "table": {HOSTILE: b"\xff"}, "where": object()},
        {"exc_info": OSError(HOSTILE)},
    ],
    ids=["nothing", "hostile", "plain", "nested", "exception"],
)
def test_json_is_one_valid_object_per_line(fields: dict[str, Any]) -> None:
    """With the level, the event and the time in UTC, whatever the values are."""
    written = logged("json", HOSTILE, **fields)

    assert written.count("\n") == 1
    assert written[:-1].isascii()
    assert written[:-1].isprintable()
    row = json.loads(written)
    assert (row["level"], row["event"]) == ("warning", HOSTILE)
    assert row["timestamp"].endswith("Z")
    assert set(fields) - {"exc_info"} <= set(row)


@pytest.mark.parametrize(
    "fields",
    [
        {"why": HOSTILE},
        {"why": HOSTILE.replace("\r\n", "")},
        {"why": "\x1b[31m"},
        {"why": OSError(HOSTILE)},
        {"names": [HOSTILE], "table": {HOSTILE: HOSTILE}},
    ],
    ids=["value", "one line", "no blank", "object", "nested"],
)
def test_on_a_terminal_one_event_is_one_line_of_plain_text(fields: dict[str, Any]) -> None:
    """Control characters in the event or a value are spelled out, not obeyed."""
    written = logged("console", f"odd {HOSTILE}", **fields)

    assert written.count("\n") == 1
    assert written[:-1].isprintable()
    assert "x1b" in written


def test_a_traceback_on_a_terminal_is_plain_text_too() -> None:
    """It has its own lines, and a server's words in it stay within one."""
    written = logged("console", "x", exc_info=OSError(f"said {HOSTILE}"))

    assert all(line.isprintable() for line in written.split("\n"))
    assert "OSError: said" in written
    assert "x1b" in written


@pytest.mark.parametrize(
    ("verbosity", "names"),
    [
        (-1, ["error"]),
        (0, ["warning", "error"]),
        (1, ["info", "warning", "error"]),
        (2, ["debug", "info", "warning", "error"]),
        (3, ["debug", "info", "warning", "error"]),
    ],
)
def test_verbosity_decides_which_levels_are_written(verbosity: int, names: list[str]) -> None:
    """Errors always; each -v adds one level."""
    stream = io.StringIO()
    logs.configure(verbosity=verbosity, style="json", stream=stream)
    log = Log(__name__)

    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")

    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == names


@pytest.mark.parametrize(
    ("stream", "verbosity", "style", "as_json"),
    [
        (Terminal(), 1, "auto", False),
        (io.StringIO(), 1, "auto", True),
        (io.StringIO(), 0, "auto", False),
        (Terminal(), 0, "json", True),
        (io.StringIO(), 2, "console", False),
    ],
    ids=["terminal", "pipe", "pipe, not verbose", "json asked for", "console asked for"],
)
def test_auto_means_text_for_people_and_json_for_programs(
    stream: io.StringIO, verbosity: int, style: str, *, as_json: bool
) -> None:
    """Who asks for logs and pipes them gets JSON; a lone warning is for people."""
    logs.configure(verbosity=verbosity, style=style, stream=stream)

    Log(__name__).warning("x")

    assert stream.getvalue().startswith("{") is as_json
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("style", STYLES)
def test_a_closed_pipe_hurts_nobody(style: str) -> None:
    """Whoever logs after the terminal is gone goes on as if nothing had happened."""
    read, write = os.pipe()
    with os.fdopen(write, "w", buffering=1) as stream:
        logs.configure(verbosity=2, style=style, stream=stream)
        log = Log(__name__)
        log.warning("before")
        os.close(read)

        log.warning("after")
        log.error("after", exc_info=OSError("x"))

        # What the stream could not get rid of must not raise when it is closed either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_loud_libraries_are_kept_down() -> None:
    """Their texts would bypass the redaction."""
    logs.configure(verbosity=2, stream=io.StringIO())

    assert not logging.getLogger("aiohttp.client").isEnabledFor(logging.ERROR)
    assert not logging.getLogger("asyncio").isEnabledFor(logging.WARNING)


def test_structlog_is_imported_with_the_first_line() -> None:
    """It imports rich, which costs every start a tenth of a second."""
    program = (
        "import sys; from orchestrator.app import logs, runner; from orchestrator.log import Log;"
        "logs.configure(); Log('x').info('hidden'); assert 'structlog' not in sys.modules;"
        "Log('x').warning('shown')"
    )

    end = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert b"shown" in end.stderr
    assert b"hidden" not in end.stderr


def test_a_line_hurts_nobody_where_nothing_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line may come when no file can be opened: its name is written."""
    monkeypatch.setitem(sys.modules, "structlog", None)

    Log(__name__).warning("session.lost", token=SECRET)

    assert capsys.readouterr().err == "warning: session.lost\n"
