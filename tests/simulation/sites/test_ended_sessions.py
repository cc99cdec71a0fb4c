"""Sessions that a worker has ended, or left open, when another one takes its shard over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from orchestrator.core.model import ServerName
from orchestrator.em import logon
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site
from tests.simulation.sites.judging import judged, results
from tests.simulation.sites.processes import run_processes
from tests.simulation.sites.stage import RUN, Stage, staged
from tests.simulation.sites.test_first_stories import no_errors
from tests.virtual.sites import host

HQ = ServerName("hq")
FAR_S = 1.0
"""Seconds that a logoff is on its way."""


@contextmanager
def far_logoffs() -> Iterator[pytest.MonkeyPatch]:
    """Let each logoff take a while to be sent: its worker may die meanwhile."""
    send = logon.log_off

    async def late(*given: Any) -> None:
        with anyio.CancelScope(shield=True):  # as the logoff itself
            await anyio.sleep(FAR_S)
            await send(*given)

    with pytest.MonkeyPatch.context() as patch, no_errors():
        patch.setattr(logon, "log_off", late)
        yield patch


def has_ended(stage: Stage, server: ServerName = HQ) -> bool:
    """Return whether the end of a session is recorded."""
    records = stage.database.tables.events.get((RUN, server), [])
    return any(record.kind == "SessionEnded" for record, _ in records)


@pytest.mark.parametrize("is_up", [True, False])
def test_a_logoff_that_its_worker_could_not_send_is_sent_by_the_next(is_up: bool) -> None:
    """A late request would find a living session; who cannot reach the server waits for nothing."""

    async def story() -> tuple[dict[str, Any], int, float]:
        with far_logoffs() as patch:
            async with staged(patch, [Site("hq", machines=1, limit=1, mount_s=5.0)]) as stage:
                first = stage.begin("first", "main")
                await stage.until(lambda: has_ended(stage))
                stage.kill(first)
                at, manager = stage.loop.now, stage.sites.managers["hq"]
                assert len(manager.sessions) == 1
                second = stage.begin("second", "main")
                if not is_up:
                    stage.network.cut_worker(second.process, host("hq"))
                await stage.over()
                assert not stage.database.tables.tokens
                return judged(stage), len(manager.sessions), stage.loop.now - at

    report, left, took_s = run_processes(story)
    assert results(report) == {"mounted": 1}
    assert report["run"]["exit_code"] == 0
    assert not report["warnings"]
    assert left == (0 if is_up else 1)
    assert took_s < 60.0


def test_a_logoff_that_acts_late_changes_nothing() -> None:
    """The session is gone when the next worker sends it again: nobody has asked for it since."""

    async def story() -> dict[str, Any]:
        with far_logoffs() as patch:
            async with staged(patch, [Site("hq", machines=1, limit=1, mount_s=5.0)]) as stage:
                first = stage.begin("first", "main")
                await stage.until(lambda: has_ended(stage))
                stage.kill(first)
                manager = stage.sites.managers["hq"]
                for session in list(manager.sessions.values()):
                    manager.log_off(session)
                stage.begin("second", "main")
                await stage.over()
                return judged(stage)

    report = run_processes(story)
    assert results(report) == {"mounted": 1}
    assert report["run"]["exit_code"] == 0
    assert not report["warnings"]


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_request_that_acts_after_the_record_of_an_end_leaves_nothing(is_readable: bool) -> None:
    """It was on its way for longer than anybody waits, and its session was not logged off yet.

    Nor where the first look cannot read its task.
    """
    unread = Fault(kind="row_without_id", path="/tasks$", row="task-2<", count=1)
    late = Fault(kind="act_later", method="POST", path="/mounts$", count=1, seconds=190.0)
    site = Site(
        "hq", machines=1, limit=1, mount_s=5.0, faults=[late] if is_readable else [late, unread]
    )

    async def story() -> tuple[dict[str, Any], list[str | None], int]:
        with far_logoffs() as patch:
            extra = "defaults: {retries: {attempts: 2}}\n"
            async with staged(patch, [site], extra=extra) as stage:
                first = stage.begin("first", "main")
                await stage.until(lambda: has_ended(stage))
                stage.kill(first)
                manager = stage.sites.managers["hq"]
                await stage.until(lambda: bool(stage.sites.truth.still_open()))
                stage.begin("second", "main")
                await stage.over()
                ends = [fate.closed_by for fate in stage.sites.truth.mounts]
                return judged(stage), ends, len(manager.sessions)

    report, ends, left = run_processes(story)
    assert results(report) == {"mounted": 1}
    assert report["run"]["exit_code"] == 0
    assert ends == ["unmounted", "unmounted"]
    assert left == 0


def in_turn(hq: Site, dr: Site) -> str:
    """Return four waves after each other, on two servers in turn."""
    lines = ["waves:\n"]
    for number in range(4):
        site, place = (hq, 0) if number % 2 else (dr, 1)
        vm, os = site.listed(place)[number // 2]
        after = f"    after: [wave{number - 1}]\n" if number else ""
        lines += [
            f"  - name: wave{number}\n{after}    targets:\n",
            f"      - {{vm: {vm}, server: {site.name}, os: {os}}}\n",
        ]
    return "".join(lines)


@pytest.mark.parametrize(
    ("restarts", "came"),
    [(True, {"mounted": 4, "left": 2}), (False, {"mounted": 3, "skipped": 1, "left": 1})],
)
def test_turns_end_although_a_session_was_left_open(restarts: bool, came: dict[str, int]) -> None:
    """Each of them is denied it; the first of these says since when it has not been in use.

    While it lives, nothing waits for a mount that cannot be removed.
    """
    refused = Fault(kind="forbidden", method="DELETE", path=r"/mounts/\d+$")
    dr = Site("dr", machines=2, limit=1, mount_s=20.0, faults=[refused])
    hq = Site("hq", machines=2, limit=2, mount_s=20.0)

    async def story() -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch, no_errors():
            async with staged(patch, [hq, dr], plan=in_turn(hq, dr)) as stage:
                stage.begin("only", "main", room=1)
                await stage.until(lambda: has_ended(stage, ServerName("dr")))
                if restarts:
                    stage.sites.managers["dr"].restart()
                await stage.over(within_s=3600.0)
                return judged(stage)

    report = run_processes(story)
    assert results(report) == came
    assert report["run"]["exit_code"] == 3
