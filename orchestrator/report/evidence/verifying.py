"""`report --verify`: whether a report directory is what the run wrote, from its files alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from orchestrator.core.errors import IllegalTransition, JournalDamaged
from orchestrator.core.events import Event, from_json
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import RunId
from orchestrator.core.records import RUN_CHAIN, Record
from orchestrator.core.run_state import RunState, fold
from orchestrator.core.text import counted, printable
from orchestrator.core.version import __version__
from orchestrator.report.evidence import lines, manifest
from orchestrator.report.evidence.chains import Chains
from orchestrator.report.evidence.lines import RecordsChanged
from orchestrator.report.evidence.manifest import MANIFEST, RECORDS, SIGNATURE, Manifest
from orchestrator.report.summary import summarize
from orchestrator.report.values import Report
from orchestrator.report.writing import RENDERINGS, rendered

Made = Callable[[bytes, bytes], bool]
"""Tells whether a signature is a key's over some data; see `load_public_key`."""
MAX_MANIFEST = 64 * 1024 * 1024
LOCAL_FAULTS = frozenset({int(ExitCode.INTERNAL), int(ExitCode.LOCAL_IO)})
"""Exit codes of faults that are not in the records."""
AS_JSON = "report.json"
NAMED = 10


class Verdict(Struct):
    """What was verified, notes on that, and what is not as it was written."""

    verified: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """True if everything is what was written."""
        return not self.refuted


def verify(directory: Path, key: Made | None = None) -> Verdict:
    """Return what the files of a report directory prove; nothing else is read.

    With `key` there must be a signature, and it must be that key's.

    Raises:
        OSError: a file is there and cannot be read.
    """
    verdict = Verdict()
    content = _content(directory / MANIFEST, MAX_MANIFEST)
    document = manifest.parse(content) if content is not None else None
    if content is None or document is None:
        missing = f"there is no {MANIFEST} in {directory}: nothing can be verified"
        changed = f"{MANIFEST} was changed, or is of a version that is not known here"
        verdict.refuted.append(missing if content is None else changed)
        return verdict
    _check_signature(directory, content, key, verdict)
    state = _check_records(directory, document, verdict)
    _check_hashes(directory, document, verdict)
    if state is not None:
        _check_contents(directory, content, document, state, verdict)
    _note_others(directory, document, verdict)
    return verdict


def _content(path: Path, limit: int) -> bytes | None:
    """Return what is in a file of the directory, or None if there is no such file."""
    try:
        with manifest.opened(path) as file:
            return file.read(limit)
    except FileNotFoundError:
        return None


def _check_signature(directory: Path, content: bytes, key: Made | None, verdict: Verdict) -> None:
    signature = _content(directory / SIGNATURE, 4096)
    if key is None:
        if signature is not None:
            verdict.notes.append(
                "it is signed, but no --key was given: the signature was not checked"
            )
        else:
            verdict.notes.append("it is not signed: anybody who can write here can make it again")
    elif signature is None:
        verdict.refuted.append(f"it is not signed: there is no {SIGNATURE}")
    elif not key(signature, content):
        verdict.refuted.append(
            f"the signature is not this key's over this {MANIFEST}: another key, or it was changed"
        )
    else:
        verdict.verified.append(f"the signature over {MANIFEST} is this key's")


# --- the records ---------------------------------------------------------------------------


def _check_records(directory: Path, document: Manifest, verdict: Verdict) -> RunState | None:
    """Return the fold of the records if they are what was written."""
    try:
        with manifest.opened(directory / RECORDS) as file:
            names = [each.name for each in document.journal.ends]
            records = lines.read(file, RunId(document.run.id), names)
            state = fold(_events(records, chains := Chains()))
    except FileNotFoundError:
        how = manifest.missing(directory / RECORDS)
        verdict.refuted.append(f"{RECORDS} {how}: the records were taken away")
        return None
    except (RecordsChanged, JournalDamaged, IllegalTransition) as exc:
        verdict.refuted.append(f"{RECORDS}: {printable(str(exc))}")
        return None
    differences = list(_differences(document, chains, state))
    if differences:
        verdict.refuted += [f"{RECORDS}: {each}" for each in differences[:NAMED]]
        return None
    _say_verified(chains, state, verdict)
    return state


def _say_verified(chains: Chains, state: RunState, verdict: Verdict) -> None:
    run, ends = state.started.run, chains.ends
    if not ends:
        verdict.verified.append(
            f"{chains.records} records of run {run} follow one another, from the first to the "
            f"last; the chain ends in {chains.head}"
        )
    else:
        covered = ", which pins all others," if state.finished is not None else ""
        verdict.verified.append(
            f"{chains.records} records of run {run} follow one another in {len(ends)} chains, each "
            f"from its first to its last; that of the run itself{covered} ends in {chains.head}"
        )
    if state.finished is None:
        verdict.notes.append("the run had not ended when this was written: no record of its end")
        if chains.behind_pins:
            verdict.notes.append(
                f"{counted(chains.behind_pins, 'record')} are not pinned by the run's own chain "
                f"yet: where those chains end is what {MANIFEST} says"
            )


def _events(records: Iterator[Record], chains: Chains) -> Iterator[Event]:
    for record in records:
        event = from_json(record.kind, record.body)
        if event.at != record.at:
            raise RecordsChanged(
                f"record {record.seq} ({record.kind}) has another time than was written"
            )
        chains.add(record)
        if record.chain == RUN_CHAIN:
            chains.heed(event)
        yield event


def _differences(document: Manifest, chains: Chains, state: RunState) -> Iterator[str]:
    """Yield how the records differ from the manifest, and from what they say of themselves."""
    yield from chains.unlike(document.journal.ends)
    yield from chains.unpinned()
    if state.started.run != document.run.id:
        yield "the first record is that of another run"
    if (state.finished is not None) != document.run.finished:
        ends = "have an end" if state.finished is not None else "end before the run did"
        yield f"they {ends}, but {MANIFEST} says otherwise"


# --- the renderings ------------------------------------------------------------------------


def _check_hashes(directory: Path, document: Manifest, verdict: Verdict) -> None:
    """Compare the hash of every file with the manifest's."""
    good = 0
    for name, wanted in {**document.files, RECORDS: document.journal.sha256}.items():
        try:
            actual = manifest.sha256_of(directory / name)
        except FileNotFoundError:
            verdict.refuted.append(f"{printable(name)} {manifest.missing(directory / name)}")
            continue
        if actual != wanted:
            verdict.refuted.append(f"{printable(name)} was changed: its hash is another one")
        else:
            good += 1
    if good:
        verdict.verified.append(f"{good} files have the hashes that {MANIFEST} names")


def _check_contents(
    directory: Path, content: bytes, document: Manifest, state: RunState, verdict: Verdict
) -> None:
    """Check that every rendering is what the records give."""
    report = _report_of(directory, document, state)
    if document.run.exit_code != report.run.exit_code:
        if document.run.exit_code not in LOCAL_FAULTS:
            verdict.refuted.append(
                f"{MANIFEST} says exit code {document.run.exit_code}, the records say "
                f"{report.run.exit_code}"
            )
            return
        verdict.notes.append(
            f"the process ended with exit code {document.run.exit_code} for a trouble of its own "
            f"machine; the records say {report.run.exit_code}"
        )
        report = report.with_exit_code(document.run.exit_code)
    elif state.finished is not None and state.finished.trouble:
        verdict.notes.append(
            f"the process ended with exit code {state.finished.exit_code} for a trouble of its own "
            f"machine: {printable(state.finished.trouble)}"
        )
    _check_json(directory, report, verdict)
    if document.version != __version__:
        verdict.notes.append(
            f"it was written by version {printable(document.version, 40)}, this is {__version__}: "
            "only the chain and the hashes were compared, not what the renderings say"
        )
        return
    good = [name for name in RENDERINGS if _is_of(directory, name, report)]
    for name in RENDERINGS:
        if name not in document.files:
            verdict.refuted.append(f"{MANIFEST} does not name {name}")
        elif name not in good:
            verdict.refuted.append(f"{name} does not say what the records say")
    journal = document.journal
    if content != manifest.render(state, report, document.files, journal.sha256, journal.chains):
        verdict.refuted.append(f"{MANIFEST} does not say what the records say")
    elif len(good) == len(RENDERINGS):
        verdict.verified.append(
            f"{', '.join(good)} and {MANIFEST} are, byte for byte, what the records say"
        )


def _report_of(directory: Path, document: Manifest, state: RunState) -> Report:
    """Return what the records give.

    Whether a process still worked on a run without an end is not in them: both are what they give.
    """
    head = document.journal.head
    report = summarize(state, chain_head=head)
    if state.finished is not None:
        return report
    for goes_on, process_gone in ((False, False), (True, False), (False, True)):
        state.process_gone = process_gone
        report = summarize(state, chain_head=head, goes_on=goes_on)
        if _is_of(directory, AS_JSON, report):
            break
    return report


def _is_of(directory: Path, name: str, report: Report) -> bool:
    """Return whether a file is the rendering of a report, byte for byte."""
    data = b"".join(rendered(name, report))
    return _content(directory / name, len(data) + 1) == data


def _check_json(directory: Path, report: Report, verdict: Verdict) -> None:
    """See that report.json is about the same chain, whatever version wrote it."""
    try:
        with manifest.opened(directory / AS_JSON) as file:
            values: Any = json.load(file)
        run = values["run"]
        same = (
            run["id"] == report.run.id
            and run["journal_head"] == report.run.journal_head
            and run["journal_records"] == report.run.journal_records
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same:
        verdict.refuted.append("report.json is not about these records")


def _note_others(directory: Path, document: Manifest, verdict: Verdict) -> None:
    """Name the files of the directory that the evidence does not cover."""
    known = {*document.files, MANIFEST, RECORDS, SIGNATURE}
    others = sorted(path.name for path in directory.iterdir() if path.name not in known)
    if others:
        named = ", ".join(printable(name, 60) for name in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        verdict.notes.append(f"not covered, and proving nothing: {named}{more}")
