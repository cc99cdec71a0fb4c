"""Checklist, "HTTP": who may do what, and what is outside an account's scope."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.simulator.wire import ACCOUNT, family, wired

pytestmark = pytest.mark.anyio


ROLES = ("Portal Administrator", "File Restore Operator", "Portal User", "VM Restore Operator")
MAY = {
    "GET vmReplicaPoints/{point}": ROLES,
    "GET query?type=VmReplicaPoint": ROLES,
    "GET query?type=AgentRestorePoint": ("Portal Administrator", "Portal User"),
    "GET agents/agentRestorePoints": ("Portal Administrator", "Portal User"),
    "GET agents/agentRestorePoints/{point}": ROLES,
    "POST vmReplicaPoints/{point}/mounts": ROLES[:2],
    "GET vmReplicaPoints/{point}/mounts": ROLES[:2],
    "DELETE vmReplicaPoints/{point}/mounts/1": ROLES[:2],
    "GET vmReplicaPoints/{point}/mounts/1/C:": ROLES,
    "GET tasks": (*ROLES, "Exchange Restore Operator"),
    "GET query?type=Task": ROLES,
    "GET backupServers": ("Portal Administrator", "Portal User"),
    "POST vmReplicaPoints/{point}?action=failover": ROLES,
}


@pytest.mark.parametrize("role", [*ROLES, "Exchange Restore Operator"])
async def test_what_a_role_may_not_do_is_a_403(role: str) -> None:
    """Role lacking is 403, per the table in 2.7; the text is "Access denied"."""
    async with wired(role=role) as wire:
        for call, roles in MAY.items():
            method, path = call.split()
            answer = await wire.send(method, path.format(point=wire.point().id))

            assert (answer.status == 403) == (role not in roles), call
            if answer.status == 403:
                assert "Access denied" in answer.xml.attrib["Message"]


async def test_a_file_restore_operator_mounts_an_agent_by_its_known_id() -> None:
    """That role cannot list agents, and may mount one all the same."""
    agents = "agents/agentRestorePoints"
    async with wired(change=lambda inventory: family(inventory, agents)) as wire:
        assert (await wire.get(agents)).status == 403
        assert (await wire.start(wire.point())).status == 202


async def test_what_is_outside_the_scope_is_absent() -> None:
    """Users have scopes: a point of another job is neither listed nor found nor mounted."""
    job = "Tier 1 Replication vbr-01"
    async with wired(user={"scope": frozenset({job})}) as wire:
        everything = list(wire.inventory.by_id.values())
        outside = next(point for point in everything if point.machine.job != job)
        inside = [point for point in everything if point.machine.job == job]

        listed = [await wire.get("vmReplicaPoints"), await wire.query("VmReplicaPoint")]

        for answer in listed:
            names = {ref.attrib["UID"].rpartition(":")[2] for ref in answer.all("Ref")}
            assert names == {point.id for point in inside} != {point.id for point in everything}
        assert (await wire.query("VmReplicaPoint", f'VmDisplayName=="{outside.machine.name}"')).all(
            "Ref"
        ) == []
        assert (await wire.get(f"vmReplicaPoints/{outside.id}")).status == 404
        assert (await wire.start(outside)).status == 404


async def test_the_links_of_a_logon_depend_on_the_role() -> None:
    """The logon answer links what the account may use: no vmReplicaPoints, no mounts."""
    async with wired(role="Exchange Restore Operator") as wire:
        logon = await wire.log_on()

        paths = {urlsplit(link.attrib["Href"]).path for link in logon.all("Link")}
        assert "/api/tasks" in paths
        assert "/api/vmReplicaPoints" not in paths
        assert logon.texts("UserName") == [ACCOUNT]
