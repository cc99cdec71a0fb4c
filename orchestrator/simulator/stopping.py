"""What a DELETE of a task does. How it ends a running mount is documented in two ways.

Source: reference 5.3.
"""

from __future__ import annotations

import asyncio

from orchestrator.simulator.exchange import Refusal
from orchestrator.simulator.manager import SimMount, SimSession, SimTask, SimulatedManager

STOPPED = "The operation was stopped by the user."


def delete_task(manager: SimulatedManager, session: SimSession, task: SimTask) -> None:
    """Remove a task that has ended; do with one that runs what the knob `task_stop` says.

    Raises:
        Refusal: it cannot be stopped.
    """
    how, runs, mount = manager.behaviour.task_stop, task.state != "Finished", task.mount
    if session.tasks.get(task.id) is not task:
        manager.truth.foreign_deletes += 1
    ready_s = 0.0 if task.is_hidden else _ready_s(manager, mount)  # no client can know better
    manager.truth.stops.append((manager.name, session.id, task.id, ready_s))
    if runs and how == "refused":
        raise Refusal(403, "The task cannot be stopped.")
    if runs and how == "goes_on":
        return
    if runs and how == "ended":
        task.state, task.success, task.message = "Finished", False, STOPPED
        task.finished_at = manager.clock()
    else:
        session.tasks.pop(task.id, None)
    if mount is not None and not mount.ready:
        _stop_mount(manager, session, task, mount)


def _ready_s(manager: SimulatedManager, mount: SimMount | None) -> float:
    """Return for how many seconds a mount has been ready; 0: it is not."""
    if mount is None or not mount.ready or mount.fate.finished_at is None:
        return 0.0
    return manager.clock() - mount.fate.finished_at


def _stop_mount(
    manager: SimulatedManager, session: SimSession, task: SimTask, mount: SimMount
) -> None:
    """Let no mount come of a task that was stopped, or a late one."""
    behaviour, after = manager.behaviour, manager.behaviour.stopped_mount_after_s
    if after is None and behaviour.task_stop == "vanished" and behaviour.cancel_leaves_mount:
        return
    task.mount = None
    if after is not None:
        asyncio.get_running_loop().call_later(after, manager.appear, session, mount)
    elif mount.fate.closed_at is None:
        mount.fate.succeeded = False
        manager.truth.closed(mount.fate, manager.clock(), "cancelled")
