"""What a target can end as, and what the server must have done for it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import PlanError
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.drill import Site, drill, staged

pytestmark = pytest.mark.anyio


async def test_a_drill_over_three_servers_mounts_proves_and_releases_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every named machine is mounted, read and unmounted; sessions are logged off."""
    sites = [Site(name, machines=20, mount_s=None) for name in ("hq", "dr", "branch")]

    done = await drill(tmp_path, monkeypatch, sites, extra="limits: {mounts: 12}\n")

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"mounted": 60}
    assert {target["mount"] for target in done.report["targets"]} == {"released"}
    assert (done.truth.logons, done.truth.sessions_closed) == (3, 3)
    assert done.truth.peaks["total"] == 12


@pytest.mark.parametrize("related", ["other_family", "own_family", "absent"])
@pytest.mark.parametrize("answers", [True, False])
async def test_the_mount_is_found_whatever_the_related_link_says(
    related: str, answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 9: the link's family, its address or its absence never lose a mount."""
    behaviour = Behaviour(related=related, related_answers=answers)

    done = await drill(tmp_path, monkeypatch, [Site(behaviour=behaviour)])

    assert done.outcome.code == 0
    assert not done.truth.still_open()


async def test_operation_finished_is_not_taken_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traps 5 and 7: a task that already says Success="true" may still fail."""

    def fails(inventory: Inventory) -> None:
        for machine in inventory.machines:
            for point in machine.points:
                point.fails = "Failed to mount restore point: the replica VM is running."

    behaviour = Behaviour(operation_finished_share=1.0, operation_finished_s=20.0, message_share=1)
    site = Site(machines=3, behaviour=behaviour, change=fails)

    done = await drill(tmp_path, monkeypatch, [site])

    assert done.outcome.code == 1
    assert set(done.results().values()) == {"failed"}
    message = done.report["targets"][0]["message"]
    assert message == "Failed to mount restore point: the replica VM is running."
    assert [len(target["attempts"]) for target in done.report["targets"]] == [2, 2, 2]


async def test_a_failure_without_a_message_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 8: the Message is optional."""

    def fails(inventory: Inventory) -> None:
        inventory.machines[0].points[0].fails = "never said"

    behaviour = Behaviour(message_share=0.0)
    site = Site(machines=2, behaviour=behaviour, change=fails)

    done = await drill(tmp_path, monkeypatch, [site])

    assert Counter(done.results().values()) == {"mounted": 1, "failed": 1}


async def test_a_wrong_operating_system_is_not_called_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 13: a mount whose volumes are empty has failed, and is unmounted all the same."""
    plan = "targets:\n  - {vm: hq-file0003, os: windows}\n"

    done = await drill(tmp_path, monkeypatch, [Site(machines=8)], plan)

    target = done.target("hq-file0003")
    assert (target["result"], target["mount"]) == ("failed", "released")
    assert "no volume is readable" in target["message"]


async def test_a_missing_machine_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the worst day one missing replica must not stop the rest."""
    plan = "targets:\n  - vm: hq-app0000\n  - vm: nobody\n"

    done = await drill(tmp_path, monkeypatch, plan=plan)

    assert done.outcome.code == 1
    assert done.results() == {"hq-app0000": "mounted", "nobody": "failed"}
    assert done.target("nobody")["mount"] == "none"


async def test_a_broken_expectation_mounts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A selector that matches more or less than expected ends the run before any mount."""
    plan = (
        "targets:\n  - vm: hq-app0000\n  - {job: Tier 1 Replication vbr-hq-01, expect: {min: 50}}\n"
    )

    done = await drill(tmp_path, monkeypatch, plan=plan)

    assert done.outcome.code == 4
    assert not done.truth.mounts
    assert set(done.results().values()) == {"skipped"}


async def test_a_critical_target_that_fails_halts_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is submitted; what runs ends and is unmounted."""

    def fails(inventory: Inventory) -> None:
        for point in inventory.machine("hq-app0000").points:
            point.fails = "Failed."

    plan = (
        "waves:\n  - name: first\n    critical: true\n    targets:\n      - vm: hq-app0000\n"
        "  - name: second\n    after: [first]\n    targets:\n      - vm: hq-sql0001\n"
    )

    done = await drill(tmp_path, monkeypatch, [Site(change=fails)], plan)

    assert done.outcome.code == 5
    assert done.results() == {"hq-app0000": "failed", "hq-sql0001": "skipped"}
    assert done.report["run"]["halted"].startswith("critical")


def sql_fails(inventory: Inventory) -> None:
    """Let the mount of one machine fail."""
    for point in inventory.machine("hq-sql0001").points:
        point.fails = "Failed."


def in_waves(first: str) -> str:
    """Return a plan: `first`, two waves that wait for it one after the other, and one free."""
    return (
        f"waves:\n  - {{name: first, {first}targets: [{{vm: hq-sql0001}}, {{vm: hq-app0000}}]}}\n"
        "  - {name: second, after: [first], targets: [{vm: hq-web0002}]}\n"
        "  - {name: third, after: [second], targets: [{vm: hq-mail0005}]}\n"
        "  - {name: free, targets: [{vm: hq-dc0004}]}\n"
    )


@pytest.mark.parametrize(
    ("first", "code", "second"),
    [
        ("", 1, "mounted"),
        ("on_error: continue, ", 1, "mounted"),
        ("on_error: skip_dependents, ", 1, "skipped"),
        ("on_error: halt, ", 5, "skipped"),
        ("critical: true, on_error: halt, ", 5, "skipped"),
    ],
)
async def test_what_follows_an_error_is_what_the_wave_says(
    first: str, code: int, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waves after it start, or they and those after them are skipped, or the run halts."""
    sites = [Site(change=sql_fails)]

    done = await drill(tmp_path, monkeypatch, sites, in_waves(first))

    assert done.outcome.code == code
    results = done.results()
    assert results.pop("hq-dc0004") == results.pop("hq-app0000") == "mounted"
    assert results == {"hq-sql0001": "failed", "hq-web0002": second, "hq-mail0005": second}
    if "skip" in first:
        why = "wave first did not end well: first/hq/hq-sql0001 is failed"
        assert why in done.target("hq-web0002")["message"]
        assert why in done.target("hq-mail0005")["message"]
        waves = {wave["name"]: wave["started_at"] for wave in done.report["waves"]}
        assert waves["second"] is waves["third"] is None


async def test_waves_after_one_that_ended_well_are_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an error `on_error` changes nothing."""
    done = await drill(tmp_path, monkeypatch, plan=in_waves("on_error: skip_dependents, "))

    assert done.outcome.code == 0
    assert set(done.results().values()) == {"mounted"}


@pytest.mark.parametrize("budget", ["10%", "3"])
async def test_the_failure_budget_stops_submitting(
    budget: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once more than the budget has failed, the rest is skipped."""

    def fails(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.points[0].fails = "Failed."

    site = Site(machines=30, limit=1, change=fails)
    extra = f"limits: {{failures: {budget}}}\ndefaults: {{retries: {{attempts: 1}}}}\n"

    done = await drill(tmp_path, monkeypatch, [site], extra=extra)

    counts = Counter(done.results().values())
    assert done.outcome.code == 5
    assert counts == {"failed": 4, "skipped": 26}


async def test_what_cannot_end_by_the_deadline_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two show how long a mount takes there: the rest is skipped."""
    site = Site(machines=12, limit=2, mount_s=100.0)

    done = await drill(tmp_path, monkeypatch, [site], extra="limits: {deadline: 150s}\n")

    counts = Counter(done.results().values())
    assert done.outcome.code == 5
    assert counts == {"mounted": 2, "skipped": 10}
    assert done.report["run"]["halted"] == "deadline: no time was left for 10 targets"
    skipped = [each for each in done.report["targets"] if each["result"] == "skipped"]
    assert all(each["message"].startswith("no time: it may need ") for each in skipped)
    assert max(each.closed_at or math.inf for each in done.truth.mounts) < 150.0


async def test_a_mount_past_its_deadline_failed_and_is_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`failed` is said only once nothing is left: the task is watched on and unmounted."""
    site = Site(machines=1, mount_s=100.0)

    done = await drill(tmp_path, monkeypatch, [site], extra="defaults: {timeouts: {mount: 70s}}\n")

    target = done.report["targets"][0]
    assert (target["result"], target["mount"]) == ("failed", "released")
    assert "longer than" in target["message"]
    assert len(target["attempts"]) == 1


async def test_a_mount_that_never_ends_is_unknown_and_keeps_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody can see may be open, so its slot is never given to another mount."""
    site = Site(machines=3, limit=1, mount_s=50_000.0, backup_servers=1)

    done = await drill(tmp_path, monkeypatch, [site], extra="defaults: {timeouts: {mount: 60s}}\n")

    counts = Counter(done.results().values())
    assert done.outcome.code == 3
    assert counts == {"unknown": 1, "skipped": 2}
    assert done.truth.peaks["total"] == 1


async def test_waves_start_after_the_waves_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No target of a later wave is submitted before the earlier one has all its results."""
    plan = (
        "waves:\n  - name: late\n    after: [early]\n    targets:\n      - vm: hq-sql0001\n"
        "  - name: early\n    targets:\n      - vm: hq-app0000\n      - vm: hq-web0002\n"
    )

    done = await drill(tmp_path, monkeypatch, plan=plan)

    first = [fate for fate in done.truth.mounts if fate.vm != "hq-sql0001"]
    last = next(fate for fate in done.truth.mounts if fate.vm == "hq-sql0001")
    assert all(fate.closed_at is not None and fate.closed_at <= last.requested_at for fate in first)


async def test_objectives_are_measured_and_missed_ones_are_a_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RTO is run start to verdict; RPO is run start minus the point's creation."""
    plan = "objectives: {rto: 10s, rpo: 60d}\ntargets:\n  - vm: hq-app0000\n"

    done = await drill(tmp_path, monkeypatch, plan=plan)

    by_kind = {each["kind"]: each for each in done.report["objectives"] if each["scope"] == "run"}
    assert done.outcome.code == 1
    assert by_kind["rto"]["met"] is False
    assert by_kind["rpo"]["met"] is True
    assert 40 < by_kind["rto"]["actual_s"] < 90


@pytest.mark.parametrize("role", ["Portal User", "VM Restore Operator"])
async def test_a_role_that_may_not_mount_is_seen_before_anything_is_asked_for(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not list the mounts of a point may not make one: code 4, and no POST."""
    done = await drill(tmp_path, monkeypatch, [Site(machines=2, role=role)])

    posted = [kind for kind in done.truth.requests if "POST" in kind and "mounts" in kind]
    assert done.outcome.code == 4
    assert set(done.results().values()) == {"skipped"}
    assert "may not mount" in done.report["servers"][0]["problem"]
    assert not posted
    assert not done.truth.mounts


async def test_file_restore_operator_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least role works: backup servers are known from the points' links."""
    done = await drill(tmp_path, monkeypatch, [Site(machines=4, role="File Restore Operator")])

    assert done.outcome.code == 0
    assert {target["backup_server"] for target in done.report["targets"]} == {
        "vbr-hq-01",
        "vbr-hq-02",
    }


async def test_a_run_that_selects_nothing_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typing error in --only must not look like a drill that went well."""
    plan, only = "targets: [{match: 'hq-*'}]\n", ("hq-none*",)
    done = await drill(tmp_path, monkeypatch, [Site()], plan, choices={"only": only})

    assert done.outcome.code == 1
    assert not done.truth.mounts
    run = done.report["run"]
    assert "no target is selected" in str(run["halted"])
    assert not any("could not be used" in why for why in run["reasons"])
    assert run["narrowed"] == "by --only hq-none*: no target of the plan's 1 entry"


@pytest.mark.parametrize("narrowed", [{"only": ("nothing*",)}, {"keys": frozenset({"gone/hq/x"})}])
async def test_a_run_of_which_nothing_can_match_asks_nobody(
    narrowed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan alone shows it: an error of usage, before the first logon."""
    plan = "targets: [{vm: hq-app0000}, {vm: hq-sql0001}]\n"
    async with staged(tmp_path, monkeypatch, [Site(machines=2)], plan) as stage:
        with pytest.raises(PlanError, match="no target of the plan can match --"):
            await stage.run(**narrowed)

        assert not sum(stage.sites.truth.requests.values())
