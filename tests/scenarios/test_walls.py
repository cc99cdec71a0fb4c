"""A bug that nobody foresaw costs one target or one server, and the run says 70."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.em.client import Client
from orchestrator.em.session import Session
from orchestrator.engine import inventory
from orchestrator.engine.mount import drive
from orchestrator.engine.mount.find import prove
from orchestrator.engine.server_connection import ServerConnection as EngineSite
from orchestrator.engine.watcher import Watcher
from orchestrator.plan.choose.targets import PlanSelection
from tests.scenarios.drill import Drill, Site, drill

pytestmark = pytest.mark.anyio

SITES = [Site("hq", machines=4, limit=4, mount_s=20.0), Site("dr", machines=4, mount_s=60.0)]


class Bug(Exception):
    """What no code of ours expects."""


def broken(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, is_struck: Callable[..., bool]
) -> None:
    """Let a method raise whenever `is_struck` says so of its arguments."""
    sound = getattr(owner, name)

    async def method(*args: Any, **named: Any) -> Any:
        if is_struck(*args):
            raise Bug("nobody foresaw this")
        return await sound(*args, **named)

    monkeypatch.setattr(owner, name, method)


def later(seconds: float) -> Callable[[], bool]:
    """Return what tells whether so many seconds are over since now."""
    began = anyio.current_time()
    return lambda: anyio.current_time() - began >= seconds


def require_named(done: Drill) -> None:
    """See that the bug cost only hq, and is said."""
    hq = next(server for server in done.report["servers"] if server["name"] == "hq")
    by_server = Counter((name[:2], result) for name, result in done.results().items())
    assert done.outcome.code == 70
    assert by_server["dr", "mounted"] == 4
    assert "internal error" in hq["problem"]
    assert "Bug('nobody foresaw this')" in str(done.outcome.trouble)


@pytest.mark.parametrize("part", ["_watch_tasks", "_keep_alive", "_probe", "_quicken", "_listen"])
async def test_a_bug_in_a_servers_own_tasks_costs_that_server_only(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had mounted is unmounted, and the others finish."""
    sound = getattr(EngineSite, part)

    async def failing(site: EngineSite, connection: Any) -> None:
        if site.name != "hq":
            await sound(site, connection)
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sound, site, connection)
            await anyio.sleep(12.0)
            tasks.cancel_scope.cancel()
        raise Bug("nobody foresaw this")

    monkeypatch.setattr(EngineSite, part, failing)

    done = await drill(tmp_path, monkeypatch, SITES)

    require_named(done)
    assert not done.truth.still_open()


async def test_a_bug_in_reading_tasks_is_none_of_the_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their mounts are awaited, bounded, and removed by other reads."""
    due = later(10.0)
    broken(monkeypatch, Watcher, "_read_all", lambda w: w._session.server == "hq" and due())

    done = await drill(tmp_path, monkeypatch, SITES)

    require_named(done)
    assert not done.truth.still_open()


@pytest.mark.parametrize(
    ("owner", "name", "is_struck"),
    [
        (Client, "_account", lambda client: client.server == "hq"),
        (inventory, "gather", lambda _connection, site, _needs: site.name == "hq"),
        (EngineSite, "_one_session", lambda site: site.name == "hq"),
        (Session, "points_of_machines", lambda session, *_: session.server == "hq"),
    ],
    ids=["logon", "listing", "serving", "reading points"],
)
async def test_a_bug_before_the_first_mount_costs_that_server_only(
    owner: Any,
    name: str,
    is_struck: Callable[..., bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its targets are skipped, and say why."""
    broken(monkeypatch, owner, name, is_struck)

    done = await drill(tmp_path, monkeypatch, SITES)

    require_named(done)
    assert Counter(done.results().values()) == {"mounted": 4, "skipped": 4}


async def test_a_bug_in_one_mount_costs_its_target_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mount is removed, and the others of its server go on."""

    async def failing(attempt: Any, mount: Any) -> None:
        if attempt.request.vm == "hq-app0000":
            raise Bug("nobody foresaw this")
        await prove(attempt, mount)

    monkeypatch.setattr(drive, "prove", failing)

    done = await drill(tmp_path, monkeypatch, SITES)

    results = done.results()
    assert done.outcome.code == 70
    assert results.pop("hq-app0000") == "unknown"
    assert done.target("hq-app0000")["mount"] == "released"
    assert set(results.values()) == {"mounted"}


async def test_no_clean_up_hides_the_first_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clean-up has a bug of its own, the first one is told."""

    async def failing(attempt: Any, mount: Any) -> None:
        raise Bug("nobody foresaw this")

    async def worse(attempt: Any, why: str) -> None:
        raise RuntimeError("the clean-up failed, too")

    monkeypatch.setattr(drive, "prove", failing)
    monkeypatch.setattr(drive, "abandon", worse)

    done = await drill(tmp_path, monkeypatch, [Site("hq", machines=1)])

    assert done.outcome.code == 70
    assert "Bug('nobody foresaw this')" in str(done.outcome.trouble)


async def test_a_bug_in_what_a_late_server_adds_costs_that_server_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others were expanded before."""
    sound = PlanSelection.expand

    def expand(selection: PlanSelection, found: Any) -> Any:
        if "hq" in found:
            raise Bug("nobody foresaw this")
        return sound(selection, found)

    async def slowly(site: EngineSite, needs: Any) -> Any:
        if site.name == "hq":
            await anyio.sleep(30)
        return await listing_of(site, needs)

    listing_of = inventory.listing_of
    monkeypatch.setattr(PlanSelection, "expand", expand)
    monkeypatch.setattr(inventory, "listing_of", slowly)

    done = await drill(tmp_path, monkeypatch, SITES)

    require_named(done)
