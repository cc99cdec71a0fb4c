"""Plays a story of several workers, and holds what they say against the servers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import anyio
import pytest

from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.policy import WatchPolicy
from orchestrator.engine.mount.orphans import READ_WITHIN
from tests.captured import captured_logs
from tests.simulation.sites.judging import UnknownEnd, judged, unknown_ends
from tests.simulation.sites.processes import Freeze, run_processes
from tests.simulation.sites.stage import Stage, StagedWorker, staged
from tests.simulation.sites.story import Crew, SitesStory, Strike, told, told_briefly
from tests.virtual.clock import uncollected
from tests.virtual.sites import host

CALM = WatchPolicy(idle_share=0.05, shortest=3.0, crowded=5.0)
LATEST_S = 250.0
"""After so long every request that a server held back has had its effect."""

MARGIN_S, RECONNECTED_S = 5.0, 15.0
"""Seconds that the last answer is old when a worker is cut off, and that it takes to try again."""

WELL = frozenset({"mounted", "verified"})


class Violation(AssertionError):
    """What must never be, has been."""


@dataclass(slots=True)
class Played:
    """What came of a story."""

    story: SitesStory
    report: dict[str, Any]
    hits: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0


@uncollected()
def played(seed: int, *, briefly: bool = False) -> Played:
    """Play the story of a seed to its end; `briefly` with mounts of seconds.

    Raises:
        Violation: an invariant was broken; the text says which, and how to play it again.
    """
    story = told_briefly(seed) if briefly else told(seed)
    struck: list[str] = []

    async def play() -> Played:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging.getLogger("aiohttp.server"), "disabled", True)  # clients leave
            return await _Play(story, struck).play(patch)

    try:
        with captured_logs() as logs:
            done = run_processes(play)
        errors = [each for each in logs if each["log_level"] in {"error", "critical"}]
        assert not errors, f"internal errors: {errors[:2]}"
    except Exception as exc:
        cause: BaseException = exc
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        what = str(cause) or repr(cause)
        how = " --briefly" if briefly else ""
        again = f"play it again: python -m tests.simulation.sites {seed}{how}"
        story_told = "".join(f"\n    {each}" for each in struck)
        raise Violation(f"seed {seed}: {what[:1500]}{story_told}\n  {again}") from exc
    return done


class _Cut(NamedTuple):
    """From when to when a worker was cut off from its servers."""

    worker: str
    begins: float
    ends: float


class _Play:
    """One story being played."""

    def __init__(self, story: SitesStory, struck: list[str]) -> None:
        self.story, self._struck = story, struck
        self._counts: Counter[str] = Counter()
        self._left = list(story.strikes)
        self._number = 0
        self._cuts: list[_Cut] = []
        self.stage: Stage

    async def play(self, patch: pytest.MonkeyPatch) -> Played:
        story = self.story
        async with staged(
            patch,
            story.servers,
            of_sites=story.of_sites,
            plan=plan_of(story),
            watch=CALM,
            seed=story.seed,
            kept=20 if story.fails_over else 0,
            deadline=story.deadline,
        ) as self.stage:
            self.stage.witness.on_moment = self._comes_to
            self.stage.witness.ramp = story.ramp
            self.stage.witness.interval_s = story.interval_s
            for crew in story.crews:
                for _ in range(crew.workers):
                    self._begin(crew)
            await self.stage.over(story.ends_s)
            assert not self.stage.loop.errors, self.stage.loop.errors[:2]
            took_s = self.stage.loop.now
            if not story.servers_are_well:
                await anyio.sleep(LATEST_S)
            if self.stage.witness.lost_takings:
                return Played(story, {}, Counter({"failover_lost_a_taking": 1}), took_s)
            report = judged(self.stage)
            self._require_good(report)
            hits = self.stage.hits + self.stage.witness.hits
            hits["seeds"] += 1
            shards = self.stage.database.tables.shards.values()
            hits["turns"] += any(row.turn_over is not None for row in shards)
            for target in report["targets"]:
                hits[f"result_{target['result']}"] += 1
            halted = self.stage.database.tables.runs[self.stage.submission.started.run].halted
            if halted is not None:
                hits[f"halted: {halted.split(':')[0][:30]}"] += 1
            return Played(story, report, hits, took_s)

    def _require_good(self, report: dict[str, Any]) -> None:
        """Where only machines and the database had trouble, everything must be good in the end."""
        assert report["run"]["exit_code"] != ExitCode.INTERNAL, report["run"]
        failed = [each.id for each in self.stage.workers if each.worker.failed]
        assert not failed, f"internal errors in {failed}"
        story = self.story
        if not story.servers_are_well or story.fails_over or not story.sealed:
            return
        if story.deadline is not None or self.stage.witness.paused:
            return
        bad = {
            target["key"]: (target["result"], target["message"])
            for target in report["targets"]
            if target["result"] not in WELL
        }
        assert not bad, f"only machines had trouble, and not good is {bad}"
        if report["run"]["exit_code"] != ExitCode.GOOD:
            unknown = unknown_ends(self.stage)
            assert unknown, report["run"]
            unforced = [each for each in unknown if not self._was_cut_off(each)]
            assert not unforced, (unforced, report["run"])

    def _was_cut_off(self, end: UnknownEnd) -> bool:
        """Return whether who ended a session could not reach its server while that was audited.

        What a server out of reach has at the end cannot be known.
        """
        return any(
            cut.worker == end.worker
            and cut.begins <= end.at - READ_WITHIN + MARGIN_S
            and end.at <= cut.ends + RECONNECTED_S
            for cut in self._cuts
        )

    # --- workers -------------------------------------------------------------------------------

    def _begin(self, crew: Crew) -> StagedWorker:
        self._number += 1
        story, name = self.story, f"w{self._number}"
        worker = self.stage.begin(
            name, *crew.sites, trouble=story.link, sealed=story.sealed, room=crew.room
        )
        worker.crew = crew
        return worker

    def _worker(self, name: str) -> StagedWorker | None:
        for each in self.stage.workers:
            if each.id == name and not each.process.is_dead and not each.task.done():
                return each
        return None

    # --- strikes -------------------------------------------------------------------------------

    def _comes_to(self, moment: str, name: str) -> None:
        """Let what is due happen: a worker has come to a moment."""
        self._counts[moment] += 1
        for strike in [each for each in self._left if each.moment == moment]:
            if strike.number == self._counts[moment]:
                self._left.remove(strike)
                hits = partial(self._hit, strike, name)
                if strike.after_s:
                    self._later(strike.after_s, hits)
                else:
                    hits()

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, act, context=self.stage.of_nobody())

    def _hit(self, strike: Strike, name: str) -> None:
        stage, worker = self.stage, self._worker(name)
        if worker is None:
            return
        self._struck.append(f"{stage.loop.now:.3f} s: {worker.id}: {strike}")
        stage.hits[f"strike_{strike.what}"] += 1
        database, process = stage.database, worker.process
        what, _, how = strike.what.partition("_")
        match what:
            case "kill":
                stage.kill(worker)
                self._replace(worker)
            case "leave":
                worker.leave()
                self._replace(worker)
            case "freeze":
                stage.freeze(worker, Freeze(how))
                self._later(strike.seconds, process.thaw)
            case "hang":
                process.hang()
                self._later(strike.seconds, process.thaw_loop)
            case "restart":
                database.stop()
                self._later(strike.seconds, database.start)
            case "read":
                database.is_read_only = True
                self._later(strike.seconds, database.become_writable)
            case "fail":
                self._fail_over(strike)
            case _:
                self._cut(worker, how, strike.seconds)

    def _fail_over(self, strike: Strike) -> None:
        database = self.stage.database
        database.stop()

        def take_over() -> None:
            before = database.tables
            database.fail_over(strike.lost)
            self.stage.witness.failed_over(before, database.tables)

        self._later(strike.seconds, take_over)

    def _cut(self, worker: StagedWorker, off: str, seconds: float) -> None:
        hosts = [host(name) for name in self.stage.sites.managers]
        if off in {"database", "both"}:
            worker.cut_from_database()
            self._later(seconds, worker.mend_database)
        if off in {"server", "both"}:
            now = self.stage.loop.now
            self._cuts.append(_Cut(worker.id, now, now + seconds))
            for each in hosts:
                self.stage.network.cut_worker(worker.process, each)
            self._later(seconds, partial(self.stage.network.mend_worker, worker.process))

    def _replace(self, worker: StagedWorker) -> None:
        self.stage.expected += 1
        self._later(self.story.replaced_after_s, lambda: self._came_for(worker.crew))

    def _came_for(self, crew: Crew) -> None:
        self.stage.expected -= 1
        if self.stage.database.tables.runs[self.stage.submission.started.run].is_open:
            self._begin(crew)


def plan_of(story: SitesStory) -> str:
    """Return the plan's part behind its servers."""
    limits = ["outage: 20m"]
    if story.run_limit is not None:
        limits.append(f"mounts: {story.run_limit}")
    if story.failures is not None:
        limits.append(f"failures: '{story.failures}'")
    if story.ramp is not None:
        limits.append(f"ramp: {{from: {story.ramp[0]}, every: {story.ramp[1]:g}s}}")
    if story.interval_s:
        limits.append(f"start_interval: {story.interval_s:g}s")
    head = (
        f"defaults: {{timeouts: {{mount: {story.mount_within_s:g}s, "
        f"unmount: {story.unmount_within_s:g}s}}, retries: {{attempts: 2, delay: 5s}}}}\n"
        f"limits: {{{', '.join(limits)}}}\n"
    )
    rows = [
        f"{{vm: {machine}, server: {server.name}, os: {'auto' if story.open_os else os}}}"
        for place, server in enumerate(story.servers)
        for machine, os in server.listed(place)
    ]
    waves = min(story.waves, len(rows))
    if waves == 1:
        return head + "targets:\n" + "".join(f"  - {row}\n" for row in rows)
    lines = [head + "waves:\n"]
    for number in range(waves):
        after = f"    after: [wave{number - 1}]\n" if number else ""
        lines.append(f"  - name: wave{number}\n{after}    targets:\n")
        lines += [f"      - {row}\n" for row in rows[number::waves]]
    return "".join(lines)
