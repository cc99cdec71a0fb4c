"""From a plan and what the servers listed to targets: none lost, none doubled, keys stable."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.model import MountRequest, RestorePoint, Source, UnresolvedTarget
from orchestrator.plan.choose.expansion import Expansion, expand
from orchestrator.plan.choose.inventory import Inventory, Listing, inventory_needs
from tests.plan.builders import HQ, NOW, expanded, load, point

GUID = "9b414afe-e957-4d40-a144-7d02de9a041c"


def keys(expansion: Expansion) -> list[str]:
    """Return the keys of the requests, in order."""
    return [str(request.key) for request in expansion.requests]


# --- selectors ---------------------------------------------------------------------------


def test_an_id_is_exactly_that_point() -> None:
    """`id` takes the named point, however old, and calls the target by its machine."""
    old = point("sql01", hours=900, number=7)

    expansion = expanded(f"targets:\n  - id: {old.id}\n", old, point("sql01", hours=1))

    (request,) = expansion.requests
    assert (request.key, request.point, request.policy) == (
        "default/hq/sql01",
        old,
        "named by its id",
    )


def test_a_vm_is_its_newest_point_in_the_family_that_the_plan_names() -> None:
    """`vm` never mixes replicas with backups of the same machine."""
    replica, backup = point("sql01", hours=3), point("sql01", hours=1, source=Source.BACKUP)
    body = "targets:\n  - {vm: sql01}\n  - {vm: sql01, source: backup, label: from-backup}\n"

    expansion = expanded(body, backup, replica, point("sql01", hours=5))

    assert [request.point for request in expansion.requests] == [replica, backup]
    assert keys(expansion) == ["default/hq/sql01", "default/hq/from-backup"]


def test_a_job_is_one_target_for_each_machine_it_made_points_of() -> None:
    """`job` gives every machine once, by its newest point of that job."""
    points = [point(vm, hours=hours, job="web") for vm in ("w2", "w1") for hours in (4, 2)]

    expansion = expanded(
        "targets:\n  - job: web\n", *points, point("w3", job="other"), point("w1", hours=1)
    )

    assert keys(expansion) == ["default/hq/w1", "default/hq/w2"]
    assert [r.point for r in expansion.requests] == [points[3], points[1]]


def test_exclude_leaves_out_names_and_globs_and_nothing_else() -> None:
    """An excluded machine is no target at all, and its likeness stays one."""
    points = [point(vm, job="web") for vm in ("web-1", "web-1-test", "web-legacy", "web-legacy2")]

    expansion = expanded("targets:\n  - {job: web, exclude: ['*-test', web-legacy]}\n", *points)

    assert keys(expansion) == ["default/hq/web-1", "default/hq/web-legacy2"]
    assert expansion.unresolved == ()


@pytest.mark.parametrize(
    ("written", "listed", "found"),
    [
        ("dc01", ["DC01"], ["DC01"]),
        ("dc01", ["DC01", "dc01"], ["dc01"]),
        ("Straße", ["STRASSE"], ["STRASSE"]),
    ],
    ids=["another case", "the exact spelling wins", "folded"],
)
def test_a_name_may_be_spelt_in_another_case(
    written: str, listed: list[str], found: list[str]
) -> None:
    """Upper and lower case count as equal only where nothing has the exact spelling."""
    expansion = expanded(f"targets:\n  - vm: {written}\n", *(point(vm) for vm in listed))

    assert [request.vm for request in expansion.requests] == found


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("{vm: dc01, backup_server: vbr-02}", ["default/hq/dc01"]),
        ("{vm: dc01, all: true}", ["default/hq/dc01@vbr-01", "default/hq/dc01@vbr-02"]),
        (
            "{vm: dc01, backup_server: vbr-02}\n  - {vm: dc01, backup_server: vbr-01}",
            ["default/hq/dc01@vbr-02", "default/hq/dc01@vbr-01"],
        ),
    ],
    ids=["one named", "all", "both named"],
)
def test_one_name_on_two_backup_servers_is_told_apart(target: str, found: list[str]) -> None:
    """The plan says which machine is meant, and keys name the backup server where they must."""
    expansion = expanded(
        f"targets:\n  - {target}\n", point("dc01", behind="vbr-01"), point("dc01", behind="vbr-02")
    )

    assert keys(expansion) == found
    assert expansion.broken == ()


def test_all_keeps_its_keys_when_a_machine_disappears() -> None:
    """With `all: true` a key names the backup server even while there is only one."""
    body = "targets:\n  - {vm: dc01, all: true}\n"

    assert keys(expanded(body, point("dc01"))) == ["default/hq/dc01@vbr-01"]


# --- order and stability -----------------------------------------------------------------


def test_targets_come_in_the_order_of_waves_and_entries_and_then_by_name() -> None:
    """The order is the file's, whatever `after` says; inside a selector it is by name."""
    body = (
        "waves:\n"
        "  - {name: late, after: [early], targets: [{job: web}, {vm: aa}]}\n"
        "  - {name: early, targets: [{vm: zz}]}\n"
    )

    expansion = expanded(
        body, point("aa"), point("zz"), point("w2", job="web"), point("w1", job="web")
    )

    assert keys(expansion) == ["late/hq/w1", "late/hq/w2", "late/hq/aa", "early/hq/zz"]


def test_nothing_is_asked_twice_of_a_server() -> None:
    """The same job in two waves is one question, and families are asked apart."""
    body = (
        "waves:\n"
        "  - name: a\n"
        "    targets: [{job: web, exclude: [w1]}, {vm: x}, {vm: x, source: backup, label: y}]\n"
        f"  - {{name: b, targets: [{{job: web, exclude: [w2]}}, {{id: {GUID}}}]}}\n"
    )

    needs = inventory_needs(load(body).plan, HQ)

    assert needs.jobs == {Source.REPLICA: ("web",)}
    assert needs.machines == {Source.REPLICA: ("x",), Source.BACKUP: ("x",)}
    assert needs.points == ((Source.REPLICA, GUID),)
    assert needs.sources == {Source.REPLICA, Source.BACKUP}


def test_a_point_listed_on_two_pages_counts_once() -> None:
    """Pages are no snapshot: what arrives twice is still one point."""
    one = point("dc01")

    expansion = expanded("targets:\n  - vm: dc01\n", one, one)

    assert [request.policy for request in expansion.requests] == ["newest of 1 point"]


vms = st.sampled_from([f"vm{n}" for n in range(5)])
listed_points = st.lists(
    st.builds(
        point,
        vms,
        hours=st.integers(1, 6),
        behind=st.sampled_from(["a", "b"]),
        job=st.sampled_from(["", "j1", "j2"]),
    ),
    max_size=25,
)


@given(
    st.lists(vms, unique=True, max_size=5),
    st.sets(st.sampled_from(["j1", "j2"])),
    st.booleans(),
    listed_points,
    st.integers(0, 99),
)
@settings(deadline=None)
def test_expansion_neither_loses_nor_doubles_a_target(
    names: list[str], jobs: set[str], every: bool, points: list[RestorePoint], seed: int
) -> None:
    """Each entry has its machines or one reason, no matter in which order they were listed."""
    more = ", all: true" if every else ""
    targets = [f"{{vm: {vm}{more}}}" for vm in names] + [f"{{job: {job}}}" for job in sorted(jobs)]
    body = "targets:\n" + "".join(f"  - {target}\n" for target in targets or ["{vm: none}"])

    expansion = expanded(body, *points)

    expected: Counter[str] = Counter()
    for entry in load(body).plan.entries():
        behind = {(p.vm, p.backup_server) for p in points if entry.value in (p.vm, p.job) and p.vm}
        clear = entry.kind != "vm" or every or len(behind) == 1
        expected[entry.place] = len(behind) if behind and clear else 1
    found: list[MountRequest | UnresolvedTarget] = [*expansion.requests, *expansion.unresolved]
    assert Counter(target.place for target in found) == expected
    machines = Counter((r.vm, r.backup_server) for r in expansion.requests)
    assert any(n > 1 for n in machines.values()) == any("twice" in b for b in expansion.broken)
    if not expansion.broken:
        assert len({target.key for target in found}) == len(found)
    shuffled = random.Random(seed).sample(points, len(points))
    assert expanded(body, *shuffled) == expansion


# --- clocks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "fits"),
    [(None, True), (1.0, True), (7200.0, False), (-7200.0, True)],
)
def test_max_age_counts_on_the_server_s_clock(offset: float | None, fits: bool) -> None:
    """Points carry the server's time; a difference within a Date header's own error is none."""
    body = "targets:\n  - {vm: a, point: {max_age: 2h}}\n"
    listing = Listing(points=(point("a", hours=1),), clock_offset_s=offset)

    expansion = expand(load(body).plan, {HQ: Inventory(listing=listing)}, now=NOW)

    assert bool(expansion.requests) is fits


def test_moments_that_the_plan_names_count_as_they_are() -> None:
    """`before` and `incident_time` are points in time, whatever a server's clock shows."""
    body = "targets:\n  - {vm: a, point: {policy: before, time: 2026-11-23T10:30:00Z}}\n"
    points = (point("a", hours=1), point("a", hours=2))
    listing = Listing(points=points, clock_offset_s=7200.0)

    (request,) = expand(load(body).plan, {HQ: Inventory(listing=listing)}, now=NOW).requests

    assert request.point == points[1]


@pytest.mark.parametrize(
    ("hours", "offset", "after_s", "told"),
    [
        (-0.5, None, 0.0, True),
        (-0.5, 1900.0, 0.0, False),
        (-0.5, None, 1900.0, False),
        (1, -9e3, 0.0, True),
    ],
)
def test_a_point_from_the_future_is_noted(
    hours: float, offset: float | None, after_s: float, told: bool
) -> None:
    """Later than now by the server's own clock, and not made while the run waited for it."""
    listing = Listing(points=(point("a", hours=hours),), clock_offset_s=offset, after_s=after_s)

    expansion = expand(load("targets: [{vm: a}]").plan, {HQ: Inventory(listing=listing)}, now=NOW)

    assert len(expansion.requests) == 1
    assert any("from the future" in note for note in expansion.notes) is told
