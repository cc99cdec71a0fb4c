"""Verdicts on the listing of one directory: counts, newest, forbidden names, baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from orchestrator.checks.metadata import age
from orchestrator.checks.outcomes import CheckSetSubject, Unreadable, made, not_judged, unread
from orchestrator.core import text
from orchestrator.core.model import FileSystemEntry
from orchestrator.core.names import PathRules
from orchestrator.core.proof import BaselineCheck, CheckOutcome, DirCheck, Measured
from orchestrator.core.text import printable

OFFENDERS_SHOWN = 5
NAME_SHOWN = 40

Listing = Sequence[FileSystemEntry]


def judge_directory(
    check: DirCheck, listing: Listing | Unreadable, about: CheckSetSubject
) -> list[CheckOutcome]:
    """Return one outcome for each assertion about a directory.

    A `glob` without any other assertion asks for at least one entry; without a glob either,
    the directory must be readable. An entry without a name that can be read is one of them; what
    depends on its name has failed.
    """
    if isinstance(listing, Unreadable):
        return [unread(about, check.dir, each, listing) for each in _expectations(check)]
    names = PathRules(about.os_kind)
    nameless = sum(not entry.name for entry in listing)
    matches = [
        entry
        for entry in listing
        if check.glob == "*" or (entry.name and names.matches(entry.name, check.glob))
    ]
    outcomes = list(_counts(check, matches, len(listing), nameless, about))
    outcomes += _newest(check, matches, about)
    outcomes += _absent(check, listing, about)
    shown = _entries(len(listing))
    return outcomes or [made(about, check.dir, "readable", shown, passed=True)]


def _bounds(check: DirCheck) -> list[tuple[str, int]]:
    bounds = (("min_count", check.min_count), ("max_count", check.max_count))
    named = [(word, bound) for word, bound in bounds if bound is not None]
    if not named and check.glob != "*" and check.modified_within is None and not check.absent:
        return [("min_count", 1)]
    return named


def _expectations(check: DirCheck) -> list[str]:
    named = [f"{word} {bound}{_of(check)}" for word, bound in _bounds(check)]
    if check.modified_within is not None:
        named.append(_freshness(check, check.modified_within))
    if check.absent:
        named.append(_forbidden(check))
    return named or ["readable"]


def _of(check: DirCheck) -> str:
    return "" if check.glob == "*" else f" of {check.glob}"


def _freshness(check: DirCheck, seconds: float) -> str:
    return f"newest{_of(check)} modified_within {text.plan_duration(seconds)}"


def _forbidden(check: DirCheck) -> str:
    return f"absent {', '.join(check.absent)}"


def _counts(
    check: DirCheck, matches: Listing, total: int, nameless: int, about: CheckSetSubject
) -> Iterator[CheckOutcome]:
    count = len(matches)
    for word, bound in _bounds(check):
        good = count >= bound if word == "min_count" else count <= bound
        shown = str(count) if check.glob == "*" else f"{count} of {total}"
        expected = f"{word} {bound}{_of(check)}"
        if word == "max_count" and check.glob != "*" and good and count + nameless > bound:
            yield not_judged(about, check.dir, expected, _unnamed(nameless))
            continue
        yield made(about, check.dir, expected, f"{shown} entries", passed=good)


def _newest(check: DirCheck, matches: Listing, about: CheckSetSubject) -> Iterator[CheckOutcome]:
    if check.modified_within is None:
        return
    expected = _freshness(check, check.modified_within)
    dated = [(entry.modified_at, entry.name) for entry in matches if entry.modified_at is not None]
    if not dated:
        why = "nothing matches" if not matches else "the server names no usable date"
        yield not_judged(about, check.dir, expected, why)
        return
    at, name = max(dated)
    seconds, shown = age(at, about.created_at)
    good = seconds <= check.modified_within
    observed = f"{_name(name)}: {shown}"
    yield made(about, check.dir, expected, observed, passed=good, warning=seconds < 0)


def _absent(check: DirCheck, listing: Listing, about: CheckSetSubject) -> Iterator[CheckOutcome]:
    if not check.absent:
        return
    names = PathRules(about.os_kind)
    named = [entry.name for entry in listing if entry.name]
    nameless = len(listing) - len(named)
    offenders = [name for name in named if any(names.matches(name, bad) for bad in check.absent)]
    if offenders:
        shown = ", ".join(_name(name) for name in sorted(offenders)[:OFFENDERS_SHOWN])
        more = ", …" if len(offenders) > OFFENDERS_SHOWN else ""
        observed = f"{len(offenders)} of {len(listing)} entries: {shown}{more}"
    elif nameless:
        yield not_judged(about, check.dir, _forbidden(check), _unnamed(nameless))
        return
    else:
        observed = f"none of {_entries(len(listing))}"
    yield made(about, check.dir, _forbidden(check), observed, passed=not offenders)


def _entries(count: int) -> str:
    return text.counted(count, "entry", "entries")


def _unnamed(count: int) -> str:
    return f"the name of {_entries(count)} cannot be read"


def _name(name: str) -> str:
    return printable(name, NAME_SHOWN)


# --- against an earlier run -------------------------------------------------------------------


def judge_baseline(
    check: BaselineCheck,
    listing: Listing | Unreadable,
    before: Measured | None,
    about: CheckSetSubject,
) -> list[CheckOutcome]:
    """Compare the files of a directory with what the last verified run measured there.

    Without an earlier run nothing can be compared: that passes with a warning, and what was
    measured now is what the next run compares with.
    """
    compared = "files and bytes as in the last verified run"
    if isinstance(listing, Unreadable):
        return [unread(about, check.baseline, compared, listing)]
    files = [entry for entry in listing if not entry.is_directory]
    if any(entry.size is None for entry in files):
        return [
            not_judged(about, check.baseline, compared, "the server names no size for some files")
        ]
    now = Measured(files=len(files), bytes=sum(entry.size or 0 for entry in files))
    outcome = partial(made, about, check.baseline, measured=now)
    files_now = text.counted(now.files, "file")
    if before is None:
        shown = f"no earlier run to compare with: {files_now}, {text.size(now.bytes)}"
        return [outcome(compared, shown, passed=True, warning=True)]
    files_then = f"{text.counted(before.files, 'file')} as last time, within {check.count:.0%}"
    bytes_then = f"{text.size(before.bytes)} as last time, within {check.size:.0%}"
    is_as_many = abs(now.files - before.files) <= check.count * before.files
    is_as_large = abs(now.bytes - before.bytes) <= check.size * before.bytes
    return [
        outcome(files_then, files_now, passed=is_as_many),
        outcome(bytes_then, text.exact_size(now.bytes), passed=is_as_large),
    ]
