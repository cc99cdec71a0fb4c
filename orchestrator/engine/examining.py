"""Making the checks of a target on its mounted guest: each assertion becomes an event.

Listings first, then entries (most are in a listing by then), then what must be downloaded,
each file once, and the programs of the user last. The outcomes are recorded as they come. An
examination that is begun again, after an outage or a crash, records only what is missing.
"""

from __future__ import annotations

from collections import Counter
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
    record = _Record(guest)
    asked = _Asked(guest, record)
    await _directories(guest, asked, record)
    wanted = await _entries(guest, asked, record)
    await _contents(guest, wanted, record)
    await _programs(guest, asked, record)


class _Asked:
    """The checks that the target asks for, by their kind, each set once."""

    def __init__(self, guest: Guest, record: _Record) -> None:
        request, sets = guest.attempt.request, guest.attempt.crew.check_sets
        self._checks: list[tuple[About, Check]] = []
        for name in dict.fromkeys(request.checks):
            about = About(name=name, created_at=request.point.created_at, os_kind=request.os_kind)
            checks = sets.get(name, ())
            if not checks:
                why = "the set is empty" if name in sets else "the run has no such check set"
                record.take([unmade(about, "", "a check set", why)])
            self._checks += [(about, check) for check in checks]

    def of(self, kind: type[C]) -> Iterator[tuple[About, C]]:
        return ((about, check) for about, check in self._checks if isinstance(check, kind))


@dataclass(slots=True)
class _Wanted:
    """One file that must be downloaded, and the checks that look into it."""

    file: FileSystemEntry
    checks: list[tuple[About, PathCheck]] = field(default_factory=list)


async def _directories(guest: Guest, asked: _Asked, record: _Record) -> None:
    for about, check in asked.of(DirCheck):
        record.take(judge_directory(check, await guest.listing(check.dir), about))
    request = guest.attempt.request
    for about, baseline in asked.of(BaselineCheck):
        found = await guest.listing(baseline.baseline)
        before = guest.attempt.crew.baselines.measured(
            request.server, request.vm, printable(baseline.baseline)
        )
        record.take(judge_baseline(baseline, found, before, about))


async def _entries(guest: Guest, asked: _Asked, record: _Record) -> Iterable[_Wanted]:
    """Judge all entries; return the files whose content is asked for and can be had."""
    wanted: dict[str, _Wanted] = {}
    for about, check in asked.of(PathCheck):
        found = await guest.entry(check.path)
        record.take(judge_path(check, found, about))
        if not check.needs_content:
            continue
        if isinstance(found, FileSystemEntry):
            if not found.is_directory and (found.size or 0) <= check.max_download:
                file = wanted.setdefault(found.href, _Wanted(found))
                file.checks.append((about, check))
                continue
            found = NOT_A_FILE if found.is_directory else too_large(found.size or 0, check)
        record.take(judge_content(check, found, about))
    return wanted.values()


async def _contents(guest: Guest, wanted: Iterable[_Wanted], record: _Record) -> None:
    for each in wanted:
        checks = [check for _, check in each.checks]
        nothing = Unreadable("")
        if record.holds(
            outcome
            for about, check in each.checks
            for outcome in judge_content(check, nothing, about)
        ):
            continue
        limit = max(check.max_download for check in checks)
        found = await guest.download(each.file, limit, partial(Content, checks))
        for about, check in each.checks:
            record.take(judge_content(check, found, about))


async def _programs(guest: Guest, asked: _Asked, record: _Record) -> None:
    programs, answers = guest.attempt.crew.programs, Answers(guest)
    for about, check in asked.of(ExecCheck):
        if record.holds([unmade(about, program_name(check), EXPECTED, "")]):
            continue
        ended = await programs.run(
            check.argv, briefing(guest, about.name), answers.to, timeout=check.timeout
        )
        record.take([judge_program(check, ended, about)])


# --- recording --------------------------------------------------------------------------------


class _Record:
    """Records outcomes, but not once more what an earlier examination of the mount recorded.

    Outcomes of different checks may look the same, for long texts are shortened; so they are
    counted, and checks are always made in the same order.
    """

    def __init__(self, guest: Guest) -> None:
        self._attempt = guest.attempt
        self._before = Counter(map(_identity, guest.attempt.record.attempts[-1].checks))

    def holds(self, outcomes: Iterable[CheckOutcome]) -> bool:
        """Tell whether all of these assertions have been judged before; then they are done."""
        wanted = Counter(map(_identity, outcomes))
        if not wanted <= self._before:
            return False
        self._before -= wanted
        return True

    def take(self, outcomes: Iterable[CheckOutcome]) -> None:
        """Record each outcome that has not been recorded before."""
        attempt = self._attempt
        for outcome in outcomes:
            if not self.holds([outcome]):
                attempt.ledger.record(CheckMade(at=attempt.now, key=attempt.key, outcome=outcome))


def _identity(outcome: CheckOutcome) -> tuple[str, str, str]:
    return outcome.name, outcome.path, outcome.expected
