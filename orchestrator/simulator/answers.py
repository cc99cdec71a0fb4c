"""What each address answers, for a request whose session is known.

Source: reference section 10, "Endpoints at a glance", and 2.7 for who may do what.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from orchestrator.simulator.exchange import Call, Refusal, Reply, os_kind_of
from orchestrator.simulator.inventory import Inventory, Point, listing, roots
from orchestrator.simulator.manager import (
    FAMILY_ENTITIES,
    ROLES_THAT_LIST_BACKUP_SERVERS,
    ROLES_THAT_MOUNT,
    SimMount,
    SimSession,
    SimulatedManager,
)
from orchestrator.simulator.query import BadQuery, Condition, Field, equal_values, holds, parsed
from orchestrator.simulator.writing import ENTITY, guest, moment

GUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
NOT_ALLOWED = "Method is not allowed."


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
        return _query(manager, call, session)
    if head == "backupservers":
        if session.user.role not in ROLES_THAT_LIST_BACKUP_SERVERS:
            raise Refusal(403, "Access denied.")
        return Reply(200, call.writer.document("EntityReferences", [], ""))
    raise Refusal(404, "Not found.")


# --- sessions ----------------------------------------------------------------------------------


def _logon_sessions(
    manager: SimulatedManager, call: Call, session: SimSession, parts: Sequence[str]
) -> Reply:
    if not parts:
        rows = "".join(
            call.writer.logon_session(found, whole=False) for found in manager.sessions.values()
        )
        return Reply(200, call.writer.document("LogonSessions", [], rows))
    found = next((one for one in manager.sessions.values() if one.id == parts[0].lower()), None)
    if found is None:
        raise Refusal(404, f"Logon session [{parts[0]}] is not found.")
    if call.method == "DELETE":
        manager.log_off(found)
        return Reply(204)
    return Reply(200, call.writer.logon_session(found))


# --- tasks -------------------------------------------------------------------------------------


def _tasks(
    manager: SimulatedManager, call: Call, session: SimSession, parts: Sequence[str]
) -> Reply:
    manager.forget_old_tasks(session)
    if not parts:
        rows = "".join(call.writer.task(task) for task in session.tasks.values())
        return Reply(200, call.writer.document("Tasks", [], rows))
    task = session.tasks.get(parts[0])
    if task is None:
        message = f"There is no backup task with id [{parts[0]}] in current rest session"
        raise Refusal(500, message)
    if call.method == "DELETE":
        manager.delete_task(session, task)
        return Reply(204)
    if call.method != "GET":
        raise Refusal(405, NOT_ALLOWED)
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
        return _collection(manager, call, path, entity)
    if not GUID.match(parts[0]):
        raise Refusal(400, "The identifier in the request URL is not valid: null")
    point = manager.inventory.by_id.get(parts[0].lower())
    if len(parts) == 1:
        if point is None or point.family != path:
            raise Refusal(404, f"VM replica point [{parts[0]}] is not found.")
        if call.method != "GET":
            return Reply(202, call.writer.task(manager.new_task(session, "Failover"), whole=True))
        as_entity = call.query.get("format", "").lower() == "entity"
        write = call.writer.point if as_entity else call.writer.point_reference
        return Reply(200, write(point, whole=True))
    if parts[1].lower() != "mounts":
        raise Refusal(404, "Not found.")
    if session.user.role not in ROLES_THAT_MOUNT:
        raise Refusal(403, "Access denied.")
    if len(parts) == 2:
        return _mount_collection(manager, call, session, path, parts[0].lower(), point)
    return await _one_mount(manager, call, session, path, parts)


def _collection(manager: SimulatedManager, call: Call, path: str, entity: str) -> Reply:
    points = _points(manager, path)
    if call.query.get("format", "").lower() == "entity":
        rows = "".join(call.writer.point(point) for point in points)
        return Reply(200, call.writer.document(f"{entity}s", [], rows))
    rows = "".join(call.writer.point_reference(point) for point in points)
    return Reply(200, call.writer.document("EntityReferences", [], rows))


def _mount_collection(
    manager: SimulatedManager,
    call: Call,
    session: SimSession,
    path: str,
    point_id: str,
    point: Point | None,
) -> Reply:
    if call.method == "POST":
        if point is None or point.family != path:
            raise Refusal(404, f"VM replica point [{point_id}] is not found.")
        task = manager.start_mount(session, path, point, os_kind_of(call))
        return Reply(202, call.writer.task(task, whole=True))
    if call.method != "GET":
        raise Refusal(405, NOT_ALLOWED)
    mounts = session.mounts.get((path, point_id), {})
    never = not session.mount_count.get((path, point_id))
    if never and manager.behaviour.empty_mounts_are_404:
        raise Refusal(404, "There are no mounts.")
    rows = "".join(call.writer.mount(mount, _roots(mount)) for mount in mounts.values())
    return Reply(200, call.writer.document(f"{ENTITY[path]}Mounts", [], rows))


async def _one_mount(
    manager: SimulatedManager, call: Call, session: SimSession, path: str, parts: Sequence[str]
) -> Reply:
    number = int(parts[2]) if parts[2].isdigit() else 0
    mount = manager.find_mount(session, path, parts[0].lower(), number)
    if mount is None:
        raise Refusal(404, f"Mount point [{parts[2]}] is not found.")
    if len(parts) > 3:
        return _guest_path(manager, call, session, mount, "/".join(parts[3:]))
    if call.method == "DELETE":
        if manager.behaviour.unmount_s:
            await asyncio.sleep(manager.behaviour.unmount_s)
        manager.unmount(session, mount)
        return Reply(204)
    if call.method != "GET":
        raise Refusal(405, NOT_ALLOWED)
    return Reply(200, call.writer.mount(mount, _roots(mount), whole=True))


def _roots(mount: SimMount) -> Sequence[str]:
    """Return the volumes; with the wrong OsKind there are none to see."""
    machine = mount.point.machine
    return roots(machine) if machine.os == mount.os_kind else ()


def _guest_path(
    manager: SimulatedManager, call: Call, session: SimSession, mount: SimMount, path: str
) -> Reply:
    action = call.query.get("action", "").lower()
    address = f"{mount.family}/{mount.point.id}/mounts/{mount.number}"
    if call.method == "POST" and action == "restore":
        task = manager.new_task(session, "FileRestoreFromMountPoint")
        task.state, task.success, task.message = "Finished", True, "Ok"
        task.download = f"{address}/{guest(path.lower())}?action=download"
        return Reply(202, call.writer.task(task, whole=True))
    if action == "download":
        return Reply(200, raw=f"{mount.point.id} {path.lower()}\n".encode())
    entries = listing(mount.point, path)
    if entries is None:
        raise Refusal(404, "The path is not found.")
    if action == "listdirs":
        entries = [entry for entry in entries if entry.size is None]
    elif action == "listfiles":
        entries = [entry for entry in entries if entry.size is not None]
    size = max(1, int(call.query.get("pagesize", "100") or 100))
    page = max(1, int(call.query.get("page", "1") or 1))
    shown = entries[(page - 1) * size : page * size]
    groups = ""
    for tag, is_directory in (("Files", False), ("Directories", True)):
        rows = [entry for entry in shown if (entry.size is None) is is_directory]
        if rows:
            inner = "".join(call.writer.entry(address, entry) for entry in rows)
            groups += f"<{tag}>{inner}</{tag}>"
    pages = max(1, -(-len(entries) // size))
    base = f"{address}/{guest(path)}?action={action or 'listAll'}"
    paging = _paging(call, base, page, size, pages)
    href = f"{call.writer.base}/{base}&pageSize={size}&page={page}"
    return Reply(200, call.writer.document("FileSystemEntries", [("Href", href)], groups + paging))


# --- queries -----------------------------------------------------------------------------------


def _query(manager: SimulatedManager, call: Call, session: SimSession) -> Reply:
    kind = call.query.get("type", "").lower()
    try:
        condition = parsed(call.query.get("filter", ""))
        if kind == "task":
            return _task_query(manager, call, session, condition)
        for path, entity in FAMILY_ENTITIES.values():
            if entity.lower() == kind:
                return _point_query(manager, call, path, entity, condition)
    except BadQuery as exc:
        raise Refusal(400, f"The filter is not valid: {exc}") from exc
    raise Refusal(400, "The query type is not valid.")


TASK_FIELDS: Mapping[str, Field] = {
    "taskid": lambda task: task.id,
    "state": lambda task: task.state,
    "operation": lambda task: task.operation,
}


def _task_query(
    manager: SimulatedManager, call: Call, session: SimSession, condition: Condition | None
) -> Reply:
    manager.forget_old_tasks(session)
    behaviour = manager.behaviour
    if not behaviour.filters_tasks:
        condition = None
    wanted = equal_values(condition, "taskid") if condition is not None else None
    if wanted is not None:
        found = [session.tasks[name] for name in wanted if name in session.tasks]
    else:
        found = [task for task in session.tasks.values() if holds(condition, task, TASK_FIELDS)]
    page, size = _page(call, behaviour.task_page_size_default)
    rows = "".join(call.writer.task(task) for task in found[(page - 1) * size : page * size])
    inner = f"<Resources><Tasks>{rows}</Tasks></Resources>"
    return _result(manager, call, inner, len(found), page, size)


POINT_FIELDS: Mapping[str, Field] = {
    "uid": lambda point: f"urn:veeam:{ENTITY[point.family]}:{point.id}",
    "name": lambda point: point.name,
    "creationtime": lambda point: moment(point.created_at),
    "type": lambda point: "Snapshot",
    "algorithm": lambda point: "Full",
    "replicaname": lambda point: point.machine.job,
    "backupname": lambda point: point.machine.job,
    "vmdisplayname": lambda point: point.machine.name,
    "computername": lambda point: point.machine.name,
    "backupservername": lambda point: point.machine.backup_server.name,
}


def _points(manager: SimulatedManager, path: str) -> list[Point]:
    listed = manager.listed()
    points = listed.points(path) if isinstance(listed, Inventory) else listed.values()
    return [point for point in points if point.family == path]


def _candidates(manager: SimulatedManager, path: str, condition: Condition | None) -> list[Point]:
    """Return the points that an index finds for the condition, or all of them."""
    listed = manager.listed()
    if isinstance(listed, Inventory):
        for field, index in (
            ("vmdisplayname", listed.by_machine),
            ("computername", listed.by_machine),
            ("replicaname", listed.by_job),
            ("backupname", listed.by_job),
        ):
            values = equal_values(condition, field) if condition is not None else None
            if values is not None:
                keys = dict.fromkeys((path, value.casefold()) for value in values)
                return [point for key in keys for point in index.get(key, ())]
    return _points(manager, path)


def _point_query(
    manager: SimulatedManager,
    call: Call,
    path: str,
    entity: str,
    condition: Condition | None,
) -> Reply:
    found = [
        point
        for point in _candidates(manager, path, condition)
        if holds(condition, point, POINT_FIELDS)
    ]
    for name, backwards in (("sortasc", False), ("sortdesc", True)):
        field = call.query.get(name, "").lower()
        if field in POINT_FIELDS:
            key = POINT_FIELDS[field]
            found.sort(key=lambda point: str(key(point)), reverse=backwards)
    page, size = _page(call, manager.behaviour.page_size_default)
    shown = found[(page - 1) * size : page * size]
    if call.query.get("format", "").lower() == "entities":
        rows = "".join(call.writer.point(point) for point in shown)
        plural = f"{entity}s"
        group = f"<{plural}>{rows}</{plural}>" if rows else f"<{plural} />"
        inner = f"<Entities>{group}</Entities>"
    else:
        rows = "".join(call.writer.point_reference(point) for point in shown)
        inner = f"<Refs>{rows}</Refs>" if rows else "<Refs />"
    return _result(manager, call, inner, len(found), page, size)


def _page(call: Call, default: int) -> tuple[int, int]:
    try:
        size = int(call.query.get("pagesize", default))
        page = int(call.query.get("page", 1))
    except ValueError as exc:
        raise Refusal(400, "The page is not valid.") from exc
    if size < 1 or page < 1:
        raise Refusal(400, "The page is not valid.")
    return page, size


def _result(
    manager: SimulatedManager, call: Call, inner: str, count: int, page: int, size: int
) -> Reply:
    pages = max(1, -(-count // size))
    kept = ["type", "format"]
    if manager.behaviour.paging_keeps_filter:
        kept.append("filter")
    query = "&".join(f"{name}={quote(call.query[name])}" for name in kept if name in call.query)
    links = _page_links(call, f"query?{query}", page, size, pages)
    return Reply(200, call.writer.query_result(inner, links, page, size, pages))


def _paging(call: Call, base: str, page: int, size: int, pages: int) -> str:
    return call.writer.element(
        "PagingInfo",
        [("PageNum", str(page)), ("PageSize", str(size)), ("PagesCount", str(pages))],
        f"<Links>{_page_links(call, base, page, size, pages)}</Links>",
    )


def _page_links(call: Call, base: str, page: int, size: int, pages: int) -> str:
    """Return First, Previous, Next, Last; Previous and Next only where they exist."""
    numbers = [("First", 1)]
    if page > 1:
        numbers.append(("Previous", page - 1))
    if page < pages:
        numbers.append(("Next", page + 1))
    numbers.append(("Last", pages))
    return "".join(
        call.writer.link(f"{base}&pageSize={size}&page={number}", rel) for rel, number in numbers
    )
