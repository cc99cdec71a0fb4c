"""A session that the service denies with 401 for a while, and that lives: nothing is given up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.simulator.faults import Fault
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
