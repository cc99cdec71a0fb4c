"""Judges a steered run: what people were answered, against what the servers see.

Its own model of what is asked counts: a request that loosens something from the moment that it is
recorded, one that narrows something from the moment that it is answered. In between the run may do
either.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.core.controls import LOOKS, Answer
from orchestrator.core.events import (
    ApprovalAwaited,
    ControlApplied,
    Event,
    MountKept,
    MountLeft,
    OutOfReach,
    RunHalted,
    SubmissionStarted,
    TargetConcluded,
    TargetEvent,
    TargetPlanned,
    TargetReopened,
    WaveStarted,
)
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Result
from orchestrator.engine.limits import Limits
from orchestrator.journal.controls import ControlFiles
from orchestrator.simulator.truth import GroundTruth, MountFate
from tests.invariants import allowed
from tests.simulation.steers import Steers

GOOD = {Result.MOUNTED, Result.VERIFIED}
UNLIMITED = 1000
"""As good as no limit of the run: it can only be set to a number."""

Demand = Callable[[bool, str], None]


def changed(limits: Limits, words: Iterable[str]) -> Limits:
    """Return the limits that the words of a request ask for."""
    for word in words:
        scope, _, number = word.partition(".mounts=")
        server, _, backup = scope.partition("/")
        if scope == "run":
            limits = replace(limits, run=int(number))
        elif not backup:
            limits = replace(limits, servers={**limits.servers, server: int(number)})
        else:
            others = {
                key: limit
                for key, limit in limits.backup_servers.items()
                if (key[0], key[1].lower()) != (server, backup.lower())
            }
            behind = {(server, backup): int(number)}
            limits = replace(limits, backup_servers=others | behind)
    return limits


def _place(word: str) -> str:
    """Return what a new limit is about, as `GroundTruth` calls it."""
    scope = word.partition(".mounts=")[0]
    if scope == "run":
        return "total"
    return f"backup:{scope}" if "/" in scope else f"server:{scope}"


@dataclass(slots=True)
class _Target:
    """What is known of one target."""

    key: str
    server: str
    wave: str
    places: tuple[str, ...]
    points: set[str]
    intended: bool = False
    """It was submitted, in whatever process."""
    result: Result | None = None
    may_be_open: bool = False
    intent_at: float = 0.0
    """When it was last submitted."""
    aside: bool = False
    """Its mount was held or given up: it is not in work for its server."""


class Overseer:
    """Observes a run in all its processes, hears every answer, and sees every POST."""

    def __init__(self, steers: Steers, limits: Limits, truth: GroundTruth, demand: Demand) -> None:
        """`demand` notes what does not hold; `limits` are the plan's."""
        self.steers, self.planned, self.truth = steers, limits, truth
        self._demand = demand
        self.hits: Counter[str] = Counter()
        self.hears: Callable[[], bool] = lambda: True
        """Whether the process that answers lives."""
        self._targets: dict[str, _Target] = {}
        self._by_point: dict[tuple[str, str], _Target] = {}
        self._recorded: dict[str, ControlApplied] = {}
        self._done: set[str] = set()
        """What was answered as done, by whatever process."""
        self._posts: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self.limits = limits
        self._history: list[tuple[float, Limits]] = [(0.0, limits)]
        self._coming: Limits | None = None
        self.paused = False
        self.skipped: dict[str, ControlApplied] = {}
        self._skipping: dict[str, ControlApplied] = {}
        self.approved: set[str] = set()
        self._rejected = False
        self.awaited: ApprovalAwaited | None = None
        """The wave waits for people now."""
        self.halted: RunHalted | None = None

    def listen(self, patch: pytest.MonkeyPatch) -> None:
        """Hear every answer before whoever asked can."""
        original = ControlFiles.answer

        def answer(files: ControlFiles, given: Answer) -> None:
            if self.hears():
                self.heard(given)
            original(files, given)

        patch.setattr(ControlFiles, "answer", answer)

    # --- what is asked -------------------------------------------------------------------------

    def heard(self, answer: Answer) -> None:
        """Hold an answer against what was recorded, and count what it narrows from now on."""
        event = self._recorded.get(answer.id)
        if answer.refused is not None:
            self.hits["control_refused"] += 1
            looks = event is not None and event.verb in LOOKS  # recorded before it is tried
            self._demand(event is None or looks, f"refused, and recorded all the same: {event}")
            return
        if event is None:
            self._demand(False, f"answered as done, and never recorded: {answer}")
            return
        self._done.add(answer.id)
        self._narrow(event)

    def _narrow(self, event: ControlApplied) -> None:
        match event.verb:
            case "pause":
                self.paused = True
            case "limits" if self._coming is not None:
                self.limits, self._coming = self._coming, None
            case "skip":
                self.skipped.update(self._skipping)
                self._skipping = {}

    def _loosen(self, event: ControlApplied) -> None:
        match event.verb:
            case "continue":
                self.paused = False
            case "limits":
                self._coming = changed(self.limits, event.words)
                self._history.append((anyio.current_time(), self._coming))
            case "skip":
                self._skipping = {event.words[0]: event}
            case "retry":
                self.skipped.pop(event.words[0], None)
            case "approve" if event.reject:
                self._rejected = True
            case "approve":
                self.approved.add(event.user)

    def _judge_request(self, event: ControlApplied) -> None:
        """Check that it could be taken: by the plan, and by what its target has come to."""
        target = self._targets.get(event.words[0]) if event.words else None
        match event.verb:
            case "limits" if not event.beyond_plan:
                for word in event.words:
                    most = allowed(self.planned, _place(word))
                    low = most is None or int(word.rpartition("=")[2]) <= most
                    self._demand(low, f"{event}: the plan allows {most}")
            case "skip":
                waits = target is not None and not target.intended and target.result is None
                self._demand(waits and bool(event.reason), f"{event}, but it is {target}")
            case "retry":
                bad = target is not None and target.result is not None
                bad = bad and target is not None and target.result not in GOOD
                self._demand(bad, f"{event}, but it is {target}")
                still = [each for each in self._open_of(target) if not each.is_excused]
                self._demand(not still, f"{event}, but {still} is open")
            case "approve":
                waits = self.awaited is not None and event.user not in self.approved
                waits = waits or (self.awaited is not None and event.reject)
                waits = waits and self.awaited is not None and event.at <= self.awaited.until
                self._demand(waits, f"{event}, but {self.awaited} and {self.approved}")

    def _open_of(self, target: _Target | None) -> list[MountFate]:
        if target is None:
            return []
        of = target.server, target.points
        mine = [each for each in self.truth.still_open() if each.server == of[0]]
        return [each for each in mine if each.point in of[1] and each.session not in self.strangers]

    @property
    def strangers(self) -> Collection[str]:
        """The sessions of somebody else."""
        return getattr(self.truth, "strangers", ())

    # --- what happens --------------------------------------------------------------------------

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Compare an event with what people were answered."""
        try:
            self._observe(event, record)
        except Exception as exc:  # noqa: BLE001 - the run would go on without its judge
            self._demand(False, f"{event}: the judge has failed: {exc!r}")

    def _observe(self, event: Event, record: MountRecord | None) -> None:
        match event:
            case ControlApplied():
                again = event.control in self._recorded
                self._demand(not again, f"{event} is recorded a second time")
                self._judge_request(event)
                self._recorded[event.control] = event
                self._loosen(event)
                self.hits[f"control_{'reject' if event.reject else event.verb}"] += 1
            case ApprovalAwaited():
                self.awaited = event
                self.hits["gate_reached"] += 1
            case WaveStarted(wave=wave):
                gated = self.steers.gate is not None and wave == "second"
                if gated and self.awaited is not None:
                    self._demand(self.gate_is_open, f"{event}: approved by {self.approved}")
                    self.hits["gate_opened"] += 1
                if gated:
                    self.awaited = None
            case RunHalted():
                self.halted, self.awaited = event, None
            case TargetEvent(key=key):
                self._target(key, event, record)

    def _target(self, key: str, event: TargetEvent, record: MountRecord | None) -> None:
        if isinstance(event, TargetPlanned):
            self._planned(event)
        target = self._targets[key]
        if record is not None:
            target.may_be_open = record.may_be_open
        match event:
            case SubmissionStarted():
                target.points.add(event.point)
                self._by_point[target.server, event.point] = target
                self._intended(target)
            case MountKept() | MountLeft() | OutOfReach():
                target.aside = True
            case TargetConcluded(result=result):
                target.result = result
            case TargetReopened():
                target.result = None
                self.hits["reopened"] += 1

    def _planned(self, event: TargetPlanned) -> None:
        point = event.point.id if event.point is not None else ""
        backup = f"{event.server}/{event.backup_server}"
        places = ("total", f"server:{event.server}", f"backup:{backup}", f"vm:{backup}/{event.vm}")
        self._targets[event.key] = _Target(event.key, event.server, event.wave, places, {point})

    def _intended(self, target: _Target) -> None:
        """Check that a mount may be asked for now."""
        self._demand(not self.paused, f"{target.key} is asked for while the run is paused")
        why = self.skipped.get(target.key)
        self._demand(why is None, f"{target.key} is asked for, though {why}")
        gated = self.steers.gate is not None and target.wave == "second"
        known = self.gate_is_open or not gated
        self._demand(known, f"{target.key} is asked for, approved only by {self.approved}")
        for place in target.places:
            most, count = self._most_now(place), self.truth.open_now[place]
            self._demand(
                most is None or count < most, f"{target.key}: {place} has {count} of {most} open"
            )
        now = anyio.current_time()
        target.intended, target.intent_at, target.aside = True, now, False
        self._began.setdefault(target.server, now)

    @property
    def gate_is_open(self) -> bool:
        """Whether enough people have approved, and nobody has rejected."""
        gate = self.steers.gate
        return gate is None or (len(self.approved) >= gate.approvals and not self._rejected)

    def _most_now(self, place: str) -> int | None:
        """Return how many mounts may be open at a place, by the limits in force now."""
        limits = (self.limits, self._coming or self.limits)
        return _highest([allowed(each, place) for each in limits])

    def most_with(self, place: str, fate: MountFate) -> int | None:
        """Return how many may be open at a place once a mount is made: it was asked for earlier.

        Elsewhere than at its own places nothing is begun: what is open there stays open.
        """
        target = self._by_point.get((fate.server, fate.point))
        if target is None or place not in target.places:
            return None
        return self.most(place, target.intent_at)

    def most(self, place: str, since: float = 0.0) -> int | None:
        """Return how many were allowed at a place at any time since then."""
        earlier = [(at, limits) for at, limits in self._history if at <= since]
        within = [limits for at, limits in self._history if at > since]
        within += [earlier[-1][1], *(limits for _, limits in earlier[-2:])]
        return _highest([allowed(each, place) for each in (*within, self.limits)])

    @property
    def has_failed(self) -> bool:
        """Whether a target has a result that is not good."""
        return any(each.result not in {None, *GOOD} for each in self._targets.values())

    @property
    def lowered(self) -> tuple[str, ...]:
        """What to ask for, so that no limit is below the plan's."""
        words = []
        if self.limits.run is not None:
            most = self.planned.run
            words.append(f"run.mounts={UNLIMITED if most is None else most}")
        for name, now in self.limits.servers.items():
            planned = allowed(self.planned, f"server:{name}")
            if planned is not None and now < planned:
                words.append(f"{name}.mounts={planned}")
        for (server, backup), now in self.limits.backup_servers.items():
            planned = allowed(self.planned, f"backup:{server}/{backup}")
            if planned is not None and now < planned:
                words.append(f"{server}/{backup}.mounts={planned}")
        return tuple(words)

    @property
    def highest(self) -> Limits:
        """The limits of the run, each as high as it ever was."""
        places = {
            f"backup:{server}/{name}": (server, name)
            for _, limits in self._history
            for server, name in limits.backup_servers
        }
        servers = {name for _, limits in self._history for name in limits.servers}
        return replace(
            self.planned,
            run=self.most("total"),
            servers={name: self.most(f"server:{name}") or 0 for name in servers},
            backup_servers={key: self.most(place) or 0 for place, key in places.items()},
        )

    def posted(self, server: str, point: str) -> None:
        """Check a mount POST the moment it reaches its server."""
        now, target = anyio.current_time(), self._by_point.get((server, point))
        if target is None:
            return
        apart = now - self._posts.get(server, -math.inf)
        self._demand(
            apart >= self.steers.interval_s - 1e-6, f"{server}: two POSTs {apart:g} s apart"
        )
        self.hits["interval"] += server in self._posts and self.steers.interval_s > 0
        self._posts[server] = now
        why = self.skipped.get(target.key)
        self._demand(why is None, f"{server}: a POST of {target.key}, though {why}")
        if self.steers.ramp is not None:
            mounts, every = self.steers.ramp
            given = mounts * (1 + math.floor((now - self._began[server]) / every))
            count = len(self._in_work(server, target))
            self._demand(count < given, f"{server}: {count} in work, and the ramp gives {given}")
            self.hits["ramp"] += given <= 2 * mounts

    def _in_work(self, server: str, besides: _Target) -> list[MountFate]:
        """Return the mounts of a server that it works on, as far as it could be known."""
        found = []
        for fate in self.truth.still_open():
            target = self._by_point.get((fate.server, fate.point))
            mine = fate.server == server and fate.session not in self.strangers
            if not mine or fate.is_excused or fate.orphaned or target is besides:
                continue
            if target is not None and target.may_be_open and not target.aside:
                found.append(fate)
        return found

    # --- another process -----------------------------------------------------------------------

    def reborn(
        self, controls: Iterable[ControlApplied], records: Mapping[str, MountRecord]
    ) -> None:
        """Go on with what a journal holds: a process has died, and another one comes."""
        kept = {each.control: each for each in controls}
        self._demand(kept.keys() <= self._recorded.keys(), f"nobody asked for {kept}")
        self._demand(self._done <= kept.keys(), f"answered, and not kept: {self._done}")
        self._recorded, self.limits, self._coming = kept, self.planned, None
        self.paused, self.skipped, self._skipping = False, {}, {}
        self.approved, self._rejected = set(), False
        self.awaited = self.halted = None
        for event in kept.values():
            if event.verb == "approve" and event.reject:
                self.approved.clear()  # it is over, and so is what others have said before
                continue
            self._loosen(event)
            self._narrow(event)
        self._began.clear()
        self._posts.clear()
        for key, target in self._targets.items():
            record = records.get(key)
            target.result = record.result if record is not None else None
            target.intended = record is not None and record.ever_submitted

    # --- the end -------------------------------------------------------------------------------

    def judge(self, report: Mapping[str, Any]) -> None:
        """Hold a report against what was asked and answered."""
        told = [
            (each["user"], each["reason"], each["words"]) for each in report.get("controls", ())
        ]
        asked = [(each.user, each.reason) for each in self._recorded.values()]
        assert self._done <= self._recorded.keys(), f"answered, and not kept: {self._done}"
        assert [each[:2] for each in told] == asked, f"told: {told}, recorded: {asked}"
        times = [each["at"] for each in report.get("controls", ())]
        assert times == sorted(times), times
        for target in report["targets"]:
            self._judge_target(target, report)
        said = [line for line in report["warnings"] if "was paused" in line]
        was_paused = any(each.verb == "pause" for each in self._recorded.values())
        assert bool(said) == was_paused, f"paused: {was_paused}, and told: {said}"

    def _judge_target(self, target: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        key, message = target["key"], target["message"] or ""
        control = self.skipped.get(key)
        if control is not None:
            why = f"{key} was skipped by {control.user}, and is {target['result']}: {message}"
            assert target["result"] == "skipped", why
            assert not target["attempts"], why
            assert control.user in message, why
            assert (control.reason or "") in message, why
        is_said = message.startswith("skipped by ")
        assert not is_said or control is not None, f"{key}: {message}, and nobody asked for it"
        in_vain = "was not approved within" in message or "was rejected by" in message
        gated = self.steers.gate is not None and target["wave"] == "second"
        assert gated or not in_vain, f"{key}: {message}"
        if in_vain:
            assert not self.gate_is_open, f"{key}: {message}, and approved by {self.approved}"
        if message.startswith("no time: "):
            assert self.steers.deadline_s is not None, f"{key}: {message}"
            assert report["run"]["exit_code"] != 0, message
            self.hits["no_time"] += 1


def _highest(limits: Iterable[int | None]) -> int | None:
    """Return the highest of several limits; None is no limit."""
    found = list(limits)
    return None if None in found else max(each for each in found if each is not None)
