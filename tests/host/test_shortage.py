"""No connection can be made for want of descriptors: slower, or halted, but never blamed."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.core.events import ServerGivenUp, ServerParked
from orchestrator.engine.run import Run
from tests.scenarios.drill import Drill, Site, drill
from tests.virtual.sites import Sites, host

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def connections_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let aiohttp's pools follow the virtual clock: a connection for POSTs is kept for 2 s."""
    monkeypatch.setattr("aiohttp.connector.monotonic", anyio.current_time)


def without_descriptors(
    begins: float, lasts: float, *, cut: bool = False
) -> Callable[[Sites, Run], Any]:
    """Return what lets no connection be made for some seconds; `cut` also ends those there are."""

    async def act(sites: Sites, _run: Run) -> None:
        async def refused(*_: Any) -> Any:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        await anyio.sleep(begins)
        vars(sites.network)["connect"] = refused
        if cut:
            sites.network.cut(host("hq"))
        await anyio.sleep(lasts)
        del vars(sites.network)["connect"]

    return act


def blamed(done: Drill) -> list[str]:
    """Return what the journal says against servers."""
    events = done.state.events(done.state.find("last"))
    return [event.reason for event in events if isinstance(event, ServerParked | ServerGivenUp)]


@pytest.mark.parametrize("cut", [False, True], ids=["kept connections", "no connection"])
async def test_a_shortage_that_ends_costs_time_and_nothing_else(
    cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every target is mounted once, in one session, and no server is parked for it."""
    site = Site(machines=20, limit=4)

    done = await drill(
        tmp_path, monkeypatch, [site], meanwhile=without_descriptors(50, 120, cut=cut)
    )

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 20}
    assert [reason for reason in blamed(done) if "Too many open files" in reason] == []
    assert blamed(done) == [] or cut  # a connection that is cut says nothing of this machine
    (note,) = done.report["warnings"]
    assert "this machine, not hq, is short of something: Too many open files" in note
    assert done.truth.logons == 1


async def test_a_shortage_that_stays_halts_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the plan's outage nothing more is asked for; all that is mounted is unmounted.

    The closing audit cannot be made, but the session's tasks were read before: none was nobody's.
    """
    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=20, limit=4)],
        extra="limits: {outage: 2m}\n",
        meanwhile=without_descriptors(50, 100_000),
    )

    assert done.outcome.code == 5
    assert Counter(done.results().values()) == {"mounted": 4, "skipped": 16}
    assert not done.truth.still_open()
    assert done.report["run"]["halted"].startswith("host: this machine, not hq, is short")
    assert blamed(done) == []
    assert done.took_s < 400


async def test_mounts_that_cannot_be_reached_for_want_of_descriptors_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even an unmount can be sent, the run ends, and nothing is left silently."""
    done = await drill(
        tmp_path,
        monkeypatch,
        [Site(machines=20, limit=4)],
        extra="limits: {outage: 2m}\n",
        meanwhile=without_descriptors(30, 100_000, cut=True),
    )

    assert done.outcome.code == 3
    assert Counter(done.results().values()) == {"unknown": 4, "skipped": 16}
    assert "Too many open files" in str(done.report["targets"])
    assert done.took_s < 3600
