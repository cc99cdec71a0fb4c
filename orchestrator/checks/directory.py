"""What the listing of one directory says: counts, the newest, what must not be there, its bulk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.checks import amounts
from orchestrator.checks.names import Names
from orchestrator.checks.outcomes import About, Unreadable, made, unmade
from orchestrator.model import FileSystemEntry, printable
from orchestrator.proof import BaselineCheck, CheckOutcome, DirCheck, Measured

OFFENDERS_SHOWN = 5
NAME_SHOWN = 40

Listing = Sequence[FileSystemEntry]


def judge_directory(
    check: DirCheck, found: Listing | Unreadable, about: About
) -> list[CheckOutcome]:
    """Return one outcome for each assertion about a directory.

    A `glob` without any other assertion asks for at least one entry; without a glob either,
    the directory must be readable.
    """
    if isinstance(found, Unreadable):
        return [unmade(about, check.dir, each, found.why) for each in _expectations(check)]
    names = Names(about.os_kind)
    chosen = [entry for entry in found if names.matches(entry.name, check.glob)]
    outcomes = list(_counts(check, chosen, len(found), about))
    outcomes += _newest(check, chosen, about)
    outcomes += _absent(check, found, about)
    return outcomes or [
        made(about, check.dir, "readable", _many(len(found), "entry", "entries"), passed=True)
    ]


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
    return f"newest{_of(check)} modified_within {amounts.written_duration(seconds)}"


def _forbidden(check: DirCheck) -> str:
    return f"absent {', '.join(check.absent)}"


def _counts(check: DirCheck, chosen: Listing, total: int, about: About) -> Iterator[CheckOutcome]:
    count = len(chosen)
    for word, bound in _bounds(check):
        good = count >= bound if word == "min_count" else count <= bound
        shown = str(count) if check.glob == "*" else f"{count} of {total}"
        expected = f"{word} {bound}{_of(check)}"
        yield made(about, check.dir, expected, f"{shown} entries", passed=good)


def _newest(check: DirCheck, chosen: Listing, about: About) -> Iterator[CheckOutcome]:
    if check.modified_within is None:
        return
    expected = _freshness(check, check.modified_within)
    dated = [(entry.modified_at, entry.name) for entry in chosen if entry.modified_at is not None]
    if not dated:
        why = "nothing matches" if not chosen else "the server names no time of modification"
        yield unmade(about, check.dir, expected, why)
        return
    at, name = max(dated)
    seconds, shown = amounts.age(at, about.created_at)
    good = seconds <= check.modified_within
    observed = f"{_name(name)}: {shown}"
    yield made(about, check.dir, expected, observed, passed=good, warning=seconds < 0)


def _absent(check: DirCheck, found: Listing, about: About) -> Iterator[CheckOutcome]:
    if not check.absent:
        return
    names = Names(about.os_kind)
    offenders = [
        entry.name
        for entry in found
        if any(names.matches(entry.name, pattern) for pattern in check.absent)
    ]
    if offenders:
        shown = ", ".join(_name(name) for name in sorted(offenders)[:OFFENDERS_SHOWN])
        more = ", …" if len(offenders) > OFFENDERS_SHOWN else ""
        observed = f"{len(offenders)} of {len(found)} entries: {shown}{more}"
    else:
        observed = f"none of {_many(len(found), 'entry', 'entries')}"
    yield made(about, check.dir, _forbidden(check), observed, passed=not offenders)


def _name(name: str) -> str:
    return printable(name, NAME_SHOWN)


def _many(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


# --- against an earlier run -------------------------------------------------------------------


def judge_baseline(
    check: BaselineCheck,
    found: Listing | Unreadable,
    before: Measured | None,
    about: About,
) -> list[CheckOutcome]:
    """Compare the files of a directory with what the last verified run measured there.

    Without an earlier run nothing can be compared: that passes with a warning, and what was
    measured now is what the next run compares with.
    """
    compared = "files and bytes as in the last verified run"
    if isinstance(found, Unreadable):
        return [unmade(about, check.baseline, compared, found.why)]
    files = [entry for entry in found if not entry.is_directory]
    if any(entry.size is None for entry in files):
        return [unmade(about, check.baseline, compared, "the server names no size for some files")]
    now = Measured(files=len(files), bytes=sum(entry.size or 0 for entry in files))
    if before is None:
        shown = f"no earlier run to compare with: {_files(now.files)}, {amounts.size(now.bytes)}"
        outcome = made(
            about, check.baseline, compared, shown, passed=True, warning=True, measured=now
        )
        return [outcome]
    return [
        made(
            about,
            check.baseline,
            f"{_files(before.files)} as last time, within {check.count:.0%}",
            _files(now.files),
            passed=_near(now.files, before.files, check.count),
            measured=now,
        ),
        made(
            about,
            check.baseline,
            f"{amounts.size(before.bytes)} as last time, within {check.size:.0%}",
            amounts.exactly(now.bytes),
            passed=_near(now.bytes, before.bytes, check.size),
            measured=now,
        ),
    ]


def _near(now: int, before: int, tolerance: float) -> bool:
    return abs(now - before) <= tolerance * before


def _files(count: int) -> str:
    return _many(count, "file", "files")
