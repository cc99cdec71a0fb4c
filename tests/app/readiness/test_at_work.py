"""What a check says of jobs and restores at work, and what has changed since the last one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import defusedxml.ElementTree as SafeTree
import pytest
from msgspec.structs import replace

from orchestrator.app.readiness.as_junit import junit
from orchestrator.app.readiness.changes import changed_since, last_check, remember
from orchestrator.app.readiness.findings import Readiness, Status
from orchestrator.simulator.activity import SimActivity
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.inventory import Inventory
from tests.app.readiness.desk import checked
from tests.scenarios.drill import START, Site, Stage, servers_yaml

pytestmark = pytest.mark.anyio

SEEN = Behaviour(shows_activity="all")


def at_work(kind: str, from_s: float = -3600.0) -> object:
    """Return a change that lets something work on the first machine."""

    def change(stage: Stage) -> None:
        (manager,) = stage.sites.managers.values()
        machine = manager.inventory.machines[0]
        manager.activities.append(SimActivity(kind=kind, machine=machine, from_s=from_s))

    return change


async def test_a_job_at_work_is_named_with_its_machine_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning for the target, and seen at the server; the plan could still run."""
    found = await checked(
        tmp_path,
        monkeypatch,
        [Site(behaviour=SEEN)],
        before=at_work("replication"),  # type: ignore[arg-type]
    )

    (busy,) = (each for each in found.readiness.findings if each.item == "at_work")
    since = START - timedelta(hours=1)
    assert busy.status is Status.WARNING
    assert busy.detail.startswith('seen: job "Tier 1 Replication vbr-hq-01" works on hq-app0000')
    assert f"{since:%H:%M}" in busy.detail
    assert found.of("hq", "jobs_at_work").detail.startswith("seen: 1 machine: hq-app0000")
    assert found.readiness.is_ready


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (SEEN, "nothing seen (data up to 15 min old)"),
        (Behaviour(shows_activity="nothing"), "nothing seen (data up to 15 min old)"),
        (Behaviour(shows_activity="denied"), "not visible to this role"),
    ],
)
async def test_nothing_seen_is_never_ok(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour, says: str
) -> None:
    """It may be there all the same."""
    found = await checked(tmp_path, monkeypatch, [Site(behaviour=behaviour)])

    for item in ("jobs_at_work", "restores_open"):
        answer = found.of("hq", item)
        assert (answer.status, answer.detail) == (Status.NOT_VISIBLE, says)


@pytest.mark.parametrize("shows", ["denied", "by_role"])
@pytest.mark.parametrize("counting", ["", ", count_others: true"])
async def test_restores_that_are_not_shown_use_up_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shows: str, counting: str
) -> None:
    """A warning where a limit counts other people's restores and the role does not see them."""
    written = servers_yaml
    monkeypatch.setattr(
        "tests.scenarios.drill.servers_yaml",
        lambda sites: written(sites).replace("{mounts: 6}", f"{{mounts: 6{counting}}}"),
    )
    found = await checked(tmp_path, monkeypatch, [Site(behaviour=Behaviour(shows_activity=shows))])

    said = [each for each in found.readiness.findings if each.item == "count_others"]
    if shows == "denied" and counting:
        (warning,) = said
        assert (warning.name, warning.status) == ("hq", Status.WARNING)
        assert warning.detail.startswith("has no effect: the server shows no restores")
        assert warning.detail.endswith(": not visible to this role")
    else:
        assert said == []


async def test_mounts_of_others_may_show_as_restores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer about open mounts says so, beside the restores that are seen."""
    found = await checked(
        tmp_path,
        monkeypatch,
        [Site(behaviour=SEEN)],
        before=at_work("file_restore"),  # type: ignore[arg-type]
    )

    mounts = found.of("hq", "open_mounts")
    assert mounts.status is Status.NOT_VISIBLE
    assert mounts.detail.endswith("those of others may show among the open restores")
    assert found.of("hq", "restores_open").detail == "seen: 1 restore: hq-app0000"


async def test_a_restore_that_is_open_for_days_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perhaps somebody has forgotten it."""
    two_days = at_work("file_restore", -2 * 86_400.0)
    found = await checked(tmp_path, monkeypatch, [Site(behaviour=SEEN)], before=two_days)  # type: ignore[arg-type]

    long_open = found.of("hq", "restores_long_open")
    assert long_open.status is Status.WARNING
    assert "FLR_[hq-app0000]" in long_open.detail


async def answers(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Readiness:
    """Return the answers of a check of a server that shows everything."""

    def gone(inventory: Inventory) -> None:
        inventory.machines[0].points.clear()

    _ = gone
    return (await checked(directory, monkeypatch, [Site(behaviour=SEEN)])).readiness


async def test_the_next_check_says_what_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing at first, nothing if nothing has; else each answer that is another one."""
    first = await answers(tmp_path / "a", monkeypatch)
    assert last_check(tmp_path, first.plan) is None
    assert remember(tmp_path, first) is None
    before = last_check(tmp_path, first.plan)
    assert before is not None
    again = changed_since(before, first)
    other = [
        replace(each, status=Status.PROBLEM, detail="it is refused now")
        if each.item == "logon"
        else each
        for each in first.findings
    ]
    changed = changed_since(before, replace(first, findings=tuple(other)))

    assert again == []
    assert changed == ["hq: logon: ok -> problem: it is refused now"]
    (kept,) = (tmp_path / "checks").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


async def test_a_damaged_memory_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the file, the check goes on."""
    first = await answers(tmp_path / "a", monkeypatch)
    remember(tmp_path, first)
    (kept,) = (tmp_path / "checks").iterdir()
    for text in ("", "{", '{"checked_at": 1}', "[" * 9000):
        kept.write_text(text)
        assert last_check(tmp_path, first.plan) is None


async def test_junit_skips_what_cannot_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite per server; a warning passes, and fails with --strict."""
    found = await checked(
        tmp_path,
        monkeypatch,
        [Site(behaviour=SEEN)],
        before=at_work("replication"),  # type: ignore[arg-type]
    )
    root = SafeTree.fromstring(junit(found.readiness))
    strict = SafeTree.fromstring(junit(replace(found.readiness, strict=True)))

    cases = {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}
    assert root.get("failures") == "0"
    assert cases["server/hq", "restores_open"].find("skipped") is not None
    assert len(cases) == len(found.readiness.findings)
    assert int(strict.get("failures", "0")) == found.readiness.totals[Status.WARNING]
