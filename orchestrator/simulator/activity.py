"""What else happens on the simulated backup servers: jobs at work, restores of other people.

A session is in the queries as the last data collection saw it: it appears `activity_delay_s` after
it began, and is shown as working for as long after it ended. Source: reference 15.4.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.simulator.inventory import Machine
from orchestrator.simulator.truth import MountFate

if TYPE_CHECKING:
    from orchestrator.simulator.manager import SimulatedManager

KINDS = ("replication", "file_restore", "restore")


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(slots=True, eq=False, kw_only=True)
class SimActivity:
    """A job's work on one machine, or a restore; seconds on the server's clock."""

    kind: str
    machine: Machine
    from_s: float = 0.0
    until_s: float | None = None
    """None: it has not ended."""
    id: str = field(default_factory=_new_id)

    def __post_init__(self) -> None:
        """Refuse what does not exist."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown activity {self.kind!r}; one of {', '.join(KINDS)}")

    def is_at_work(self, at: float) -> bool:
        """Tell whether it goes on at that second."""
        return self.from_s <= at and (self.until_s is None or at < self.until_s)


def sessions(manager: SimulatedManager, entity: str) -> list[SimActivity]:
    """Return what the query for RestoreSession or ReplicaTaskSession has to show."""
    if manager.behaviour.shows_activity == "nothing":
        return []
    if entity == "ReplicaTaskSession":
        kinds = {"replication"}
        known = [*manager.activities, *_jobs(manager)]
    else:
        kinds = {"file_restore", "restore"}
        known = list(manager.activities)
        if manager.behaviour.shows_own_mounts:
            here = (fate for fate in manager.truth.mounts if fate.server == manager.name)
            known += [_of_mount(manager, fate) for fate in here]
    collected = manager.clock() - manager.behaviour.activity_delay_s
    return [each for each in known if each.kind in kinds and each.from_s <= collected]


def is_shown_over(manager: SimulatedManager, activity: SimActivity) -> bool:
    """Tell whether a session is shown as one that has ended."""
    collected = manager.clock() - manager.behaviour.activity_delay_s
    return activity.until_s is not None and activity.until_s <= collected


def _jobs(manager: SimulatedManager) -> list[SimActivity]:
    """Return the sessions of the machines whose job is always at work.

    They began so long before the first logon that the first look shows them.
    """
    used_s = manager.clock() if manager.first_used_s is None else manager.first_used_s
    began_s = used_s - manager.behaviour.activity_delay_s - 60.0
    return [
        SimActivity(
            kind="replication",
            machine=each,
            from_s=began_s,
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{manager.name} {each.name}")),
        )
        for each in manager.inventory.machines
        if each.job_active
    ]


def _of_mount(manager: SimulatedManager, fate: MountFate) -> SimActivity:
    """Return the restore session that a mount makes. Source: reference 15.5, question 13."""
    return SimActivity(
        kind="file_restore",
        machine=manager.inventory.by_id[fate.point].machine,
        from_s=fate.requested_at,
        until_s=fate.closed_at,
        id=session_of_mount(fate),
    )


def session_of_mount(fate: MountFate) -> str:
    """Return the GUID of the restore session that a mount makes."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{fate.server} {fate.session} {fate.task}"))
