"""One server that does not list, or is not there, holds up no other one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from orchestrator.app.preview import look
from orchestrator.app.readiness.checking import check
from orchestrator.app.stores import store_at
from orchestrator.app.wiring import Choices
from orchestrator.cli.running import _to_retry
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.model import RunId
from orchestrator.engine.run import Run
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.simulator.faults import Fault
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, drill, staged
from tests.virtual.sites import Sites, host

pytestmark = pytest.mark.anyio

LISTING = "type=VmReplicaPoint|type=VmRestorePoint"
"""The query of the requests that list restore points."""


def first_mount(done: Drill, server: str) -> float:
    """Return when the first mount was asked of a server."""
    return min(fate.requested_at for fate in done.truth.mounts if fate.server == server)


BAD = {
    "answers probes, lists nothing": [Fault(kind="black_hole", query=LISTING)],
    "takes the logon, says nothing more": [Fault(kind="black_hole", path="^(?!.*sessionMngr)")],
    "silent from the start": [Fault(kind="black_hole")],
    "refuses everything": [Fault(kind="html_503")],
    "lists without end": [Fault(kind="delay", seconds=50.0, query=LISTING)],
    "drips": [Fault(kind="drip", seconds=290.0, query=LISTING)],
}


@pytest.mark.parametrize("faults", BAD.values(), ids=BAD)
async def test_a_bad_server_costs_the_first_mount_elsewhere_five_seconds(
    faults: list[Fault], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does: its own targets alone wait for it."""
    sites = [Site("hq", machines=4), Site("dr", machines=2, faults=faults)]

    done = await drill(tmp_path, monkeypatch, sites, extra="limits: {outage: 10m}\n")

    assert first_mount(done, "hq") <= 5.0
    assert all(result == "mounted" for name, result in done.results().items() if "hq-" in name)


async def test_a_server_that_nobody_reaches_leaves_its_neighbours_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a short deadline, too, the others are mounted."""
    sites = [Site("hq", machines=4, mount_s=5.0), Site("dr", machines=2)]

    async def silent(serving: Sites, run: Run) -> None:
        _ = run
        serving.network.swallowing.add(host("dr"))

    done = await drill(
        tmp_path, monkeypatch, sites, extra="limits: {deadline: 30s}\n", meanwhile=silent
    )

    assert Counter(done.results().values()) == {"mounted": 4, "skipped": 2}
    assert done.outcome.code == 5
    assert done.took_s < 35


@pytest.mark.parametrize("what", ["sessionMngr", "/api/query", ""])
async def test_the_limits_of_the_run_hold_while_it_logs_on_and_lists(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`outage` gives up the server, `deadline` ends the run, wherever the server fell silent."""
    site = Site("hq", machines=2, faults=[Fault(kind="black_hole", path=what)])

    done = await drill(tmp_path, monkeypatch, [site], extra="limits: {deadline: 12s, outage: 4s}\n")

    assert set(done.results().values()) == {"skipped"}
    assert done.took_s < 15


async def test_the_deadline_counts_from_the_first_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that only lists is over at its deadline, and says so."""
    site = Site("hq", machines=2, faults=[Fault(kind="black_hole", query=LISTING)])

    done = await drill(tmp_path, monkeypatch, [site], extra="limits: {deadline: 30s}\n")

    assert done.outcome.code == 5
    assert done.report["run"]["halted"] is not None
    assert done.took_s < 35


async def test_a_server_of_which_nothing_is_wanted_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --only nobody waits for a dead server that has no part in it."""
    sites = [Site("hq", machines=4), Site("dr", machines=4)]
    tried: list[int] = []

    async def dead(serving: Sites, run: Run) -> None:
        _ = run
        serving.network.refusing.add(host("dr"))
        while True:
            await anyio.sleep(1)
            tried.append(serving.network.attempts[host("dr")])

    done = await drill(tmp_path, monkeypatch, sites, choices={"only": ("hq-*",)}, meanwhile=dead)

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 4}
    assert tried[-1] == 0
    assert done.took_s < 200


async def test_a_narrowed_run_whose_only_server_cannot_be_used_ends_with_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers that have no part in it count for nothing."""
    sites = [Site("hq", machines=4, password="another"), Site("dr", machines=4)]

    done = await drill(tmp_path, monkeypatch, sites, choices={"only": ("hq-*",)})

    assert done.outcome.code == 4


async def test_a_server_that_lists_late_is_taken_up_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its targets follow, and the wave after theirs has waited for them."""
    slow = [Fault(kind="delay", seconds=40.0, query=LISTING)]
    sites = [Site("hq", machines=4, mount_s=10.0), Site("dr", machines=2, faults=slow)]
    plan = (
        "waves:\n  - name: first\n    targets:\n"
        "      - {vm: hq-app0000, server: hq}\n      - {vm: dr-app0000, server: dr}\n"
        "  - name: second\n    after: [first]\n    targets:\n      - {vm: hq-sql0001, server: hq}\n"
    )

    done = await drill(tmp_path, monkeypatch, sites, plan)

    at = {fate.vm: fate.requested_at for fate in done.truth.mounts}
    assert done.outcome.code == 0
    assert at["hq-app0000"] < 5 < 39 < at["dr-app0000"]
    assert at["hq-sql0001"] > at["dr-app0000"] + 40


async def test_a_guard_over_several_servers_is_judged_over_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that lists last breaks it, and nothing more is mounted anywhere."""
    slow = [Fault(kind="delay", seconds=40.0, query=LISTING)]
    sites = [Site("hq", machines=3, limit=1), Site("dr", machines=3, faults=slow)]
    rows = "".join(
        f"{s}-{m},{s}\n" for s in ("hq", "dr") for m in ("app0000", "sql0001", "web0002")
    )
    (tmp_path / "machines.csv").write_text(f"vm,server\n{rows}")
    plan = "targets:\n  - {from_file: machines.csv, expect: {max: 5}}\n"

    done = await drill(tmp_path, monkeypatch, sites, plan)

    assert done.outcome.code == 5
    assert "matches 6 machines" in done.report["run"]["halted"]
    assert not [fate for fate in done.truth.mounts if fate.server == "dr"]


async def test_a_silent_server_is_not_forgotten_where_only_it_can_name_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --only, what its selectors may have meant is skipped, and the run is not good."""
    plan = (
        "limits: {outage: 5m}\ntargets:\n  - {match: 'dr-*', server: dr}\n"
        "  - {vm: dr-sql0001, server: dr}\n  - {vm: hq-app0000, server: hq}\n"
    )
    sites = [Site("hq", machines=3), Site("dr", machines=3)]
    async with staged(tmp_path, monkeypatch, sites, plan) as stage:
        stage.sites.network.refusing.add(host("dr"))
        done = await stage.run(only=("*-app*",))

    assert {each["key"]: each["result"] for each in done.report["targets"]} == {
        "default/dr/match:dr-*": "skipped",
        "default/hq/hq-app0000": "mounted",
    }
    assert done.outcome.code == 5


async def test_a_retry_takes_the_machines_that_a_silent_server_could_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that is retried knew them by their selector only; a sample of them stays one."""
    plan = (
        "limits: {outage: 5m}\ntargets:\n"
        "  - {match: 'dr-*', server: dr, sample: {count: 2}}\n  - {vm: hq-app0000, server: hq}\n"
    )
    sites = [Site("hq", machines=3), Site("dr", machines=3)]
    async with staged(tmp_path, monkeypatch, sites, plan) as stage:
        stage.sites.network.refusing.update({host("hq"), host("dr")})
        first = await stage.run()
        assert Counter(first.results().values()) == {"skipped": 2}
        keys = frozenset(x["key"] for x in first.report["targets"] if x["server"] == "dr")
        stage.sites.network.refusing.clear()
        stage.history += 1
        done = await stage.run(keys=keys, retry_of=RunId(first.report["run"]["id"]))

    assert {each["server"] for each in done.report["targets"]} == {"dr"}
    assert Counter(done.results().values()) == {"mounted": 2}
    assert done.outcome.code == 0


async def test_a_retry_of_a_killed_run_takes_the_servers_that_had_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal names no target of theirs; the plan does."""
    plan = "targets:\n  - {match: 'dr-*', server: dr}\n  - {vm: hq-app0000, server: hq}\n"
    sites = [Site("hq", machines=3, mount_s=60.0), Site("dr", machines=3)]
    async with staged(tmp_path, monkeypatch, sites, plan) as stage:
        stage.sites.network.refusing.add(host("dr"))
        assert await Doom(stage, monkeypatch).lives(stage.run, at_s=30.0) is None

        retry = _to_retry(stage.state, "last", stage.loaded, require_checks=False)

    assert retry.keys == frozenset({"default/hq/hq-app0000", "default/dr/match:dr-*"})


async def test_silence_counts_from_the_first_unanswered_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as long as it was, and costs no target its own time limit."""
    silent = Fault(kind="black_hole", from_s=30.0, until_s=200.0)
    site = Site("hq", machines=4, limit=4, mount_s=60.0, faults=[silent])

    done = await drill(tmp_path, monkeypatch, [site], extra="defaults: {timeouts: {mount: 90s}}\n")

    outage = done.report["servers"][0]["outages"][0]
    assert Counter(done.results().values()) == {"mounted": 4}
    assert outage["start_s"] == pytest.approx(30, abs=5)
    assert outage["end_s"] >= 200


@pytest.mark.parametrize(
    "fault",
    [Fault(kind="black_hole"), Fault(kind="black_hole", query=LISTING), Fault(kind="html_503")],
    ids=["silent", "lists nothing", "busy"],
)
async def test_plan_shows_what_it_learned_and_names_what_is_missing(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits no longer than a minute for a server that says nothing."""
    sites = [Site("hq", machines=3), Site("dr", machines=2, faults=[fault])]
    began = anyio.current_time()

    async with staged(tmp_path, monkeypatch, sites) as stage:
        assert isinstance(stage.loaded, LoadedPlan)
        found = await look(stage.loaded, store_at(stage.state), world=stage.world())

    assert {request.server for request in found.expansion.requests} == {"hq"}
    assert len(found.expansion.requests) == 3
    assert list(found.missing) == ["dr"]
    assert anyio.current_time() - began < 70
    with pytest.raises(OrchestratorError):
        found.require_whole()


async def test_plan_and_check_ask_only_servers_that_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --only a dead server that has no part in it is not missed."""
    sites = [Site("hq", machines=3), Site("dr", machines=2)]

    async with staged(tmp_path, monkeypatch, sites) as stage:
        stage.sites.network.swallowing.add(host("dr"))
        assert isinstance(stage.loaded, LoadedPlan)
        found = await look(stage.loaded, store_at(stage.state), only=("hq-*",), world=stage.world())
        choices = Choices(state=stage.state, only=("hq-*",))
        ready = await check(stage.loaded, choices, world=stage.world())

    assert not found.missing
    assert len(found.expansion.requests) == 3
    assert (ready.servers, ready.targets) == (1, 3)
    assert stage.sites.network.attempts[host("dr")] == 0


@pytest.mark.parametrize("machines", [1, 2, 30])
async def test_an_account_that_may_not_mount_is_found_out_by_its_first_targets(
    machines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 4, as for a logon that is refused: nothing was mounted, and nothing will be."""
    denied = Fault(kind="forbidden", method="POST", path="/mounts$")

    done = await drill(
        tmp_path, monkeypatch, [Site("hq", machines=machines, limit=3, faults=[denied])]
    )

    asked = sum(count for what, count in done.truth.requests.items() if "/mounts" in what)
    assert done.outcome.code == 4
    assert denied.struck <= 5
    assert asked <= 5
    assert "may not mount" in done.report["servers"][0]["problem"]


async def test_an_account_that_may_mount_some_targets_is_asked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few refusals after a mount cost their own targets only."""
    denied = Fault(kind="forbidden", method="POST", path="/mounts$", skip=1, count=4)

    done = await drill(tmp_path, monkeypatch, [Site("hq", machines=12, limit=1, faults=[denied])])

    assert Counter(done.results().values()) == {"mounted": 8, "failed": 4}
    assert done.outcome.code == 1


async def test_a_server_that_takes_the_logon_and_then_answers_401_is_logged_on_to_six_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ten minutes; and the outage goes on from its beginning until an answer in a session."""
    useless = Fault(kind="unauthorized", path="^(?!.*sessionMngr)")
    site = Site("hq", machines=4, faults=[useless])

    done = await drill(tmp_path, monkeypatch, [site], extra="limits: {outage: 15m}\n")

    assert done.outcome.code == 4
    assert done.truth.logons <= 12
    assert 890 <= done.took_s <= 1000


async def test_an_answer_in_the_session_ends_such_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost but the time."""
    useless = Fault(kind="unauthorized", path="^(?!.*sessionMngr)", until_s=300.0)

    done = await drill(tmp_path, monkeypatch, [Site("hq", machines=4, faults=[useless])])

    assert done.outcome.code == 0
    assert done.truth.logons <= 8
    assert len(done.report["servers"][0]["outages"]) == 1
