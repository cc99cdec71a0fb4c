"""After a death: what was begun is finished in the old session, new mounts get one of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator.app.unmount import release_leftovers
from orchestrator.core.events import Event, SessionEnded, TargetConcluded
from orchestrator.core.lifecycle import MountRecord
from orchestrator.engine.run import Run
from orchestrator.simulator.faults import Fault
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged

pytestmark = pytest.mark.anyio


def slow() -> list[Fault]:
    """Leave slots free when the first process dies: of three POSTs two have begun a mount."""
    return [Fault(kind="delay", path="/mounts$", method="POST", seconds=10.0, count=3)]


def counted(done: Drill) -> Counter[str]:
    """Return how many targets have each result."""
    return Counter(done.results().values())


def sessions(stage: Stage) -> list[str]:
    """Return the sessions in which something was mounted, the oldest first."""
    return list(dict.fromkeys(fate.session for fate in stage.sites.truth.mounts))


def assert_made_once(stage: Stage, machines: int) -> None:
    """Every machine was mounted once, and every mount was removed by us."""
    mounts = stage.sites.truth.mounts
    assert len({fate.point for fate in mounts}) == len(mounts) == machines
    assert {fate.closed_by for fate in mounts} == {"unmounted"}


async def died_early(stage: Stage, doom: Doom) -> None:
    """Let the first process die when it has asked for some mounts, and slots are free."""
    assert await doom.lives(stage.run, at_s=25.0) is None
    assert len(stage.sites.truth.mounts) == 2
    assert len(sessions(stage)) == 1


def end(stage: Stage, guid: str) -> None:
    """Let the server forget one session."""
    manager = stage.sites.managers["hq"]
    (session,) = (each for each in manager.sessions.values() if each.id == guid)
    manager.end(session)


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Keep the event."""
        _ = record
        self.events.append(event)


@contextmanager
def none_of_them_logs_on(stage: Stage) -> Iterator[None]:
    """See that nobody logs on meanwhile."""
    before = stage.sites.truth.logons
    yield
    assert stage.sites.truth.logons == before


async def test_new_mounts_are_asked_for_in_a_session_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one is finished, audited and ended while the new one works on."""
    async with staged(tmp_path, monkeypatch, [Site(machines=24, limit=4)]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=50.0) is None
        (old,) = sessions(stage)
        begun = len(stage.sites.truth.mounts)
        resumed_at, seen = stage.now, Seen()

        done = await stage.resume(observers=[seen])

        new = [fate for fate in done.truth.mounts if fate.session != old]
        assert counted(done) == {"mounted": 24}
        assert sum(fate.session == old for fate in done.truth.mounts) == begun
        assert {fate.session for fate in new} == {sessions(stage)[1]}
        assert_made_once(stage, 24)
        assert done.truth.logons == done.truth.sessions_closed == 2
        assert done.report["servers"][0]["sessions"] == 2
        assert done.outcome.code == 0
        ended = [each.at for each in seen.events if isinstance(each, SessionEnded)]
        concluded = [each.at for each in seen.events if isinstance(each, TargetConcluded)]
        assert ended[0] < max(concluded) - 60.0
        assert min(fate.requested_at for fate in new) >= resumed_at


async def test_the_next_mount_after_a_resume_comes_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while a request of the earlier process is in doubt, and holds its slot."""
    site = Site(machines=6, limit=5, mount_s=100.0, faults=slow())
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        await died_early(stage, Doom(stage, monkeypatch))
        (old,) = sessions(stage)
        resumed_at = stage.now

        done = await stage.resume()

        new = [fate.requested_at for fate in done.truth.mounts if fate.session != old]
        assert counted(done) == {"mounted": 6}
        assert min(new) - resumed_at < 15.0
        assert_made_once(stage, 6)


async def test_a_second_death_loses_neither_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both old sessions are finished, each with what it owns; a third takes what is new."""
    async with staged(
        tmp_path, monkeypatch, [Site(machines=12, limit=5, mount_s=300.0, faults=slow())]
    ) as stage:
        doom = Doom(stage, monkeypatch)
        await died_early(stage, doom)
        assert await doom.lives(stage.resume, at_s=100.0) is None
        assert len(sessions(stage)) == 2

        done = await stage.resume()

        assert counted(done) == {"mounted": 12}
        assert_made_once(stage, 12)
        assert len(sessions(stage)) == 3
        assert done.truth.logons == done.truth.sessions_closed == 3
        assert done.outcome.code == 0
        assert not list(stage.state.glob("sessions-*"))


async def test_a_session_whose_token_was_not_kept_holds_its_slots_beside_one_that_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mounts are open until the server forgets it, so the limits count them until then."""
    site = Site(machines=8, limit=5, mount_s=300.0, faults=slow())
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(session_file=False), at_s=25.0) is None
        assert await doom.lives(stage.resume, at_s=100.0) is None
        assert len(sessions(stage)) == 2

        done = await stage.resume()

        assert counted(done) == {"unknown": 3, "mounted": 5}
        assert done.truth.peaks["server:hq"] == 4  # and one that may have begun


async def test_unmount_finishes_every_session_and_logs_on_to_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two deaths the mounts of both sessions are removed, in the session that owns them."""
    async with staged(
        tmp_path, monkeypatch, [Site(machines=12, limit=5, mount_s=300.0, faults=slow())]
    ) as stage:
        doom = Doom(stage, monkeypatch)
        await died_early(stage, doom)
        assert await doom.lives(stage.resume, at_s=100.0) is None
        begun = len(stage.sites.truth.mounts)
        assert len(sessions(stage)) == 2

        with none_of_them_logs_on(stage):
            outcome = await release_leftovers(
                stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world()
            )

        assert outcome.code == 0, outcome.lines
        assert_made_once(stage, begun)
        assert stage.sites.truth.sessions_closed == 2


async def test_the_old_session_may_be_lost_while_the_new_one_works_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was asked for in the old one is unknown; nobody logs on once more for it."""
    site = Site(machines=10, limit=5, mount_s=120.0, faults=slow())
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        await died_early(stage, doom)
        (old,) = sessions(stage)
        begun = {fate.point for fate in stage.sites.truth.mounts}

        async def expires() -> None:
            await anyio.sleep(30.0)
            end(stage, old)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expires)
            done = await stage.resume()

        lost = [each for each in done.report["targets"] if each["result"] == "unknown"]
        assert counted(done) == {"unknown": 3, "mounted": 7}
        assert {each["attempts"][0]["point_id"] for each in lost} > begun
        assert done.truth.logons == 2
        assert len(done.truth.mounts) == 9
        assert done.outcome.code == 3


async def test_the_new_session_may_be_lost_while_the_old_one_still_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the old one owns is proven and removed; one more logon follows for what is new."""
    site = Site(machines=10, limit=5, mount_s=120.0, faults=slow())
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        await died_early(stage, doom)
        (old,) = sessions(stage)

        async def expires() -> None:
            await anyio.sleep(30.0)
            end(stage, sessions(stage)[1])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(expires)
            done = await stage.resume()

        lost = sum(fate.session == sessions(stage)[1] for fate in done.truth.mounts)
        assert lost
        assert counted(done) == {"unknown": lost, "mounted": 10 - lost}
        assert {f.closed_by for f in done.truth.mounts if f.session == old} == {"unmounted"}
        assert done.truth.logons == 3
        assert len(done.truth.mounts) == 10


async def test_a_resume_that_only_finishes_logs_on_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was begun, so nothing new is asked of the server."""
    async with staged(tmp_path, monkeypatch, [Site(machines=4, limit=4)]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=30.0) is None

        with none_of_them_logs_on(stage):
            done = await stage.resume()

        assert counted(done) == {"mounted": 4}
        assert_made_once(stage, 4)
        assert done.report["servers"][0]["sessions"] == 1


async def test_what_must_be_tried_once_more_is_tried_in_a_new_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was begun; only when one of them fails somebody logs on, and asks again there."""
    site = Site(machines=2, limit=2)
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        points = stage.sites.managers["hq"].inventory.machines[0].points
        for point in points:
            point.fails = "busy"
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=30.0) is None
        (old,) = sessions(stage)
        for point in points:
            point.fails = None

        done = await stage.resume()

        assert counted(done) == {"mounted": 2}
        assert done.truth.logons == len(sessions(stage))
        assert [fate.session == old for fate in done.truth.mounts][:2] == [True, True]


async def test_a_second_signal_waits_for_neither_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is mounted in either is removed or named, within seconds."""
    site = Site(machines=10, limit=5, mount_s=120.0, faults=slow())
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        await died_early(stage, Doom(stage, monkeypatch))

        async def stopped_twice(run: Run) -> None:
            await anyio.sleep(30.0)
            run.stop("SIGTERM")
            await anyio.sleep(1.0)
            run.stop("SIGTERM")

        def begin(run: Run) -> None:
            tasks.start_soon(stopped_twice, run)

        resumed_at = stage.now
        async with anyio.create_task_group() as tasks:
            done = await stage.resume(on_run=begin)

        assert stage.now - resumed_at < 40.0
        assert len(sessions(stage)) == 2
        assert done.outcome.code == 3
        named = [each for each in done.report["targets"] if each["mount"] in {"left", "unknown"}]
        assert len(named) >= len(done.truth.still_open())

        again = await stage.resume()

        assert not again.truth.still_open()
        assert again.truth.sessions_closed == again.truth.logons
