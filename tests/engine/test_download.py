"""What an attempt says of files, beside what earlier attempts of the target said."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from orchestrator.core.events import FileCopied, TargetPlanned
from orchestrator.core.lifecycle import AttemptRecord, MountRecord, Phase, apply, begin
from orchestrator.core.model import (
    MountKey,
    OsKind,
    RestorePoint,
    RestorePointId,
    ServerName,
    SessionId,
    WaveName,
)
from orchestrator.core.proof import DownloadOutcome, Fate
from orchestrator.engine.content.download import tag_of

KEY = MountKey("default/hq/sql01")
OLDER = RestorePoint(
    id=RestorePointId("older"),
    name="sql01@2026-11-21",
    vm="sql01",
    created_at=datetime(2026, 11, 21, 2, 0, 11, tzinfo=UTC),
)
SAVED = DownloadOutcome(path="E:/x", to="/out/x", fate=Fate.SAVED, size=1, sha256="ab")
UNKNOWN = DownloadOutcome(path="E:/x", to=None, fate=Fate.UNKNOWN)


def attempt(number: int, point: str, *downloads: DownloadOutcome) -> AttemptRecord:
    """Return an attempt that said this of files."""
    return AttemptRecord(
        number=number,
        point=RestorePointId(point),
        session=SessionId("s"),
        submitted_at=0.0,
        downloads=downloads,
    )


def record(*attempts: AttemptRecord) -> MountRecord:
    """Return a target whose mount is being proven."""
    planned = TargetPlanned(
        at=0.0,
        key=KEY,
        wave=WaveName("default"),
        server=ServerName("hq"),
        label="sql01",
        os_kind=OsKind.WINDOWS,
        point=OLDER,
    )
    return replace(begin(planned), phase=Phase.VERIFYING, attempts=attempts)


@pytest.mark.parametrize(
    ("before", "tag"),
    [
        ((), ""),
        ((attempt(1, "newer"),), ""),
        ((attempt(1, "newer", replace(SAVED, fate=Fate.FAILED)),), ""),
        ((attempt(1, "older", SAVED),), ""),
        ((attempt(1, "newer", SAVED),), "20261121T020011Z"),
    ],
)
def test_files_of_another_point_are_saved_beside_the_first(
    before: tuple[AttemptRecord, ...], tag: str
) -> None:
    """What the report says of the first point's files stays true."""
    known = record(*before, attempt(len(before) + 1, "older"))

    assert tag_of(known, OLDER) == tag


@pytest.mark.parametrize("fate", [Fate.RESTORED, Fate.FAILED, Fate.UNKNOWN])
def test_an_answer_takes_the_place_of_the_intent(fate: Fate) -> None:
    """One word on each file; the intent was that nobody knows."""
    better = replace(UNKNOWN, fate=fate, message="better")
    other = replace(UNKNOWN, path="E:/y")
    known = record(attempt(1, "older", SAVED, UNKNOWN, other))

    after = apply(known, FileCopied(at=1.0, key=KEY, outcome=better))

    assert after.attempts[-1].downloads == (SAVED, other, better)
