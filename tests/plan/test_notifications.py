"""The `notifications` section: references in, secrets never; locked plans carry it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.app.wiring import secret_variables
from orchestrator.core.errors import PlanError
from orchestrator.plan.choose.expansion import expand
from orchestrator.plan.choose.inventory import Inventory
from orchestrator.plan.choose.locked import load_locked, lock
from orchestrator.plan.file.access import EnvironmentSecret, FileSecret
from orchestrator.plan.file.loading import LoadedPlan, load_plan_text
from orchestrator.plan.file.settings import HookKind, Notification, NotifyOn
from tests.plan.builders import NOW, point

HEAD = """version: 1
name: told
servers: {hq: {url: "https://em:9398", username: a, password: {env: P}}}
targets: [vm: a]
"""
ADDRESS = "https://hooks.example.net/services/T0/B0/SECRET-PART"


def loaded(notifications: str) -> LoadedPlan:
    """Return a plan with this section."""
    return load_plan_text((HEAD + notifications).encode(), Path("/plans/plan.yaml"))


def test_a_notification_says_where_how_and_of_what() -> None:
    """Every key is understood; paths start at the plan; everything is told by default."""
    plan = loaded(
        "notifications:\n"
        "  - webhook: {url: {env: HOOK}}\n"
        "  - webhook: {url: {file: ./hook}, kind: teams, ca_file: ca.pem}\n"
        "    on: [leftover, halted, leftover]\n"
    ).plan

    assert plan.notifications == (
        Notification(url=EnvironmentSecret(name="HOOK")),
        Notification(
            url=FileSecret(path="/plans/hook"),
            kind=HookKind.TEAMS,
            on=(NotifyOn.LEFTOVER, NotifyOn.HALTED),
            ca_file="/plans/ca.pem",
        ),
    )
    assert plan.notifications[0].on == tuple(NotifyOn)
    assert secret_variables(plan) == {"P", "HOOK"}


def test_variables_are_not_replaced_inside_of_the_reference() -> None:
    """What names a secret is written out, as for a password."""
    with pytest.raises(PlanError, match="variables are not replaced inside a secret reference"):
        loaded("variables: {h: HOOK}\nnotifications: [{webhook: {url: {env: '${h}'}}}]\n")


@pytest.mark.parametrize(
    "section",
    [
        f"notifications: [{{webhook: {{url: '{ADDRESS}', kind: slak}}}}]\n",
        f"notifications:\n  - webhook:\n      kind: slak\n      url: {ADDRESS}\n      knd: x\n",
        f"notifications:\n  - webhook:\n      url:\n        {ADDRESS}\n",
        f"notifications:\n  - webhook: {ADDRESS}\n",
        f"notifications:\n  - {{webhook: {{url: {{env: '{ADDRESS}'}}, kind: 7}}}}\n",
    ],
)
def test_a_literal_address_is_refused_and_never_shown(section: str) -> None:
    """Whoever reads the messages in a CI log learns nothing of it."""
    with pytest.raises(PlanError) as caught:
        loaded(section)

    assert "SECRET-PART" not in str(caught.value)
    assert "hooks.example" not in str(caught.value)


def test_a_locked_plan_carries_the_references(tmp_path: Path) -> None:
    """It tells the same people as the plan, and holds no address."""
    source = loaded("notifications: [{webhook: {url: {env: HOOK}, kind: slack}, on: [halted]}]\n")
    expansion = expand(
        source.plan, {s: Inventory([point("a")]) for s in source.plan.servers}, now=NOW
    )

    data = lock(source, expansion, created_at=datetime(2026, 11, 23, tzinfo=UTC), version="1")

    found = load_locked(data, tmp_path / "locked.json").plan
    assert found.notifications == source.plan.notifications
    assert replace(found, waves=()) == replace(source.plan, waves=())
