"""Each selector and point policy through the whole program: what is mounted is what was meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest

from orchestrator.app.preview import Preview, look
from orchestrator.app.stores import store_at
from orchestrator.cli.showing import as_values, shown_plan
from orchestrator.core.model import RunId
from orchestrator.plan.choose.locked import LockedPlan, load_locked, lock
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory, Machine, Point
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import START, Drill, Site, Stage, drill, staged

pytestmark = pytest.mark.anyio

MACHINES = [machine.name for machine in Site().manager(GroundTruth(), 0).inventory.machines]
"""The eight machines of a site, half of them behind each of two backup servers."""


def windows(inventory: Inventory) -> None:
    """Let all machines run the system that a plan means where it says nothing."""
    for machine in inventory.machines:
        machine.os = "Windows"


def site(name: str = "hq", *changes: Callable[[Inventory], None], **settings: Any) -> Site:
    """Return a site of Windows machines, changed."""

    def change(inventory: Inventory) -> None:
        for each in (windows, *changes):
            each(inventory)

    return Site(name, change=change, **settings)


def mounted(done: Drill) -> list[str]:
    """Return the names of the machines that the server mounted, one for each mount."""
    return sorted(fate.vm for fate in done.truth.mounts if fate.succeeded)


def points_of(name: str, seed: int = 0) -> list[Point]:
    """Return a machine's points as the site lists them, newest first."""
    inventory = Site().manager(GroundTruth(), seed).inventory
    return sorted(inventory.machine(name).points, key=lambda p: p.created_at, reverse=True)


def in_family(family: str) -> Callable[[Inventory], None]:
    """Return a change that adds one more point to every machine, in another family."""

    def change(inventory: Inventory) -> None:
        for number, machine in enumerate(inventory.machines):
            made = START - timedelta(hours=3)
            point = Point(str(UUID(int=number + 1)), machine, made, family=family)
            machine.points.append(point)
            inventory.add(point)

    return change


def vanish(inventory: Inventory, point: Point) -> None:
    """Let retention remove a point, and the server know it."""
    machine = point.machine
    machine.points.remove(point)
    del inventory.by_id[point.id]
    inventory.by_machine[point.family, machine.name.casefold()].remove(point)
    inventory.by_job[point.family, machine.job.casefold()].remove(point)


async def looked(stage: Stage, **options: Any) -> Preview:
    """Return what `plan` sees."""
    assert isinstance(stage.loaded, LoadedPlan)
    return await look(stage.loaded, store_at(stage.state), world=stage.world(), **options)


# --- selectors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("{match: 'hq-*'}", MACHINES),
        ("{match: 'HQ-WEB*'}", [name for name in MACHINES if "web" in name]),
        ("{match: '*', exclude: ['*-web*', '*-SQL*']}", [*MACHINES[:1], *MACHINES[3:]]),
        ("{match: '*', backup_server: vbr-hq-02, expect: {min: 4, max: 4}}", MACHINES[1::2]),
        ("{query: 'BackupServerName==\"vbr-hq-01\"'}", MACHINES[::2]),
        (f"{{query: 'VmDisplayName==\"{MACHINES[0]}\"'}}", MACHINES[:1]),
        ("{match: nothing, expect: {min: 0}}\n  - {vm: hq-app0000}", MACHINES[:1]),
    ],
    ids=["all", "another case", "exclude", "backup server", "query", "one vm", "empty is fine"],
)
async def test_every_machine_that_a_selector_means_is_mounted_once(
    target: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no other: what is excluded, or behind another backup server, is left alone."""
    done = await drill(tmp_path, monkeypatch, [site()], f"targets:\n  - {target}\n")

    assert done.outcome.code == 0
    assert mounted(done) == sorted(names)


async def test_a_sample_is_mounted_and_repeated_by_the_seed_that_the_run_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal holds the seed; a run with another draws others."""
    plan = "targets:\n  - {match: '*', sample: {count: 3}, point: {policy: random}}\n"
    runs: list[Drill] = []
    for number, seed in enumerate((None, None, 4)):
        choices = {} if seed is None else {"seed": seed}
        if number == 1:
            choices = {"seed": runs[0].state.replay(RunId("20261123T060000Z-0001")).started.seed}
        done = await drill(
            tmp_path / str(number), monkeypatch, [site()], plan, choices=choices, seed=number
        )
        assert done.outcome.code == 0
        runs.append(done)

    notes = [note.message for note in runs[2].state.replay(RunId("20261123T060000Z-0001")).notes]
    assert [note.partition("match")[2] for note in notes] == [
        " '*': a sample of 3 of 8 machines (random, seed 4)"
    ]
    chosen = [sorted(fate.point for fate in done.truth.mounts) for done in runs]
    assert len(chosen[0]) == 3
    assert chosen[0] == chosen[1]
    assert chosen[0] != chosen[2]


async def test_a_retry_takes_up_what_failed_of_a_sample_whatever_would_be_drawn_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys of an earlier run say which machines are meant; nothing is drawn again."""
    plan = "targets:\n  - {match: '*', sample: {count: 3, order: stalest}}\n"

    done = await drill(
        tmp_path,
        monkeypatch,
        [site()],
        plan,
        choices={"keys": frozenset({"default/hq/hq-web0002"})},
    )

    assert done.results() == {"hq-web0002": "mounted"}


async def test_the_stalest_machines_come_round_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs of three prove eight machines, and the fourth begins anew with the oldest."""
    plan = "targets:\n  - {match: '*', sample: {count: 3, order: stalest}}\n"
    proven = []
    for history in range(1, 5):
        async with staged(tmp_path, monkeypatch, [site()], plan, history=history) as stage:
            # Each run begins some hours after the one before it.
            stage.began -= history * 7200
            done = await stage.run()
        assert done.outcome.code == 0
        proven.append(mounted(done))

    assert sorted(name for names in proven[:2] for name in names) == sorted(MACHINES)[:6]
    assert sorted(MACHINES)[6:] == [name for name in proven[2] if name in sorted(MACHINES)[6:]]
    assert len(proven[2]) == 3
    assert set(proven[2]) - set(sorted(MACHINES)[6:]) <= set(proven[0])
    assert set(proven[3]) <= set(proven[0]) | set(proven[1])


async def test_a_machine_whose_mount_failed_stays_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a proof makes a machine fresh: the failed one is drawn again."""

    def fails(inventory: Inventory) -> None:
        for point in inventory.machine("hq-app0000").points:
            point.fails = "Failed to mount restore point."

    plan = "targets:\n  - {match: '*', sample: {count: 1, order: stalest}}\n"
    for history in (1, 2):
        async with staged(
            tmp_path, monkeypatch, [site("hq", fails)], plan, history=history
        ) as stage:
            stage.began -= history * 7200
            done = await stage.run()
        assert done.results() == {"hq-app0000": "failed"}


async def test_a_selector_that_matches_nothing_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the worst day one missing machine must not stop the rest."""
    plan = "targets:\n  - {match: 'gone-*'}\n  - {query: 'Name==x'}\n  - {vm: hq-app0000}\n"

    done = await drill(tmp_path, monkeypatch, [site()], plan)

    assert done.outcome.code == 1
    assert done.results() == {
        "match:gone-*": "failed",
        "query:Name==x": "failed",
        "hq-app0000": "mounted",
    }


@pytest.mark.parametrize("target", ["match: 'hq-*'", "query: 'Type==Snapshot'"])
async def test_a_broken_guard_stops_the_run_before_anything_is_mounted(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A glob that suddenly means the whole site is not obeyed."""
    plan = f"targets:\n  - {{{target}, expect: {{max: 5}}}}\n"

    done = await drill(tmp_path, monkeypatch, [site()], plan)

    assert done.outcome.code == 4
    assert done.truth.mounts == []


async def test_a_refused_filter_fails_its_own_targets_with_the_servers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is at fault, not the server: its other targets are mounted."""
    plan = "targets:\n  - {query: 'Colour==\"red\"'}\n  - {vm: hq-app0000}\n"

    done = await drill(tmp_path, monkeypatch, [site()], plan)

    assert done.outcome.code == 1
    assert mounted(done) == ["hq-app0000"]
    failed = done.target('query:Colour=="red"')
    assert failed["result"] == "failed"
    assert "there is no field colour" in json.dumps(failed)


async def test_agents_cannot_be_listed_by_a_restore_operator_but_named_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the role may not see says so, and takes nothing else of the server with it."""
    agents = in_family("agents/agentRestorePoints")
    plan = (
        "targets:\n"
        "  - {match: 'hq-*', source: agent}\n"
        "  - {vm: hq-sql0001, source: agent, label: agent-by-name}\n"
        f"  - {{id: {UUID(int=1)}, source: agent, label: agent-by-id}}\n"
        "  - {vm: hq-web0002}\n"
    )

    done = await drill(tmp_path, monkeypatch, [site("hq", agents)], plan)

    assert done.results() == {
        "match:hq-*": "failed",
        "agent-by-name": "failed",
        "agent-by-id": "mounted",
        "hq-web0002": "mounted",
    }
    for label in ("match:hq-*", "agent-by-name"):
        assert "not visible to this role" in json.dumps(done.target(label))


@pytest.mark.parametrize("source", ["backup", "agent"])
async def test_other_families_are_matched_and_mounted_by_an_account_that_may_list_them(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The family is a path and a field name: everything else is the same."""
    family = {"backup": "vmRestorePoints", "agent": "agents/agentRestorePoints"}[source]
    one = site("hq", in_family(family), role="Portal Administrator")
    field = {"backup": "VmDisplayName", "agent": "ComputerName"}[source]
    plan = (
        f"defaults: {{source: {source}}}\n"
        "targets:\n  - {match: 'hq-web*'}\n"
        f"  - {{query: '{field}==\"hq-app0000\"'}}\n  - {{vm: hq-sql0001}}\n"
    )

    done = await drill(tmp_path, monkeypatch, [one], plan)

    assert done.outcome.code == 0
    assert mounted(done) == ["hq-app0000", "hq-sql0001", "hq-web0002"]


async def test_the_job_of_agents_is_what_the_server_says_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their points do not name it, so the server's own answer to the question counts."""
    one = site("hq", in_family("agents/agentRestorePoints"), role="Portal Administrator")
    machines = one.manager(GroundTruth(), 0).inventory.machines
    job = machines[0].job
    plan = f"targets:\n  - {{job: '{job}', source: agent, expect: {{min: 2}}}}\n"

    done = await drill(tmp_path, monkeypatch, [one], plan)

    assert done.outcome.code == 0
    assert mounted(done) == sorted(machine.name for machine in machines if machine.job == job)


async def test_a_listing_in_trouble_is_waited_for_and_not_called_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overloaded server lists its points a little later."""
    one = site(faults=[Fault(kind="html_503", path="type=VmReplicaPoint", count=2)])

    done = await drill(tmp_path, monkeypatch, [one], "targets:\n  - {match: 'hq-w*'}\n")

    assert done.outcome.code == 0
    assert mounted(done) == ["hq-web0002"]


# --- points ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "place"),
    [
        ("policy: latest", 0),
        ("policy: newest_passing", 0),
        ("policy: newest_passing, search: bisect", 0),
        ("policy: before, time: {1}", 1),
        ("incident_time: {1}", 1),
        ("incident_time: {1}, exclude_points: ['{id1}']", 2),
        ("exclude_points: ['*@{day0}*']", 1),
        ("policy: id, id: {id2}", 2),
        ("fallback: {count: 1}", 0),
    ],
)
async def test_the_point_that_a_policy_means_is_the_one_that_is_mounted(
    policy: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mount, of exactly that point."""
    points = points_of("hq-app0000")
    for number, point in enumerate(points):
        policy = (
            policy.replace(f"{{{number}}}", f"{point.created_at:%Y-%m-%dT%H:%M:%SZ}")
            .replace(f"{{id{number}}}", point.id)
            .replace(f"{{day{number}}}", f"{point.created_at:%Y-%m-%d}")
        )

    done = await drill(
        tmp_path, monkeypatch, plan=f"targets:\n  - {{vm: hq-app0000, point: {{{policy}}}}}\n"
    )

    assert done.outcome.code == 0
    assert [fate.point for fate in done.truth.mounts] == [points[place].id]


async def test_every_point_of_a_machine_is_mounted_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each point is a target with a result and a key of its own."""
    plan = "targets:\n  - {vm: hq-app0000, point: {policy: every}}\n"

    done = await drill(tmp_path, monkeypatch, [site()], plan)

    points = points_of("hq-app0000")
    assert done.outcome.code == 0
    assert sorted(fate.point for fate in done.truth.mounts) == sorted(p.id for p in points)
    assert [target["key"] for target in done.report["targets"]] == [
        f"default/hq/hq-app0000@{point.created_at:%Y-%m-%dT%H:%M:%SZ}" for point in points
    ]
    assert max(peak for place, peak in done.truth.peaks.items() if place.startswith("vm:")) == 1


async def test_a_machine_without_a_fitting_point_says_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is mounted in its place."""
    plan = "targets:\n  - {vm: hq-app0000, point: {incident_time: 2020-01-01T00:00:00Z}}\n"

    done = await drill(tmp_path, monkeypatch, [site()], plan)

    assert done.outcome.code == 1
    assert done.truth.mounts == []
    assert "none of 3 points is from 2020-01-01 00:00:00 UTC or before" in json.dumps(done.report)


# --- a late server and a resume ----------------------------------------------------------------


async def test_a_server_that_answers_late_samples_as_if_it_had_been_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is drawn follows from the seed alone, not from when a server could be asked."""
    plan = "targets:\n" + "".join(
        f"  - {{match: '*', server: {name}, sample: {{count: 3}}}}\n" for name in ("hq", "dr")
    )
    chosen = []
    for number, faults in enumerate([[], [Fault(kind="html_503", until_s=400)]]):
        sites = [site(), site("dr", faults=faults)]
        done = await drill(tmp_path / str(number), monkeypatch, sites, plan, choices={"seed": 11})
        assert done.outcome.code == 0
        chosen.append(mounted(done))

    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 6


async def test_a_resume_draws_for_a_server_that_never_answered_what_the_run_would_have_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed is in the journal: the next process, with other dice, chooses the same."""
    plan = "".join(
        f"  - {{match: '*', server: {name}, sample: {{count: 3}}, point: {{policy: random}}}}\n"
        for name in ("hq", "dr")
    )
    chosen = []
    for number, faults in enumerate([[], [Fault(kind="html_503", until_s=4000)]]):
        sites = [site(), site("dr", faults=faults)]
        directory = tmp_path / str(number)
        async with staged(directory, monkeypatch, sites, f"targets:\n{plan}") as stage:
            done = await stage.run(seed=23)
            if faults:
                assert done.results()["match:*"] == "skipped"
                await anyio.sleep(4100)
                done = await stage.resume()
        assert {*done.results().values()} == {"mounted"}
        chosen.append(sorted(fate.point for fate in done.truth.mounts))

    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 6


# --- locked plans ------------------------------------------------------------------------------


async def locked_from(stage: Stage) -> LockedPlan:
    """Lock the stage's plan as `plan -o` does."""
    found = await looked(stage)
    loaded = stage.loaded
    assert isinstance(loaded, LoadedPlan)
    data = lock(loaded, found.expansion, created_at=START, version="9", seed=found.seed)
    return load_locked(data, Path("x.lock.json"))


LOCKABLE = "targets:\n  - {match: '*', sample: {count: 4}, point: {policy: random}}\n"


async def test_a_locked_sample_is_mounted_as_it_was_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer points and another seed change nothing."""
    async with staged(tmp_path, monkeypatch, [site()], LOCKABLE) as stage:
        locked = await locked_from(stage)
        inventory = stage.sites.managers["hq"].inventory
        assert isinstance(inventory, Inventory)
        for place, machine in enumerate(inventory.machines):
            inventory.add(Point(str(UUID(int=place + 1)), machine, START))
        stage.loaded = locked
        done = await stage.run(seed=99)

    assert done.outcome.code == 0
    assert sorted(f.point for f in done.truth.mounts) == sorted(r.point.id for r in locked.requests)
    assert done.state.replay(RunId("20261123T060000Z-0001")).started.seed == locked.seed != 0


@pytest.mark.parametrize("critical", [False, True])
async def test_a_locked_point_that_has_gone_is_said_before_anything_is_mounted(
    critical: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails with that reason and the others go on, unless it is critical."""
    word = ", critical: true" if critical else ""
    plan = f"targets:\n  - {{vm: hq-app0000{word}}}\n  - vm: hq-sql0001\n"
    async with staged(tmp_path, monkeypatch, [site()], plan) as stage:
        locked = await locked_from(stage)
        inventory = stage.sites.managers["hq"].inventory
        assert isinstance(inventory, Inventory)
        vanish(inventory, inventory.by_id[locked.requests[0].point.id])
        seen = await looked(stage, locked=locked)
        stage.loaded = locked
        done = await stage.run()

    assert [(gone.label, "has gone" in gone.reason) for gone in seen.gone] == [("hq-app0000", True)]
    assert "has gone" in json.dumps(done.target("hq-app0000"))
    assert done.target("hq-app0000")["result"] == "failed"
    assert done.outcome.code == (5 if critical else 1)
    assert mounted(done) == ([] if critical else ["hq-sql0001"])


async def test_a_locked_agent_is_found_by_its_id_where_the_role_lists_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least privileged account can run what somebody else has locked."""
    one = site("hq", in_family("agents/agentRestorePoints"))
    plan = f"targets:\n  - {{id: {UUID(int=1)}, source: agent}}\n"
    async with staged(tmp_path, monkeypatch, [one], plan) as stage:
        stage.loaded = await locked_from(stage)
        done = await stage.run()

    assert done.outcome.code == 0


# --- what `plan` shows ---------------------------------------------------------------------------


async def test_plan_names_whom_an_entry_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the text within eighty columns, and as values."""
    body = "targets:\n  - {match: '*', exclude: [hq-sql0001, 'hq-[aw]*']}\n"
    async with staged(tmp_path, monkeypatch, [site(machines=10)], body) as stage:
        seen = await looked(stage)
        lines = list(shown_plan(seen, explain=False))
        assert isinstance(stage.loaded, LoadedPlan)
        values: dict[str, Any] = as_values(seen, stage.loaded)

    assert max(map(len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    assert "match '*': 'exclude' leaves out 3 machines: hq-app0000, hq-sql0001, hq-web0002" in said
    (left_out,) = values["left_out"]
    assert (left_out["by"], left_out["count"]) == ("exclude", 3)


async def test_plan_shows_targets_reasons_and_the_seed_within_eighty_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns that say the same everywhere stand once; every point is accounted for."""
    body = (
        "targets:\n  - {match: '*', sample: {count: 2}}\n"
        "  - {vm: gone}\n  - {query: 'VmDisplayName==\"hq-print0009\"'}\n"
    )
    async with staged(tmp_path, monkeypatch, [site(machines=10)], body) as stage:
        plain = await looked(stage, seed=1)
        lines = list(shown_plan(plain, explain=False))
        explained = list(shown_plan(plain, explain=True))

    assert max(map(len, explained)) <= 80
    assert lines[0] == "wave default, server hq"
    assert lines[1].split("  ")[0] == "BACKUP SERVER"
    assert "random seed 1; --seed 1 gives the same selection again" in lines
    assert lines[-1] == "4 targets, 1 of them without a restore point"
    assert sum("passed over" in line for line in lines) == 2  # the query's other points
    assert sum("passed over 2: older than the chosen" in line for line in explained) == 2
    assert sum("passed over" in line for line in explained) == 4
    assert sum("because:" in line for line in explained) == 4
    assert "default/hq/gone has no restore point" in explained


async def test_plan_as_json_holds_candidates_and_a_bounded_list_of_what_was_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten for each target, and how many more there are; a query's are all there."""

    def many(inventory: Inventory) -> None:
        machine: Machine = inventory.machine("hq-app0000")
        for number in range(20):
            made = START - timedelta(days=10, hours=number)
            inventory.add(Point(str(UUID(int=number + 100)), machine, made))

    body = "targets:\n  - {vm: hq-app0000, point: {fallback: {count: 2, on: [check_failed]}}}\n"
    one = {}
    for name, plan in {
        "vm": body,
        "query": "targets:\n  - query: 'VmDisplayName==\"hq-app0000\"'\n",
    }.items():
        async with staged(tmp_path, monkeypatch, [site("hq", many)], plan) as stage:
            found = await looked(stage)
            assert isinstance(stage.loaded, LoadedPlan)
            values: Any = json.loads(json.dumps(as_values(found, stage.loaded)))
            lines = list(shown_plan(found, explain=True))
        (one[name],) = values["targets"]
        folded = "      passed over 20: older than the chosen, back to 2026-11-12 11:00:00 UTC"
        assert (folded in lines) == (name == "vm")
        assert sum("passed over" in line for line in lines) == (1 if name == "vm" else 22)
        assert lines[-1] == "1 target, each with its restore point"
        assert sum("in reserve" in line for line in lines) == (2 if name == "vm" else 0)

    assert len(one["vm"]["passed_over"]) == 10
    assert one["vm"]["passed_over_more"] == 12
    assert one["vm"]["search"]["on"] == ["check_failed"]
    assert len(one["vm"]["search"]["candidates"]) == 3
    assert one["vm"]["search"]["candidates"][0] == one["vm"]["point"]
    assert len(one["query"]["passed_over"]) == 22
    assert one["query"]["search"] is None
