"""What `GET /api/query` answers: filtered, sorted, paged rows of tasks, points and sessions.

Source: reference 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any
from urllib.parse import quote

from orchestrator.simulator.activity import is_shown_over, sessions
from orchestrator.simulator.exchange import Call, Refusal, Reply
from orchestrator.simulator.inventory import Inventory, Point
from orchestrator.simulator.manager import (
    FAMILY_ENTITIES,
    ROLES_THAT_LIST_BACKUP_SERVERS,
    ROLES_THAT_SEE_POINTS,
    ROLES_THAT_SEE_REPLICATIONS,
    ROLES_THAT_SEE_RESTORES,
    SimSession,
    SimulatedManager,
)
from orchestrator.simulator.query import (
    BadQuery,
    Condition,
    Field,
    check_fields,
    equal_values,
    holds,
    parsed,
    rank,
)
from orchestrator.simulator.writing import ENTITY, JOB_TYPES, moment, restore_point_name


def may_list(session: SimSession, path: str) -> None:
    """Refuse a role that may not see points of this family. Source: reference 2.7."""
    agents = path == "agents/agentRestorePoints"
    allow(session, ROLES_THAT_LIST_BACKUP_SERVERS if agents else ROLES_THAT_SEE_POINTS)


def allow(session: SimSession, roles: Container[str]) -> None:
    """Refuse every role but these."""
    if session.user.role not in roles:
        raise Refusal(403, "Access denied.")


def answer_query(manager: SimulatedManager, call: Call, session: SimSession) -> Reply:
    """Answer one query.

    Raises:
        Refusal: its type, filter or paging is not valid, or the role may not ask.
    """
    kind = call.query.get("type", "").lower()
    try:
        condition = parsed(call.query.get("filter", ""))
        if kind == "task":
            allow(session, ROLES_THAT_SEE_POINTS)
            return _task_query(manager, call, session, condition)
        for entity in SESSION_ROLES:
            if entity.lower() == kind:
                return _session_query(manager, call, session, entity, condition)
        for path, entity in FAMILY_ENTITIES.values():
            if entity.lower() == kind:
                may_list(session, path)
                return _point_query(manager, call, session, path, entity, condition)
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
    check_fields(condition, TASK_FIELDS)
    behaviour = manager.behaviour
    if not behaviour.filters_tasks:
        condition = None
    names = equal_values(condition, "taskid") if condition is not None else None
    tasks = manager.tasks_shown(session)
    if names is not None:
        matches = [tasks[name] for name in names if name in tasks]
    else:
        matches = [task for task in tasks.values() if holds(condition, task, TASK_FIELDS)]
    _sort(call, matches, TASK_FIELDS)
    page, size = page_of(call, behaviour.task_page_size_default)
    rows = "".join(call.writer.task(task) for task in matches[(page - 1) * size : page * size])
    inner = f"<Resources>{call.writer.element('Tasks', [], rows)}</Resources>"
    return _result(manager, call, inner, len(matches), page, size)


SESSION_ROLES = {
    "RestoreSession": ROLES_THAT_SEE_RESTORES,
    "ReplicaTaskSession": ROLES_THAT_SEE_REPLICATIONS,
}
"""Who may ask for sessions of restores and of jobs. Source: reference 2.7."""


def _session_query(
    manager: SimulatedManager,
    call: Call,
    session: SimSession,
    entity: str,
    condition: Condition | None,
) -> Reply:
    """Answer for restore sessions or a job's sessions. Source: reference 15.1 and 15.2."""
    shown = manager.behaviour.shows_activity
    if shown == "denied":
        raise Refusal(403, "Access denied.")
    if shown == "by_role":
        allow(session, SESSION_ROLES[entity])
    fields = _session_fields(manager, entity)
    check_fields(condition, fields)
    scope = session.user.scope
    matches = [
        each
        for each in sessions(manager, entity)
        if (scope is None or each.machine.job in scope) and holds(condition, each, fields)
    ]
    _sort(call, matches, fields)
    page, size = page_of(call, manager.behaviour.task_page_size_default)
    rows = "".join(
        call.writer.activity(entity, each, manager.time_of, is_over=is_shown_over(manager, each))
        for each in matches[(page - 1) * size : page * size]
    )
    inner = f"<Entities>{call.writer.element(f'{entity}s', [], rows)}</Entities>"
    return _result(manager, call, inner, len(matches), page, size)


def _session_fields(manager: SimulatedManager, entity: str) -> Mapping[str, Field]:
    """Return what may be filtered and sorted by; not the names of the body."""
    of_job = entity == "ReplicaTaskSession"
    words = ("InProgress", "Completed") if of_job else ("Working", "Stopped")
    return {
        "uid": lambda each: f"urn:veeam:{entity}:{each.id}",
        "creationtime": lambda each: moment(manager.time_of(each.from_s)),
        "state": lambda each: words[is_shown_over(manager, each)],
        "backupservername": lambda each: each.machine.backup_server.name,
        "vmdisplayname": lambda each: each.machine.name,
        ("jobname" if of_job else "type"): lambda each: (
            each.machine.job if of_job else JOB_TYPES[each.kind]
        ),
    }


_SHARED: Mapping[str, Field] = {
    "uid": lambda point: f"urn:veeam:{ENTITY[point.family]}:{point.id}",
    "name": lambda point: point.name,
    "creationtime": lambda point: moment(point.created_at),
    "type": lambda point: "Snapshot",
    "algorithm": lambda point: "Full",
    "backupserveruid": lambda point: f"urn:veeam:BackupServer:{point.machine.backup_server.id}",
    "backupservername": lambda point: point.machine.backup_server.name,
}
_RESTORE_POINT: Mapping[str, Field] = {
    "restorepointid": lambda point: f"urn:veeam:RestorePoint:{point.machine.job_id}",
    "restorepointname": lambda point: restore_point_name(point),
}
POINT_FIELDS: Mapping[str, Mapping[str, Field]] = {
    "vmReplicaPoints": {
        **_SHARED,
        "replicauid": lambda point: f"urn:veeam:Replica:{point.machine.job_id}",
        "replicaname": lambda point: point.machine.job,
        "vmdisplayname": lambda point: point.machine.name,
    },
    "vmRestorePoints": {
        **_SHARED,
        **_RESTORE_POINT,
        "vmdisplayname": lambda point: point.machine.name,
    },
    "agents/agentRestorePoints": {
        **_SHARED,
        **_RESTORE_POINT,
        "backupuid": lambda point: f"urn:veeam:Backup:{point.machine.job_id}",
        "backupname": lambda point: point.machine.job,
        "computername": lambda point: point.machine.name,
    },
}
"""What may be filtered and sorted by; not the names of the body. Source: reference 3.2."""


def points_of(manager: SimulatedManager, path: str) -> list[Point]:
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
    return points_of(manager, path)


def _point_query(
    manager: SimulatedManager,
    call: Call,
    session: SimSession,
    path: str,
    entity: str,
    condition: Condition | None,
) -> Reply:
    fields = POINT_FIELDS[path]
    check_fields(condition, fields)
    refused = manager.behaviour.refused_name
    if refused is not None and refused in call.query.get("filter", ""):
        raise Refusal(400, "The filter is not valid.")
    matches = [
        point
        for point in _candidates(manager, path, condition)
        if session.user.sees(point) and holds(condition, point, fields)
    ]
    _sort(call, matches, fields)
    page, size = page_of(call, manager.behaviour.page_size_default)
    page_points = matches[(page - 1) * size : page * size]
    count = len(matches)
    if matches and call.writer.disguises("endless_pages"):
        page_points, count = matches[:size], (page + 1) * size
    if call.query.get("format", "").lower() == "entities":
        rows = "".join(call.writer.point(point) for point in page_points)
        inner = f"<Entities>{call.writer.element(f'{entity}s', [], rows)}</Entities>"
    else:
        rows = "".join(call.writer.point_reference(point) for point in page_points)
        inner = call.writer.element("Refs", [], rows)
    return _result(manager, call, inner, count, page, size)


def _sort(call: Call, rows: list[Any], fields: Mapping[str, Field]) -> None:
    """Sort by `sortAsc` or `sortDesc`; enumerations by their order.

    Raises:
        BadQuery: there is no such field.
    """
    for name, backwards in (("sortasc", False), ("sortdesc", True)):
        if name in call.query:
            field = call.query[name].lower()
            if field not in fields:
                raise BadQuery(f"there is no field {field}")
            key = fields[field]
            rows.sort(key=lambda row: rank(field, key(row)), reverse=backwards)


def page_of(call: Call, default: int) -> tuple[int, int]:
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
    parameters = ["type", "format", "sortAsc", "sortDesc"]
    if manager.behaviour.paging_keeps_filter:
        parameters.append("filter")
    query = "&".join(
        f"{name}={quote(call.query[name.lower()])}"
        for name in parameters
        if name.lower() in call.query
    )
    inner += paging(call, f"query?{query}", page, size, pages)
    return Reply(200, call.writer.document("QueryResult", [], inner))


def paging(call: Call, base: str, page: int, size: int, pages: int) -> str:
    """Return First, Previous, Next, Last; Previous and Next only where they exist."""
    numbers = [("First", 1)]
    if page > 1:
        numbers.append(("Previous", page - 1))
    if page < pages:
        numbers.append(("Next", page + 1))
    numbers.append(("Last", pages))
    links = "".join(
        call.writer.link(f"{base}&pageSize={size}&page={number}", rel) for rel, number in numbers
    )
    attributes = [("PageNum", str(page)), ("PageSize", str(size)), ("PagesCount", str(pages))]
    return call.writer.element("PagingInfo", attributes, f"<Links>{links}</Links>")
