"""Targets without a point, `expect` guards and machines selected twice: said, never dropped."""

from __future__ import annotations

import pytest

from orchestrator.core.model import OsKind, RestorePoint, Source
from orchestrator.plan.choose.expansion import Expansion, expand, placeholders
from orchestrator.plan.choose.inventory import Inventory
from tests.plan.builders import DR, HQ, NOW, expanded, load, point

GUID = "9b414afe-e957-4d40-a144-7d02de9a041c"


def only_reason(expansion: Expansion) -> str:
    """Return why the only target has no restore point."""
    assert expansion.requests == ()
    assert expansion.broken == ()
    (target,) = expansion.unresolved
    return target.reason


# --- targets without a point -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "points", "reason"),
    [
        ("{vm: dc01}", [], "the server lists no restore point for vm 'dc01'"),
        (
            "{vm: dc01, backup_server: vbr-9}",
            [point("dc01")],
            "the server lists no restore point for vm 'dc01' behind 'vbr-9'",
        ),
        (
            "{job: web, exclude: ['w*']}",
            [point("w1", job="web")],
            "the server lists no restore point for job 'web' after 'exclude'",
        ),
        (f"{{id: {GUID}}}", [point("dc01")], "the server lists no such restore point, or not to"),
        (
            "{vm: dc01}",
            [point("dc01", behind="b"), point("dc01", behind="a")],
            "the name is ambiguous ('dc01' behind 'a', 'dc01' behind 'b'): say which with",
        ),
        (
            "{vm: dc01, point: {max_age: 1h}}",
            [point("dc01", hours=26)],
            "the newest point that fits is 1 d 2 h old",
        ),
        ("{vm: dc01, source: agent}", [point("dc01")], "the server lists no restore point for vm"),
    ],
    ids=["vm", "backup server", "all excluded", "id", "ambiguous", "too old", "other family"],
)
def test_a_target_without_a_point_is_kept_and_says_why(
    target: str, points: list[RestorePoint], reason: str
) -> None:
    """Nothing that the plan names disappears: it stays a target with the reason in words."""
    assert only_reason(expanded(f"targets:\n  - {target}\n", *points)).startswith(reason)


def test_an_unresolved_target_keeps_what_the_plan_says_of_it() -> None:
    """Key, wave, label, criticality and place are those a request would have had."""
    expansion = expanded(
        "targets:\n  - {vm: dc01, label: first, critical: true, os: linux, source: agent}\n"
    )

    (target,) = expansion.unresolved
    assert (target.key, target.wave, target.label) == ("default/hq/first", "default", "first")
    assert (target.critical, target.os_kind, target.source) == (True, OsKind.LINUX, Source.AGENT)
    assert target.place == "6:5"


def test_the_targets_of_a_server_never_asked_are_pending_and_have_placeholders() -> None:
    """One server's silence holds back its own entries only, and each still has a target."""
    body = (
        "waves:\n  - name: w\n    server: dr\n    targets:\n"
        "      - vm: a\n      - job: web\n      - {vm: b, server: hq}\n"
        "      - {vm: c, backup_server: x}\n      - {vm: c, backup_server: y}\n"
    )
    plan = load(body, two_servers=True).plan

    expansion = expand(plan, {HQ: Inventory([point("b")])}, now=NOW)
    left = placeholders(plan, DR, reason="no answer")

    assert [request.key for request in expansion.requests] == ["w/hq/b"]
    assert [entry.value for entry in expansion.pending] == ["a", "web", "c", "c"]
    assert [t.key for t in left] == ["w/dr/a", "w/dr/job:web", "w/dr/c@x", "w/dr/c@y"]
    assert {target.reason for target in left} == {"no answer"}


# --- guards ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "machines", "broken"),
    [
        ("{min: 2}", 1, "6:5: job 'web' matches 1 machines, expected at least 2"),
        ("{min: 2, max: 3}", 2, None),
        ("{min: 2, max: 3}", 3, None),
        ("{max: 3}", 4, "6:5: job 'web' matches 4 machines, expected at most 3"),
        ("{min: 1}", 0, "6:5: job 'web' matches 0 machines, expected at least 1"),
    ],
)
def test_a_guard_breaks_exactly_outside_its_bounds(
    expect: str, machines: int, broken: str | None
) -> None:
    """`expect` counts machines, not points, and both bounds are allowed."""
    points = [point(f"w{n}", hours=h, job="web") for n in range(machines) for h in (1, 2)]

    expansion = expanded(f"targets:\n  - {{job: web, expect: {expect}}}\n", *points)

    assert expansion.broken == ((broken,) if broken else ())


def test_an_empty_match_is_fine_where_the_plan_says_so() -> None:
    """`expect: {min: 0}` leaves no target and no complaint."""
    assert expanded("targets:\n  - {job: web, expect: {min: 0}}\n") == Expansion(
        requests=(), unresolved=(), broken=(), pending=(), matched={"6:5": 0}
    )


def test_a_guard_waits_for_a_server_that_was_not_asked() -> None:
    """Too few machines are no verdict while a server has yet to answer."""
    plan = load("targets:\n  - {job: web, server: dr, expect: {min: 1}}\n", two_servers=True).plan

    assert expand(plan, {HQ: Inventory()}, now=NOW).broken == ()
    assert len(expand(plan, {DR: Inventory()}, now=NOW).broken) == 1


@pytest.mark.parametrize(
    ("targets", "points"),
    [
        ("  - vm: w1\n  - job: web\n", [point("w1", job="web")]),
        ("  - job: web\n  - job: db\n", [point("w1", job="web"), point("w1", job="db", hours=2)]),
        ("  - vm: w1\n  - vm: W1\n", [point("w1")]),
        (f"  - vm: w1\n  - id: {point('w1', number=1).id}\n", [point("w1", number=1)]),
    ],
    ids=["vm and job", "two jobs", "two spellings", "vm and id"],
)
def test_a_machine_that_the_inventory_shows_twice_names_both_places(
    targets: str, points: list[RestorePoint]
) -> None:
    """One machine is mounted once: the plan must say which entry is meant."""
    (sentence,) = expanded("targets:\n" + targets, *points).broken

    assert sentence.startswith("7:5: vm 'w1' behind 'vbr-01' on server 'hq' is selected twice")
    assert "(6:5)" in sentence
    assert "(7:5)" in sentence


def test_two_machines_never_share_a_key() -> None:
    """A label that is another machine's name is found once the inventory shows that machine."""
    expansion = expanded(
        "targets:\n  - {vm: sql01, label: w1}\n  - job: web\n",
        point("sql01"),
        point("w1", job="web", behind="vbr-01"),
    )

    (sentence,) = expansion.broken
    assert "two targets would be called 'default/hq/w1'" in sentence
