"""Making the checks of a target on its mounted guest: each assertion becomes an event.

Listings first, then entries (most are in a listing by then), then what must be downloaded,
each file once, and the programs of the user last. The outcomes are recorded as they come. An
examination that is begun again, after an outage or a crash, records only what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from orchestrator.checks import (
    About,
    Content,
    Unreadable,
    judge_baseline,
    judge_content,
    judge_directory,
    judge_path,
    judge_program,
    program_name,
    unmade,
)
from orchestrator.checks.content import too_large
from orchestrator.checks.programs import EXPECTED
from orchestrator.engine.answering import Answers, briefing
from orchestrator.engine.guest import Guest
from orchestrator.events import CheckMade
from orchestrator.model import FileSystemEntry, printable
from orchestrator.proof import BaselineCheck, Check, CheckOutcome, DirCheck, ExecCheck, PathCheck

C = TypeVar("C", PathCheck, DirCheck, BaselineCheck, ExecCheck)

NOT_A_FILE = Unreadable("a directory, not a file")


async def examine(guest: Guest) -> None:
    """Make every check that the target asks for, and record each outcome.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    asked = _Asked(guest)
    await _directories(guest, asked)
    wanted = await _entries(guest, asked)
    await _contents(guest, wanted)
    await _programs(guest, asked)


class _Asked:
    """The checks that the target asks for, by their kind, each set once."""

    def __init__(self, guest: Guest) -> None:
        request, sets = guest.attempt.request, guest.attempt.crew.check_sets
        self._checks: list[tuple[About, Check]] = []
        for name in dict.fromkeys(request.checks):
            about = About(name=name, created_at=request.point.created_at, os_kind=request.os_kind)
            checks = sets.get(name, ())
            if not checks:
                why = "the set is empty" if name in sets else "the run has no such check set"
                _record(guest, [unmade(about, "", "a check set", why)])
            self._checks += [(about, check) for check in checks]

    def of(self, kind: type[C]) -> Iterator[tuple[About, C]]:
        return ((about, check) for about, check in self._checks if isinstance(check, kind))


@dataclass(slots=True)
class _Wanted:
    """One file that must be downloaded, and the checks that look into it."""

    file: FileSystemEntry
    checks: list[tuple[About, PathCheck]] = field(default_factory=list)


async def _directories(guest: Guest, asked: _Asked) -> None:
    for about, check in asked.of(DirCheck):
        _record(guest, judge_directory(check, await guest.listing(check.dir), about))
    request = guest.attempt.request
    for about, baseline in asked.of(BaselineCheck):
        found = await guest.listing(baseline.baseline)
        before = guest.attempt.crew.baselines.measured(
            request.server, request.vm, printable(baseline.baseline)
        )
        _record(guest, judge_baseline(baseline, found, before, about))


async def _entries(guest: Guest, asked: _Asked) -> Iterable[_Wanted]:
    """Judge all entries; return the files whose content is asked for and can be had."""
    wanted: dict[str, _Wanted] = {}
    for about, check in asked.of(PathCheck):
        found = await guest.entry(check.path)
        _record(guest, judge_path(check, found, about))
        if not check.needs_content:
            continue
        if isinstance(found, FileSystemEntry):
            if not found.is_directory and (found.size or 0) <= check.max_download:
                file = wanted.setdefault(found.href, _Wanted(found))
                file.checks.append((about, check))
                continue
            found = NOT_A_FILE if found.is_directory else too_large(found.size or 0, check)
        _record(guest, judge_content(check, found, about))
    return wanted.values()


async def _contents(guest: Guest, wanted: Iterable[_Wanted]) -> None:
    for each in wanted:
        checks = [check for _, check in each.checks]
        if all(_known(guest, about, check) for about, check in each.checks):
            continue
        limit = max(check.max_download for check in checks)
        found = await guest.download(each.file, limit, partial(Content, checks))
        for about, check in each.checks:
            _record(guest, judge_content(check, found, about))


async def _programs(guest: Guest, asked: _Asked) -> None:
    programs, answers = guest.attempt.crew.programs, Answers(guest)
    for about, check in asked.of(ExecCheck):
        if (about.name, program_name(check), EXPECTED) in _made(guest):
            continue
        ended = await programs.run(
            check.argv, briefing(guest, about.name), answers.to, timeout=check.timeout
        )
        _record(guest, [judge_program(check, ended, about)])


# --- recording --------------------------------------------------------------------------------


def _known(guest: Guest, about: About, check: PathCheck) -> bool:
    """Tell whether an earlier examination of this mount has judged the content already."""
    again = judge_content(check, Unreadable(""), about)
    return all((each.name, each.path, each.expected) in _made(guest) for each in again)


def _made(guest: Guest) -> set[tuple[str, str, str]]:
    done = guest.attempt.record.attempts[-1].checks
    return {(each.name, each.path, each.expected) for each in done}


def _record(guest: Guest, outcomes: Iterable[CheckOutcome]) -> None:
    """Record the outcomes that are new; one that stands in the record already is not repeated."""
    attempt = guest.attempt
    for outcome in outcomes:
        if (outcome.name, outcome.path, outcome.expected) not in _made(guest):
            attempt.ledger.record(CheckMade(at=attempt.now, key=attempt.key, outcome=outcome))
