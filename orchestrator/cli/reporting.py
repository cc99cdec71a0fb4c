"""report: rebuilding a run's reports, checking, comparing and merging written ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from orchestrator.cli import options
from orchestrator.cli.ending import end, fail
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.text import inert

if TYPE_CHECKING:
    from orchestrator.app.stores import Place
    from orchestrator.core.ports.store import Store
    from orchestrator.report.evidence.signing import Signer


@click.command("report")
@click.argument("what", nargs=-1, metavar="[RUN | DIR...]")
@click.option(
    "--report",
    "directory",
    type=options.DIRECTORY,
    help="Directory of the reports. Default: the run's own report directory; of a merged one, "
    "reports/ID.",
)
@click.option(
    "--verify",
    type=options.DIRECTORY,
    metavar="DIR",
    help="Verify the report in DIR from its own files, and rebuild nothing.",
)
@click.option(
    "--key",
    type=options.FILE,
    metavar="PUBLIC.pem",
    help="With --verify or --merge: require a signature by the owner of this public key.",
)
@click.option(
    "--compare",
    metavar="RUN2",
    help="Show what changed from RUN2 to RUN, or to the last run. Writes nothing.",
)
@click.option(
    "--merge",
    is_flag=True,
    help="Merge the reports of all shards of a plan (run --shard K/N) in these directories.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@options.sign_key_option
@options.state_option
@options.output_options
def report_command(
    what: tuple[str, ...],
    directory: Path | None,
    verify: Path | None,
    key: Path | None,
    compare: str | None,
    merge: bool,
    as_json: bool,
    sign_key: Signer | None,
    state: Place | None,
    output: options.Output,
) -> None:
    """Rebuild the reports of RUN (an id, the start of one, or `last`) from the journal only.

    Works on finished, running and interrupted runs. Verifies the hash chain: if a record was
    changed, the command names it and rebuilds nothing. It never overwrites a report that was made
    from more records than the journal has.

    With --verify DIR, reads only that directory. Exit code 0 if the chain of its records is
    complete, every file is unchanged and every file agrees with the records; otherwise 1, with the
    reasons. Without a signature, this finds accidents and edits, but not a forger who makes all
    files again.

    With --merge DIR..., writes one report of all shards, and ends with the worst of their exit
    codes. A shard without a report is named, and the whole is in doubt then: exit code 3. Reports
    of different plans or selections, one shard twice, or a report that is not what its run wrote:
    exit code 2, and nothing is written.
    """
    if merge:
        if verify is not None or compare is not None or sign_key is not None:
            fail(2, "--merge cannot be combined with --verify, --compare or --sign-key")
        _merge(list(map(Path, what)), directory, key, output)
    if len(what) > 1:
        fail(2, "one RUN at a time; to merge the reports of shards, use --merge DIR...")
    run = what[0] if what else None
    if verify is not None:
        if run is not None or compare is not None:
            fail(2, "--verify cannot be combined with RUN or --compare")
        _verify(verify, key, output)
    if key is not None:
        fail(2, "--key needs --verify or --merge; to sign, use --sign-key")
    if compare is not None:
        _compare(options.journal_of(state), run or "last", compare, as_json=as_json)
    if run is None:
        fail(2, "give a RUN (an id, the start of one, or `last`), or a directory with --verify")
    from orchestrator.app.rebuilding import rebuild

    for path in rebuild(options.journal_of(state), run, directory, sign_key):
        if not output.quiet:
            click.echo(path)


def _verify(directory: Path, key: Path | None, output: options.Output) -> NoReturn:
    from orchestrator.report.evidence.signing import load_public_key
    from orchestrator.report.evidence.verifying import verify

    if not directory.is_dir():
        fail(ExitCode.USAGE, f"{directory} is not a directory")
    verdict = verify(directory, load_public_key(key) if key is not None else None)
    if not output.quiet:
        for line in verdict.verified:
            click.echo(f"verified: {line}")
        for line in verdict.notes:
            click.echo(f"note: {line}")
    for line in verdict.refuted:
        click.echo(f"NOT what was written: {line}", err=True)
    end(ExitCode.GOOD if verdict.is_good else ExitCode.NOT_GOOD)


def _merge(
    directories: list[Path], place: Path | None, key: Path | None, output: options.Output
) -> NoReturn:
    from orchestrator.cli.wrapping import for_stdout
    from orchestrator.report.evidence.manifest import MANIFEST
    from orchestrator.report.evidence.signing import load_public_key
    from orchestrator.report.merging.joining import join, unfinished_parts
    from orchestrator.report.merging.reading import read_parts
    from orchestrator.report.text import text
    from orchestrator.report.writing import write

    if not directories:
        fail(2, "--merge needs the directories of the shards' reports: --merge DIR...")
    parts = read_parts(directories, load_public_key(key) if key is not None else None)
    report = join(parts)
    place = place or Path("reports") / report.run.id
    if (place / MANIFEST).exists() or any(place.resolve() == d.resolve() for d in directories):
        fail(2, f"{place} holds the report of a run; name another directory with --report")
    write(report, place)
    if not output.quiet:
        click.echo(for_stdout(text(report)))
        click.echo(inert(f"Reports: {place}"))
    for number in parts.missing:
        click.echo(f"bulk-restore: shard {number}/{parts.parts[0].part.of} has no report", err=True)
    for line in unfinished_parts(parts):
        click.echo(inert(f"bulk-restore: {line}"), err=True)
    end(report.run.exit_code or 0)


def _compare(journal: Store, run: str, base: str, *, as_json: bool) -> NoReturn:
    from orchestrator.report.history.comparison import compare, comparison_lines, comparison_values

    comparison = compare(*(journal.replay(journal.find(name)) for name in (base, run)))
    if as_json:
        options.echo_json(comparison_values(comparison))
    else:
        click.echo("\n".join(comparison_lines(comparison)))
    end(0)
