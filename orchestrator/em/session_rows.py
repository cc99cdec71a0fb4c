"""What the rows of restore sessions, and of the sessions of replication jobs, mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.core.activity import Activity, ActivityKind
from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import BackupServerName
from orchestrator.em.elements import Element
from orchestrator.em.links import GUID
from orchestrator.em.moments import called, moment

LONGEST_NAME = 300
"""Characters that are kept of the name of a session."""
_OVER = frozenset({"Stopped", "Completed"})
"""States of a session that is over; whatever else is said, it is not. Source: reference 15.1."""


def activity(node: Element) -> Activity:
    """Make an Activity from a restore session, or from a replication job's session of one machine.

    A machine that waits in a job that has begun is one it works on: mounted, it would hold the job
    up. A restore of an unknown type is one of the whole machine, unless its word says files.
    Source: reference 15.1.
    """
    name = node.attribute("Name")
    session = node.attribute("UID").rpartition(":")[2].lower()
    began = moment(node.value("CreationTimeUTC"))
    if not GUID.fullmatch(session) or began is None:
        raise MalformedResponse(f"a session without a GUID or a usable time{called(name)}")
    kind, job = ActivityKind.RESTORE, ""
    if node.tag == "ReplicaTaskSession":
        kind = ActivityKind.REPLICATION
        job = _up(node.links, "ReplicaJobSession").rpartition("@")[0]
    elif "FileLevelRestore" in (node.value("JobType") or ""):
        kind = ActivityKind.FILE_RESTORE
    vm = node.attribute("VmDisplayName") or name.rpartition("@")[0]
    return Activity(
        id=session,
        kind=kind,
        name=name[:LONGEST_NAME],
        vm=vm[:LONGEST_NAME],
        backup_server=BackupServerName(_up(node.links, "BackupServer")),
        began_at=began,
        ended_at=moment(node.value("EndTimeUTC")),
        is_over=node.value("State") in _OVER,
        job=job,
    )


def _up(links: Sequence[Mapping[str, str]], kind: str) -> str:
    """Return the name of what a thing belongs to, by the type of its Up link; "" if none says."""
    for link in links:
        if link.get("Rel") == "Up" and link.get("Type", "").startswith(kind):
            return link.get("Name", "")[:LONGEST_NAME]
    return ""
