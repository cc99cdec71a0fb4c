"""What a server shows of restores and replications, asked for at most once in a minute.

A target whose machine is at work there is not mounted now: the mount would fail, and take an
attempt. What is shown is as old as the server's last data collection, and a role may see nothing
of it; so nothing shown never means that nothing happens, and nothing is ever concluded from it.

The first look, before the first mount, asks for restores and then for jobs, so that nothing is
mounted that only the other question would have shown. Who is denied restores may not see jobs
either, by the documented roles: that account is asked for jobs a minute later. From then on a look
is one question, one request: while targets wait for a job to end, jobs are asked for, and restores
while they wait for a restore; else what was asked for least lately. A question that the role may
not ask is asked once.
Source: reference 2.7, and 15.2 to 15.5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from functools import partial
from typing import NamedTuple

import anyio

from orchestrator.core.activity import Activity, ActivityKind
from orchestrator.core.errors import (
    AccessDenied,
    EnterpriseManagerError,
    RequestRefused,
    ServiceBusy,
)
from orchestrator.core.events import ActivitySeen
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import BackupServerName, MountKey, MountRequest, ServerName
from orchestrator.core.orphaned import began_in, is_of
from orchestrator.core.policy import clock_correction
from orchestrator.core.ports.server import GuestSession
from orchestrator.core.text import duration
from orchestrator.engine.ledger import Ledger
from orchestrator.log import Log

log = Log(__name__)

EVERY_S = 60.0
"""Seconds between two looks at one server."""

ANSWER_S = 20.0
"""Seconds that an answer may take: nothing else waits for it longer."""

REFUSALS = 3
"""Refusals in a row after which a question counts as one that this server does not answer."""

LOST_WITHIN_S = 10.0
"""Seconds by which the session of a lost mount may begin before its request, or after its task."""

MOST_SHOWN = 200
"""Sessions that are recorded of one look: those on machines of targets in trouble come first."""

OWN_WITHIN_S = 30.0
"""Seconds by which a restore session of our own mount may begin before or after it.

Source: reference 15.5: a likelihood, for no server says who began one.
"""


class Question(StrEnum):
    """What is asked."""

    REPLICATIONS = "replications"
    RESTORES = "restores"


class Fate(Enum):
    """What is shown of the mount of a lost session."""

    NOT_SHOWN = auto()
    OPEN = auto()
    OVER = auto()


class Seen(NamedTuple):
    """Something at work, and when the server showed it, on the run's clock."""

    activity: Activity
    at: float


class ActivityWatch:
    """The restores and replications of one server, as far as the account's role shows them."""

    def __init__(
        self,
        server: ServerName,
        ledger: Ledger,
        started_at: datetime,
        *,
        count_others: bool = False,
        on_others: Callable[[Counter[BackupServerName]], None] = lambda others: None,
        every_s: float = EVERY_S,
    ) -> None:
        """`started_at` is the time at second 0 of the run's clock.

        `on_others` is told of the open file-level restores that are not ours, per backup server.
        """
        self._server, self._ledger, self._started_at = server, ledger, started_at
        self._on_others = on_others
        self._count_others = count_others
        self._shown: dict[Question, Sequence[Activity]] = {}
        self._asked_at: dict[Question, float] = {}
        self._shown_at: dict[Question, float] = {}
        self._unanswered: Counter[Question] = Counter()
        self._why_no_restores = "it was not asked"
        self._wanted: Counter[Question] = Counter()
        self._next_at = 0.0
        self._clock_offset_s = 0.0
        self._wish = anyio.Event()
        self._looked = anyio.Event()
        self._known = anyio.Event()
        self._told: ActivitySeen | None = None
        self._followed: set[MountKey] = set()
        self.every_s = every_s
        """Seconds between two looks, at least."""

    # --- what is known -------------------------------------------------------------------------

    @property
    def is_blind(self) -> bool:
        """True while no look can be expected to show anything: it is not worth waiting for.

        So it is for an account that is denied restores, and was never shown a job: by the
        documented roles it may not see jobs either. Source: reference 2.7.
        """
        return not self._askable or (self.sees_no_restores and not self._shown_at)

    @property
    def _askable(self) -> list[Question]:
        return [each for each in Question if self._unanswered[each] < REFUSALS]

    async def known(self) -> None:
        """Return after the first look, or when nobody waits for it any longer."""
        if not self._known.is_set():
            self._wish.set()  # its target may not have been there when the session was opened
            with anyio.move_on_after(len(Question) * ANSWER_S):
                await self._known.wait()

    def at_work_on(self, request: MountRequest, *, has_failed: bool = False) -> Seen | None:
        """Return what was last seen at work on a machine so that it cannot be mounted, if any is.

        A file-level restore counts only if a mount `has_failed`: a machine may bear several, and a
        mount of an earlier run of ours is shown for a quarter of an hour after its end.
        """
        machine = request.vm.casefold(), request.backup_server.casefold()
        for question in Question:
            for each in self._shown.get(question, ()):
                counts = has_failed or each.kind is not ActivityKind.FILE_RESTORE
                if counts and self._is_at_work(each) and _of(each) == machine:
                    return Seen(each, self._shown_at[question])
        return None

    def seen_free_at(self, activity: Activity) -> float | None:
        """Return when a look showed an activity no more, on the run's clock; None: it does not."""
        question = _question_of(activity)
        shown = self._shown.get(question)
        if shown is None or any(each.id == activity.id and not each.is_over for each in shown):
            return None
        return self._shown_at[question]

    @property
    def sees_no_restores(self) -> bool:
        """True if restores are not shown to this account, or were not by now."""
        return Question.RESTORES not in self._askable

    def fate_of(self, record: MountRecord) -> tuple[Fate, float]:
        """Return what is shown of the mount that a target has lost, and when that was shown.

        Only a session that began when the mount was asked for can be it: where mounts make none,
        or the server's clock has jumped, a later one is somebody else's. Several cannot be told
        apart, and are open as long as any is that began before the task's end.
        """
        at = self._shown_at.get(Question.RESTORES, 0.0)
        now, offset = self._ledger.now(), self._clock_offset_s
        own = [
            each
            for each in self._shown.get(Question.RESTORES, ())
            if each.kind is ActivityKind.FILE_RESTORE
            and is_of(each, record)
            and began_in(each, record, self._started_at, offset, now, LOST_WITHIN_S)
        ]
        accepted_at = record.attempts[-1].accepted_at
        if accepted_at is None or not any(
            self._second_of(each) <= accepted_at + LOST_WITHIN_S for each in own
        ):
            return Fate.NOT_SHOWN, at
        is_over = all(each.is_over for each in own) and at > record.since
        return (Fate.OVER if is_over else Fate.OPEN), at

    # --- waiting for a look --------------------------------------------------------------------

    @contextmanager
    def waiting_for(self, activity: Activity) -> Iterator[None]:
        """Have the question asked that tells whether an activity is over, while this lasts."""
        with self._wanting(_question_of(activity)):
            yield

    @contextmanager
    def following(self, key: MountKey) -> Iterator[None]:
        """Have restores asked for, also those that are over, while this lasts."""
        self._followed.add(key)
        try:
            with self._wanting(Question.RESTORES):
                yield
        finally:
            self._followed.discard(key)

    async def look_after(self, second: float) -> None:
        """Return when a question was answered that was asked at `second` or later.

        Jobs are asked for if that is possible. Returns as well once nothing can be asked, or after
        as long as it may take.
        """
        askable = self._askable
        if not askable:
            return
        question = askable[0]
        with self._wanting(question), anyio.move_on_after(self.every_s + ANSWER_S):
            while self._asked_at.get(question, -1.0) < second and question in self._askable:
                await self.looked()

    async def looked(self) -> None:
        """Return after the next answer, or refusal; never, if nothing can be asked any more."""
        if self._looked.is_set():
            await anyio.sleep_forever()
        await self._looked.wait()

    @contextmanager
    def _wanting(self, question: Question) -> Iterator[None]:
        self._wanted[question] += 1
        self._wish.set()
        try:
            yield
        finally:
            self._wanted[question] -= 1

    # --- asking --------------------------------------------------------------------------------

    async def serve(self, session: GuestSession) -> None:
        """Ask through one logon session for as long as somebody may want to know.

        Raises:
            Fenced: another worker has the server.
        """
        self._clock_offset_s = clock_correction(session.clock_offset_s)
        while self._askable:
            await anyio.sleep(max(0.0, self._next_at - self._ledger.now()))
            await self._needed()
            self._next_at = self._ledger.now() + self.every_s
            if self._known.is_set():
                await self._ask(session, self._chosen())
            else:
                await self._look_first(session)
                self._known.set()
            looked, self._looked = self._looked, anyio.Event()
            looked.set()
        self._known.set()
        self._looked.set()

    async def _look_first(self, session: GuestSession) -> None:
        """Ask both questions, unless restores are denied; what was asked before is not again."""
        for question in (Question.RESTORES, Question.REPLICATIONS):
            if question not in self._asked_at and not self.sees_no_restores:
                await self._ask(session, question)
        if self._count_others and Question.RESTORES not in self._shown:
            self._ledger.note(
                f"{self._server} shows no restores, so those of other people use up no limit as "
                f"long as it shows none: {self._why_no_restores}"
            )

    def _chosen(self) -> Question:
        """Return what is wanted and was asked for least lately."""
        askable = self._askable
        wanted = [each for each in askable if self._wanted[each]] or askable
        return min(wanted, key=lambda each: self._asked_at.get(each, -1.0))

    async def _needed(self) -> None:
        """Return once somebody waits for an answer, or a target may be mounted yet."""
        while not self._wanted.total() and not self._has_waiting_targets():
            self._wish = anyio.Event()
            with anyio.move_on_after(self.every_s):
                await self._wish.wait()

    def _has_waiting_targets(self) -> bool:
        mine = [each for each in self._ledger.records if each.planned.server == self._server]
        return not mine or any(each.phase in {Phase.QUEUED, Phase.BUSY} for each in mine)

    async def _ask(self, session: GuestSession, question: Question) -> None:
        self._asked_at[question] = self._ledger.now()
        ask: Callable[[], Awaitable[Sequence[Activity]]] = session.replications
        if question is Question.RESTORES:
            ask = partial(session.restores, since=self._since())
        try:
            with anyio.fail_after(ANSWER_S):
                self._shown[question] = await ask()
        except AccessDenied as exc:  # most roles may not ask: no line of the log
            self._note_why(question, str(exc))
            self._not_shown(question, REFUSALS, exc)
        except ServiceBusy as exc:
            self._not_answered(question, str(exc))
        except RequestRefused as exc:
            self._not_answered(question, str(exc))
            self._not_shown(question, 1, exc)
        except EnterpriseManagerError as exc:
            self._not_answered(question, str(exc))
        except TimeoutError:
            self._not_answered(question, f"no answer in {duration(ANSWER_S)}")
        else:
            self._unanswered[question] = 0
            self._shown_at[question] = self._ledger.now()
            self._tell()

    def _not_answered(self, question: Question, why: str) -> None:
        log.info("activity.not_answered", server=self._server, asked=question, why=why)
        self._note_why(question, why)

    def _note_why(self, question: Question, why: str) -> None:
        if question is Question.RESTORES:
            self._why_no_restores = why

    def _not_shown(self, question: Question, refusals: int, exc: RequestRefused) -> None:
        """Count refusals; what was shown counts no more once the question is asked no more."""
        self._unanswered[question] += refusals
        if question in self._askable or self._shown.pop(question, None) is None:
            return
        self._tell()
        if question is Question.RESTORES and self._count_others:
            self._ledger.note(
                f"{self._server} shows no restores any more, so those of other people "
                f"use up no limit from now on: {exc}"
            )

    def _since(self) -> datetime | None:
        """Return since when restores that are over are wanted, too; None: they are not."""
        asked = [self._ledger[key].attempts[-1].submitted_at for key in self._followed]
        if not asked:
            return None
        second = min(asked) - LOST_WITHIN_S + self._clock_offset_s
        return self._started_at + timedelta(seconds=second)

    def _tell(self) -> None:
        """Record what is shown, if it has changed, and count the restores of others."""
        machines = {
            _machine(record): record for record in self._ledger.records if self._is_here(record)
        }
        restores = self._shown.get(Question.RESTORES)
        jobs = self._shown.get(Question.REPLICATIONS)
        others: Counter[BackupServerName] = Counter(
            each.backup_server
            for each in restores or ()
            if each.kind is ActivityKind.FILE_RESTORE and self._is_at_work(each)
        )
        shown = [each for each in (*(jobs or ()), *(restores or ())) if not each.is_over]
        mine = [each for each in shown if _of(each) in machines]
        seen = ActivitySeen(
            at=self._ledger.now(),
            server=self._server,
            restores=None if restores is None else bool(restores),
            replications=None if jobs is None else bool(jobs),
            shown=tuple(
                sorted(mine, key=lambda each: not _matters(machines[_of(each)]))[:MOST_SHOWN]
            ),
            others=dict(others),
        )
        if self._told is None or _content(seen) != _content(self._told):
            self._told = seen
            self._ledger.record(seen)
        self._on_others(others)

    def _is_here(self, record: MountRecord) -> bool:
        return record.planned.server == self._server

    def _is_at_work(self, activity: Activity) -> bool:
        return not activity.is_over and not self._is_ours(activity)

    def _second_of(self, activity: Activity) -> float:
        """Return when an activity began, on the run's clock."""
        return (activity.began_at - self._started_at).total_seconds() - self._clock_offset_s

    def _is_ours(self, activity: Activity) -> bool:
        """Return whether a file-level restore is probably a mount of this run."""
        if activity.kind is not ActivityKind.FILE_RESTORE:
            return False
        began = self._second_of(activity)
        return any(
            attempt.submitted_at - OWN_WITHIN_S <= began <= ended + OWN_WITHIN_S
            for record in self._ledger.records
            if self._is_here(record) and _machine(record) == _of(activity)
            for attempt in record.attempts
            for ended in (attempt.finished_at or self._ledger.now(),)
        )


def _question_of(activity: Activity) -> Question:
    is_job = activity.kind is ActivityKind.REPLICATION
    return Question.REPLICATIONS if is_job else Question.RESTORES


def _of(activity: Activity) -> tuple[str, str]:
    """Return machine and backup server; both are names of computers, alike in any case."""
    return activity.vm.casefold(), activity.backup_server.casefold()


def _machine(record: MountRecord) -> tuple[str, str]:
    return record.planned.vm.casefold(), record.planned.backup_server.casefold()


def _matters(record: MountRecord) -> bool:
    """Return whether something on its machine may be why a target waits, or has failed."""
    return record.phase is Phase.BUSY or any(each.fault for each in record.attempts)


def _content(seen: ActivitySeen) -> tuple[object, ...]:
    ids = sorted(each.id for each in seen.shown)
    return seen.restores, seen.replications, ids, sorted(seen.others.items())
