"""Which view fits: live on a real terminal only, lines everywhere else, nothing when quiet."""

from __future__ import annotations

import io

import pytest

from orchestrator.views.choice import Show, choose_view
from orchestrator.views.lines import LineView
from orchestrator.views.live import LiveView
from orchestrator.views.view import View
from tests.views.story import failed, finished, planned, started, tell, wave

TERM = {"TERM": "xterm-256color"}
CI, PLAIN = {"CI": "true"}, {"NO_COLOR": "1"}


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def chosen(
    stream: io.StringIO, environ: dict[str, str], *, show: Show = Show.NORMAL, color: str = "auto"
) -> tuple[View, str]:
    """Return the view, and what it wrote of a small run."""
    view = choose_view(stream, environ, show=show, color=color)
    tell(view, started(), planned("a"), wave(0), *failed("a", 1))
    view.draw(4.0)
    tell(view, finished(5, 1))
    view.close()
    return view, stream.getvalue()


@pytest.mark.parametrize("show", [Show.NORMAL, Show.VERBOSE])
@pytest.mark.parametrize("color", ["auto", "always", "never"])
@pytest.mark.parametrize("environ", [TERM, TERM | CI, TERM | PLAIN, {}], ids=str)
def test_without_a_terminal_there_is_no_escape_sequence(
    environ: dict[str, str], color: str, show: Show
) -> None:
    """Files and pipes get plain lines, whatever is set and asked for."""
    view, written = chosen(io.StringIO(), environ, show=show, color=color)

    assert isinstance(view, LineView)
    assert "w/hq/a: failed" in written
    assert "\x1b" not in written


@pytest.mark.parametrize(
    ("environ", "color", "kind"),
    [
        (TERM, "auto", LiveView),
        (TERM, "always", LiveView),
        (TERM, "never", LineView),
        (TERM | CI, "auto", LineView),
        (TERM | CI, "always", LiveView),
        (TERM | CI, "never", LineView),
        (TERM | PLAIN, "auto", LineView),
        (TERM | PLAIN, "always", LiveView),
        (TERM | PLAIN, "never", LineView),
        (TERM | {"NO_COLOR": ""}, "auto", LiveView),  # no-color.org: empty is not set
        ({"TERM": "dumb"}, "auto", LineView),
        ({"TERM": "dumb"}, "always", LineView),
        ({"TERM": ""}, "auto", LineView),
        ({}, "auto", LineView),
        ({}, "always", LineView),
    ],
    ids=str,
)
def test_on_a_terminal_the_environment_decides(
    environ: dict[str, str], color: str, kind: type
) -> None:
    """CI and NO_COLOR forbid the live view unless asked for; a dumb terminal never has it."""
    view, written = chosen(Terminal(), environ, color=color)

    assert type(view) is kind
    assert ("\x1b" in written) is (kind is LiveView)


@pytest.mark.parametrize("color", ["auto", "always", "never"])
def test_verbose_means_lines_even_on_a_terminal(color: str) -> None:
    """Who wants to see more wants to scroll back, and no frame may run over the lines."""
    view, written = chosen(Terminal(), TERM, show=Show.VERBOSE, color=color)

    assert isinstance(view, LineView)
    assert "w/hq/a: submitting" in written
    assert "\x1b" not in written


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("color", ["auto", "always", "never"])
def test_quiet_means_nothing(color: str, stream: type[io.StringIO]) -> None:
    """Not one character, on a terminal or not."""
    view, written = chosen(stream(), TERM, show=Show.QUIET, color=color)

    assert type(view) is View
    assert written == ""
