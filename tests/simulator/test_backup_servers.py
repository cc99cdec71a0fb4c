"""Checklist, "HTTP": `/backupServers` as references and entities, for the roles that may ask."""

from __future__ import annotations

import pytest

from tests.simulator.wire import wired

pytestmark = pytest.mark.anyio

NOWHERE = "00000000-0000-4000-8000-000000000000"


async def test_backup_servers_are_listed_and_found_by_id() -> None:
    """References without a version; entities with one; one of them by its id."""
    async with wired(role="Portal Administrator") as wire:
        known = {machine.backup_server.name for machine in wire.inventory.machines}
        refs = (await wire.get("backupServers")).all("Ref")
        entities = await wire.get("backupServers?format=Entity")
        server = refs[0].attrib["UID"].rpartition(":")[2]

        assert {ref.attrib["Name"] for ref in refs} == known
        assert {one.attrib["Name"] for one in entities.all("BackupServer")} == known
        assert entities.texts("Version") == ["12.3.2.3617"] * len(known)
        one = await wire.get(f"backupServers/{server}?format=Entity")
        assert one.xml.attrib["Name"] == refs[0].attrib["Name"]
        assert (await wire.get(f"backupServers/{server}")).xml.attrib["Type"].endswith("Reference")


async def test_what_is_not_there_or_not_allowed_is_refused() -> None:
    """Unknown ids are a 404, other methods a 405, other roles a 403."""
    async with wired(role="Portal User") as wire:
        assert (await wire.get(f"backupServers/{NOWHERE}")).status == 404
        assert (await wire.send("DELETE", "backupServers")).status == 405
    async with wired(role="File Restore Operator") as wire:
        assert (await wire.get(f"backupServers/{NOWHERE}")).status == 403
