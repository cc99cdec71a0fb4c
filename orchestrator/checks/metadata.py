"""Verdicts on the entry of one file or directory: existence, size, age, owner."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orchestrator.checks.outcomes import CheckSetSubject, Unreadable, made, not_judged, unread
from orchestrator.core import text
from orchestrator.core.model import FileSystemEntry
from orchestrator.core.names import PathRules
from orchestrator.core.proof import CheckOutcome, PathCheck

_NOT_A_FILE = "a directory, not a file"


def judge_path(
    check: PathCheck, entry: FileSystemEntry | Unreadable, about: CheckSetSubject
) -> list[CheckOutcome]:
    """Return one outcome for each assertion that needs no content.

    A check without any assertion asks whether the path exists; one that only asks for
    content has none here, as long as its file is there.
    """
    if isinstance(entry, Unreadable):
        return [unread(about, check.path, each, entry) for each in expectations(check)]
    outcomes = [*_sizes(check, entry, about), *_age(check, entry, about)]
    outcomes += _owner(check, entry, about)
    if not outcomes and not check.needs_content:
        what = "a directory" if entry.is_directory else "a file"
        shown = what if entry.size is None else f"{what} of {text.size(entry.size)}"
        outcomes.append(made(about, check.path, "exists", shown, passed=True))
    return outcomes


def expectations(check: PathCheck) -> list[str]:
    """Return what `check` asserts of the entry alone, in words."""
    named = []
    if check.min_size is not None:
        named.append(f"min_size {text.plan_size(check.min_size)}")
    if check.max_size is not None:
        named.append(f"max_size {text.plan_size(check.max_size)}")
    if check.modified_within is not None:
        named.append(f"modified_within {text.plan_duration(check.modified_within)}")
    if check.owner is not None:
        named.append(f"owner {check.owner}")
    return named or ([] if check.needs_content else ["exists"])


def _sizes(
    check: PathCheck, entry: FileSystemEntry, about: CheckSetSubject
) -> Iterator[CheckOutcome]:
    for word, bound in (("min_size", check.min_size), ("max_size", check.max_size)):
        if bound is None:
            continue
        expected = f"{word} {text.plan_size(bound)}"
        if entry.is_directory:
            yield not_judged(about, check.path, expected, _NOT_A_FILE)
        elif entry.size is None:
            yield not_judged(about, check.path, expected, "the server names no size")
        else:
            good = entry.size >= bound if word == "min_size" else entry.size <= bound
            shown = text.size(entry.size) if good else text.exact_size(entry.size)
            yield made(about, check.path, expected, shown, passed=good)


def _age(
    check: PathCheck, entry: FileSystemEntry, about: CheckSetSubject
) -> Iterator[CheckOutcome]:
    if check.modified_within is None:
        return
    expected = f"modified_within {text.plan_duration(check.modified_within)}"
    if entry.modified_at is None:
        yield not_judged(about, check.path, expected, "the server names no usable date")
        return
    seconds, shown = age(entry.modified_at, about.created_at)
    good = seconds <= check.modified_within
    yield made(about, check.path, expected, shown, passed=good, warning=seconds < 0)


def _owner(
    check: PathCheck, entry: FileSystemEntry, about: CheckSetSubject
) -> Iterator[CheckOutcome]:
    if check.owner is None:
        return
    expected = f"owner {check.owner}"
    if entry.owner is None:
        yield not_judged(about, check.path, expected, "the server names no owner")
        return
    good = PathRules(about.os_kind).same(entry.owner, check.owner)
    yield made(about, check.path, expected, entry.owner, passed=good)


def age(modified_at: datetime, created_at: datetime) -> tuple[float, str]:
    """Return how old a file was when its restore point was made, in seconds and in words.

    A negative age is a clock that was wrong: the file is newer than its restore point.
    """
    seconds = (created_at - modified_at).total_seconds()
    shown, apart = text.moment(modified_at), text.duration(abs(seconds))
    if seconds < 0:
        return seconds, f"{shown}, {apart} after the restore point (clock skew?)"
    return seconds, f"{shown}, {apart} before the restore point"
