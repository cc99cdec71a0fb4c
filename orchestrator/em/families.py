"""The three families of restore points, as data.

A family is a path prefix, a prefix of type names and the query fields that name its machine
and its job. Everything else is the same for all of them.
Source: reference section 7 and 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.core.model import Source


class Family(Struct, frozen=True, kw_only=True):
    """How one family of restore points is addressed and asked for.

    `job_field` is None where the query knows no field for the job's name. `takes_os_kind`
    is False where no mount body is documented; an empty one means Windows.
    """

    source: Source
    path: str
    entity: str
    machine_field: str
    job_field: str | None
    takes_os_kind: bool = True


FAMILIES: Mapping[Source, Family] = {
    Source.REPLICA: Family(
        source=Source.REPLICA,
        path="vmReplicaPoints",
        entity="VmReplicaPoint",
        machine_field="VmDisplayName",
        job_field="ReplicaName",
    ),
    Source.BACKUP: Family(
        source=Source.BACKUP,
        path="vmRestorePoints",
        entity="VmRestorePoint",
        machine_field="VmDisplayName",
        job_field=None,
    ),
    Source.AGENT: Family(
        source=Source.AGENT,
        path="agents/agentRestorePoints",
        entity="AgentRestorePoint",
        machine_field="ComputerName",
        job_field="BackupName",
        takes_os_kind=False,
    ),
}
