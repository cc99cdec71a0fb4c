"""What the entry of one file or directory says: it exists, its size, its age, its owner."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.checks import amounts
from orchestrator.checks.names import Names
from orchestrator.checks.outcomes import About, Unreadable, made, unmade
from orchestrator.model import FileSystemEntry
from orchestrator.proof import CheckOutcome, PathCheck

_NOT_A_FILE = "a directory, not a file"


def judge_path(
    check: PathCheck, found: FileSystemEntry | Unreadable, about: About
) -> list[CheckOutcome]:
    """Return one outcome for each assertion that needs no content.

    A check without any assertion asks whether the path exists; one that only asks for
    content has none here, as long as its file is there.
    """
    if isinstance(found, Unreadable):
        return [unmade(about, check.path, each, found.why) for each in expectations(check)]
    outcomes = [*_sizes(check, found, about), *_age(check, found, about)]
    outcomes += _owner(check, found, about)
    if not outcomes and not check.needs_content:
        what = "a directory" if found.is_directory else "a file"
        shown = what if found.size is None else f"{what} of {amounts.size(found.size)}"
        outcomes.append(made(about, check.path, "exists", shown, passed=True))
    return outcomes


def expectations(check: PathCheck) -> list[str]:
    """Return what `check` asserts of the entry alone, in words."""
    named = []
    if check.min_size is not None:
        named.append(f"min_size {amounts.written_size(check.min_size)}")
    if check.max_size is not None:
        named.append(f"max_size {amounts.written_size(check.max_size)}")
    if check.modified_within is not None:
        named.append(f"modified_within {amounts.written_duration(check.modified_within)}")
    if check.owner is not None:
        named.append(f"owner {check.owner}")
    return named or ([] if check.needs_content else ["exists"])


def _sizes(check: PathCheck, found: FileSystemEntry, about: About) -> Iterator[CheckOutcome]:
    for word, bound in (("min_size", check.min_size), ("max_size", check.max_size)):
        if bound is None:
            continue
        expected = f"{word} {amounts.written_size(bound)}"
        if found.is_directory:
            yield unmade(about, check.path, expected, _NOT_A_FILE)
        elif found.size is None:
            yield unmade(about, check.path, expected, "the server names no size")
        else:
            good = found.size >= bound if word == "min_size" else found.size <= bound
            shown = amounts.size(found.size) if good else amounts.exactly(found.size)
            yield made(about, check.path, expected, shown, passed=good)


def _age(check: PathCheck, found: FileSystemEntry, about: About) -> Iterator[CheckOutcome]:
    if check.modified_within is None:
        return
    expected = f"modified_within {amounts.written_duration(check.modified_within)}"
    if found.modified_at is None:
        why = "the server names no time of modification"
        yield unmade(about, check.path, expected, why)
        return
    seconds, shown = amounts.age(found.modified_at, about.created_at)
    good = seconds <= check.modified_within
    yield made(about, check.path, expected, shown, passed=good, warning=seconds < 0)


def _owner(check: PathCheck, found: FileSystemEntry, about: About) -> Iterator[CheckOutcome]:
    if check.owner is None:
        return
    expected = f"owner {check.owner}"
    if found.owner is None:
        yield unmade(about, check.path, expected, "the server names no owner")
        return
    good = Names(about.os_kind).same(found.owner, check.owner)
    yield made(about, check.path, expected, found.owner, passed=good)
