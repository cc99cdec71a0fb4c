"""Make the checks of a target on its mounted guest: each assertion becomes an event.

Listings first, then entries (most are in a listing by then), then what must be downloaded,
each file once, and the programs of the user last. The outcomes are recorded as they come. An
examination that is begun again, after an outage or a crash, records only what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import assert_never

from msgspec import Struct, field

from orchestrator.checks.content import Content, judge_content, takes_long, too_large
from orchestrator.checks.directory import judge_baseline, judge_directory
from orchestrator.checks.metadata import judge_path
from orchestrator.checks.outcomes import CheckSetSubject, Unreadable, made, not_judged
from orchestrator.checks.programs import EXPECTED, judge_program, program_name
from orchestrator.core.events import CheckMade
from orchestrator.core.model import FileSystemEntry, OsSource
from orchestrator.core.policy import clock_correction
from orchestrator.core.proof import (
    BaselineCheck,
    Check,
    CheckOutcome,
    CheckSets,
    DirCheck,
    ExecCheck,
    PathCheck,
)
from orchestrator.core.text import printable
from orchestrator.engine.content.guest import Guest
from orchestrator.engine.content.programs import Answers, briefing
from orchestrator.plan.file.guest_paths import os_of

NOT_A_FILE = Unreadable("a directory, not a file")


async def examine(guest: Guest) -> None:
    """Make every check that the target asks for, and record each outcome.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    record = _Record(guest)
    asked = _AskedChecks(guest, record)
    await _directories(guest, asked, record)
    wanted = await _entries(guest, asked, record)
    await _contents(guest, wanted, record)
    await _programs(guest, asked, record)


class _AskedChecks:
    """The checks that the target asks for, by their kind, each set once."""

    def __init__(self, guest: Guest, record: _Record) -> None:
        request, sets = guest.attempt.request, guest.attempt.context.check_sets
        self.directories: list[tuple[CheckSetSubject, DirCheck]] = []
        self.baselines: list[tuple[CheckSetSubject, BaselineCheck]] = []
        self.paths: list[tuple[CheckSetSubject, PathCheck]] = []
        self.programs: list[tuple[CheckSetSubject, ExecCheck]] = []
        # a guest keeps its own time: what its server calls "made at" is taken back to ours
        offset = clock_correction(guest.attempt.session.clock_offset_s)
        made_at = request.point.created_at - timedelta(seconds=offset)
        os_kind = guest.attempt.os_kind
        left_out = _for_the_other_system(guest, sets)
        for name in dict.fromkeys(request.checks):
            about = CheckSetSubject(name=name, created_at=made_at, os_kind=os_kind)
            checks = sets.get(name, ())
            if name in left_out:
                record.take([_left_out(about)])
                continue
            if not checks:
                why = "the set is empty" if name in sets else "the run has no such check set"
                record.take([not_judged(about, "", "a check set", why)])
            for check in checks:
                self._add(about, check)

    def _add(self, about: CheckSetSubject, check: Check) -> None:
        match check:
            case DirCheck():
                self.directories.append((about, check))
            case BaselineCheck():
                self.baselines.append((about, check))
            case PathCheck():
                self.paths.append((about, check))
            case ExecCheck():
                self.programs.append((about, check))
            case _:
                assert_never(check)


def _for_the_other_system(guest: Guest, sets: CheckSets) -> frozenset[str]:
    """Return the sets that are not for this guest, where the plan leaves its system open.

    They look at paths of the other system only, and another set that is asked for looks at paths
    of its own: so the plan has a set for each.
    """
    request, os_kind = guest.attempt.request, guest.attempt.os_kind
    if request.os_source is OsSource.PLAN:
        return frozenset()
    systems = {
        name: {os_of(path) for check in sets.get(name, ()) for path in _paths(check)}
        for name in request.checks
    }
    if not any(os_kind in each for each in systems.values()):
        return frozenset()
    return frozenset(name for name, each in systems.items() if each == {os_kind.other})


def _paths(check: Check) -> tuple[str, ...]:
    """Return the guest path that a check looks at; a program chooses its own."""
    return () if isinstance(check, ExecCheck) else (getattr(check, check.kind),)


def _left_out(about: CheckSetSubject) -> CheckOutcome:
    """Return the outcome of a set for the other system."""
    expected = f"a guest with {about.os_kind.other}"
    observed = f"left out: this one has {about.os_kind}, and another set is for that"
    return made(about, "", expected, observed, passed=True, warning=True)


class _FileForChecks(Struct):
    """One file that must be downloaded, and the checks that look into it."""

    file: FileSystemEntry
    checks: list[tuple[CheckSetSubject, PathCheck]] = field(default_factory=list)


async def _directories(guest: Guest, asked: _AskedChecks, record: _Record) -> None:
    for about, check in asked.directories:
        record.take(judge_directory(check, await guest.listing(check.dir), about))
    request, baselines = guest.attempt.request, guest.attempt.context.baselines
    for about, baseline in asked.baselines:
        found = await guest.listing(baseline.baseline)
        path = printable(baseline.baseline)
        before = baselines.measured(request.server, request.vm, path) if baselines else None
        record.take(judge_baseline(baseline, found, before, about))


async def _entries(guest: Guest, asked: _AskedChecks, record: _Record) -> Iterable[_FileForChecks]:
    """Judge all entries; return the files whose content is asked for and can be had."""
    wanted: dict[str, _FileForChecks] = {}
    for about, check in asked.paths:
        found = await guest.entry(check.path)
        record.take(judge_path(check, found, about))
        if not check.needs_content:
            continue
        if isinstance(found, FileSystemEntry):
            if not found.is_directory and (found.size or 0) <= check.max_download:
                file = wanted.setdefault(found.href, _FileForChecks(found))
                file.checks.append((about, check))
                continue
            found = NOT_A_FILE if found.is_directory else too_large(found.size or 0, check)
        record.take(judge_content(check, found, about))
    return wanted.values()


async def _contents(guest: Guest, wanted: Iterable[_FileForChecks], record: _Record) -> None:
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
            judge = partial(judge_content, check, found, about)
            aside = takes_long(check, found)
            record.take(await guest.attempt.context.aside(judge) if aside else judge())


async def _programs(guest: Guest, asked: _AskedChecks, record: _Record) -> None:
    programs = guest.attempt.context.programs
    for about, check in asked.programs:
        if record.holds([not_judged(about, program_name(check), EXPECTED, "")]):
            continue
        if programs is None:
            raise RuntimeError("a run with checks has been given nothing to run programs with")
        answers = Answers(guest)
        ended = await programs.run(
            check.argv, briefing(guest, about.name), answers.to, timeout=check.timeout
        )
        record.take([judge_program(check, ended, about, answers.undecided)])


# --- recording --------------------------------------------------------------------------------


class _Record:
    """Records outcomes, except those that an earlier examination of the mount recorded.

    Outcomes of different checks may look the same, for long texts are shortened; so they are
    counted, and checks are always made in the same order.
    """

    def __init__(self, guest: Guest) -> None:
        self._attempt = guest.attempt
        self._before = Counter(map(_identity, guest.attempt.record.attempts[-1].checks))

    def holds(self, outcomes: Iterable[CheckOutcome]) -> bool:
        """Return whether all of these assertions have been judged before; then they are done."""
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
