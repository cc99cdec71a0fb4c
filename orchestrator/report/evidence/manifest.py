"""evidence.json: what belongs together in a report directory, and whose run it was."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.core.events import RunResumed, RunStarted
from orchestrator.core.records import RUN_CHAIN
from orchestrator.core.run_state import RunState
from orchestrator.core.server_state import ServerState
from orchestrator.core.text import printable_json, timestamp
from orchestrator.core.version import __version__
from orchestrator.report.evidence.chains import ChainEnd
from orchestrator.report.values import Report

FORMAT = "bulk-restore-evidence"
FORMAT_VERSION = 1
SEVERAL_CHAINS = 2
"""The version of the form if the records have several chains."""
MANIFEST = "evidence.json"
RECORDS = "journal.jsonl"
SIGNATURE = "evidence.sig"


class Journal(Struct, frozen=True, kw_only=True):
    """The records of the run: their file, its hash, how many they are, the last one's hash.

    If they have several chains, `head` is that of the run's own, which pins the others, and
    `chains` names each of them, the run's own first.
    """

    file: str
    sha256: str
    records: int
    head: str
    chains: tuple[ChainEnd, ...] = ()

    @property
    def ends(self) -> tuple[ChainEnd, ...]:
        """Where each chain ends, also if there is only one."""
        return self.chains or (ChainEnd(name=RUN_CHAIN, records=self.records, head=self.head),)

    def is_consistent(self) -> bool:
        """Tell whether the chains are in their order, and together what the rest says."""
        first, *others = self.ends
        names = [each.name for each in others]
        return (
            (first.name, first.head) == (RUN_CHAIN, self.head)
            and names == sorted({*names} - {RUN_CHAIN})
            and sum(each.records for each in self.ends) == self.records
        )


class RunFacts(Struct, frozen=True, kw_only=True):
    """The run as far as checking needs it; `finished`: its records have an end."""

    id: str
    finished: bool
    exit_code: int | None


class Manifest(Struct, frozen=True, kw_only=True):
    """What is read back of evidence.json; the rest of it is compared as bytes.

    `version` is that of the program which wrote the renderings, `files` are their hashes.
    """

    format: str
    format_version: int
    version: str
    run: RunFacts
    journal: Journal
    files: Mapping[str, str]


def parse(data: bytes) -> Manifest | None:
    """Return the content of evidence.json, or None if this program does not know its form."""
    try:
        state = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    version = SEVERAL_CHAINS if state.journal.chains else FORMAT_VERSION
    known = state.format == FORMAT and state.format_version == version
    known = known and state.journal.is_consistent()
    plain = all(name == Path(name).name and name not in {"", "..", "."} for name in state.files)
    return state if known and plain and state.journal.file == RECORDS else None


def render(
    state: RunState,
    report: Report,
    files: Mapping[str, str],
    records_sha256: str,
    chains: Sequence[ChainEnd],
) -> bytes:
    """Return evidence.json for a run and the hashes of its files, by their names.

    `chains` are those of its records; nothing if there is only one.
    """
    run, first = report.run, state.started
    processes: list[tuple[datetime, RunStarted | RunResumed]] = [(first.started_at, first)]
    processes += [(each.resumed_at, each) for each in state.resumed]
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": SEVERAL_CHAINS if chains else FORMAT_VERSION,
        "version": __version__,
        "run": {
            "id": run.id,
            "plan": run.plan,
            "mode": run.mode,
            "reason": run.reason,
            "started_at": timestamp(run.started_at),
            "finished_at": timestamp(run.finished_at),
            "finished": state.finished is not None,
            "exit_code": run.exit_code,
        },
        "plan_sha256": run.plan_sha256,
        "locked_sha256": run.locked_sha256,
        "processes": [
            {"since": timestamp(at), "user": each.user, "host": each.host, "version": each.version}
            for at, each in processes
        ],
        "servers": [
            _server(facts.name, facts.url, facts.tls, state.servers[facts.name])
            for facts in first.servers
        ],
        "journal": {
            "file": RECORDS,
            "sha256": records_sha256,
            "records": run.journal_records,
            "head": run.journal_head,
            **({"chains": [msgspec.structs.asdict(each) for each in chains]} if chains else {}),
        },
        "files": dict(files),
    }
    return printable_json(json.dumps(document, ensure_ascii=False, indent=1)).encode() + b"\n"


def _server(name: str, url: str, tls: str, seen: ServerState) -> dict[str, Any]:
    """Return whom we talked to: every certificate seen, and each logon's clock offset."""
    certificates = (each.certificate_sha256 for each in seen.sessions if each.certificate_sha256)
    return {
        "name": name,
        "url": url,
        "tls": tls,
        "certificates_sha256": list(dict.fromkeys(certificates)),
        "clock_offsets_s": [each.clock_offset_s for each in seen.sessions],
    }


class NotAFile(FileNotFoundError):
    """The name of a file is that of a link, a directory, a pipe or a device."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.ENOENT, "not a regular file", str(path))


def missing(path: Path) -> str:
    """Return how a file that is not there is missing."""
    if os.path.lexists(path):
        return "is no file but something else: a link, a directory or a pipe"
    return "is missing"


def opened(path: Path) -> BufferedReader:
    """Open a file of a report directory; a link, a pipe or a device is none.

    What a link leads to was not written here and can be another thing tomorrow; a pipe and
    some devices would be read without end.

    Raises:
        NotAFile: something else stands there.
        OSError: it cannot be read, or there is nothing.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket
            raise NotAFile(path) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotAFile(path)
    return os.fdopen(handle, "rb")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises:
        OSError: it cannot be read.
    """
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
