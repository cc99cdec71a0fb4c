"""A session that the service denies with 401 for a while, and that lives: nothing is given up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.simulator.faults import Fault
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, staged
from tests.scenarios.test_leftovers import unmounted

pytestmark = pytest.mark.anyio


def counted(done: Drill) -> Counter[str]:
    """Return how many targets have which result."""
    return Counter(done.results().values())


def denied(until_s: float, from_s: float = 7.0) -> Fault:
    """Return a fault that answers all that is asked in any session with 401."""
    return Fault(kind="unauthorized", path=r"^(?!.*sessionMngr)", from_s=from_s, until_s=until_s)


@pytest.mark.parametrize("until_s", [8.0, 10.0, 20.0, 30.0])
async def test_a_session_that_is_denied_briefly_is_used_on(
    until_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is just starting denies sessions that live; their mounts are waited for."""
    site = Site(machines=6, limit=2, mount_s=20.0, faults=[denied(until_s)])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        done = await stage.run()

        assert counted(done) == {"mounted": 6}
        assert done.outcome.code == 0
        assert done.truth.logons == 1
        assert not done.truth.still_open()


async def test_mounts_of_a_session_that_is_denied_keep_their_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may live: the limits hold until the server must have forgotten it."""
    site = Site(machines=6, limit=2, mount_s=20.0, faults=[denied(90.0)])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        done = await stage.run()

        assert counted(done) == {"unknown": 2, "mounted": 4}
        assert done.truth.peaks["server:hq"] == 2
        assert done.report["servers"][0]["peak_mounts"] == 2
        begun = sorted(fate.requested_at for fate in done.truth.mounts)
        assert begun[2] > SESSION_IDLE_LIMIT
        assert done.outcome.code == 3


async def test_unmount_is_named_for_what_a_denied_session_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may still release it, once the session is not denied any more; and it does."""
    site = Site(machines=2, limit=2, mount_s=20.0, faults=[denied(90.0)])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        done = await stage.run()

        assert counted(done) == {"unknown": 2}
        assert done.report["run"]["out_of_reach"] == 0
        assert len(done.truth.still_open()) == 2

        await anyio.sleep(90.0)
        released = await unmounted(stage)

        assert released.code == 0, released.lines
        assert not done.truth.still_open()


DIED_AT = 25.0
"""When a run of the tests below dies, in seconds."""


@pytest.mark.parametrize("denied_s", [2.0, 10.0, 25.0])
async def test_a_resume_waits_for_a_session_that_is_denied_briefly(
    denied_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for as long as a running process would; then its mounts are finished in it."""
    brief = denied(DIED_AT + denied_s, from_s=DIED_AT)
    site = Site(machines=6, limit=2, mount_s=300.0, faults=[brief])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=DIED_AT) is None

        done = await stage.resume()

        assert counted(done) == {"mounted": 6}
        assert done.truth.peaks["server:hq"] == 2
        assert done.outcome.code == 0
        assert not done.truth.still_open()


@pytest.mark.parametrize("idle_s", [0.0, 600.0])
async def test_a_resume_keeps_the_slots_of_a_session_that_is_denied(
    idle_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mounts count until the server must have forgotten it, seen from its last use."""
    long = denied(DIED_AT + idle_s + 90.0, from_s=DIED_AT)
    site = Site(machines=6, limit=2, mount_s=20.0, faults=[long])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=DIED_AT) is None
        begun = len(stage.sites.truth.mounts)
        await anyio.sleep(idle_s)

        done = await stage.resume()

        assert counted(done) == {"unknown": 2, "mounted": 4}
        assert done.truth.peaks["server:hq"] == 2
        assert done.report["servers"][0]["peak_mounts"] == 2
        later = sorted(fate.requested_at for fate in done.truth.mounts)[begun:]
        assert later[0] > DIED_AT + SESSION_IDLE_LIMIT
        assert later[0] < DIED_AT + SESSION_IDLE_LIMIT + 60.0
        assert done.outcome.code == 3


async def test_a_resume_long_after_believes_at_once_that_the_session_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not used for longer than servers keep one: nothing is waited for, no slot is kept."""
    site = Site(machines=6, limit=2, mount_s=300.0)
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=DIED_AT) is None
        begun = len(stage.sites.truth.mounts)
        await anyio.sleep(1000.0)

        done = await stage.resume()

        assert counted(done) == {"unknown": 2, "mounted": 4}
        later = sorted(fate.requested_at for fate in done.truth.mounts)[begun:]
        assert later[0] < DIED_AT + 1000.0 + 15.0
        assert done.truth.peaks["server:hq"] == 2
        assert done.outcome.code == 3


async def test_unmount_waits_for_a_session_that_is_denied_briefly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It releases what is mounted there, and says for what it waits."""
    brief = denied(DIED_AT + 20.0, from_s=DIED_AT)
    site = Site(machines=2, limit=2, mount_s=100.0, faults=[brief])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=DIED_AT) is None
        said: list[str] = []

        released = await unmounted(stage, said.append)

        assert released.code == 0, released.lines
        assert any("may still live" in line for line in said), said
        assert {fate.closed_by for fate in stage.sites.truth.mounts} == {"unmounted"}
        assert not stage.sites.truth.still_open()
