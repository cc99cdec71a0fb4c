"""Sees every request arrive, every effect happen and every event recorded, and compares them.

The ground truth of one play. Whatever must never be is noticed at the step where it happens:
the first violation ends the play. What can only be judged at the end is in `invariants`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from orchestrator.core.activity import Activity
from orchestrator.core.events import (
    DeadlinePassed,
    Event,
    MachineBusy,
    MachineFree,
    MountFound,
    MountKept,
    MountLeft,
    MountReleased,
    NothingReadable,
    OrphanEnded,
    OutOfReach,
    PointChosen,
    RunFinished,
    ServerGivenUp,
    SessionEnded,
    SessionOpened,
    StopRequested,
    StrayFound,
    SubmissionInDoubt,
    SubmissionNotSent,
    SubmissionRefused,
    SubmissionStarted,
    SystemFound,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TargetReopened,
    TaskAccepted,
    TaskFailed,
    TaskStopAsked,
    TaskStopSeen,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import MountState, OsSource, Result, Unmount, session_id
from orchestrator.core.stops import StopSeen
from orchestrator.engine.limits import Limits
from orchestrator.simulator.activity import session_of_mount
from orchestrator.simulator.manager import SimSession, SimulatedManager
from orchestrator.simulator.truth import PATIENCE_S, GroundTruth, MountFate
from tests.invariants import allowed
from tests.simulation.steered import Overseer
from tests.simulation.story import Asks

GOOD = {Result.MOUNTED, Result.VERIFIED}
MOUNTS_OF = re.compile(r"/([0-9a-f-]{36})/mounts(?:/(\d+))?", re.IGNORECASE)
DENIED = 2
"""From so many 401 on a client may believe that its session is gone; one is to be asked about."""
ASKED_TASK = re.compile(r'TaskId=="([^"]*)"')

UNACCOUNTED = "no task of the session accounts for"
"""How the program names a mount that may be a stranger's."""


@dataclass(slots=True)
class _Aim:
    """What one target has done so far, as its events and the servers tell."""

    server: str
    point: str
    """The one that is tried now."""
    vm: str = ""
    planned: str = ""
    """The point that is tried first."""
    candidates: tuple[str, ...] = ()
    points: set[str] = field(default_factory=set)
    """All that were tried."""
    proven: set[str] = field(default_factory=set)
    os: str = ""
    """The system that its machine has."""
    is_open: bool = False
    """The plan leaves that open."""
    unread: set[str] = field(default_factory=set)
    """The points that were mounted as a system which their machine has not."""
    readable: bool = False
    """Mounted as the system it is: its volumes can be seen."""
    session: str = ""
    pending: bool = False
    """An intent was recorded, and not yet what became of it."""
    posted: bool = False
    """The POST of the current intent has arrived."""
    made: MountFate | None = None
    """What the current intent has started, if anything."""
    borrowed: MountFate | None = None
    """The mount of the task that the current intent goes by, if another request made that."""
    doubtful: bool = False
    unknown: bool = False
    """The current intent was posted, and its fate was given up as unknown."""
    unmounting: bool = False
    concluded: bool = False


class Witness(GroundTruth):
    """The truth of one play; also an observer of the run and of every request."""

    def __init__(
        self,
        limits: Limits,
        managers: Mapping[str, SimulatedManager],
        on_violation: Callable[[], None],
    ) -> None:
        """`managers` are asked which sessions live; `on_violation` ends the play."""
        super().__init__()
        self.violation: str | None = None
        self.hits: Counter[str] = Counter()
        self.strangers: set[str] = set()
        """Sessions of somebody else, whose mounts must not be touched."""
        self.denials: Counter[str] = Counter()
        """How often a living session was answered with 401."""
        self.asks: Asks | None = None
        self.overseer: Overseer | None = None
        """Judges what people want of the run, if they do."""
        self.limits = limits
        self._managers = managers
        self._on_violation = on_violation
        self._aims: dict[str, _Aim] = {}
        self._by_point: dict[tuple[str, str], _Aim] = {}
        self._by_task: dict[tuple[str, str, str], MountFate] = {}
        self._asking: dict[str, _Aim] = {}
        self._tasks: dict[str, set[str]] = {}
        self.unmount_tasks: dict[str, set[str]] = {}
        """Names of tasks that are no mounts, by session."""
        self._ready: set[tuple[str, str]] = set()
        """Tasks that were shown as those of a mount that is ready, by session."""
        self._stopped_tasks: dict[tuple[str, str], bool] = {}
        """Tasks that are to be asked to stop, by session; true once that has arrived."""
        self.unstoppable: set[tuple[str, str]] = set()
        """Tasks, by session, that were past Running when the run's deadline left them no time."""
        self._looked_until: dict[tuple[str, str], float] = {}
        """Until when a mount of a task that was asked to stop is promised to be looked for."""
        self._announced: set[tuple[str, str, str, int]] = set()
        self._opened: dict[str, str] = {}
        self._lost: set[str] = set()
        self._disowned: set[str] = set()
        """Sessions that live, and that the server has denied; also what begins there late."""
        self._guids: dict[str, str] = {}
        self._given_up: set[str] = set()
        self._refused: set[str] = set()
        self._waited: dict[str, str] = {}
        """The session that a target of this point waits for."""
        self._over = False
        self._stopped = False

    def violated(self, what: str) -> None:
        """Note what must never be; only the first counts."""
        if self.violation is None:
            self.violation = what
            self._on_violation()

    def demand(self, holds: bool, what: str) -> None:
        """Note a violation unless `holds`."""
        if not holds:
            self.violated(what)

    def ours(self) -> GroundTruth:
        """Return the truth without what strangers did and what left no mount."""
        mine = GroundTruth(peaks=self.peaks, dangerous=self.dangerous, stops=self.stops)
        mine.mounts = [
            fate
            for fate in self.mounts
            if fate.session not in self.strangers and fate.closed_by != "failed"
        ]
        return mine

    # --- effects -----------------------------------------------------------------------------

    def opened(self, fate: MountFate) -> None:
        """Check a mount the moment a server starts it."""
        if fate.session in self.strangers:
            self.mounts.append(fate)
            return
        fate.unforeseen |= self._is_answered_by_another(fate)
        if fate.session in self._disowned:
            fate.orphaned, fate.orphaned_at = True, fate.requested_at
        super().opened(fate)
        self._by_task[fate.server, fate.session, fate.task] = fate
        if fate.unforeseen:
            self.hits["unforeseen"] += 1
        for place, count in self.open_now.items():
            most = allowed(self.limits, place)
            if self.overseer is not None:
                most = self.overseer.most_with(place, fate)
            self.demand(most is None or count <= most, f"{place}: {count} open, {most} allowed")
        aim = self._by_point.get((fate.server, fate.point))
        expected = aim is not None and (aim.pending or aim.unknown)
        if fate.is_excused and (not expected or (aim is not None and aim.made is not None)):
            return
        if aim is None or not expected:
            self.violated(f"a mount that nobody intended: {fate}")
        elif fate.is_excused or (aim.made is not None and aim.made.is_excused):
            aim.made = aim.made or fate
        else:
            self.demand(aim.made is None, f"two mounts of one intent: {fate}")
            aim.made = fate

    def _is_answered_by_another(self, fate: MountFate) -> bool:
        """Tell whether what a late POST made was taken to be a mount that nobody can foresee."""
        aim = self._by_point.get((fate.server, fate.point))
        if not fate.late_s or aim is None or aim.pending or aim.unknown:
            return False
        return aim.borrowed is not None or (aim.made is not None and aim.made.is_excused)

    def closed(self, fate: MountFate, at: float, by: str) -> None:
        """Check who ends a mount."""
        stranger = fate.session in self.strangers
        self.demand(not stranger or by == "failed", f"a stranger's mount was touched: {fate}")
        if by == "failed":
            self.hits["task_failed"] += 1
        super().closed(fate, at, by)

    def _count_down(self, fate: MountFate) -> None:
        if fate.session not in self.strangers:
            super()._count_down(fate)

    # --- requests ----------------------------------------------------------------------------

    def arrived(self, manager: SimulatedManager, method: str, target: str, token: str) -> None:
        """Check a request the moment it reaches a server, before anything goes wrong with it."""
        path, _, query = target.partition("?")
        server, session = manager.name, manager.sessions.get(token)
        self.demand(not self._over, f"{method} {path} after the run's last record")
        self.demand("action=failover" not in query.lower(), f"failover was called: {target}")
        if "/sessionmngr" in path.lower():
            self._logon_arrived(server)
            return
        place = MOUNTS_OF.search(path)
        if place is None:
            self.demand("action=restore" not in query, f"a full restore was called: {target}")
            self.demand(method != "POST", f"an unforeseen POST: {target}")
        if session is None:
            return
        if method == "DELETE" and "/logonsessions/" in path.lower():
            self._logoff_arrived(path.rpartition("/")[2], session)
        elif method == "DELETE" and "/tasks/" in path.lower():
            self._stop_arrived(server, path.rpartition("/")[2], session)
        elif place is not None and method == "POST":
            self._post_arrived(server, place[1].lower(), session)
        elif place is not None and method == "DELETE":
            self._unmount_arrived(server, place[1].lower(), int(place[2] or 0), session)
        self._tasks_asked(path, query, session)

    def _logon_arrived(self, server: str) -> None:
        self.demand(server not in self._refused, f"{server}: a refused logon was repeated")
        self.demand(server not in self._opened, f"{server}: a second logon beside a session")

    def logon_refused(self, server: str) -> None:
        """Note that a logon was answered with 401: it must not be repeated."""
        self._refused.add(server)

    def _logoff_arrived(self, named: str, session: SimSession) -> None:
        self.demand(named == session.id, f"session {named} was ended by {session.id}")
        if session.id in self._lost:
            return
        for fate in self.still_open():
            done = fate.session != session.id or fate.is_beyond_knowledge
            self.demand(done, f"logged off before the unmount of {fate}")

    def _post_arrived(self, server: str, point: str, session: SimSession) -> None:
        aim = self._by_point.get((server, point))
        if aim is None or not aim.pending:
            self.violated(f"{server}: a POST for {point} without a recorded intent")
            return
        self.demand(not aim.posted, f"{server}: the POST for {point} was repeated")
        self.demand(aim.point == point, f"{server}: a POST for {point}, not {aim.point}")
        self.demand(aim.session == session.id, f"{server}: a POST in another session than intended")
        before = self._asking.get(session.id)
        self.demand(before is None or before is aim, f"{server}: two POSTs unanswered at once")
        self._asking[session.id] = aim
        aim.posted = True
        if self.overseer is not None:
            self.overseer.posted(server, point)

    def _unmount_arrived(self, server: str, point: str, number: int, session: SimSession) -> None:
        if (server, session.id, point, number) in {*self._excused(), *self._announced}:
            return
        self.demand(session.id not in self.strangers, f"{server}: a stranger's token was used")
        aim = self._by_point.get((server, point))
        named = aim is not None and aim.unmounting and aim.made is not None
        self.demand(
            named and aim is not None and aim.made is not None and aim.made.number == number,
            f"{server}: an unmount of {point}@{number} that nobody announced",
        )

    def told(self, session: SimSession, tasks: Iterable[bytes]) -> None:
        """Note tasks that a client was shown as those of mounts that are ready."""
        self._ready.update((session.id, task.decode()) for task in tasks)

    def _stop_arrived(self, server: str, task: str, session: SimSession) -> None:
        self.hits["stopped"] += 1
        key = (session.id, task)
        self.demand(session.id not in self.strangers, f"{server}: a stranger's token was used")
        self.demand(key in self._stopped_tasks, f"{server}: {task} is stopped without an intent")
        self.demand(not self._stopped_tasks.get(key), f"{server}: {task} is stopped again")
        self.demand(key not in self._ready, f"{server}: {task} is stopped, and its mount is ready")
        self._stopped_tasks[key] = True

    def _excused(self) -> set[tuple[str, str, str, int]]:
        """Return the mounts that nobody can have announced, as a DELETE names them."""
        return {
            (fate.server, fate.session, fate.point, fate.number)
            for fate in self.mounts
            if fate.is_excused
        }

    def _tasks_asked(self, path: str, query: str, session: SimSession) -> None:
        asked = re.findall(r"/tasks/([^/]+)$", path)
        if query:
            asked += ASKED_TASK.findall(dict(parse_qsl(query)).get("filter", ""))
        unknown = set(asked) - self._tasks.get(session.id, set()) - set(session.tasks)
        unknown -= self.unmount_tasks.get(session.id, set())
        unknown -= {task for _server, owner, task in self._by_task if owner == session.id}
        self.demand(not unknown, f"{unknown} asked of session {session.id}, which never gave them")

    # --- events ------------------------------------------------------------------------------

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Compare an event with what the servers know, the moment it is recorded."""
        if self.overseer is not None:
            self.overseer.observe(event, record)
        match event:
            case TargetPlanned(key=key):
                point = event.point.id if event.point is not None else ""
                aim = self._aims[key] = self._by_point[event.server, point] = _Aim(
                    event.server,
                    point,
                    event.vm,
                    point,
                    tuple(each.id for each in event.search.candidates),
                    {point},
                )
                listed = self._managers[event.server].inventory.by_id.get(point)
                aim.os = listed.machine.os if listed is not None else ""
                aim.is_open = event.os_source is not OsSource.PLAN
            case SessionOpened(server=server, session=name):
                session = self._guid(name)
                self.demand(self._lives(server, session), f"{server}: {session} was never opened")
                self._opened[server] = session
            case SessionEnded(server=server, session=name, lost=lost):
                session = self._guid(name)
                if self._opened.get(server) == session:
                    del self._opened[server]
                if lost:
                    self._lost.add(session)
                    self._denied(server, session, event.at)
                else:
                    self._looked_long_enough(server, session, event.at)
            case StrayFound(server=server, session=name, mount=mount) if mount is not None:
                place = MOUNTS_OF.search(mount)
                if place is not None:
                    point, number = place[1].lower(), int(place[2] or 0)
                    self._announced.add((server, self._guid(name), point, number))
            case ServerGivenUp(server=server):
                self._given_up.add(server)
            case StopRequested():
                self._stopped = True
            case RunFinished():
                self._over = True
            case TargetEvent(key=key):
                if isinstance(event, SubmissionStarted) and record is not None:
                    self._aims[key].readable = self._aims[key].os == record.os_kind
                if record is not None:
                    self._note_looks(event, record)
                self._target(self._aims[key], event)

    def _note_looks(self, event: TargetEvent, record: MountRecord) -> None:
        """Note until when the mount of a stopped task is looked for."""
        until = event.at + record.planned.timeouts.mount
        if isinstance(event, TaskStopAsked):
            self._looked_until[self._aims[event.key].session, event.task] = until + PATIENCE_S
        elif isinstance(event, TaskStopSeen) and event.seen is StopSeen.ACCEPTED:
            self._looked_until[self._aims[event.key].session, event.task] = until

    def _looked_long_enough(self, server: str, session: str, at: float) -> None:
        """Let go of the double of a mount whose stopped task is not shown and may go on for ever.

        Only if the session ends after the time for which the run has to look for it.
        """
        living = (one for one in self._managers[server].sessions.values() if one.id == session)
        shown = {task for one in living for task in one.tasks}
        for fate in self.still_open():
            until = self._looked_until.get((fate.session, fate.task))
            over = until is not None and at >= until and fate.session == session
            if over and fate.unforeseen and fate.task not in shown:
                fate.forgotten = fate.purged = True

    def _denied(self, server: str, session: str, at: float) -> None:
        """Let go of a session that the server itself has denied again and again while it lived.

        To a client it is one that the server has forgotten: nobody can use it any more. That
        nobody could look there for mounts of no target must be said; see `invariants`.
        """
        if self._lives(server, session) and self.denials[session] >= DENIED:
            self._disowned.add(session)
            for fate in self.still_open():
                if fate.session == session:
                    self.orphan(fate, at)

    def _guid(self, name: str) -> str:
        """Return the id of the session that the run calls `name`, also once it is gone."""
        for manager in self._managers.values():
            self._guids.update((session_id(one.id), one.id) for one in manager.sessions.values())
        return self._guids.get(name, name)

    def _is_past_running(self, fate: MountFate) -> bool:
        """Tell whether a task is in the state in which it is not asked to stop any more."""
        living = self._managers[fate.server].sessions.values()
        tasks = [one.tasks.get(fate.task) for one in living if one.id == fate.session]
        return any(task is not None and task.state == "OperationFinished" for task in tasks)

    def _lives(self, server: str, session: str) -> bool:
        return any(each.id == session for each in self._managers[server].sessions.values())

    def _target(self, aim: _Aim, event: TargetEvent) -> None:
        if aim.concluded and isinstance(event, (MountLeft, MountReleased, OutOfReach)):
            self._audited(aim, event)
            return
        if isinstance(event, TargetReopened):
            self._reopened(aim, event)
            return
        self.demand(not aim.concluded, f"{event} after the target's result")
        fate = aim.made
        match event:
            case SubmissionStarted(session=name, point=point):
                self.demand(point == aim.point, f"{event}, but {aim.point} was chosen")
                aim.session = self._guid(name)
                aim.pending, aim.posted, aim.made, aim.borrowed = True, False, None, None
                aim.unmounting = aim.unknown = False
            case SubmissionNotSent() | SubmissionRefused():
                # a mount that failed and whose task was forgotten has left nothing to be seen
                none = fate is None or fate.closed_by == "failed" or fate.is_excused
                self.demand(none, f"{event}, yet the server started {fate}")
                self._answered(aim, certain=True)
            case SubmissionInDoubt():
                aim.pending, aim.borrowed, aim.doubtful = True, None, aim.posted
                if self._asking.get(aim.session) is aim:  # it waits aside
                    del self._asking[aim.session]
            case TaskAccepted(task=task):
                mine = self._by_task.get((aim.server, aim.session, task))
                if mine is not None and mine is not fate and self._is_twin(mine, aim):
                    fate = aim.made = mine
                # what an extra mount's task is taken for, its mount must disprove (reference 4)
                is_free = self._is_extra(mine) or self._is_displaced(mine)
                aim.borrowed = mine if event.adopted and is_free else None
                known = mine is fate or aim.borrowed is not None
                self.demand(mine is not None and known, f"{event}, but it made {fate}")
                self._tasks.setdefault(aim.session, set()).add(task)
                self._answered(aim, certain=True)
            case MountFound(mount=mount):
                place = MOUNTS_OF.search(mount)
                number = int(place[2] or 0) if place else 0
                fate = aim.made = self._twin_of(aim, number) or fate
                same = fate is not None and fate.succeeded is True and fate.number == number
                self.demand(same, f"{event}, but it made {fate}")
                self._answered(aim, certain=True)
            case TaskStopAsked(task=task):
                mine = self._by_task.get((aim.server, aim.session, task))
                self.demand(mine is not None and mine is fate, f"{event}, but it made {fate}")
                self.demand((aim.session, task) not in self._stopped_tasks, f"{event}, again")
                self._stopped_tasks[aim.session, task] = False
            case DeadlinePassed(by_run=True) if fate is not None:
                if self._is_past_running(fate):
                    self.unstoppable.add((fate.session, fate.task))
            case TaskSucceeded() | TaskFailed() if aim.borrowed is not None:
                good = isinstance(event, TaskSucceeded)
                self.demand(aim.borrowed.succeeded is good, f"{event}, but {aim.borrowed}")
            case TaskSucceeded():
                self.demand(fate is not None and fate.succeeded is True, f"{event}, but {fate}")
            case TaskFailed():
                self.demand(fate is not None and fate.succeeded is False, f"{event}, but {fate}")
            case PointChosen(point=chosen):
                self._chosen(aim, event, chosen.id)
            case NothingReadable():
                wrong = aim.is_open and not aim.readable and aim.point not in aim.unread
                self.demand(wrong, f"{event}, but it is {aim.os}, and was mounted so {fate}")
                aim.unread.add(aim.point)
                self.hits["other_system"] += 1
            case SystemFound(os_kind=os_kind):
                self.demand(aim.readable and aim.os == os_kind, f"{event}, but it is {aim.os}")
            case VerdictReached(result=result):
                good = fate is not None and fate.succeeded is True and aim.readable
                good = good and (result is not Result.VERIFIED or self._passes(aim))
                self.demand(result not in GOOD or good, f"{event}, but {fate}")
                if result in GOOD:
                    aim.proven.add(aim.point)
            case MountKept():
                self._kept(aim, event)
            case UnmountStarted():
                aim.unmounting = True
            case MountReleased():
                gone = fate is not None and fate.closed_by == "unmounted"
                self.demand(gone, f"{event}, but {fate}")
            case OrphanEnded():
                self.demand(fate is None or not fate.is_open, f"{event}, but {fate} is open")
                self.hits["orphan_ended"] += 1
            case MachineBusy(activity=activity):
                self.demand(self._was_at_work(aim, activity), f"{event}, which never was")
                self._waited[aim.point] = activity.id
                self.hits["machine_busy"] += 1
            case MachineFree(seen_at=float(seen_at)):
                self.hits["machine_free"] += 1
                self.demand(not self._works(aim, seen_at), f"{event}, but it is at work")
            case OutOfReach(reason=reason):
                self._answered(aim, certain=False, why=reason)
            case TargetConcluded():
                self._concluded(aim, event)

    def _reopened(self, aim: _Aim, event: TargetReopened) -> None:
        """Begin a target anew that somebody wants to be tried again."""
        is_open = aim.made is not None and aim.made.is_open and not aim.made.is_excused
        self.demand(aim.concluded and not is_open, f"{event}, but {aim.made} is open")
        aim.concluded, aim.point, aim.made, aim.borrowed = False, aim.planned, None, None
        aim.points, aim.proven, aim.unread = {aim.planned}, set(), set()
        aim.posted = aim.pending = aim.doubtful = aim.unknown = aim.unmounting = False
        self._by_point[aim.server, aim.planned] = aim

    def _was_at_work(self, aim: _Aim, activity: Activity) -> bool:
        """Tell whether somebody else's session with this id has ever been there."""
        manager = self._managers[aim.server]
        known = {each.id for each in manager.activities}
        known |= {session_of_mount(each) for each in self.mounts}
        return activity.id in known

    def _works(self, aim: _Aim, at: float) -> bool:
        """Tell whether what the target has waited for went on then."""
        waited = self._waited.get(aim.point, "")
        manager = self._managers[aim.server]
        at += manager.skew  # its clock may have jumped
        return any(each.id == waited and each.is_at_work(at) for each in manager.activities)

    def _is_extra(self, fate: MountFate | None) -> bool:
        """Tell whether a mount is one of several that one request has made, or denied."""
        if fate is None:
            return False
        twins = [
            each
            for each in self.mounts
            if (each.server, each.session, each.point) == (fate.server, fate.session, fate.point)
        ]
        return any(each.is_excused for each in twins)

    def _is_displaced(self, fate: MountFate | None) -> bool:
        """Tell whether the target that asked for a mount goes by the task of an extra one."""
        owner = None if fate is None else self._by_point.get((fate.server, fate.point))
        return owner is not None and owner.made is fate and owner.borrowed is not None

    def _is_twin(self, fate: MountFate, aim: _Aim) -> bool:
        return fate.point == aim.point and self._is_extra(fate)

    def _twin_of(self, aim: _Aim, number: int) -> MountFate | None:
        """Return the mount of this number that the current intent may take for its own."""
        for fate in self.mounts:
            mine = (fate.server, fate.session, fate.point) == (aim.server, aim.session, aim.point)
            if mine and fate.number == number and self._is_extra(fate):
                return fate
        return None

    def _audited(self, aim: _Aim, event: TargetEvent) -> None:
        """Check what the closing audit says of a target that has its result."""
        if isinstance(event, MountReleased):
            still = [fate for fate in self.still_open() if fate.session == aim.session]
            mine = [
                fate
                for fate in still
                if (fate.server, fate.point) == (aim.server, aim.point)
                and not self._is_extra(fate)  # each is named and released on its own
            ]
            self.demand(not mine, f"{event}, but {mine} is open")
            return
        if isinstance(event, MountLeft):  # it may be another of those that one request has made
            place = MOUNTS_OF.search(event.mount)
            aim.made = self._twin_of(aim, int(place[2] or 0) if place else 0) or aim.made
        aim.unmounting = True

    def _passes(self, aim: _Aim) -> bool:
        """Tell whether the point that is tried now is one whose check passes."""
        asks = self.asks
        return asks is not None and asks.good(aim.vm, aim.candidates.index(aim.point))

    def _chosen(self, aim: _Aim, event: PointChosen, point: str) -> None:
        """Check that another point may be tried: one of the plan's, new, and nothing is open."""
        self.demand(point in aim.candidates, f"{event}: not among the plan's points")
        self.demand(point not in aim.points, f"{event}: it was tried already")
        is_open = aim.made is not None and aim.made.is_open
        self.demand(not is_open and not aim.pending, f"{event}, but {aim.made} is open")
        aim.point, aim.made, aim.posted = point, None, False
        aim.points.add(point)
        self._by_point[aim.server, point] = aim
        self.hits["another_point"] += 1

    def _kept(self, aim: _Aim, event: MountKept) -> None:
        """Check that the plan asks for a hold, and for how long."""
        asks, good = self.asks, aim.point in aim.proven
        self.demand(aim.made is not None and aim.made.succeeded is True, f"{event}: not mounted")
        if asks is None or not asks.is_holding:
            self.violated(f"{event}: nobody asked for it")
            return
        endless = asks.unmount is Unmount.NEVER
        endless = endless or (asks.unmount is Unmount.ON_SUCCESS and not good)
        deadline = self.overseer.steers.deadline_s if self.overseer is not None else None
        if endless and deadline is not None:
            cut = event.until is not None and event.until <= deadline
            self.demand(cut, f"{event}: the deadline is {deadline:g}")
            self.hits["held"] += 1
            return
        self.demand((event.until is None) is endless, f"{event}: the plan says {asks.unmount}")
        if event.until is not None:
            longest = max(asks.hold_s or 0.0, 0.0 if good else asks.keep_failed_s or 0.0)
            self.demand(event.until <= event.at + longest, f"{event}: {longest:g} s were asked for")
        self.hits["held"] += 1

    def _answered(self, aim: _Aim, *, certain: bool, why: str = "") -> None:
        """Note that the current intent's fate is known, or never will be, and `why` it will not."""
        if self._asking.get(aim.session) is aim:
            del self._asking[aim.session]
        if aim.doubtful:
            gone = aim.server in self._given_up or not self._lives(aim.server, aim.session)
            gone = gone or self.denials[aim.session] >= DENIED  # to the client it is gone as well
            how = "certain" if certain else "session_gone" if gone else "uncertain"
            if how == "uncertain" and self._stopped:
                how = "stopped"
            if how == "uncertain" and UNACCOUNTED in why:
                how = "unaccounted"
            self.hits[f"doubt_{how}"] += 1
            aim.unknown = not certain
        aim.pending = aim.doubtful = False

    def _concluded(self, aim: _Aim, event: TargetConcluded) -> None:
        aim.concluded = True
        mine = [
            fate
            for fate in self.mounts
            if fate.server == aim.server
            and fate.point in aim.points
            and fate.session not in self.strangers
        ]
        if event.result in GOOD:
            about = event.point or aim.point
            good = any(fate.succeeded for fate in mine if fate.point == about)
            self.demand(good and about in aim.proven, f"{event}, but {mine}")
            newest = (
                min(aim.candidates.index(point) for point in aim.proven) if aim.candidates else 0
            )
            best = not aim.candidates or aim.candidates.index(about) == newest
            self.demand(best, f"{event}, but a newer point was proven")
            self.hits["older_point"] += bool(newest)
        if event.mount in {MountState.NONE, MountState.RELEASED}:
            left = [fate for fate in mine if fate.is_open and not fate.is_excused]
            self.demand(not left, f"{event}, but {left}")
