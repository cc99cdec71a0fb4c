"""serve, and the options --serve and --metrics-file of the commands that carry out a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.common import (
    F,
    Output,
    default_state,
    end,
    explained,
    fail,
    output_options,
    state_option,
)

if TYPE_CHECKING:
    from orchestrator.attending import Companion
    from orchestrator.progress import View
    from orchestrator.serving import Address, Showing

ANYWHERE = "127.0.0.1:0"
"""What a bare --serve means: a free port, for this machine only."""


def serving_options(command: F) -> F:
    """Add --serve, --metrics-file and what belongs to them."""
    taken: Any = command
    for option in (
        _token_option,
        _name_option,
        _exposed_option,
        click.option(
            "--metrics-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write metrics here every 15 s, for node exporter's textfile collector (*.prom).",
        ),
        click.option(
            "--serve",
            is_flag=False,
            flag_value=ANYWHERE,
            metavar="[ADDR:PORT]",
            help="Show the run as a page too; the link is printed. Alone: a free port on loopback. "
            "Followed by PLAN or RUN it needs its value: --serve=127.0.0.1:0.",
        ),
    ):
        taken = option(taken)
    return taken  # type: ignore[no-any-return]  # the decorated command


_exposed_option = click.option(
    "--serve-exposed",
    is_flag=True,
    help="Let --serve use an address that other machines reach. Nothing is encrypted.",
)
_name_option = click.option(
    "--serve-name",
    "serve_names",
    multiple=True,
    metavar="NAME",
    help="A further name of this machine for the page, such as backup.example.com. Repeatable.",
)
_token_option = click.option(
    "--serve-token-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File that holds the page's token, for example for Prometheus. Default: a new random one.",
)


def companions_of(options: dict[str, Any], view: View) -> list[Companion]:
    """Return who shows the run besides the view, as the options say; nobody by default.

    What they have to say stands above the live view: it would be drawn over otherwise.
    """
    from orchestrator.progress import LiveView

    if options["serve"] is None and options["metrics_file"] is None:
        return []

    def say(line: str) -> None:
        if isinstance(view, LiveView):
            view.say(f"bulk-restore: {line}")
        else:
            _tell(line)

    return [_showing(options, say)]


def _showing(
    options: dict[str, Any], tell: Callable[[str], None], *, alone: bool = False
) -> Showing:
    from orchestrator.serving import Page, Showing

    page = None
    if options["serve"] is not None:
        address = _address(options["serve"], exposed=options["serve_exposed"])
        names = _names(options["serve_names"])
        token = _token(options["serve_token_file"])
        page = Page(address=address, names=names)
        page = replace(page, token=token) if token else page
    return Showing(page=page, metrics_file=options["metrics_file"], tell=tell, alone=alone)


def _tell(line: str) -> None:
    """Write a line to stderr, if anybody is there."""
    with suppress(OSError, ValueError):
        click.echo(f"bulk-restore: {line}", err=True)


def _address(text: str, *, exposed: bool) -> Address:
    from orchestrator.serving import Address, NotAnAddress

    try:
        address = Address.parse(text)
    except NotAnAddress as exc:
        raise click.UsageError(
            f"--serve: {exc}. To serve on loopback write --serve={ANYWHERE}, or --serve last."
        ) from None
    if not (address.is_loopback or exposed):
        raise click.UsageError(
            f"--serve: {text} can be reached from other machines, and the page is not encrypted. "
            f"Use 127.0.0.1 and a tunnel (ssh -L), or say --serve-exposed."
        )
    return address


def _names(texts: Sequence[str]) -> tuple[str, ...]:
    from orchestrator.serving import NotAnAddress, served_name

    try:
        return tuple(map(served_name, texts))
    except NotAnAddress as exc:
        raise click.UsageError(f"--serve-name: {exc}") from None


def _token(path: Path | None) -> str | None:
    from orchestrator.serving import own_token

    if path is None:
        return None
    try:
        token = own_token(path.read_text(encoding="utf-8"))
        if path.stat().st_mode & 0o004:
            _tell(f"WARNING: everybody on this machine can read the token in {path}; chmod o-r")
    except UnicodeDecodeError:
        raise click.UsageError(f"--serve-token-file: {path} is not a text") from None
    except ValueError as exc:
        raise click.UsageError(f"--serve-token-file: {path}: {exc}") from None
    return token


@click.command("serve")
@click.argument("run", default="last")
@click.option(
    "--address",
    "serve",
    default=ANYWHERE,
    metavar="ADDR:PORT",
    help="Where. Default: a free port on loopback.",
)
@_exposed_option
@_name_option
@_token_option
@state_option
@output_options
@explained
def serve_command(run: str, state: Path | None, output: Output, **options: Any) -> None:
    """Show RUN (an id, its start, or `last`) as a page in a browser, while it goes on or later.

    Reads the journal only, so it works beside a run that was started without --serve, and
    nothing on the page can change the run. The link with its token is printed; Ctrl-C ends the
    page, never the run.
    """
    import anyio

    from orchestrator.journal import State
    from orchestrator.onlooking import Onlooker
    from orchestrator.report.exit_codes import ExitCode
    from orchestrator.serving import NotServed

    _ = output  # the link is what there is to say
    kept = State(state or default_state())
    onlooker = Onlooker(kept, kept.summary(run))
    showing = _showing({**options, "metrics_file": None}, _tell, alone=True)
    showing.expect(kept.durations().expected)
    try:
        anyio.run(_looked_on, onlooker, showing)
    except ExceptionGroup as group:  # only the journal's reader and the page raise, and one does
        cause = _first(group)
        if not isinstance(cause, NotServed):
            raise cause from None
        fail(ExitCode.LOCAL_IO, f"{cause}\nName another --address; {ANYWHERE} is a free port.")
    end(0)


def _first(exc: Exception) -> Exception:
    return _first(exc.exceptions[0]) if isinstance(exc, ExceptionGroup) else exc


async def _looked_on(onlooker: Any, showing: Showing) -> None:
    """Show until a signal ends it."""
    import signal

    import anyio

    from orchestrator.onlooking import look_on

    def note(seen: Any) -> None:
        unfinished = seen.found is not None and seen.found.finished is None
        showing.board.abandon(gone=unfinished and not seen.is_running)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_on, onlooker, showing, note)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                tasks.cancel_scope.cancel()
                return
