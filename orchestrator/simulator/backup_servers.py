"""What `GET /api/backupServers` answers, for the roles that may ask. Source: reference 3.1."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.simulator.exchange import Call, Refusal, Reply
from orchestrator.simulator.inventory import BackupServer
from orchestrator.simulator.manager import SimulatedManager
from orchestrator.simulator.writing import Writer

VERSION = "12.3.2.3617"


def backup_servers(manager: SimulatedManager, call: Call, parts: Sequence[str]) -> Reply:
    """Answer for all of them or for one, as references or as entities.

    Raises:
        Refusal: there is no such backup server.
    """
    machines = manager.inventory.machines
    known = {machine.backup_server.id: machine.backup_server for machine in machines}
    as_entity = call.query.get("format", "").lower() == "entity"
    write = _entity if as_entity else _reference
    if not parts:
        rows = "".join(write(call.writer, server, whole=False) for server in known.values())
        root = "BackupServers" if as_entity else "EntityReferences"
        return Reply(200, call.writer.document(root, [], rows))
    if len(parts) > 1 or parts[0].lower() not in known:
        raise Refusal(404, f"Backup server [{parts[0]}] is not found.")
    return Reply(200, write(call.writer, known[parts[0].lower()], whole=True))


def _entity(writer: Writer, server: BackupServer, *, whole: bool) -> str:
    path = f"backupServers/{server.id}"
    links = writer.link(path, "Alternate", "BackupServerReference", server.name)
    links += writer.link(f"{path}?action=collect", "Start")
    attributes = [
        ("Href", f"{writer.base}/{path}?format=Entity"),
        ("Type", "BackupServer"),
        ("Name", server.name),
        ("UID", f"urn:veeam:BackupServer:{server.id}"),
    ]
    inner = f"<Links>{links}</Links><Description /><Port>9392</Port><Version>{VERSION}</Version>"
    return (writer.document if whole else writer.element)("BackupServer", attributes, inner)


def _reference(writer: Writer, server: BackupServer, *, whole: bool) -> str:
    path = f"backupServers/{server.id}"
    links = writer.link(f"{path}?format=Entity", "Alternate", "BackupServer", server.name)
    attributes = [
        ("UID", f"urn:veeam:BackupServer:{server.id}"),
        ("Name", server.name),
        ("Href", f"{writer.base}/{path}"),
        ("Type", "BackupServerReference"),
    ]
    make, tag = (writer.document, "EntityRef") if whole else (writer.element, "Ref")
    return make(tag, attributes, f"<Links>{links}</Links>")
