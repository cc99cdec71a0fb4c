"""A report directory with its evidence, made from events without a state directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from orchestrator.core.events import Event, RunNoted, SessionOpened, from_json, to_json
from orchestrator.core.model import ServerName
from orchestrator.core.records import BEGINNING, GENESIS, RUN_CHAIN, Record, chain_hash
from orchestrator.core.run_state import fold
from orchestrator.report.evidence.lines import line
from orchestrator.report.evidence.verifying import Verdict, verify
from orchestrator.report.evidence.writing import stage_evidence
from orchestrator.report.summary import summarize
from orchestrator.report.writing import write
from tests.report.builders import HOSTILE, RUN, SESSION, Fate, finished, life, started

EVENTS: Sequence[Event] = (
    started(reason=HOSTILE, user="ada", host="dr-console"),
    SessionOpened(
        at=0.5,
        server=ServerName("hq"),
        session=SESSION,
        user="LAB\\svc",
        api_version="v1_7",
        clock_offset_s=0.4,
        certificate_sha256="cd" * 32,
    ),
    *life("sql01"),
    *life("web01", Fate.TASK_FAILED, words=HOSTILE),
    RunNoted(at=55.0, message="a note"),
    finished(exit_code=1),
)
"""A small run with an end, two targets and hostile words."""
COUNT = len(EVENTS)


def records(events: Iterable[Event], run: str = RUN) -> list[Record]:
    """Return events as the journal chains them."""
    head, found = GENESIS, []
    for seq, event in enumerate(events, 1):
        kind, body = type(event).__name__, to_json(event)
        head = chain_hash(head, run, seq, kind, body)
        found.append(Record(run=run, seq=seq, kind=kind, at=event.at, body=body, hash=head))
    return found


def made(
    directory: Path,
    events: Sequence[Event] = EVENTS,
    sign: Callable[[bytes], bytes] | None = None,
) -> Path:
    """Write renderings and evidence of a run into `directory` and return it."""
    return made_of(directory, records(events), sign)


def made_of(
    directory: Path, chained: Sequence[Record], sign: Callable[[bytes], bytes] | None = None
) -> Path:
    """Write renderings and evidence of a run with these records, which may have several chains."""
    found = fold(from_json(record.kind, record.body) for record in chained)
    report = summarize(found, chain_head=BEGINNING.past(chained).head)
    write(report, directory, beside=partial(stage_evidence, found, report, chained, sign))
    return directory


def lines_of(directory: Path) -> list[bytes]:
    """Return the lines of journal.jsonl."""
    return (directory / "journal.jsonl").read_bytes().splitlines(keepends=True)


def put(directory: Path, lines: Iterable[bytes]) -> None:
    """Replace journal.jsonl."""
    (directory / "journal.jsonl").write_bytes(b"".join(lines))


def altered(raw: bytes, **changes: Any) -> bytes:
    """Return a line with other values, written as ours are."""
    values = {**json.loads(raw), **changes}
    return line(
        Record(
            run=values["run"],
            seq=values["seq"],
            kind=values["type"],
            at=values["at"],
            body=values["body"].encode(),
            hash=bytes.fromhex(values["hash"]),
            chain=values.get("chain", RUN_CHAIN),
        )
    )


def refuted(directory: Path) -> str:
    """Return what is wrong with a directory, which must be something."""
    verdict: Verdict = verify(directory)
    assert not verdict.is_good
    return "\n".join(verdict.refuted)


def key_files(
    directory: Path, *, passphrase: bytes | None = None, key: Any = None, name: str = "key"
) -> tuple[Path, Path]:
    """Write a new private key, owner-only, and its public key; return both paths."""
    key = key or Ed25519PrivateKey.generate()
    lock: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        lock = BestAvailableEncryption(passphrase)
    private, public = directory / f"{name}.pem", directory / f"{name}.public.pem"
    private.touch(mode=0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public
