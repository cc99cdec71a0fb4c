"""The reports of parts of a plan, read back from their directories and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from orchestrator.core.errors import CannotMerge
from orchestrator.core.parts import MOST
from orchestrator.core.text import printable
from orchestrator.report.described import Moment
from orchestrator.report.evidence import manifest
from orchestrator.report.evidence.manifest import MANIFEST
from orchestrator.report.evidence.verifying import Made, verify
from orchestrator.report.part_values import MergedPart, PartReport
from orchestrator.report.values import PublishedReport, PublishedTarget

AS_JSON = "report.json"
MOST_BYTES = 1 << 30
NAMED = 5


class PartOfReport(Struct, frozen=True, kw_only=True):
    """The report of one part, and how far it can be trusted."""

    directory: Path
    part: PartReport
    report: PublishedReport
    sha256: str
    evidence: str

    def merged(self) -> MergedPart:
        """Return what the merged report says of it."""
        run, totals = self.report.run, self.report.totals
        return MergedPart(
            number=self.part.number,
            run=run.id,
            host=run.host,
            exit_code=run.exit_code,
            targets=totals["targets"],
            may_be_open=totals["left"] + totals["may_be_mounted"] + len(self.report.unread),
            report_sha256=self.sha256,
            journal_head=run.journal_head,
            evidence=self.evidence,
            waits_for=run.waits_for,
        )


class Parts(Struct, frozen=True, kw_only=True):
    """All parts that were found, by number; `empty` are directories without a report."""

    parts: Sequence[PartOfReport]
    empty: Sequence[Path] = ()

    @property
    def missing(self) -> list[int]:
        """The numbers of the parts that have no report."""
        there = {each.part.number for each in self.parts}
        return [number for number in range(1, self.parts[0].part.of + 1) if number not in there]


def read_parts(directories: Sequence[Path], key: Made | None = None) -> Parts:
    """Return the reports in `directories`; with `key`, each must be signed by it.

    A directory without a report is that of a job which wrote none. Nothing is changed.

    Raises:
        CannotMerge: they do not belong together, or one is not what its run wrote.
        OSError: a file cannot be read.
    """
    parts: list[PartOfReport] = []
    empty: list[Path] = []
    for directory in directories:
        if not directory.is_dir():
            raise CannotMerge(f"{directory} is not a directory")
        if (directory / AS_JSON).exists():
            parts.append(_read(directory, key))
        else:
            empty.append(directory)
    if not parts:
        raise CannotMerge(f"there is no {AS_JSON} in {', '.join(map(str, directories))}")
    parts.sort(key=lambda each: each.part.number)
    _require_one_selection(parts)
    _require_disjoint(parts)
    return Parts(parts=parts, empty=empty)


def _read(directory: Path, key: Made | None) -> PartOfReport:
    path = directory / AS_JSON
    with manifest.opened(path) as file:
        content = file.read(MOST_BYTES)
    try:
        report = msgspec.json.decode(content, type=PublishedReport, dec_hook=_decoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise CannotMerge(f"{path} is no report of this version: {printable(str(exc))}") from None
    run = report.run
    if run.part is None:
        whole = "it is a merged one" if run.merged else "its run had no --shard"
        raise CannotMerge(f"{path} is no report of a shard: {whole}")
    if run.retry_of is not None:
        raise CannotMerge(
            f"{path} has only what an earlier run left (--retry-failed {printable(run.retry_of)}); "
            "run the whole shard again"
        )
    return PartOfReport(
        directory=directory,
        part=run.part,
        report=report,
        sha256=hashlib.sha256(content).hexdigest(),
        evidence=_evidence(directory, key),
    )


def _decoded(kind: type, value: Any) -> Any:
    """Return what JSON has as a `Moment`; msgspec asks for no other type."""
    if kind is not Moment or not isinstance(value, str):
        raise ValueError("a time is due")
    return Moment.of(Moment.fromisoformat(value))


def _evidence(directory: Path, key: Made | None) -> str:
    """Return what the evidence beside a report shows.

    Raises:
        CannotMerge: the report is not what was written, or not signed with `key`.
    """
    if key is None and not (directory / MANIFEST).exists():
        return "none"
    verdict = verify(directory, key)
    if verdict.refuted:
        why = "; ".join(printable(line) for line in verdict.refuted[:NAMED])
        raise CannotMerge(f"{directory} is not what its run wrote: {why}")
    return "signed" if key is not None else "verified"


# --- what belongs together ---------------------------------------------------------------------


def _require_one_selection(parts: Sequence[PartOfReport]) -> None:
    """Check that all parts are of the same choice of targets, and each is there once.

    Raises:
        CannotMerge: they are not.
    """
    first = parts[0]
    compared: tuple[tuple[str, Callable[[PartOfReport], object]], ...] = (
        ("another plan", lambda each: each.report.run.plan_sha256),
        ("another locked plan", lambda each: each.report.run.locked_sha256),
        ("another number of shards", lambda each: each.part.of),
        (
            "the same plan with another --seed, --set, --only or list of machines",
            lambda each: each.part.selection_sha256,
        ),
    )
    for words, of in compared:
        for each in parts[1:]:
            if of(each) != of(first):
                raise CannotMerge(f"{each.directory} is of {words} than {first.directory}")
    for one, other in pairwise(parts):
        if one.part.number == other.part.number:
            raise CannotMerge(
                f"shard {_name(one)} is there twice: in {one.directory} and {other.directory}"
            )
    if not 1 <= first.part.number <= parts[-1].part.number <= first.part.of <= MOST:
        raise CannotMerge(f"{parts[-1].directory} names a shard that there is not")


def _require_disjoint(parts: Sequence[PartOfReport]) -> None:
    """Check that no target is in two parts.

    An entry whose machines no part could list is one target of each of them.

    Raises:
        CannotMerge: one is.
    """
    twice = list(_twice(parts))
    if twice:
        more = f", and {len(twice) - NAMED} more" if len(twice) > NAMED else ""
        raise CannotMerge(f"targets are in two shards: {'; '.join(twice[:NAMED])}{more}")


def _twice(parts: Sequence[PartOfReport]) -> Iterator[str]:
    first: dict[str, tuple[PartOfReport, PublishedTarget]] = {}
    for part in parts:
        for target in part.report.targets:
            before, known = first.setdefault(target.key, (part, target))
            if known is not target and not (is_unlisted(known) and is_unlisted(target)):
                yield f"{printable(target.key, 120)} in {_name(before)} and {_name(part)}"


def is_unlisted(target: PublishedTarget) -> bool:
    """Return whether nothing of a target was ever mounted, and no restore point is known."""
    return target.point is None and not target.attempts


def _name(part: PartOfReport) -> str:
    return f"{part.part.number}/{part.part.of}"
