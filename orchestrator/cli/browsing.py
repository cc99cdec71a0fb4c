"""browse: look into a mount that a living run holds."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail
from orchestrator.core.controls import Look, SeenEntry
from orchestrator.core.errors import FileNotSaved
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import counted, inert, printable, size, table_moment, timestamp

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.core.records import RunSummary
    from orchestrator.journal import State


PROGRESS_S = 3.0
"""Seconds between two lines about a file that is being copied."""


@click.command("browse")
@options.run_argument
@click.argument("key", callback=options.readable)
@click.argument("path", required=False, callback=options.readable)
@click.option(
    "--get",
    "files",
    metavar="PATH",
    multiple=True,
    callback=options.all_readable,
    help="Copy this file of the guest to --to. Repeatable.",
)
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of this machine for --get; it is made if it is missing.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@options.json_option
@options.state_option
@options.output_options
def browse_command(
    run: str,
    key: str,
    path: str | None,
    files: tuple[str, ...],
    directory: Path | None,
    overwrite: bool,
    as_json: bool,
    state: Place | None,
    output: options.Output,
) -> None:
    """Look into the mount of target KEY that the living RUN holds: list PATH, or get files.

    Without PATH the volumes are listed. A path is written as in a plan: C:\\Users or /etc. The
    run's own process reads, for its mounts are visible to nobody else; it writes nothing into the
    guest, and a hold that ends breaks the reading off. Who looked at what is in the report
    (controls). Exit code 0: listed, or all files are saved, each whole; 2: the target is not held,
    there is no such path, or it cannot be read; 6: the process does not move; 74: this machine
    cannot keep a file. Not for runs over several machines.
    """
    from orchestrator.journal import State

    if state is not None and not isinstance(state, Path):
        fail(
            ExitCode.USAGE,
            "browse: the mounts of a run over several machines cannot be looked into yet: "
            "--state is a directory here",
        )
    if bool(files) != (directory is not None):
        fail(ExitCode.USAGE, "browse: --get and --to belong together: --get PATH --to DIR")
    if files and path is not None:
        fail(ExitCode.USAGE, "browse: PATH is listed, --get PATH is copied: give one of them")
    journal = State(state or options.default_state())
    summary = journal.summary(run)
    if directory is None:
        _list(journal, summary, key, path, as_json=as_json)
    else:
        _get(
            journal,
            summary,
            key,
            files,
            os.path.realpath(directory),
            overwrite=overwrite,
            as_json=as_json,
            is_quiet=output.quiet,
        )
    end(ExitCode.GOOD)


def _list(
    journal: State, summary: RunSummary, key: str, path: str | None, *, as_json: bool
) -> None:
    from orchestrator.app.browsing import Seen, listed, wanted

    found = anyio.run(listed, journal, summary, wanted(Look.BROWSE, key, path))
    if not isinstance(found, Seen):
        fail(found.code, found.line)
    entries = found.answer.entries
    if as_json:
        options.echo_json(
            {
                "run": summary.run,
                "key": key,
                "path": path,
                "entries": [_values(each) for each in entries],
            }
        )
        return
    if path is None:
        click.echo(inert(f"{key}: {counted(len(entries), 'volume')}"))
    else:
        many = counted(len(entries), "entry", "entries")
        click.echo(inert(f"{key} {path}: {many}, times in UTC"))
    for each in entries:
        click.echo(_line(each))


def _values(entry: SeenEntry) -> dict[str, object]:
    """Return an entry as JSON shows it; `size` in bytes."""
    return {
        "name": entry.name,
        "type": "directory" if entry.is_directory else "file",
        "size": entry.size,
        "modified_at": timestamp(entry.modified_at),
    }


def _line(entry: SeenEntry) -> str:
    how_large = "directory" if entry.is_directory else _size(entry.size)
    changed = "" if entry.modified_at is None else table_moment(entry.modified_at)
    return f"{how_large:>12}  {changed:<20}  {printable(entry.name, 1000)}".rstrip()


def _size(count: int | None) -> str:
    return "size not told" if count is None else size(count)


def _get(
    journal: State,
    summary: RunSummary,
    key: str,
    files: tuple[str, ...],
    directory: str,
    *,
    overwrite: bool,
    as_json: bool,
    is_quiet: bool,
) -> None:
    from orchestrator.app.browsing import Got, got, places, wanted

    saved: list[dict[str, object]] = []
    try:
        paths = places(directory, files)
    except ValueError as exc:
        fail(ExitCode.USAGE, f"browse: {exc}")

    def tell() -> None:
        """Print as JSON what is saved by now."""
        if as_json:
            options.echo_json({"run": summary.run, "key": key, "files": saved})

    for file, path in paths.items():
        work = partial(
            got,
            journal,
            summary,
            wanted(Look.GET, key, file),
            path,
            overwrite=overwrite,
            tell=_Progress(file) if sys.stderr.isatty() and not is_quiet else lambda _: None,
        )
        try:
            found = anyio.run(work)
        except FileNotSaved as exc:
            tell()
            fail(ExitCode.LOCAL_IO, f"{file}: {exc}")
        if not isinstance(found, Got):
            tell()
            fail(found.code, f"{file}: {found.line}")
        facts = {"path": file, "to": found.path, "size": found.file.size}
        saved.append({**facts, "sha256": found.file.sha256})
        if not as_json and not is_quiet:
            click.echo(inert(f"{found.path}: {size(found.file.size)}, sha256 {found.file.sha256}"))
    tell()


class _Progress:
    """Says on a terminal how much of a file is there, every few seconds if more is."""

    def __init__(self, file: str) -> None:
        self._file, self._said, self._next_at = file, 0, time.monotonic() + PROGRESS_S

    def __call__(self, count: int) -> None:
        if count > self._said and time.monotonic() >= self._next_at:
            self._said, self._next_at = count, time.monotonic() + PROGRESS_S
            click.echo(inert(f"{self._file}: {size(count)} so far"), err=True)
