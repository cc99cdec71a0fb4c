"""The plans that are shipped: each loads, means what its comments say, and can be expanded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.core.model import (
    OsKind,
    OsSource,
    RestorePoint,
    RestorePointId,
    ServerName,
    Unmount,
    WaveName,
)
from orchestrator.core.proof import BaselineCheck, DirCheck, ExecCheck, PathCheck
from orchestrator.plan.choose.expansion import expand, placeholders
from orchestrator.plan.choose.inventory import Inventory
from orchestrator.plan.file.loading import load_plan, load_plan_text
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import RestorePlan
from tests.plan.builders import NOW, point

ROOT = Path(__file__).parent.parent.parent / "plans"
PLANS = sorted(ROOT.glob("*.yaml"))
each_plan = pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)


def listed(plan: RestorePlan, server: ServerName) -> Inventory:
    """Return an inventory in which everything that the plan names on `server` exists."""
    found: list[RestorePoint] = []
    for entry in plan.entries(server):
        one = point(entry.value, behind=entry.backup_server or "vbr-01", source=entry.source)
        if entry.kind is SelectorKind.ID:
            found.append(replace(one, id=RestorePointId(entry.value), vm="by-id"))
        elif entry.kind is SelectorKind.JOB:
            found += (point(f"{entry.value}-{n}", job=entry.value) for n in (1, 2))
        else:
            found += (one, replace(point(entry.value, hours=90), backup_server=one.backup_server))
    return Inventory(found)


def test_all_the_plans_are_looked_at() -> None:
    """The collection does not shrink unnoticed."""
    assert {path.stem for path in PLANS} >= {"minimal", "complete", "ci", "demo"}


@each_plan
def test_a_shipped_plan_loads_without_a_problem(path: Path) -> None:
    """A new user's first command succeeds; PlanError would name every problem."""
    plan = load_plan(path).plan

    assert plan.entries()
    assert {entry.server for entry in plan.entries()} <= set(plan.servers)


@each_plan
def test_every_server_of_a_shipped_plan_is_used(path: Path) -> None:
    """No example logs on to a server that it then leaves alone."""
    plan = load_plan(path).plan

    assert {entry.server for entry in plan.entries()} == set(plan.servers)


@each_plan
def test_a_shipped_plan_expands_where_everything_exists(path: Path) -> None:
    """Against a matching inventory no guard breaks and nothing is missing."""
    plan = load_plan(path).plan

    expansion = expand(plan, {server: listed(plan, server) for server in plan.servers}, now=NOW)

    assert expansion.broken == ()
    assert expansion.pending == ()
    assert expansion.unresolved == ()
    keys = [request.key for request in expansion.requests]
    assert len(set(keys)) == len(keys) > 0


@each_plan
def test_a_shipped_plan_has_a_target_for_every_entry_even_without_servers(path: Path) -> None:
    """On the worst day the report still lists everything that the plan names."""
    plan = load_plan(path).plan

    left = [t for server in plan.servers for t in placeholders(plan, server, reason="down")]

    assert len({target.key for target in left}) == len(left) == len(plan.entries())


@each_plan
def test_a_shipped_plan_holds_no_secret_and_no_real_host(path: Path) -> None:
    """Passwords are references, hosts are examples or loopback."""
    plan = load_plan(path).plan

    assert all(settings.password.kind for settings in plan.servers.values())
    hosts = {re.sub(r"^https://(.+):\d+$", r"\1", s.url) for s in plan.servers.values()}
    assert all(host.endswith(".example.net") or host == "127.0.0.1" for host in hosts)


def test_the_variables_of_the_nightly_plan_can_be_set() -> None:
    """The command that its head comment shows gives the address it promises."""
    plan = load_plan(ROOT / "ci.yaml", overrides={"em": "em-dr.example.net", "build": "77"}).plan

    assert [settings.url for settings in plan.servers.values()] == [
        "https://em-dr.example.net:9398"
    ]
    assert plan.reason == "nightly drill, build 77"
    assert load_plan(ROOT / "ci.yaml").plan.reason == "nightly drill, build by hand"


def test_the_complete_plan_reads_its_inventory_file() -> None:
    """Rows, their settings, and the excluded laboratory machines are as the comments say."""
    waves = {wave.name: wave for wave in load_plan(ROOT / "complete.yaml").plan.waves}
    wave = waves[WaveName("branches")]

    assert [entry.value for entry in wave.entries if entry.kind is SelectorKind.VM] == [
        "branch-file-01",
        "branch-file-02",
        "branch-web-01",
        "branch-db-01",
        "branch-print-01",
    ]
    assert [entry.server for entry in wave.entries[:5]] == ["dr", "dr", "dr", "dr", "hq"]
    assert wave.entries[2].os_kind is OsKind.LINUX
    assert (wave.entries[3].label, wave.entries[3].point.policy) == ("branch-ledger", "before")
    assert (wave.entries[0].checks, wave.entries[2].checks) == (
        ("boot-volume",),
        ("web-config", "web-judge"),
    )


def test_the_complete_plan_shows_every_kind_of_check_and_each_set_is_asked_for() -> None:
    """Who starts from it finds an example of everything, and none that does nothing."""
    plan = load_plan(ROOT / "complete.yaml").plan

    every = [check for checks in plan.checks.values() for check in checks]
    assert {type(check) for check in every} == {PathCheck, DirCheck, BaselineCheck, ExecCheck}
    assert {name for entry in plan.entries() for name in entry.checks} == set(plan.checks)
    for field in ("sha256", "contains", "matches", "magic", "owner", "modified_within"):
        assert any(getattr(check, field, None) for check in every), field


def test_the_complete_plan_copies_files_to_the_places_its_comments_name() -> None:
    """Below the plan's own directory, wherever the process was started; a drill writes nowhere."""
    plan = load_plan(ROOT / "complete.yaml").plan
    sql = next(entry for entry in plan.entries() if entry.value == "sql01")

    assert [download.to for download in sql.downloads] == [
        f"{ROOT}/restored/sql01/",
        f"{ROOT}/restored/sql01/logs/",
    ]
    assert plan.mode == "drill"
    assert not any(d.writes_into_guest for entry in plan.entries() for d in entry.downloads)
    assert (plan.cleanup.unmount, plan.cleanup.keep_failed) == (Unmount.ALWAYS, 1800)


def test_the_recovery_example_of_the_complete_plan_is_right() -> None:
    """What a comment says loads, once the mode is what the comment demands."""
    text = (ROOT / "complete.yaml").read_text()
    recovery = text.replace("mode: drill ", "mode: recovery ").replace("# - {vm", "- {vm")

    plan = load_plan_text(recovery.encode(), ROOT / "complete.yaml").plan

    written = [d for entry in plan.entries() for d in entry.downloads if d.writes_into_guest]
    assert [download.path for download in written] == ["/etc/nginx/nginx.conf"]


def test_the_mixed_plan_leaves_the_systems_open() -> None:
    """Its job may hold machines of both; the letterless one is known to be Windows by its sets."""
    job, files = load_plan(ROOT / "mixed.yaml").plan.entries()

    assert (job.os_source, job.checks) == (OsSource.ASSUMED, ("windows-boot", "linux-boot"))
    assert (files.os_source, files.volumes) == (OsSource.ASSUMED, (("C", "Volume$1:"),))
