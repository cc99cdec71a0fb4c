"""Stopping a run: gently the first time, at once the second, and never silently."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from orchestrator.engine.run import Run
from orchestrator.report.as_json import render
from orchestrator.report.summary import summarize
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site, drill
from tests.virtual.sites import Sites, host

pytestmark = pytest.mark.anyio


async def test_the_first_signal_lets_running_mounts_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is submitted; what is open ends, is unmounted and reported."""

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(30)
        run.stop("SIGINT")

    done = await drill(tmp_path, monkeypatch, [Site(machines=20, limit=4)], meanwhile=stop)

    assert done.outcome.code == 130
    assert Counter(done.results().values()) == {"mounted": 4, "cancelled": 16}
    assert not done.truth.still_open()


async def test_the_second_signal_unmounts_what_is_known_and_names_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounts in the making are unknown, their session is left open for `unmount`."""

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(30)
        run.stop("SIGTERM")
        await anyio.sleep(1)
        run.stop("SIGTERM")

    done = await drill(tmp_path, monkeypatch, [Site(machines=20, limit=4)], meanwhile=stop)

    assert done.outcome.code == 3
    assert Counter(done.results().values()) == {"unknown": 4, "cancelled": 16}
    assert done.truth.sessions_closed == 0
    assert done.state.load_sessions(done.state.find("last"))
    assert done.took_s < 100


async def test_a_stop_does_not_wait_for_a_session_that_is_still_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is not waited for: what it may open yet, nobody uses, and it idles out."""
    slow = [
        Fault(kind="drop_before", path="/sessionMngr", count=1),
        Fault(kind="late", path="/sessionMngr", seconds=50.0, count=1),
    ]

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(20)
        run.stop("SIGTERM")

    sites = [Site("hq", machines=2, mount_s=5.0), Site("dr", machines=2, faults=slow)]
    done = await drill(tmp_path, monkeypatch, sites, meanwhile=stop)

    assert done.took_s < 22
    assert done.truth.sessions_closed == 1


async def test_the_report_can_be_rebuilt_from_the_journal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebuilt report has the same bytes as the one the run wrote."""
    done = await drill(tmp_path, monkeypatch, [Site(machines=6)])

    run = done.state.find("last")
    rebuilt = render(summarize(done.state.replay(run), chain_head=done.state.chain_head(run)))

    assert rebuilt == (tmp_path / "report" / "report.json").read_text()


async def test_the_same_seed_gives_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Virtual time and seeded randomness: two drills differ in nothing."""
    sites = [Site("hq", machines=10, mount_s=None), Site("dr", machines=10, mount_s=None)]

    one = await drill(tmp_path / "one", monkeypatch, sites, seed=7)
    other = await drill(tmp_path / "other", monkeypatch, sites, seed=7)

    assert [t["phases_s"] for t in one.report["targets"]] == [
        t["phases_s"] for t in other.report["targets"]
    ]


async def test_a_second_run_knows_how_long_mounts_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Durations of one run order the next one: the longest goes first."""
    site = Site(machines=8, limit=1, mount_s=None)

    first = await drill(tmp_path, monkeypatch, [site])
    second = await drill(tmp_path, monkeypatch, [site], history=2)

    seconds = {f.vm: (f.closed_at or 0) - f.requested_at for f in first.truth.mounts}
    order = [f.vm for f in sorted(second.truth.mounts, key=lambda f: f.requested_at)]
    assert order[0] == max(seconds, key=lambda vm: seconds[vm])


async def test_the_second_signal_does_not_wait_for_an_outage_to_settle_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost answer on a server that is away ends as unknown within the grace of the clean-up."""
    slow = Fault(kind="drip", method="POST", path="/mounts$", seconds=8.0)
    stopped: list[float] = []

    async def stop(sites: Sites, run: Run) -> None:
        await anyio.sleep(20)
        sites.network.refusing.add(host("hq"))
        sites.network.cut(host("hq"))
        await anyio.sleep(25)
        run.stop("SIGINT")
        await anyio.sleep(1)
        run.stop("SIGINT")
        stopped.append(run.ledger.now())

    done = await drill(tmp_path, monkeypatch, [Site(machines=8, faults=[slow])], meanwhile=stop)

    assert done.outcome.code == 3
    assert Counter(done.results().values()) == {"unknown": 3, "cancelled": 5}
    assert done.took_s - stopped[0] < 70


async def test_a_stop_says_of_a_mount_that_it_was_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is mounted on a server that is away is not one that is being mounted."""
    slow = Fault(kind="delay", method="DELETE", path="/mounts/", seconds=30.0)

    async def stop(sites: Sites, run: Run) -> None:
        await anyio.sleep(30)
        sites.network.refusing.add(host("hq"))
        sites.network.cut(host("hq"))
        run.stop("SIGINT")
        await anyio.sleep(1)
        run.stop("SIGINT")

    site = Site(machines=2, mount_s=10.0, faults=[slow])
    done = await drill(tmp_path, monkeypatch, [site], meanwhile=stop)

    said = {target["message"] for target in done.report["targets"]}
    assert said == {"stopped before its mount was removed"}
    assert done.outcome.code == 3


async def test_the_second_signal_still_settles_a_doubt_that_can_be_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server answers everything else: what the lost POST started is found and removed."""
    lost = Fault(kind="drop_after", method="POST", path="/mounts$", count=1)
    blind = Fault(kind="error_500", method="GET", path="/tasks$", count=6)

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(1.0)
        run.stop("SIGINT")
        run.stop("SIGINT")

    site = Site(machines=1, mount_s=1.0, faults=[lost, blind])
    done = await drill(tmp_path, monkeypatch, [site], meanwhile=stop)

    assert done.results() == {"hq-app0000": "mounted"}
    assert not done.truth.still_open()
