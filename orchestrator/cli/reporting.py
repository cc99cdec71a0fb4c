"""report: rebuilding a run's reports, checking written ones, and comparing two runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from orchestrator.cli.common import (
    Output,
    default_state,
    echo_json,
    end,
    explained,
    fail,
    output_options,
    sign_key_option,
    state_option,
)

if TYPE_CHECKING:
    from orchestrator.evidence import Signer
    from orchestrator.journal import State


@click.command("report")
@click.argument("run", required=False)
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write. Default: where the run's report was, or would have been, written.",
)
@click.option(
    "--verify",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Check a written report instead, from its own files alone.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PUBLIC.pem",
    help="With --verify: it must be signed, by the owner of this public key.",
)
@click.option(
    "--compare",
    metavar="RUN2",
    help="Show what changed since RUN2 instead, in RUN or in the last one; nothing is written.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a comparison as JSON.")
@sign_key_option
@state_option
@output_options
@explained
def report_command(
    run: str | None,
    directory: Path | None,
    verify: Path | None,
    key: Path | None,
    compare: str | None,
    as_json: bool,
    sign: Signer | None,
    state: Path | None,
    output: Output,
) -> None:
    """Rebuild the reports of RUN (an id, its start, or `last`) from the journal alone.

    Works on finished, running and interrupted runs. The hash chain is checked on the way; a
    record that is not what was written is named, and nothing is rebuilt from it, nor over a
    report that knows of more records.

    With --verify DIR nothing but that directory is read: exit code 0 if the chain of its records
    is whole, every file is what was written and says what the records say, else 1, with what is
    wrong. Without a signature this finds accidents and edits, not a forger who makes it all anew.
    """
    if verify is not None:
        if run is not None or compare is not None:
            fail(2, "--verify looks at a directory alone: leave RUN and --compare out")
        _verify(verify, key, output)
    if key is not None:
        fail(2, "--key belongs to --verify; to sign, use --sign-key")
    if compare is not None:
        _compare(state or default_state(), run or "last", compare, as_json=as_json)
    if run is None:
        fail(2, "name a RUN (an id, its start, or `last`), or a directory with --verify")
    _rebuild(state or default_state(), run, directory, sign, output)


def _rebuild(
    state: Path, run: str, directory: Path | None, sign: Signer | None, output: Output
) -> None:
    from orchestrator.journal import State

    for path in rebuilt(State(state), run, directory, sign):
        if not output.quiet:
            click.echo(path)


def rebuilt(
    kept: State, run: str, directory: Path | None, sign: Signer | None = None
) -> list[Path]:
    """Write the reports of a run and their evidence from the journal; return the files.

    Raises:
        OSError: a file cannot be written.
        JournalError: there is no such run, its journal cannot be trusted, or it knows less than
            the evidence that is there.
    """
    from orchestrator.evidence import require_no_more, write_evidence
    from orchestrator.report import summarize, write

    name = kept.find(run)
    found, head = kept.replay_to_head(name)
    while True:
        report = summarize(found, chain_head=head)
        place = directory or Path(found.report_dir)
        require_no_more(place, name, kept.records(name))
        written = write(report, place)
        records = kept.records(name, upto=found.events)
        written += write_evidence(found, report, records, written, place, sign)
        before = head
        found, head = kept.replay_to_head(name)
        if head == before or found.finished is None:
            return written
        # else the run has ended meanwhile, and its report must not be an older one


def _verify(directory: Path, key: Path | None, output: Output) -> NoReturn:
    from orchestrator.evidence import load_public_key, verify
    from orchestrator.report import ExitCode

    if not directory.is_dir():
        fail(ExitCode.USAGE, f"{directory} is no directory")
    verdict = verify(directory, load_public_key(key) if key is not None else None)
    if not output.quiet:
        for line in verdict.verified:
            click.echo(f"verified: {line}")
        for line in verdict.notes:
            click.echo(f"note: {line}")
    for line in verdict.refuted:
        click.echo(f"NOT what was written: {line}", err=True)
    end(ExitCode.GOOD if verdict.is_good else ExitCode.NOT_GOOD)


def _compare(state: Path, run: str, base: str, *, as_json: bool) -> NoReturn:
    from orchestrator.history import compare, comparison_lines, comparison_values
    from orchestrator.journal import State

    kept = State(state)
    found = compare(*(kept.replay(kept.find(name)) for name in (base, run)))
    if as_json:
        echo_json(comparison_values(found))
    else:
        click.echo("\n".join(comparison_lines(found)))
    end(0)
