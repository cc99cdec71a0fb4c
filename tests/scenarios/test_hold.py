"""Held mounts: they stay as long as was asked, count all the while, and have a clear end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.unmount import UnmountOutcome, release_leftovers
from orchestrator.core.errors import RunLocked
from orchestrator.core.events import Event, MountKept
from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.model import MountState, Order, Unmount
from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.report.evidence.verifying import Verdict, verify
from orchestrator.report.summary import summarize
from orchestrator.simulator.faults import Fault
from tests.scenarios.asking import (
    CHECK,
    all_but,
    beginning_with,
    judged_by,
    place,
    searching,
    with_points,
)
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, drill, staged
from tests.virtual.sites import Sites, host

pytestmark = pytest.mark.anyio

HOUR, NIGHT, DAY = 3600.0, 8 * 3600.0, 86_400.0
TWO_WAVES = """waves:
  - {name: first, targets: [{vm: hq-app0000}], critical: %s}
  - {name: second, after: [first], targets: [{vm: hq-sql0001}]}
"""


def held_s(done: Drill) -> list[float]:
    """Return how long each target was held, in the order of the report."""
    return [target["phases_s"]["held"] for target in done.report["targets"]]


def stopping(at_s: float, *more: float) -> Callable[[Sites, Run], Coroutine[Any, Any, None]]:
    """Return what happens meanwhile: signals, at these times."""

    async def meanwhile(_sites: Sites, run: Run) -> None:
        before = 0.0
        for at in (at_s, *more):
            await anyio.sleep(at - before)
            run.stop("SIGTERM")
            before = at

    return meanwhile


def requests_of(stage: Stage) -> Callable[[], Awaitable[UnmountOutcome]]:
    """Return what `unmount last` does from another terminal."""

    async def unmount() -> UnmountOutcome:
        return await release_leftovers(stage.state, "last", lambda begun: stage.loaded.plan)

    return unmount


async def test_every_mount_is_held_from_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as `--hold` says; then it is removed, and the run has ended like any other."""
    done = await drill(tmp_path, monkeypatch, choices={"hold": HOUR})

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 8}
    assert all(abs(seconds - HOUR) < 1 for seconds in held_s(done))
    assert {target["mount"] for target in done.report["targets"]} == {"released"}
    assert not done.truth.still_open()


async def test_held_mounts_count_in_every_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slots and four machines: the second pair waits until the first is released."""
    done = await drill(tmp_path, monkeypatch, [Site(machines=4, limit=2)], choices={"hold": HOUR})

    assert done.truth.peaks["server:hq"] == 2
    assert done.took_s > 2 * HOUR
    assert Counter(done.results().values()) == {"mounted": 4}


async def test_a_hold_of_a_night_never_loses_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept alive every two minutes, by few requests."""
    done = await drill(tmp_path, monkeypatch, [Site(machines=1)], choices={"hold": NIGHT})

    assert (done.outcome.code, done.truth.logons, done.truth.sessions_expired) == (0, 1, 0)
    assert done.took_s > NIGHT
    assert sum(done.truth.received.values()) < 300


async def test_dependants_start_at_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second wave does not wait for the end of the first one's hold."""
    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=2, backup_servers=1)],
        TWO_WAVES % "true",
        choices={"hold": HOUR},
    )

    assert Counter(done.results().values()) == {"mounted": 2}
    assert done.took_s < HOUR + 400


async def test_a_critical_failure_halts_at_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not an hour later, when its mount is removed."""
    searching(monkeypatch, checks=(CHECK,), most=1)
    judged_by(monkeypatch, lambda request: False)
    beginning_with(monkeypatch, keep_failed_s=HOUR)

    done = await drill(
        tmp_path, monkeypatch, [Site(machines=2, backup_servers=1)], TWO_WAVES % "true"
    )

    assert done.results() == {"hq-app0000": "failed", "hq-sql0001": "skipped"}
    assert held_s(done)[0] == pytest.approx(HOUR, abs=1)
    assert done.outcome.code == 5


async def test_only_what_failed_is_kept_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`keep_failed` holds bad mounts; good ones are removed at once."""
    searching(monkeypatch, checks=(CHECK,), most=1)
    judged_by(monkeypatch, lambda request: "app" not in request.vm)
    beginning_with(monkeypatch, keep_failed_s=1800.0)

    done = await drill(tmp_path, monkeypatch, [Site(machines=3)])

    assert done.target("hq-app0000")["phases_s"]["held"] == pytest.approx(1800, abs=1)
    assert sum(held_s(done)) == pytest.approx(1800, abs=1)
    assert done.target("hq-app0000")["mount"] == "released"
    assert done.outcome.code == 1


async def test_the_longest_of_several_holds_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--hold` of a minute does not shorten `keep_failed` of half an hour."""
    searching(monkeypatch, checks=(CHECK,), most=1)
    judged_by(monkeypatch, lambda request: "app" not in request.vm)
    beginning_with(monkeypatch, keep_failed_s=1800.0, hold_s=60.0)

    done = await drill(tmp_path, monkeypatch, [Site(machines=3)])

    assert sorted(map(round, held_s(done))) == [60, 60, 1800]


async def test_a_bad_mount_is_not_kept_where_another_point_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is removed at once; the good one is held, where every mount is."""
    searching(monkeypatch, checks=(CHECK,))
    judged_by(monkeypatch, all_but(0, 1))
    beginning_with(monkeypatch, keep_failed_s=DAY, hold_s=HOUR)

    done = await drill(tmp_path, monkeypatch, [Site(machines=1)])

    (target,) = done.report["targets"]
    assert (target["result"], len(target["attempts"])) == ("verified", 3)
    assert target["phases_s"]["held"] == pytest.approx(HOUR, abs=1)
    assert done.took_s < HOUR + 400


async def test_only_the_mount_that_the_result_is_about_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bisection may go on after the good one: that is not held, and the report says so."""
    searching(monkeypatch, Order.BISECT, checks=(CHECK,))
    judged_by(monkeypatch, lambda request: place(request) >= 4)
    site = Site(machines=1, backup_servers=1, change=with_points(8))

    done = await drill(tmp_path, monkeypatch, [site], choices={"hold": HOUR})

    (target,) = done.report["targets"]
    assert (target["result"], target["point"]["fallback_depth"]) == ("verified", 4)
    assert target["phases_s"]["held"] == 0
    assert "the good one's mount was not held" in target["message"]


@pytest.mark.parametrize("unmount", [Unmount.NEVER, Unmount.ON_SUCCESS])
async def test_a_stop_ends_endless_holds_and_unmounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unmount: Unmount
) -> None:
    """The first signal is enough: everything is removed, and the code says who stopped it."""
    searching(monkeypatch, checks=(CHECK,), most=1)
    judged_by(monkeypatch, lambda request: "app" not in request.vm)
    beginning_with(monkeypatch, unmount=unmount)

    done = await drill(tmp_path, monkeypatch, [Site(machines=3)], meanwhile=stopping(3 * HOUR))

    assert done.outcome.code == 143
    held = [seconds > 2 * HOUR for seconds in held_s(done)]
    assert held == ([True] * 3 if unmount is Unmount.NEVER else [True, False, False])
    assert not done.truth.still_open()
    assert {target["mount"] for target in done.report["targets"]} == {"released"}


async def test_the_second_signal_finds_nothing_left_to_cancel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A held mount is removed within the grace of a cancelled run too."""
    site = Site(machines=3)

    done = await drill(
        tmp_path, monkeypatch, [site], choices={"hold": DAY}, meanwhile=stopping(HOUR, HOUR)
    )

    assert done.outcome.code == 143
    assert {target["mount"] for target in done.report["targets"]} == {"released"}
    assert Counter(done.results().values()) == {"mounted": 3}


async def test_a_stop_before_the_verdict_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mounted when the signal comes ends, is proven, and is removed at once."""
    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=3)],
        choices={"hold": DAY},
        meanwhile=stopping(30.0),
    )

    assert done.took_s < 400
    assert sum(held_s(done)) == 0
    assert Counter(done.results().values()) == {"mounted": 3}


async def test_a_hold_ends_in_time_for_the_deadline_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so; what was asked for has been done else, so nothing is halted."""
    reasons = set()

    class Reasons:
        def observe(self, event: Event, record: MountRecord | None) -> None:
            if isinstance(event, MountKept):
                reasons.add(event.reason)

    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=2)],
        choices={"hold": HOUR, "deadline": 1800.0},
        observers=[Reasons()],
    )

    assert done.outcome.code == 0
    assert done.report["run"]["halted"] is None
    assert all(1400.0 < seconds < 1500.0 for seconds in held_s(done))
    assert all(1500.0 <= (each.closed_at or 0.0) < 1800.0 for each in done.truth.mounts)
    assert reasons == {"--hold, cut short by the deadline of the run"}


async def test_what_waits_for_a_held_slot_until_the_deadline_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no time for it when the hold is cut short."""
    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=2, limit=1)],
        choices={"hold": HOUR, "deadline": 1800.0},
    )

    assert done.outcome.code == 5
    assert Counter(done.results().values()) == {"mounted": 1, "skipped": 1}
    assert 1400.0 < max(held_s(done)) < 1500.0
    assert max(each.closed_at or HOUR for each in done.truth.mounts) < 1800.0


async def test_a_hold_without_end_ends_in_time_for_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unmount: never` and a deadline: by then all is unmounted."""
    beginning_with(monkeypatch, unmount=Unmount.NEVER)

    done = await drill(tmp_path, monkeypatch, [Site(machines=2)], choices={"deadline": HOUR})

    assert done.outcome.code == 0
    assert all(3300.0 <= (each.closed_at or 0.0) < HOUR for each in done.truth.mounts)


async def test_what_gets_no_slot_for_endless_holds_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not wait for slots that only a person could free."""
    beginning_with(monkeypatch, unmount=Unmount.NEVER)

    done = await drill(tmp_path, monkeypatch, [Site(machines=4, limit=2)], meanwhile=stopping(HOUR))

    assert Counter(done.results().values()) == {"mounted": 2, "skipped": 2}
    messages = {each["message"] for each in done.report["targets"] if each["result"] == "skipped"}
    assert messages == {"no slot was left: held mounts have them all"}


async def test_a_wave_behind_endless_holds_is_skipped_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts at the verdict, and finds every slot taken for good."""
    beginning_with(monkeypatch, unmount=Unmount.NEVER)

    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=2, backup_servers=1, limit=1)],
        TWO_WAVES % "false",
        meanwhile=stopping(HOUR),
    )

    assert done.results() == {"hq-app0000": "mounted", "hq-sql0001": "skipped"}
    assert done.took_s < HOUR + 400


async def test_a_session_lost_during_a_hold_leaves_the_verdict_and_says_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was proven stands; nobody can remove the mount any more, and the run is in doubt."""

    async def restart(sites: Sites, _run: Run) -> None:
        await anyio.sleep(HOUR)
        for manager in sites.managers.values():
            manager.restart()

    done = await drill(
        tmp_path, monkeypatch, [Site(machines=2)], choices={"hold": DAY}, meanwhile=restart
    )

    assert Counter(done.results().values()) == {"mounted": 2}
    assert {target["mount"] for target in done.report["targets"]} == {"unknown"}
    assert done.outcome.code == 3
    assert done.took_s < 2 * HOUR, "found within the keep-alive's time"


@pytest.mark.parametrize(
    ("away_s", "mount"), [(300, "released"), (1200, "unknown"), (3000, "unknown")]
)
async def test_an_outage_during_a_hold_is_waited_out_as_long_as_the_session_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away_s: float, mount: str
) -> None:
    """Afterwards the verdict stands, and the mount is unknown, never silently kept."""

    async def away(sites: Sites, _run: Run) -> None:
        await anyio.sleep(HOUR)
        sites.network.refusing.add(host("hq"))
        sites.network.cut(host("hq"))
        await anyio.sleep(away_s)
        sites.network.refusing.discard(host("hq"))

    done = await drill(
        tmp_path, monkeypatch, [Site(machines=2)], choices={"hold": 4 * HOUR}, meanwhile=away
    )

    assert done.outcome.code == (0 if mount == "released" else 3)
    assert {target["mount"] for target in done.report["targets"]} == {mount}
    assert Counter(done.results().values()) == {"mounted": 2}


async def test_a_server_that_takes_no_more_mounts_keeps_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are skipped after the outage that the plan allows; the run does not hang."""
    beginning_with(monkeypatch, unmount=Unmount.NEVER)
    fault = Fault(kind="xml_503", method="POST", path="/mounts$", skip=1)

    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=3, backup_servers=1, faults=[fault])],
        extra="limits: {outage: 5m}\n",
        meanwhile=stopping(3 * HOUR),
    )

    assert Counter(done.results().values()) == {"mounted": 1, "skipped": 2}
    assert max(held_s(done)) > HOUR
    assert not done.truth.still_open()


async def test_reports_are_written_once_all_that_remains_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They show `kept`, until when, and how to end it; and they are written anew at the end."""
    seen: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []

    async def look(_sites: Sites, _run: Run) -> None:
        await anyio.sleep(1800)
        seen.append(json.loads((tmp_path / "report" / "report.json").read_text()))
        verdicts.append(verify(tmp_path / "report"))

    done = await drill(
        tmp_path, monkeypatch, [Site(machines=2)], choices={"hold": HOUR}, meanwhile=look
    )

    (early,) = seen
    assert [verdict.is_good for verdict in [*verdicts, verify(tmp_path / "report")]] == [True, True]
    assert early["run"]["exit_code"] is None
    assert early["run"]["finished_at"] is None
    for target in early["targets"]:
        assert (target["result"], target["mount"]) == ("mounted", "kept")
        assert "held open until 2026-11-23 07:0" in target["message"]
        assert "bulk-restore unmount 20261123T060000Z-0001" in target["message"]
    assert {wave["finished_at"] is None for wave in early["waves"]} == {False}
    assert {target["mount"] for target in done.report["targets"]} == {"released"}
    assert all(target["message"] is None for target in done.report["targets"])


# --- ended by somebody else -----------------------------------------------------------------


async def test_unmount_from_elsewhere_ends_the_holds_of_a_living_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own process removes them, and ends as it would have; `unmount` says which."""
    beginning_with(monkeypatch, unmount=Unmount.NEVER)
    told: list[UnmountOutcome] = []
    async with (
        staged(tmp_path, monkeypatch, [Site(machines=3)]) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def unmount() -> None:
            await anyio.sleep(3 * HOUR)
            told.append(await requests_of(stage)())

        tasks.start_soon(unmount)
        done = await stage.run()

    (released,) = told
    assert released.code == 0
    assert sorted(released.lines) == sorted(
        f"released: default/hq/{label}" for label in done.results()
    )
    assert done.outcome.code == 0
    assert done.took_s < 3 * HOUR + 60
    assert not list(stage.state.glob("*.request"))


async def test_unmount_frees_the_slots_for_what_still_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the holds of the moment end: what is mounted afterwards is held again."""
    told: list[UnmountOutcome] = []
    async with (
        staged(tmp_path, monkeypatch, [Site(machines=2, limit=1)]) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def unmount() -> None:
            await anyio.sleep(HOUR)
            told.append(await requests_of(stage)())

        tasks.start_soon(unmount)
        done = await stage.run(hold=3 * HOUR)

    (released,) = told
    assert sum(line.startswith("released: ") for line in released.lines) == 1
    assert released.code == 3
    assert any("default/hq/" in line for line in released.lines[1:])
    first, second = sorted(held_s(done))
    assert (first < HOUR, second == pytest.approx(3 * HOUR, abs=1)) == (True, True)


async def test_unmount_names_a_server_whose_targets_are_not_known_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists late, and what is mounted there is held: exit code 3."""
    late = Fault(kind="delay", seconds=50.0, query="type=VmReplicaPoint|type=VmRestorePoint")
    sites = [Site("hq", machines=1, mount_s=5.0), Site("dr", machines=1, faults=[late])]
    told: list[UnmountOutcome] = []
    async with (
        staged(tmp_path, monkeypatch, sites) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def unmount() -> None:
            await anyio.sleep(15)
            told.append(await requests_of(stage)())

        tasks.start_soon(unmount)
        done = await stage.run(hold=HOUR)

    (released,) = told
    assert max(held_s(done)) == pytest.approx(HOUR, abs=1)
    assert released.code == 3
    assert released.lines[0].startswith("released: default/hq/")
    assert released.lines[1].startswith("dr: its targets are not known yet")


async def test_unmount_beside_a_server_without_targets_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was selected there: what the run held is all there is, with exit code 0."""
    told: list[UnmountOutcome] = []
    async with (
        staged(tmp_path, monkeypatch, [Site("hq", machines=1), Site("dr", machines=1)]) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def unmount() -> None:
            await anyio.sleep(600)
            told.append(await requests_of(stage)())

        tasks.start_soon(unmount)
        await stage.run(hold=HOUR, only=("hq-*",))

    (released,) = told
    assert (released.code, len(released.lines)) == (0, 1)


async def test_unmount_says_what_the_living_run_could_not_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 3, and the mount is named for a person."""
    told: list[UnmountOutcome] = []
    fault = Fault(kind="forbidden", method="DELETE", path=r"/mounts/\d+$")
    async with (
        staged(tmp_path, monkeypatch, [Site(machines=1, faults=[fault])]) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def unmount() -> None:
            await anyio.sleep(HOUR)
            told.append(await requests_of(stage)())

        tasks.start_soon(unmount)
        done = await stage.run(hold=DAY)

    (released,) = told
    assert (released.code, done.outcome.code) == (3, 3)
    assert any("hq-app0000" in line for line in released.lines)


async def test_unmount_of_a_living_run_that_holds_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ever: its mounts are its own business."""
    refused: list[str] = []
    async with (
        staged(tmp_path, monkeypatch, [Site(machines=1)]) as stage,
        anyio.create_task_group() as tasks,
    ):

        async def unmount() -> None:
            await anyio.sleep(20)
            with pytest.raises(RunLocked) as caught:
                await requests_of(stage)()
            refused.append(str(caught.value))

        tasks.start_soon(unmount)
        await stage.run()

    assert len(refused) == 1


# --- and after a death ----------------------------------------------------------------------


async def killed_holding(stage: Stage, monkeypatch: pytest.MonkeyPatch, **choices: Any) -> Doom:
    """Let a run die ten minutes into its holds."""
    doom = Doom(stage, monkeypatch)
    held = anyio.Event()

    class Watching:
        def observe(self, event: Event, record: MountRecord | None) -> None:
            if isinstance(event, MountKept):
                held.set()

    async def die() -> None:
        await held.wait()
        await anyio.sleep(600)
        doom.die()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(die)
        assert await doom.lives(lambda: stage.run(observers=[Watching()], **choices)) is None
    return doom


async def test_a_resume_holds_on_until_the_time_that_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is mounted again, and the hold ends when it would have."""
    async with staged(tmp_path, monkeypatch, [Site(machines=2)]) as stage:
        await killed_holding(stage, monkeypatch, hold=HOUR)
        await anyio.sleep(120)
        done = await stage.resume()

    assert Counter(done.results().values()) == {"mounted": 2}
    assert all(seconds == pytest.approx(HOUR, abs=1) for seconds in held_s(done))
    assert (done.outcome.code, len(done.truth.mounts)) == (0, 2)


async def test_a_resume_after_that_time_releases_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold is over; nobody asked for more."""
    async with staged(tmp_path, monkeypatch, [Site(machines=1)]) as stage:
        await killed_holding(stage, monkeypatch, hold=650.0)
        await anyio.sleep(120)
        done = await stage.resume()
        took = stage.now

    (target,) = done.report["targets"]
    assert (target["result"], target["mount"], done.outcome.code) == ("mounted", "released", 0)
    assert took < 1000


async def test_endless_holds_go_on_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what waits for their slots is still skipped; a stop ends them as before."""
    beginning_with(monkeypatch, unmount=Unmount.NEVER)
    async with staged(tmp_path, monkeypatch, [Site(machines=1)]) as stage:
        await killed_holding(stage, monkeypatch)
        await anyio.sleep(60)
        async with anyio.create_task_group() as tasks:

            def begin(run: Run) -> None:
                tasks.start_soon(stopping(3 * HOUR), stage.sites, run)

            done = await stage.resume(on_run=begin)

    (target,) = done.report["targets"]
    assert (target["result"], target["mount"], done.outcome.code) == ("mounted", "released", 143)
    assert target["phases_s"]["held"] > 3 * HOUR


async def test_a_resume_after_the_session_is_gone_says_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict stands; the mount is out of everybody's reach."""
    async with staged(tmp_path, monkeypatch, [Site(machines=1)]) as stage:
        await killed_holding(stage, monkeypatch, hold=DAY)
        await anyio.sleep(HOUR)
        done = await stage.resume()

    (target,) = done.report["targets"]
    assert (target["result"], target["mount"], done.outcome.code) == ("mounted", "unknown", 3)


async def test_dependants_of_a_held_target_start_in_the_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was decided before the death; the second wave does not wait for its release."""
    site = Site(machines=2, backup_servers=1, limit=1)
    async with staged(tmp_path, monkeypatch, [site], TWO_WAVES % "false") as stage:
        await killed_holding(stage, monkeypatch, hold=HOUR)
        await anyio.sleep(60)
        done = await stage.resume()

    assert done.results() == {"hq-app0000": "mounted", "hq-sql0001": "mounted"}
    assert [round(seconds) for seconds in held_s(done)] == [3600, 3600]
    assert done.truth.peaks["server:hq"] == 1


async def test_a_dead_runs_kept_mount_is_shown_and_released_by_unmount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is silently kept: it is `kept` in the journal, and may be open for status."""
    async with staged(tmp_path, monkeypatch, [Site(machines=1)]) as stage:
        await killed_holding(stage, monkeypatch, hold=HOUR)
        state = State(stage.state)
        found = state.replay(state.find("last"))
        (record,) = found.records.values()
        kept = (record.phase, record.mount_state, record.may_be_open)
        (shown,) = summarize(found).targets
        # its own network: what a second process would reach over HTTPS is tested as a process
        done = await stage.resume()

    assert kept == (Phase.HELD, MountState.KEPT, True)
    assert (shown.result, shown.mount) == ("mounted", MountState.KEPT)
    assert "bulk-restore unmount" in (shown.message or "")
    assert done.outcome.code == 0
