"""What each address answers, for a request whose session is known.

Source: reference section 10, "Endpoints at a glance", and 2.7 for who may do what.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence

from orchestrator.simulator.browsing import guest_path, visible_roots
from orchestrator.simulator.exchange import Call, Refusal, Reply, os_kind_of
from orchestrator.simulator.faults import UNMOUNT_TASKS
from orchestrator.simulator.inventory import AGENTS, Point
from orchestrator.simulator.manager import (
    FAMILY_ENTITIES,
    ROLES_THAT_LIST_BACKUP_SERVERS,
    ROLES_THAT_MOUNT,
    ROLES_THAT_SEE_POINTS,
    SimSession,
    SimulatedManager,
)
from orchestrator.simulator.queries import allow, answer_query, may_list, points_of
from orchestrator.simulator.stopping import delete_task
from orchestrator.simulator.writing import ENTITY

GUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
NOT_ALLOWED = "Method is not allowed."
BAD_ID = "The identifier in the request URL is not valid: null"


async def answer(
    manager: SimulatedManager, call: Call, session: SimSession, parts: Sequence[str]
) -> Reply:
    """Answer one call below /api/.

    Raises:
        Refusal: any status other than success.
    """
    head = parts[0].lower()
    if head == "agents" and len(parts) > 1:
        head, parts = f"agents/{parts[1].lower()}", parts[1:]
    if head in FAMILY_ENTITIES:
        return await _point(manager, call, session, FAMILY_ENTITIES[head], parts[1:])
    if head == "logonsessions":
        return _logon_sessions(manager, call, session, parts[1:])
    if head == "tasks":
        return _tasks(manager, call, session, parts[1:])
    if head == "query":
        _only(call, "GET")
        return answer_query(manager, call, session)
    if head == "backupservers":
        allow(session, ROLES_THAT_LIST_BACKUP_SERVERS)
        _only(call, "GET")
        return _backup_servers(manager, call, parts[1:])
    raise Refusal(404, "Not found.")


def _only(call: Call, *methods: str) -> None:
    if call.method not in methods:
        raise Refusal(405, NOT_ALLOWED)


def _listing(call: Call, root: str, rows: Iterable[str]) -> Reply:
    return Reply(200, call.writer.document(root, [], "".join(rows)))


# --- backup servers ----------------------------------------------------------------------------


def _backup_servers(manager: SimulatedManager, call: Call, parts: Sequence[str]) -> Reply:
    """Answer for all of them or for one, as references or as entities. Source: reference 3.1.

    Raises:
        Refusal: there is no such backup server.
    """
    machines = manager.inventory.machines
    servers = {machine.backup_server.id: machine.backup_server for machine in machines}
    write = call.writer.backup_server if call.wants_entity else call.writer.backup_server_reference
    if not parts:
        root = "BackupServers" if call.wants_entity else "EntityReferences"
        return _listing(call, root, map(write, servers.values()))
    if len(parts) > 1 or parts[0].lower() not in servers:
        raise Refusal(404, f"Backup server [{parts[0]}] is not found.")
    return Reply(200, write(servers[parts[0].lower()], whole=True))


# --- sessions ----------------------------------------------------------------------------------


def _logon_sessions(
    manager: SimulatedManager, call: Call, session: SimSession, parts: Sequence[str]
) -> Reply:
    _only(call, "GET", *(["DELETE"] if parts else []))
    if not parts:
        rows = [call.writer.logon_session(one, whole=False) for one in manager.sessions.values()]
        return _listing(call, "LogonSessions", rows)
    if not GUID.match(parts[0]):
        raise Refusal(400, BAD_ID)
    named = next((one for one in manager.sessions.values() if one.id == parts[0].lower()), None)
    if named is None:
        raise Refusal(404, f"Logon session [{parts[0]}] is not found.")
    if call.method == "DELETE":
        manager.truth.foreign_deletes += named is not session
        manager.log_off(named)
        return Reply(204)
    return Reply(200, call.writer.logon_session(named))


# --- tasks -------------------------------------------------------------------------------------


def _tasks(
    manager: SimulatedManager, call: Call, session: SimSession, parts: Sequence[str]
) -> Reply:
    manager.forget_old_tasks(session)
    _only(call, "GET", *(["DELETE"] if parts else []))
    shown = manager.tasks_shown(session)
    if not parts:
        return _listing(call, "Tasks", map(call.writer.task, shown.values()))
    task = shown.get(parts[0])
    if task is None:
        raise Refusal(500, f"There is no backup task with id [{parts[0]}] in current rest session")
    if call.method == "DELETE":
        delete_task(manager, session, task)
        return Reply(204)
    return Reply(200, call.writer.task(task, whole=True))


# --- restore points and mounts -----------------------------------------------------------------


async def _point(
    manager: SimulatedManager,
    call: Call,
    session: SimSession,
    family: tuple[str, str],
    parts: Sequence[str],
) -> Reply:
    path, entity = family
    if not parts:
        may_list(session, path)
        _only(call, "GET")
        return _collection(manager, call, session, path, entity)
    if not GUID.match(parts[0]):
        raise Refusal(400, BAD_ID)
    point = manager.inventory.by_id.get(parts[0].lower())
    if point is not None and not session.user.sees(point):
        point = None
    if len(parts) == 1:
        # [INFERRED] for agents: the table of roles denies the File Restore Operator to list and
        # query them, and lets it mount one by its known id.
        allow(session, ROLES_THAT_SEE_POINTS)
        if point is None or point.family != path:
            raise Refusal(404, f"VM replica point [{parts[0]}] is not found.")
        acting = call.query.get("action", "").lower() in {"failover", "restore"}
        _only(call, "POST" if acting else "GET")
        if acting:
            return Reply(202, call.writer.task(manager.new_task(session, "Failover"), whole=True))
        write = call.writer.point if call.wants_entity else call.writer.point_reference
        return Reply(200, write(point, whole=True))
    if parts[1].lower() != "mounts":
        raise Refusal(404, "Not found.")
    browsing = len(parts) > 3 and call.method == "GET"
    allow(session, ROLES_THAT_SEE_POINTS if browsing else ROLES_THAT_MOUNT)
    if len(parts) == 2:
        return _mount_collection(manager, call, session, path, parts[0].lower(), point)
    return await _one_mount(manager, call, session, path, parts)


def _collection(
    manager: SimulatedManager, call: Call, session: SimSession, path: str, entity: str
) -> Reply:
    points = [point for point in points_of(manager, path) if session.user.sees(point)]
    if call.wants_entity:
        return _listing(call, f"{entity}s", map(call.writer.point, points))
    return _listing(call, "EntityReferences", map(call.writer.point_reference, points))


def _mount_collection(
    manager: SimulatedManager,
    call: Call,
    session: SimSession,
    path: str,
    point_id: str,
    point: Point | None,
) -> Reply:
    _only(call, "GET", "POST")
    related = manager.behaviour.related_answers and call.method == "GET"
    if point is None or (point.family != path and not related):
        raise Refusal(404, f"VM replica point [{point_id}] is not found.")
    if call.method == "POST":
        task = manager.start_mount(
            session,
            path,
            point,
            _os_kind(call, point),
            late_s=call.late_s,
            unforeseen=call.unforeseen,
        )
        return Reply(202, call.writer.task(task, whole=True))
    mounts = manager.mounts_shown(session, (point.family, point_id))
    never = not session.mount_count.get((point.family, point_id))
    if never and manager.behaviour.empty_mounts_are_404:
        raise Refusal(404, "There are no mounts.")
    rows = [call.writer.mount(mount, visible_roots(manager, mount)) for mount in mounts.values()]
    return _listing(call, f"{ENTITY[path]}Mounts", rows)


def _os_kind(call: Call, point: Point) -> str:
    """Return the system that is mounted; for agents no body is documented. Source: reference 7."""
    if point.family != AGENTS:
        return os_kind_of(call)
    if call.body:
        raise Refusal(400, "The request body is not valid.")
    return point.machine.os


async def _one_mount(
    manager: SimulatedManager, call: Call, session: SimSession, path: str, parts: Sequence[str]
) -> Reply:
    number = int(parts[2]) if parts[2].isdigit() else 0
    mount = manager.find_mount(session, path, parts[0].lower(), number)
    if mount is None and call.method == "DELETE" and manager.behaviour.missing_mount_is_500:
        raise Refusal(500, f"There is no mount point with id [{parts[2]}]")
    if mount is None:
        raise Refusal(404, f"Mount point [{parts[2]}] is not found.")
    if len(parts) > 3 or (call.path.endswith("/") and "/" in visible_roots(manager, mount)):
        return guest_path(manager, call, session, mount, "/".join(parts[3:]))
    _only(call, "GET", "DELETE")
    if call.method == "DELETE":
        ways = [how for kind, how in UNMOUNT_TASKS.items() if call.writer.disguises(kind)]
        how = ways[0] if ways else manager.behaviour.unmount_by
        if how != "answer":
            task = manager.unmount_by_task(session, mount, how)
            return Reply(202, call.writer.task(task, whole=True))
        if manager.behaviour.unmount_s:
            await asyncio.sleep(manager.behaviour.unmount_s)
        manager.unmount(session, mount)
        return Reply(204)
    return Reply(200, call.writer.mount(mount, visible_roots(manager, mount), whole=True))
