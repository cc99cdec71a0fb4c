"""The live view on a real terminal: it fits, it obeys no server, and it goes away in the end."""

from __future__ import annotations

import io
import os
import sys
from functools import cache

import pytest
from rich.console import Console, ConsoleDimensions

from orchestrator.views.live import LiveView
from tests.views.drawing import END, FRAME, STORIES, crowded
from tests.views.screen import Screen, drawn_in_a_pty
from tests.views.story import HOSTILE, failed, finished, planned, see, started, tell, wave

SIZES = [(24, 80), (10, 40), (4, 20), (60, 200), (24, 40), (10, 200)]


def frames(written: str) -> list[str]:
    """Return what was written for each event, and at last what came after the view."""
    return written.split(FRAME + FRAME)


@cache
def drawn(rows: int, columns: int) -> dict[str, str]:
    """Return what each story writes on a terminal of a size; one process draws them all."""
    written, out, code = drawn_in_a_pty("tests.views.drawing", *STORIES, rows=rows, columns=columns)
    assert (out, code) == (f"{END}\n" * len(STORIES), 0), written
    *texts, after = written.split(f"{END}\r\n")
    assert after == ""
    return {name: f"{text}{END}\r\n" for name, text in zip(STORIES, texts, strict=True)}


@pytest.mark.parametrize(("rows", "columns"), SIZES, ids=str)
@pytest.mark.parametrize("story", STORIES)
def test_no_frame_has_more_rows_than_the_terminal(story: str, rows: int, columns: int) -> None:
    """While the run goes on nothing scrolls, no line wraps, and no server's text is obeyed."""
    *running, _last, _after = frames(drawn(rows, columns)[story])

    screen = Screen(rows=rows, columns=columns)
    for frame in running:
        screen.feed(frame)
        assert screen.scrolled == []
        assert len(screen.lines) <= rows
    assert not screen.cursor_shown
    assert any("done" in line for line in screen.lines)


@pytest.mark.parametrize(("rows", "columns"), SIZES, ids=str)
def test_at_the_end_the_terminal_is_as_a_log_leaves_it(rows: int, columns: int) -> None:
    """The cursor is back, the last frame stands there once, and the report follows below."""
    screen = Screen(rows=rows, columns=columns)

    screen.feed(drawn(rows, columns)["plain"])

    shown = [*screen.scrolled, *screen.lines]
    text = "\n".join(shown)
    assert screen.cursor_shown
    assert text.count("/36 done") == 1
    assert any(line.startswith(END[:columns]) for line in shown)
    assert screen.row == len(screen.lines) - 1


class Terminal(io.StringIO):
    """A terminal that remembers, and that can go away."""

    gone: OSError | None = None

    def write(self, text: str) -> int:
        """Take the text, or fail as a terminal that was closed."""
        if self.gone is not None:
            raise self.gone
        return super().write(text)

    def isatty(self) -> bool:
        """Say yes."""
        return True


def test_nothing_is_drawn_before_the_first_wave() -> None:
    """A question to the user may stand on the screen until then."""
    terminal = Terminal()
    view = LiveView(terminal)
    tell(view, started(), planned("a"))

    view.draw(1.0)
    assert terminal.getvalue() == ""

    tell(view, wave(2))
    view.draw(2.0)
    view.close()
    assert "night-drill" in terminal.getvalue()


def test_a_run_without_a_wave_still_ends_with_a_frame() -> None:
    """What did not begin is over too, and the screen says so."""
    terminal = Terminal()
    view = LiveView(terminal)

    tell(view, started(), finished(3, 4))
    view.close()

    assert "night-drill" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[?25h")


def test_what_is_said_meanwhile_stands_above_the_picture() -> None:
    """The next frame neither hides it nor leaves half of the one before."""
    terminal = Terminal()
    view = LiveView(terminal)
    link = "Web view: http://127.0.0.1:8080/?token=" + "x" * 60
    tell(view, started(), planned("a"), wave(0))

    view.draw(1.0)
    view.say(link)
    view.draw(2.0)
    view.close()

    screen = Screen(rows=24, columns=200)
    screen.feed(terminal.getvalue().replace("\n", "\r\n"))  # as a terminal's driver does
    assert screen.lines[0] == link
    assert screen.lines[1].startswith("night-drill  2 s")
    assert sum("night-drill" in line for line in screen.lines) == 1


@pytest.mark.parametrize("columns", [100, 60, 35, 20])
@pytest.mark.parametrize("is_said", [False, True])
def test_a_narrower_terminal_shows_one_picture(
    columns: int, is_said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the terminal wrapped of the picture before is gone, and what stood above it is not."""
    width = 200
    monkeypatch.setattr(Console, "size", property(lambda _: ConsoleDimensions(width, 59)))
    terminal = Terminal()
    view = LiveView(terminal)
    view.say("above")
    tell(view, *list(crowded("a-server-with-a-name"))[:-1])
    view.draw(100.0)
    screen = Screen(rows=120, columns=200)
    screen.feed(terminal.getvalue().replace("\n", "\r\n"))
    terminal.seek(0)
    terminal.truncate()

    width = columns
    if is_said:
        view.say("said later")
    view.draw(101.0)
    view.close()

    screen = screen.narrowed(columns)
    screen.feed(terminal.getvalue().replace("\n", "\r\n"))
    above = ["above", "said later"][: 1 + is_said]
    shown = "\n".join(screen.lines).rstrip().split("\n")
    assert shown[: len(above)] == above
    assert shown[len(above)].startswith("a-server")
    assert len(shown) == len(above) + 20


def test_a_servers_words_are_shown_and_not_obeyed() -> None:
    """Markup is text, and an escape sequence is spelled out."""
    terminal = Terminal()
    view = LiveView(terminal)

    tell(view, started(), planned("a"), wave(0), *failed("a", 1, HOSTILE), finished(4, 1))
    view.close()

    written = terminal.getvalue()
    assert "[/x][bold]no\\x1b[2J" in written
    assert "\x1b[2J" not in written
    assert not {"\x07", "\x9b", "\u202e"} & set(written)


def test_without_colour_no_style_is_used() -> None:
    """Cursor movements stay; colours do not."""
    plain, coloured = Terminal(), Terminal()
    for terminal in (plain, coloured):
        view = LiveView(terminal, color=terminal is coloured)
        tell(view, started(), planned("a"), wave(0), *failed("a", 1), finished(4, 1))
        view.close()

    assert "[1;31m" in coloured.getvalue()
    assert "31m" not in plain.getvalue()


GONE = [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe"), ValueError("closed")]


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("moment", ["before the first frame", "between two frames", "at the end"])
def test_a_terminal_that_is_gone_ends_nothing(
    error: OSError, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run never notices, and stdout stays what it was: the report still goes there."""
    terminal = Terminal()
    view = LiveView(terminal)
    out, err = sys.stdout, sys.stderr
    for place, (name, event) in enumerate(
        [
            ("before the first frame", wave(0)),
            ("between two frames", wave(1, over=True)),
            ("at the end", finished(4, 1)),
        ]
    ):
        if name == moment:
            terminal.gone = error
        see(view, event, None)
        if name != "at the end":
            view.draw(float(place))
    view.close()
    view.close()

    assert (sys.stdout, sys.stderr) == (out, err)
    print("the report")  # noqa: T201 - stands for the report
    assert capsys.readouterr().out == "the report\n"


def test_stdout_belongs_to_data_while_the_view_is_drawn() -> None:
    """What is printed to stdout meanwhile goes there and not onto the terminal."""
    terminal = Terminal()
    view = LiveView(terminal)
    before = sys.stdout

    tell(view, started(), planned("a"), wave(0))
    view.draw(1.0)
    meanwhile = sys.stdout
    view.close()

    assert meanwhile is before


def test_a_closed_pipe_hurts_nobody() -> None:
    """Not even a real one, in the middle of a run."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        view = LiveView(stream)
        events = list(crowded("srv"))
        tell(view, *events[:60])
        view.draw(20.0)
        os.close(read)

        view.draw(21.0)
        tell(view, wave(30), finished(31))
        view.close()

        # What the stream could not get rid of must not raise when it is closed either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)
