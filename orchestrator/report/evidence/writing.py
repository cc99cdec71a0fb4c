"""Writing the evidence beside the renderings it is about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from orchestrator.core.errors import JournalDamaged
from orchestrator.core.model import RunId
from orchestrator.core.records import Record
from orchestrator.core.run_state import RunState
from orchestrator.report.evidence import manifest
from orchestrator.report.evidence.lines import line
from orchestrator.report.evidence.manifest import MANIFEST, RECORDS, SIGNATURE
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
    counted = _Counted(records)
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
    """Check that the evidence in `directory` covers no other records of `run` than `records`.

    A chain does not show that its end was cut off; what was written of it earlier does.

    Raises:
        JournalDamaged: it does. What is made from `records` must not replace it.
        OSError: the evidence cannot be read.
    """
    try:
        with manifest.opened(directory / MANIFEST) as file:
            document = manifest.parse(file.read())
    except FileNotFoundError:
        return
    if document is None or document.run.id != run:
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


class _Counted:
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
