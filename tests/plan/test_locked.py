"""Locked plans: exactly what was expanded, and nothing that anybody changed since."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.cli import command
from orchestrator.core.errors import PlanError
from orchestrator.core.model import RestorePoint, Source
from orchestrator.plan.choose.expansion import Expansion, expand
from orchestrator.plan.choose.inventory import Inventory, Listing, Question
from orchestrator.plan.choose.locked import (
    LockedPlan,
    _hash,
    differences,
    load_any,
    load_locked,
    lock,
)
from orchestrator.plan.choose.targets import LockedSelection, Narrowing
from orchestrator.plan.file.loading import LoadedPlan, load_plan
from orchestrator.plan.file.selectors import SelectorKind
from tests.plan.builders import DR, HQ, NOW, load, point

BODY = """limits:
  {mounts: 9, failures: 20%, deadline: 3h, ramp: {from: 2, every: 60s}, start_interval: 2s}
objectives: {rto: 45m}
waves:
  - name: dir
    critical: true
    targets:
      - {vm: dc01, os: linux, timeouts: {mount: 7s}, retries: {attempts: 4}}
      - {vm: gone, label: missing}
  - {name: web, after: [dir], server: dr, limits: {mounts: 2}, targets: [{job: Zürich}]}
defaults: {server: hq, point: {max_age: 24h}}
"""
POINTS = [point("dc01", hours=2), point("dc01", hours=9)]
DR_POINTS = [point("w1", job="Zürich", behind="b"), point("w2", job="Zürich", behind="a")]


def expansion_of(
    loaded: LoadedPlan, hq: list[RestorePoint] = POINTS, dr: list[RestorePoint] = DR_POINTS
) -> Expansion:
    """Return the plan's targets on two servers that listed these points."""
    return expand(loaded.plan, {HQ: Inventory(hq), DR: Inventory(dr)}, now=NOW)


def locked_bytes() -> bytes:
    """Return the file of a locked plan."""
    loaded = load(BODY, two_servers=True)
    return lock(loaded, expansion_of(loaded), created_at=NOW, version="9.9")


def words_of(data: bytes) -> str:
    """Return why a locked plan is refused, in one line."""
    with pytest.raises(PlanError) as caught:
        load_locked(data, Path("x.lock.json"))
    (problem,) = caught.value.problems
    return str(problem)


def test_what_is_loaded_is_what_was_locked() -> None:
    """Targets, settings and origin survive the file without any difference."""
    loaded = load(BODY, two_servers=True)
    expansion = expansion_of(loaded)

    locked = load_locked(
        lock(loaded, expansion, created_at=NOW, version="9.9"), Path("x.lock.json")
    )

    assert locked.requests == expansion.requests
    assert len(locked.requests) == 3
    assert locked.unresolved == expansion.unresolved
    assert len(locked.unresolved) == 1
    waves = tuple(replace(wave, entries=()) for wave in loaded.plan.waves)
    assert locked.plan == replace(loaded.plan, waves=waves)
    assert (locked.created_at, locked.version) == (NOW, "9.9")
    assert (locked.source, locked.source_sha256) == ("plan.yaml", loaded.sha256)
    assert differences(locked, expansion) == ()


def test_a_locked_plan_keeps_checks_downloads_and_what_stays_mounted() -> None:
    """Whoever approved it approved these too, and they are what is run."""
    body = (
        "mode: recovery\ncleanup: {unmount: on_success, keep_failed: 30m}\n"
        "checks:\n"
        "  a: [{path: 'C:\\a', magic: 4D 5A}, {dir: 'C:\\d', absent: ['*x']}]\n"
        "  b: [{baseline: 'C:\\d', size: 20%}, {exec: [judge, -v], timeout: 9s}]\n"
        "targets:\n"
        "  - vm: dc01\n"
        "    checks: [b, a]\n"
        "    download: [{path: 'C:\\a', to: out/}, {path: 'C:\\b', write: original}]\n"
    )
    loaded = load(body, base=Path("/plans"))
    expansion = expand(loaded.plan, {HQ: Inventory(POINTS)}, now=NOW)

    locked = load_locked(lock(loaded, expansion, created_at=NOW, version="9.9"), Path("x"))

    assert locked.plan.mode == "recovery"
    assert locked.plan.checks == loaded.plan.checks
    assert [len(each) for each in locked.plan.checks.values()] == [2, 2]
    assert locked.plan.cleanup == loaded.plan.cleanup
    (request,) = locked.requests
    assert request.checks == ("b", "a")
    assert [(each.path, each.to) for each in request.downloads] == [
        ("C:\\a", "/plans/out/"),
        ("C:\\b", None),
    ]


def test_the_same_plan_and_inventory_lock_to_the_same_bytes() -> None:
    """A locked plan can be compared, signed and kept under version control."""
    loaded = load(BODY, two_servers=True)

    again = lock(loaded, expansion_of(loaded, POINTS[::-1]), created_at=NOW, version="9.9")

    assert again == locked_bytes()


def test_no_secret_is_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """References stay references: locking resolves none of them."""
    monkeypatch.setenv("P", "hunter2")

    data = locked_bytes()

    assert b"hunter2" not in data
    assert load_locked(data, Path()).plan.servers[HQ].password.kind == "env"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("targets:\n  - {vm: a, server: dr}\n  - {vm: dc01, server: hq}\n", "not every server"),
        ("targets:\n  - {vm: dc01, server: hq, expect: {min: 2}}\n", "expected at least 2"),
    ],
    ids=["a server was not asked", "a guard is broken"],
)
def test_half_an_expansion_is_never_locked(body: str, why: str) -> None:
    """What `run` would refuse cannot be frozen either."""
    loaded = load(body, two_servers=True)
    expansion = expand(loaded.plan, {HQ: Inventory(POINTS)}, now=NOW)

    with pytest.raises(ValueError, match=why):
        lock(loaded, expansion, created_at=NOW, version="9.9")


# --- edits -------------------------------------------------------------------------------

Edit = Callable[[dict[str, Any]], object]
EDITS: dict[str, Edit] = {
    "another point": lambda d: d["locked"]["requests"][0]["point"].update(id="0" * 36),
    "another key": lambda d: d["locked"]["requests"][0].update(key="dir/hq/other"),
    "a target removed": lambda d: d["locked"]["requests"].pop(),
    "a target doubled": lambda d: d["locked"]["requests"].append(d["locked"]["requests"][0]),
    "targets reordered": lambda d: d["locked"]["requests"].reverse(),
    "a limit": lambda d: d["locked"]["plan"]["limits"].update(mounts=99),
    "the trust": lambda d: d["locked"]["plan"]["servers"]["hq"].update(trust={"kind": "insecure"}),
    "the address": lambda d: d["locked"]["plan"]["servers"]["hq"].update(url="https://x:9398"),
    "a key more": lambda d: d["locked"].update(more=1),
    "the hash": lambda d: d.update(sha256="0" * 64),
    "no hash": lambda d: d.pop("sha256"),
    "no body": lambda d: d.pop("locked"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_locked_plan_is_refused(edit: Edit) -> None:
    """Whatever was changed, nothing of it is run, and the message says how to go on."""
    document = json.loads(locked_bytes())
    edit(document)

    words = words_of(json.dumps(document).encode())

    assert "this locked plan was changed after it was made" in words
    assert "bulk-restore plan PLAN -o FILE" in words


def test_spacing_and_the_order_of_keys_are_no_change() -> None:
    """A formatter in between does not make a locked plan useless."""
    data = json.dumps(json.loads(locked_bytes()), sort_keys=True).encode()

    assert load_locked(data, Path("x")).requests == load_locked(locked_bytes(), Path("x")).requests


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "x.lock.json:1:1: damaged"),
        (b'{"format": "bulk-restore-locked-plan",\n "sha', "x.lock.json:2:2: damaged"),
        (locked_bytes()[:-40], "damaged"),
        (b'{"format": "\xff"}', "damaged: this is no JSON text"),
        (b"[" * 100_000, "damaged: this is no JSON text"),
        (b'{"format": ' + b"9" * 5000 + b"}", "damaged: this is no JSON text"),
        (b"[]", "this is not a locked plan"),
        (b'{"format": "another"}', "this is not a locked plan"),
        (
            b'{"format": "bulk-restore-locked-plan", "format_version": 3}',
            "written in a format this program cannot read",
        ),
    ],
    ids=[
        *("empty", "cut early", "cut late", "not UTF-8", "nested", "a huge number"),
        *("a list", "other file", "newer"),
    ],
)
def test_a_broken_locked_plan_is_refused_with_the_reason(data: bytes, words: str) -> None:
    """Damage ends in one problem with the place, never in a traceback."""
    assert words in words_of(data)


@pytest.mark.parametrize("part", ["plan", "requests", "created_at"])
def test_a_body_of_another_version_is_refused_although_its_hash_is_right(part: str) -> None:
    """A file that an older or newer program wrote is not half understood."""
    document = json.loads(locked_bytes())
    document["locked"][part] = {"from": "the future"}
    document["sha256"] = _hash(document["locked"])

    assert "written by another version of this program" in words_of(json.dumps(document).encode())


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
@example(0, b"\xef\xbb\xbf")
def test_any_damage_is_refused_or_changes_nothing(place: int, noise: bytes) -> None:
    """No overwritten byte leads to another mount."""
    data = locked_bytes()
    place %= len(data)

    try:
        found = load_locked(data[:place] + noise + data[place + len(noise) :], Path("x"))
    except PlanError:
        return

    assert found == load_locked(data, Path("x"))


# --- which kind of file --------------------------------------------------------------------


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    """Both kinds of plan go through one door, whatever the files are called."""
    locked, plain = tmp_path / "a.yaml", tmp_path / "b.json"
    locked.write_bytes(locked_bytes())
    plain.write_text('{version: 1, name: x, servers: {hq: {url: "https://h:9398", username: u, ')
    with plain.open("a") as file:
        file.write("password: {env: P}}}, targets: [{vm: a}]}")

    assert isinstance(load_any(locked), LockedPlan)
    assert isinstance(load_any(plain), LoadedPlan)
    with pytest.raises(PlanError, match="there is no such file"):
        load_any(tmp_path / "nothing")


def test_where_a_plan_is_wanted_a_locked_one_is_named_as_such(tmp_path: Path) -> None:
    """`plan` and `coverage` expand selectors; a locked plan has none, and nothing else is wrong."""
    path = tmp_path / "x.lock.json"
    path.write_bytes(locked_bytes())

    with pytest.raises(PlanError) as caught:
        load_plan(path)

    (problem,) = caught.value.problems
    assert "not a plan, but a locked plan; name the plan that it was made from" in str(problem)


def test_a_locked_plan_takes_no_variables(tmp_path: Path) -> None:
    """`--set` would change what was approved."""
    path = tmp_path / "x.lock.json"
    path.write_bytes(locked_bytes())

    with pytest.raises(PlanError, match="--set and --vars cannot change a locked plan"):
        load_any(path, overrides={"a": "b"})


def test_a_locked_plan_takes_no_seed(tmp_path: Path) -> None:
    """What was drawn stays drawn."""
    path = tmp_path / "x.lock.json"
    path.write_bytes(locked_bytes())

    answer = CliRunner().invoke(
        command, ["run", str(path), "--seed", "3", "--state", str(tmp_path)]
    )

    assert answer.exit_code == 2
    assert "--seed cannot change a locked plan: lock it again" in answer.output


# --- what became of it -----------------------------------------------------------------------


def test_differences_name_what_is_new_gone_and_moved() -> None:
    """One line for each target that would not be what was locked, in the order of keys."""
    locked = load_locked(locked_bytes(), Path("x"))
    now = expansion_of(
        load(BODY, two_servers=True),
        [*POINTS, point("dc01", hours=1), point("gone")],
        DR_POINTS[:1],
    )

    assert differences(locked, now) == (
        "~ dir/hq/dc01: point of 2026-11-23 10:00:00 UTC became "
        "the point of 2026-11-23 11:00:00 UTC",
        "+ dir/hq/missing: point of 2026-11-23 11:00:00 UTC",
        "- web/dr/w2: no longer selected",
    )


def test_other_points_to_try_are_a_difference_too() -> None:
    """The same first choice with fewer points behind it is not what was approved."""
    locked = load_locked(locked_with_fallback(), Path("x"))
    plan = load(FALLBACK).plan

    now = expand(plan, {HQ: Inventory([OLDER[0], OLDER[2]])}, now=NOW)

    assert differences(locked, now) == ("~ default/hq/dc01: other points to try: 4 became 2",)


# --- at the start of a run -------------------------------------------------------------------


def selection_of(data: bytes) -> LockedSelection:
    """Return the targets of a locked plan, all of them."""
    return LockedSelection(load_locked(data, Path("x")), Narrowing())


def test_locked_targets_split_by_server() -> None:
    """Every locked target belongs to exactly one server: run there or reported there."""
    selection = selection_of(locked_bytes())

    there = selection.expand({HQ: Listing(points=POINTS)})
    left = selection.placeholders(DR)

    assert [r.key for r in there.requests] == ["dir/hq/dc01"]
    assert [t.key for t in there.unresolved] == ["dir/hq/missing"]
    assert [t.key for t in left] == ["web/dr/w1", "web/dr/w2"]


def test_a_server_is_asked_for_the_machines_of_its_locked_points_and_what_those_do_not_show() -> (
    None
):
    """Few requests: many machines in one query, and ids only for points that no query shows."""
    needs = selection_of(locked_bytes()).needs(DR)

    assert needs.machines == {Source.REPLICA: ("w1", "w2")}
    assert needs.points == tuple((Source.REPLICA, each.id) for each in DR_POINTS)
    assert needs.jobs == needs.queries == needs.listings == {}


def test_a_locked_target_whose_point_has_gone_says_so_and_the_others_stay() -> None:
    """A newer point of the same machine is no substitute for the one that was approved."""
    there = selection_of(locked_bytes()).expand(
        {DR: Listing(points=[DR_POINTS[0], point("w2", hours=1, behind="a", job="other")])}
    )

    assert [request.key for request in there.requests] == ["web/dr/w1"]
    (gone,) = there.unresolved
    assert gone.key == "web/dr/w2"
    assert gone.reason.startswith("the locked restore point of 2026-11-23 11:00:00 UTC has gone")
    assert gone.os_kind is load_locked(locked_bytes(), Path("x")).requests[2].os_kind


def test_a_point_that_may_not_be_read_is_not_called_gone() -> None:
    """What the account may not see is not the same as what retention has removed."""
    asked = Question(SelectorKind.ID, Source.REPLICA, DR_POINTS[1].id)
    listing = Listing(points=[DR_POINTS[0]], refused={asked: "not visible to this role: x"})

    (target,) = selection_of(locked_bytes()).expand({DR: listing}).unresolved

    assert target.reason == "not visible to this role: x"


def test_gone_points_are_named_apart_from_targets_that_never_had_one() -> None:
    """`plan --against` repeats no target that was locked without a point."""
    selection = selection_of(locked_bytes())

    assert selection.gone({HQ: Listing(points=POINTS)}) == []
    assert [t.key for t in selection.gone({HQ: Listing()})] == ["dir/hq/dc01"]


FALLBACK = "targets:\n  - {vm: dc01, point: {fallback: {count: 3}}}\n"
OLDER = [point("dc01", hours=hours) for hours in (2, 9, 20, 30, 40)]


def locked_with_fallback() -> bytes:
    """Return a locked plan with one target that may fall back."""
    loaded = load(FALLBACK)
    expansion = expand(loaded.plan, {HQ: Inventory(OLDER)}, now=NOW)
    return lock(loaded, expansion, created_at=NOW, version="9.9", seed=77)


def test_candidates_and_seed_are_frozen() -> None:
    """A newer point that appears later joins neither the choice nor what may be tried."""
    selection = selection_of(locked_with_fallback())

    (request,) = selection.expand({HQ: Listing(points=[point("dc01", hours=1), *OLDER])}).requests

    assert request.search.candidates == tuple(OLDER[:4])
    assert load_locked(locked_with_fallback(), Path("x")).seed == 77


def test_older_points_that_have_gone_are_left_out_and_counted() -> None:
    """Nothing is tried that cannot be there, and the report says that less was left to try."""
    selection = selection_of(locked_with_fallback())

    (request,) = selection.expand({HQ: Listing(points=[OLDER[0], OLDER[2]])}).requests

    assert request.search.candidates == (OLDER[0], OLDER[2])
    assert request.policy.endswith("2 of the older points locked have gone since")


def test_older_points_stay_where_the_account_may_not_list_the_machine() -> None:
    """Only what a server does list can tell that something is missing from it."""
    asked = Question(SelectorKind.VM, Source.REPLICA, "dc01")
    listing = Listing(points=OLDER[:1], refused={asked: "not visible"})

    (request,) = selection_of(locked_with_fallback()).expand({HQ: listing}).requests

    assert request.search.candidates == tuple(OLDER[:4])


def test_a_locked_plan_of_the_first_format_is_still_read() -> None:
    """What was approved before this version can be run after it."""
    document = json.loads(locked_bytes())
    del document["locked"]["seed"]
    document |= {"format_version": 1, "sha256": _hash(document["locked"])}

    found = load_locked(json.dumps(document).encode(), Path("x"))

    assert found.requests == load_locked(locked_bytes(), Path("x")).requests
    assert found.seed == 0
