"""serve, and the options --serve and --metrics-file of the commands that carry out a run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail, first_cause
from orchestrator.core.exit_codes import ExitCode
from orchestrator.views import streams

if TYPE_CHECKING:
    from orchestrator.app.follow import RunFollower
    from orchestrator.app.stores import Place
    from orchestrator.views.view import View
    from orchestrator.views.web.address import Address
    from orchestrator.views.web.web_view import WebView

ANYWHERE = "127.0.0.1:0"
"""What a bare --serve means: a free port, for this machine only."""


PAGE_OPTIONS = (
    click.option(
        "--serve-token-file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="File with the page's token, for example for Prometheus. The token is then not "
        "printed. Default: a new random token in the printed link.",
    ),
    click.option(
        "--serve-name",
        "serve_names",
        multiple=True,
        metavar="NAME",
        help="Another name of this machine for the page: backup.example.com. May be repeated.",
    ),
    click.option(
        "--serve-exposed",
        is_flag=True,
        help="Allow --serve to use an address that other machines can reach. Not encrypted.",
    ),
    click.option(
        "--metrics-file",
        type=options.FILE,
        help="Write metrics to FILE every 15 s, for node exporter's textfile collector (*.prom).",
    ),
)
"""What every command that shows a page takes besides its address; the last one is listed first."""


def page_options(command: options.F) -> options.F:
    """Add the options of a page besides its address."""
    return reduce(lambda decorated, option: option(decorated), PAGE_OPTIONS, command)


def serving_options(command: options.F) -> options.F:
    """Add --serve and the other options of a page."""
    return click.option(
        "--serve",
        is_flag=False,
        flag_value=ANYWHERE,
        metavar="[ADDR:PORT]",
        help="Show the run in a browser too, and print the link. Without a value: a free port on "
        "loopback. Before PLAN or RUN it needs a value: --serve=127.0.0.1:0.",
    )(page_options(command))


def background_views(values: dict[str, Any], view: View) -> list[WebView]:
    """Return what shows the run besides the view, by the options; nothing by default.

    Its lines appear above the live view, which would overwrite them otherwise.
    """
    if values["serve"] is None and values["metrics_file"] is None:
        return []
    from orchestrator.views.live import LiveView

    def say(line: str) -> None:
        if isinstance(view, LiveView):
            view.say(f"bulk-restore: {line}")
        else:
            _tell(line)

    return [_web_view(values, say)]


def _web_view(
    values: dict[str, Any], tell: Callable[[str], None], *, alone: bool = False
) -> WebView:
    from orchestrator.views.web.web_view import PageOptions, WebView

    page = None
    if values["serve"] is not None:
        token = _token(values["serve_token_file"])
        page = PageOptions(
            address=_address(values["serve"], exposed=values["serve_exposed"]),
            names=_names(values["serve_names"]),
            **({"token": token, "token_file": values["serve_token_file"]} if token else {}),
        )
    return WebView(page=page, metrics_file=values["metrics_file"], show_line=tell, alone=alone)


def _tell(line: str) -> None:
    """Write a line to stderr, if anybody is there."""
    with suppress(OSError, ValueError):
        click.echo(f"bulk-restore: {line}", err=True)


def _address(text: str, *, exposed: bool) -> Address:
    from orchestrator.views.web.address import Address, NotAnAddress

    try:
        address = Address.parse(text)
    except NotAnAddress as exc:
        raise click.UsageError(
            f"--serve: {exc}. To serve on loopback write --serve={ANYWHERE}, or --serve last."
        ) from None
    if not (address.is_loopback or exposed):
        raise click.UsageError(
            f"--serve: {text} can be reached from other machines, and the page is not encrypted. "
            f"Use 127.0.0.1 and a tunnel (ssh -L), or add --serve-exposed."
        )
    return address


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    from orchestrator.views.web.address import NotAnAddress, served_name

    try:
        return tuple(map(served_name, texts))
    except NotAnAddress as exc:
        raise click.UsageError(f"--serve-name: {exc}") from None


def _token(path: Path | None) -> str | None:
    from orchestrator.views.web.address import own_token

    if path is None:
        return None
    try:
        token = own_token(path.read_text(encoding="utf-8"))
        if path.stat().st_mode & 0o004:
            _tell(
                f"WARNING: every user of this machine can read the token in {path}; use chmod o-r"
            )
    except UnicodeDecodeError:
        raise click.UsageError(f"--serve-token-file: {path} is not a text file") from None
    except ValueError as exc:
        raise click.UsageError(f"--serve-token-file: {path}: {exc}") from None
    return token


@click.command("serve")
@click.argument("run", default="last")
@click.option(
    "--serve",
    "--address",
    "serve",
    is_flag=False,
    flag_value=ANYWHERE,
    default=ANYWHERE,
    metavar="ADDR:PORT",
    help="Address of the page. Default: a free port on loopback.",
)
@page_options
@options.state_option
@options.output_options
def serve_command(run: str, state: Place | None, output: options.Output, **values: Any) -> None:
    """Show RUN (an id, the start of one, or `last`) in a browser, during the run or later.

    Reads only the journal, so it also works for a run that was started without --serve. Nothing on
    the page can change the run. Takes the same options as `run --serve`. Prints the link with its
    token, unless the token comes from a file. Ctrl-C ends the page, not the run.
    """
    from orchestrator.app.follow import RunFollower
    from orchestrator.views.web.web_view import NotServed

    _ = output  # the link is the only output
    streams.never_wait()
    journal = options.journal_of(state)
    follower = RunFollower(journal, journal.summary(run))
    try:
        anyio.run(_follow, follower, _web_view(values, _tell, alone=True))
    except ExceptionGroup as group:  # only the journal's reader and the page raise, and one does
        cause = first_cause(group)
        if isinstance(cause, NotServed):
            fail(ExitCode.LOCAL_IO, f"{cause}\nName another --address; {ANYWHERE} is a free port.")
        raise
    end(0)


async def _follow(follower: RunFollower, web_view: WebView) -> None:
    """Show until a signal ends it."""
    from orchestrator.app.follow import follow

    def note(follower: RunFollower) -> None:
        unfinished = follower.run_state is not None and follower.run_state.finished is None
        web_view.abandon(gone=unfinished and not follower.is_running)
        web_view.stall(follower.stall if unfinished else None)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow, follower, web_view, note)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                tasks.cancel_scope.cancel()
                return
