"""Writing the evidence beside the renderings it is about."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

import msgspec
from msgspec import Struct

from orchestrator.core.errors import JournalDamaged, ReportKept
from orchestrator.core.model import RunId
from orchestrator.core.records import Record
from orchestrator.core.run_state import RunState
from orchestrator.report.evidence import manifest
from orchestrator.report.evidence.chains import ChainEnd, Chains
from orchestrator.report.evidence.lines import chain_words, line
from orchestrator.report.evidence.manifest import MANIFEST, RECORDS, SIGNATURE, Manifest
from orchestrator.report.values import Report
from orchestrator.report.writing import RENDERINGS, Staging, remove


def stage_evidence(
    state: RunState,
    report: Report,
    records: Iterable[Record],
    sign: Callable[[bytes], bytes] | None,
    staging: Staging,
) -> None:
    """Add journal.jsonl, evidence.json and, with `sign`, evidence.sig to the renderings.

    The renderings are those of `report`, which is that of `state`, the fold of `records`. An older
    signature stays only if it still fits.

    Raises:
        OSError: a file cannot be written.
        JournalDamaged: the records are not those of the report.
    """
    hashes = dict(staging.hashes)
    chains = Chains()
    staging.add(RECORDS, _lines(records, chains))
    if (chains.records, chains.head) != (report.run.journal_records, report.run.journal_head):
        raise JournalDamaged(f"the records of run {report.run.id} are not those of its report")
    content = manifest.render(state, report, hashes, staging.hashes[RECORDS], chains.ends)
    staging.add(MANIFEST, [content])
    if sign is not None:
        staging.add(SIGNATURE, [sign(content)])
    elif not _has_content(staging.directory / MANIFEST, content):
        staging.drop(SIGNATURE)


def drop_evidence(staging: Staging) -> None:
    """Remove what an earlier report left: renderings without records have no evidence."""
    for name in (SIGNATURE, MANIFEST, RECORDS):
        staging.drop(name)


def remove_outdated(directory: Path, run: RunId, exit_code: int | None) -> str | None:
    """Remove an older report of `run` with another exit code; return what is left, in words.

    For a directory whose report was to be replaced and could not be: the older one would look like
    the answer. One with the same exit code is whole, and was true when it was written. A report
    that is the only record stays.
    """
    try:
        reported, evidence = _reported(directory, run), _evidence(directory, run)
    except OSError:
        return None
    if reported is not None:
        is_outdated = reported.exit_code != exit_code and reported.journal_head is not None
    else:
        is_outdated = evidence is not None and evidence.run.exit_code != exit_code
    if not is_outdated:
        return None
    left = remove(directory, (*RENDERINGS, SIGNATURE, MANIFEST, RECORDS))
    return f"an older report in {directory} cannot be removed and is not true" if left else None


def require_no_more(directory: Path, run: RunId, records: Iterable[Record]) -> None:
    """Check that the report in `directory` has nothing of `run` that is not in `records`.

    A chain does not show that its end was cut off; what was written of it earlier does. A report
    that was made while the journal took nothing any more is the only record of what happened.

    Raises:
        ReportKept, JournalDamaged: it has. What is made from `records` must not replace it.
        OSError: the evidence cannot be read.
    """
    if is_only_record(directory, run):
        raise ReportKept(
            f"the report in {directory} has what the journal of run {run} does not have: it is the "
            "only record of that and is not overwritten"
        )
    document = _evidence(directory, run)
    if document is None:
        return
    ends = {end.name: end for end in document.journal.ends}
    last, heads = Counter[str](), dict[str, str]()
    for record in records:
        last[record.chain] = record.seq
        if record.chain in ends and record.seq == ends[record.chain].records:
            heads[record.chain] = record.hash.hex()
    for name, end in ends.items():
        if heads.get(name) != end.head:
            raise _knows_more(directory, run, end, None if name in heads else last[name])


def _knows_more(directory: Path, run: RunId, end: ChainEnd, last: int | None) -> JournalDamaged:
    """Return why the evidence stays; `last` is the last record of the chain in the journal.

    None: the journal has another one in the place of the chain's end.
    """
    chain = chain_words(end.name)
    have = f"ends with record {last}" if last is not None else "has another one in the last's place"
    return JournalDamaged(
        f"the evidence in {directory} was made when run {run} had {end.records} records{chain}; "
        f"the journal {have}. It was cut off or changed, or is an older copy. Nothing is rebuilt "
        "over that evidence; --report writes to another directory"
    )


def free_place(directory: Path, run: RunId, records: Callable[[], Iterable[Record]] | None) -> Path:
    """Return `directory`, or DIRECTORY.2, .3 and so on if a report in it must be kept.

    `records` returns those of the run; None: only a report that is the only record is kept.

    Raises:
        OSError: the report that is there cannot be read.
    """
    if _is_free(directory, run, records):
        return directory
    numbered = (directory.with_name(f"{directory.name}.{number}") for number in count(2))
    return next(
        place
        for place in numbered
        if not os.path.lexists(place)
        or (_evidence(place, run) is not None and _is_free(place, run, records))
    )


def kept_report(directory: Path, place: Path) -> str:
    """Return, in words, why a report was written to `place` and not to its directory."""
    return (
        f"the report in {directory} has what the journal does not have and is kept; the new one "
        f"is in {place}"
    )


def _is_free(directory: Path, run: RunId, records: Callable[[], Iterable[Record]] | None) -> bool:
    if records is None:
        return not is_only_record(directory, run)
    try:
        require_no_more(directory, run, records())
    except (ReportKept, JournalDamaged):
        return False
    return True


class _ReportedRun(Struct, frozen=True):
    """What is read back of a run in report.json."""

    id: str
    journal_head: str | None
    exit_code: int | None = None


class _Reported(Struct, frozen=True):
    run: _ReportedRun


def is_only_record(directory: Path, run: RunId) -> bool:
    """Return whether the report of `run` in a directory has what its journal does not have."""
    reported = _reported(directory, run)
    return reported is not None and reported.journal_head is None


def _reported(directory: Path, run: RunId) -> _ReportedRun | None:
    """Return what report.json of `run` in a directory says, if there is one."""
    try:
        with manifest.opened(directory / "report.json") as file:
            reported = msgspec.json.decode(file.read(), type=_Reported).run
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # it is no report of ours
    return reported if reported.id == run else None


def _evidence(directory: Path, run: RunId) -> Manifest | None:
    """Return the evidence of `run` in a directory, if there is any."""
    try:
        with manifest.opened(directory / MANIFEST) as file:
            document = manifest.parse(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return document if document is not None and document.run.id == run else None


def is_signed(directory: Path) -> bool:
    """Return whether the evidence in a directory is signed."""
    return (directory / SIGNATURE).exists()


def _has_content(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def _lines(records: Iterable[Record], chains: Chains) -> Iterator[bytes]:
    """Yield the lines of records, and count these."""
    for record in records:
        chains.add(record)
        yield line(record)
