"""What a run left: `unmount` and `resume` say released only of what they saw gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app.unmount import UnmountOutcome, release_leftovers
from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import MountState, ServerName
from orchestrator.engine.run import Run
from orchestrator.journal import State
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, Stage, staged
from tests.virtual.sites import host

pytestmark = pytest.mark.anyio

SHORT = "defaults: {timeouts: {mount: 60s}}\n"


UNMOUNT_SHORT = "defaults: {timeouts: {unmount: 60s}}\n"


async def unmounted(stage: Stage, say: Callable[[str], None] = lambda line: None) -> UnmountOutcome:
    """Do what `unmount last` does."""
    return await release_leftovers(
        stage.state, "last", lambda begun: stage.loaded.plan, world=stage.world(), say=say
    )


def kept(stage: Stage) -> bool:
    """Tell whether the tokens of the run's sessions are kept."""
    return bool(list(stage.state.glob("sessions-*.json")))


def requests(stage: Stage) -> int:
    """Return how many requests the servers have seen."""
    return sum(stage.sites.truth.requests.values())


async def resumed(stage: Stage) -> Drill:
    """Do what `resume last` does."""
    return await stage.resume()


def mounts(stage: Stage) -> set[MountState]:
    """Return what the journal says of the mounts."""
    state = State(stage.state)
    found = state.replay(state.summary("last").run)
    return {record.mount_state for record in found.records.values()}


@pytest.mark.parametrize("clean_up", [unmounted, resumed])
async def test_a_task_that_never_ended_is_not_called_released(
    clean_up: Callable[[Stage], Awaitable[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may yet be mounted stays named, and its session open, however long it was waited for."""
    site = Site(machines=1, mount_s=3000.0)
    async with staged(tmp_path, monkeypatch, [site], extra=SHORT) as stage:
        first = await stage.run()
        assert first.results() == {"hq-app0000": "unknown"}

        await clean_up(stage)

        assert mounts(stage) == {MountState.UNKNOWN}
        assert stage.sites.truth.sessions_closed == 0


async def test_what_another_session_mounted_is_not_called_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session whose token is kept does not see an older one's mounts: that proves nothing."""
    async with staged(tmp_path, monkeypatch, [Site(machines=4, limit=2)]) as stage:

        def restart(_run: Run) -> None:
            loop.call_later(30.0, stage.sites.managers["hq"].restart)

        loop = asyncio.get_running_loop()
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(lambda: stage.run(on_run=restart), at_s=1000.0) is None

        outcome = await unmounted(stage)

        named = [line for line in outcome.lines if line.endswith("mount unknown")]
        assert len(named) == 2
        assert outcome.code == 3
        assert mounts(stage) == {MountState.UNKNOWN, MountState.RELEASED}
        assert {fate.closed_by for fate in stage.sites.truth.mounts} == {None, "unmounted"}


async def test_a_critical_target_that_ended_unseen_halts_the_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unmount` ended it, with an unknown result; who resumes once more has been told."""
    plan = (
        "waves:\n  - name: first\n    critical: true\n    targets:\n      - vm: hq-app0000\n"
        "  - name: second\n    after: [first]\n    targets:\n      - vm: hq-sql0001\n"
    )
    async with staged(tmp_path, monkeypatch, [Site("hq", mount_s=60.0)], plan) as stage:
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=30.0) is None
        await unmounted(stage)

        first = await stage.resume()

        assert first.results() == {"hq-app0000": "unknown", "hq-sql0001": "skipped"}
        assert first.report["run"]["halted"].startswith("critical: first/hq/hq-app0000")
        assert first.outcome.code == 3

        again = await stage.resume()

        assert again.results() == {"hq-app0000": "unknown", "hq-sql0001": "mounted"}


async def test_a_post_in_doubt_may_begin_after_unmount_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unmount` right after a crash looks as long as a run would before it calls that gone."""
    late = Fault(kind="act_later", method="POST", path="/mounts$", seconds=12.0)
    async with staged(tmp_path, monkeypatch, [Site(machines=1, faults=[late])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=5.0) is None

        outcome = await unmounted(stage)

        assert outcome.code == 0
        assert len(stage.sites.truth.mounts) == 1
        assert not stage.sites.truth.still_open()


async def test_one_refused_unmount_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else is released at once, and only what is left is named, with the refusal."""
    machines = Site(machines=3).manager(GroundTruth(), 0).inventory.machines
    one = max(machines[1].points, key=lambda point: point.created_at)
    path = f"/{one.id}/mounts/"
    refused = Fault(kind="forbidden", method="DELETE", path=path, until_s=1200)
    async with staged(tmp_path, monkeypatch, [Site(machines=3, faults=[refused])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None

        outcome = await unmounted(stage)

        assert outcome.code == 3
        released = [line for line in outcome.lines if line.startswith("released:")]
        assert len(released) == 2
        assert all(line.endswith(" (1 mount)") for line in released)
        assert any("the server refused to unmount" in line for line in outcome.lines)
        (left,) = stage.sites.truth.still_open()
        assert left.vm in "\n".join(outcome.lines)
        assert kept(stage)
        await anyio.sleep(1200 - stage.now)
        assert (await unmounted(stage)).code in {0, 3}


@pytest.mark.parametrize("kind", ["xml_503", "html_503", "error_500", "drop_after", "proxy_page"])
async def test_one_bad_answer_does_not_end_the_clean_up_of_a_server(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy server, a lost answer, a proxy's page: waited out as in a run, and gone on with."""
    faults = [
        Fault(kind=kind, path="/tasks$", from_s=100, count=1),
        Fault(kind=kind, method="DELETE", path="/mounts/", from_s=100, count=2),
        Fault(kind=kind, method="GET", path="/mounts$", from_s=100, count=2),
    ]
    async with staged(tmp_path, monkeypatch, [Site(machines=4, faults=faults)]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None
        await anyio.sleep(100 - stage.now)

        outcome = await unmounted(stage)

        assert outcome.code == 0, outcome.lines
        assert not stage.sites.truth.still_open()
        assert not kept(stage)


async def test_an_unmount_whose_task_never_ends_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the plan's own time for an unmount, and with few requests."""
    endless = Fault(kind="unmount_task_endless", method="DELETE", path="/mounts/")
    site = Site(machines=2, faults=[endless])
    async with staged(tmp_path, monkeypatch, [site], extra=UNMOUNT_SHORT) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None
        began, asked = stage.now, requests(stage)

        outcome = await unmounted(stage)

        assert stage.now - began < 200
        assert requests(stage) - asked < 400
        assert outcome.code == 3
        assert stage.sites.truth.sessions_closed == 0
        assert kept(stage)


async def test_of_an_intent_in_doubt_it_is_said_that_it_may_yet_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for how long; never `released (0 mounts)` of a mount that begins a minute later."""
    late = Fault(kind="act_later", method="POST", path="/mounts$", seconds=90.0)
    said: list[str] = []
    async with staged(tmp_path, monkeypatch, [Site(machines=1, faults=[late])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=5.0) is None

        outcome = await unmounted(stage, said.append)

        assert any("may yet begin; waiting up to 2 min 5" in line for line in said), said
        assert outcome.code == 0
        assert outcome.lines[0].endswith("(1 mount)")
        assert len(stage.sites.truth.mounts) == 1
        assert not stage.sites.truth.still_open()


async def test_what_is_said_of_a_stop_in_doubt_stays_true_after_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message tells when the request was sent, and no future: the mount may be gone by now."""
    late = Fault(kind="act_later", method="POST", path="/mounts$", seconds=90.0)

    runs: list[Run] = []

    async def stop() -> None:
        for _ in range(2):
            await anyio.sleep(5)
            runs[0].stop("SIGTERM")

    async with (
        staged(tmp_path, monkeypatch, [Site(machines=1, faults=[late])]) as stage,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(stop)
        done = await stage.run(on_run=runs.append)
        outcome = await unmounted(stage)

        assert outcome.code == 0
        state = State(stage.state)
        (record,) = state.replay(state.summary("last").run).records.values()
        assert record.mount_state is MountState.RELEASED
        assert record.message is not None
        assert record.message == done.report["targets"][0]["message"]
        assert record.message.startswith("stopped while its mount request, sent ")
        assert record.message.endswith("was in doubt; a request begins within 3 min, or never")


async def test_an_intent_that_nothing_came_of_is_not_called_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for until it cannot begin any more."""
    lost = Fault(kind="drop_before", method="POST", path="/mounts$")
    async with staged(tmp_path, monkeypatch, [Site(machines=1, faults=[lost])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=5.0) is None

        outcome = await unmounted(stage)

        assert outcome.code == 0
        assert stage.now >= 180
        assert outcome.lines == ("not mounted any more: default/hq/hq-app0000",)
        assert not kept(stage)


@pytest.mark.parametrize("clean_up", [unmounted, resumed])
async def test_what_acts_late_after_it_was_proved_absent_is_found_by_whoever_comes_next(
    clean_up: Callable[[Stage], Awaitable[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal says what was asked for: the closing audit of `unmount` and `resume` looks."""
    late = Fault(kind="act_later", method="POST", path="/mounts$", seconds=200.0, count=1)
    site = Site(machines=1, mount_s=300.0, faults=[late])
    async with staged(tmp_path, monkeypatch, [site]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=250.0) is None
        assert len(stage.sites.truth.mounts) == 2

        await clean_up(stage)

        assert not stage.sites.truth.still_open()


async def test_a_mount_of_no_target_is_removed_before_the_logoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy sent a POST twice, and the run died: nobody's mount is found by its task."""
    twice = Fault(kind="twice", method="POST", path="/mounts$", count=1)
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=[twice])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None

        outcome = await unmounted(stage)

        assert len(stage.sites.truth.mounts) == 3
        assert outcome.code == 0, outcome.lines
        assert not stage.sites.truth.still_open()
        assert stage.sites.truth.sessions_closed == 1


async def test_a_token_is_sent_to_no_other_address_than_the_one_it_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan whose server has moved reaches nothing of the old one, and tells its token nobody."""
    sites = [Site(machines=2), Site("dr", machines=1)]
    plan = "targets:\n  - {vm: hq-app0000, server: hq}\n  - {vm: dr-app0000, server: dr}\n"
    async with staged(tmp_path, monkeypatch, sites, plan) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None
        servers = stage.loaded.plan.servers
        hq, dr = ServerName("hq"), ServerName("dr")
        moved = {hq: replace(servers[hq], url=servers[dr].url), dr: servers[dr]}
        old = stage.loaded
        stage.loaded = replace(old, plan=replace(old.plan, servers=moved))

        outcome = await unmounted(stage)

        stage.loaded = old
        assert outcome.code == 3
        assert any("the plan's address is not the run's" in line for line in outcome.lines)
        assert {fate.server for fate in stage.sites.truth.still_open()} == {"hq"}
        assert (await unmounted(stage)).code == 0


async def test_a_session_that_is_gone_is_said_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody logs on anew for it: a new session shows nothing of the old one."""
    async with staged(tmp_path, monkeypatch, [Site(machines=2)]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None
        await anyio.sleep(1000)
        logons = stage.sites.truth.logons

        outcome = await unmounted(stage)

        assert outcome.code == 3
        assert any("has forgotten its logon session" in line for line in outcome.lines)
        assert stage.sites.truth.logons == logons


async def test_a_server_out_of_reach_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No longer than its session could live; the token is kept for another try."""
    said: list[str] = []
    async with staged(tmp_path, monkeypatch, [Site(machines=2)]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None
        began = stage.now
        stage.sites.network.refusing.add(host("hq"))

        outcome = await unmounted(stage, said.append)

        assert outcome.code == 3
        assert stage.now - began < 1000
        assert any(line.startswith("waiting for hq: ") for line in said)
        assert any("out of reach for" in line for line in outcome.lines)
        assert kept(stage)


async def test_what_was_never_submitted_stays_for_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unmount` submits nothing and concludes nothing but what it releases."""
    async with staged(tmp_path, monkeypatch, [Site(machines=6, limit=2)]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=30.0) is None
        mounted = len(stage.sites.truth.mounts)

        assert (await unmounted(stage)).code == 0
        assert len(stage.sites.truth.mounts) == mounted == 2

        done = await stage.resume()

        assert len(stage.sites.truth.mounts) == 6
        assert list(done.results().values()).count("mounted") == 4


@pytest.mark.parametrize("clean_up", [unmounted, resumed])
async def test_a_link_into_another_family_is_not_taken_for_the_mount(
    clean_up: Callable[[Stage], Awaitable[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run died before it had seen its mount: where the task's link leads nothing is mounted.

    An unmount there is a 404, which says nothing of the mount.
    """
    unread = Fault(kind="black_hole", method="GET", path=r"/mounts/\d+$", until_s=100)
    async with staged(tmp_path, monkeypatch, [Site(machines=2, faults=[unread])]) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=90.0) is None
        state = State(stage.state)
        records = state.replay(state.find("last")).records.values()
        assert {record.phase for record in records} == {Phase.COLLECTING}
        assert all("/vmRestorePoints/" in str(record.mount) for record in records)
        await anyio.sleep(20)

        await clean_up(stage)

        assert len(stage.sites.truth.mounts) == 2
        assert not stage.sites.truth.still_open()
        assert mounts(stage) == {MountState.RELEASED}
