"""Writing the evidence beside the renderings it is about."""

from __future__ import annotations

import hashlib
import os
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
from orchestrator.report.evidence.lines import line
from orchestrator.report.evidence.manifest import MANIFEST, RECORDS, SIGNATURE, Manifest
from orchestrator.report.values import Report
from orchestrator.report.writing import replaced


def write_evidence(
    state: RunState,
    report: Report,
    records: Iterable[Record],
    rendered: Iterable[Path],
    directory: Path,
    sign: Callable[[bytes], bytes] | None = None,
) -> list[Path]:
    """Write journal.jsonl, evidence.json and, with `sign`, evidence.sig; return their paths.

    `rendered` are the files just written from `report`, which is that of `state`, the fold of
    `records`. An older signature stays only if it still fits.

    Raises:
        OSError: a file cannot be written.
        JournalDamaged: the records are not those of the report; no evidence is left then.
    """
    counted = _CountedLines(records)
    journal = replaced(directory / RECORDS, counted)
    if (counted.records, counted.head) != (report.run.journal_records, report.run.journal_head):
        withdraw_evidence(directory)
        raise JournalDamaged(f"the records of run {report.run.id} are not those of its report")
    hashes = {path.name: manifest.sha256_of(path) for path in rendered}
    content = manifest.render(state, report, hashes, counted.digest.hexdigest())
    _drop_outdated(directory, content)
    written = [journal, replaced(directory / MANIFEST, [content])]
    if sign is not None:
        written.append(replaced(directory / SIGNATURE, [sign(content)]))
    return written


def require_no_more(directory: Path, run: RunId, records: Iterable[Record]) -> None:
    """Check that the report in `directory` has nothing of `run` that is not in `records`.

    A chain does not show that its end was cut off; what was written of it earlier does. A report
    that was made while the journal took nothing any more is the only record of what happened.

    Raises:
        ReportKept, JournalDamaged: it has. What is made from `records` must not replace it.
        OSError: the evidence cannot be read.
    """
    if _is_only_record(directory, run):
        raise ReportKept(
            f"the report in {directory} has what the journal of run {run} does not have: it is the "
            "only record of that and is not overwritten"
        )
    document = _evidence(directory, run)
    if document is None:
        return
    chain = document.journal
    last, head = 0, None
    for record in records:
        last = record.seq
        if record.seq == chain.records:
            head = record.hash.hex()
    if head == chain.head:
        return
    have = f"ends with record {last}" if head is None else "has another one in the last's place"
    raise JournalDamaged(
        f"the evidence in {directory} was made when run {run} had {chain.records} records; the "
        f"journal {have}. It was cut off or changed, or is an older copy. Nothing is rebuilt over "
        "that evidence; --report writes to another directory"
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
        return not _is_only_record(directory, run)
    try:
        require_no_more(directory, run, records())
    except (ReportKept, JournalDamaged):
        return False
    return True


class _ReportedRun(Struct, frozen=True):
    """What is read back of a run in report.json."""

    id: str
    journal_head: str | None


class _Reported(Struct, frozen=True):
    run: _ReportedRun


def _is_only_record(directory: Path, run: RunId) -> bool:
    """Return whether the report of `run` in a directory has what its journal does not have."""
    try:
        with manifest.opened(directory / "report.json") as file:
            reported = msgspec.json.decode(file.read(), type=_Reported).run
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # it is no report of ours
    return reported.id == run and reported.journal_head is None


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


def withdraw_evidence(directory: Path) -> None:
    """Remove what an earlier report left: renderings without records have no evidence."""
    for name in (SIGNATURE, MANIFEST, RECORDS):
        (directory / name).unlink(missing_ok=True)


def _drop_outdated(directory: Path, content: bytes) -> None:
    """Remove the signature of another manifest than `content`."""
    try:
        same = (directory / MANIFEST).read_bytes() == content
    except OSError:
        same = False
    if not same:
        (directory / SIGNATURE).unlink(missing_ok=True)


class _CountedLines:
    """The lines of records, counted and hashed while they are written."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._source = records
        self.digest = hashlib.sha256()
        self.records = 0
        self.head = ""

    def __iter__(self) -> Iterator[bytes]:
        for record in self._source:
            content = line(record)
            self.digest.update(content)
            self.records += 1
            self.head = record.hash.hex()
            yield content
