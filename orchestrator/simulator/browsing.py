"""What the addresses below a mount point answer: directories, files, staging, downloads.

Source: reference 6.2 and 6.3.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from orchestrator.simulator.exchange import Call, Refusal, Reply, RestoreSpec, Stream
from orchestrator.simulator.exchange import restore_spec_of as spec_of
from orchestrator.simulator.files import GuestFile
from orchestrator.simulator.guests import entries, entry_at, pieces, roots, tree
from orchestrator.simulator.manager import SimMount, SimSession, SimTask, SimulatedManager
from orchestrator.simulator.queries import page_of, paging
from orchestrator.simulator.writing import guest

NOT_READABLE = "The file system is not recognized."
UNREADABLE = "vol_00000000"
"""How a volume of the wrong system is called where one is shown; ours."""
GONE = "The mount point is not available any more."
NOT_FOUND = "The path is not found."
FAILED = "Failed to restore the file."
CREDENTIALS_NEEDED = "Guest OS credentials are required."


def guest_path(
    manager: SimulatedManager, call: Call, session: SimSession, mount: SimMount, path: str
) -> Reply:
    """Answer one call for a path of a mounted guest.

    Raises:
        Refusal: any status other than success.
    """
    action = call.query.get("action", "").lower()
    if is_of_wrong_system(mount):
        raise Refusal(500 if path in visible_roots(manager, mount) else 404, NOT_READABLE)
    file = tree(mount.point).get(path) if visible_roots(manager, mount) else None
    if action == "download" and call.method == "GET":
        return _download(mount, path)
    if file is None:
        raise Refusal(404, NOT_FOUND)
    if call.method == "POST" and action == "restore":
        return _restore(manager, call, session, mount, path)
    if call.method != "GET":
        raise Refusal(405, "Method is not allowed.")
    itself = not action and (
        manager.behaviour.plain_entries == "always"
        or (manager.behaviour.plain_entries == "replicas" and mount.family == "vmReplicaPoints")
    )
    if not file.is_directory or itself:
        return _one(call, mount, path)
    if not file.readable:
        raise Refusal(500, "Access to the path is denied.")
    return _listing(call, mount, path, action)


def is_of_wrong_system(mount: SimMount) -> bool:
    """Return whether a guest is mounted as what it is not: nothing of it is readable."""
    return mount.point.machine.os != mount.os_kind


def visible_roots(manager: SimulatedManager, mount: SimMount) -> tuple[str, ...]:
    """Return the volumes; with the wrong OsKind none is there to see, or one cannot be read."""
    if is_of_wrong_system(mount):
        return (UNREADABLE,) if manager.behaviour.wrong_system == "unreadable" else ()
    return roots(mount.point.machine)


def address_of(mount: SimMount) -> str:
    """Return the path of a mount point below /api/."""
    return f"{mount.family}/{mount.point.id}/mounts/{mount.number}"


def _one(call: Call, mount: SimMount, path: str) -> Reply:
    entry = entry_at(mount.point, path)
    if entry is None:
        raise Refusal(404, NOT_FOUND)
    inner = call.writer.entry(address_of(mount), entry)
    if call.writer.disguises("both_entries"):
        both = (replace(entry, size=None), replace(entry, size=entry.size or 0))
        inner = "".join(call.writer.entry(address_of(mount), each) for each in both)
    return Reply(200, call.writer.document("FileSystemEntry", [], inner))


def _listing(call: Call, mount: SimMount, path: str, action: str) -> Reply:
    kind = action if action in {"listdirs", "listfiles"} else "listall"
    address = address_of(mount)
    all_entries = entries(mount.point, path, kind)
    if all_entries is None:
        raise Refusal(404, NOT_FOUND)
    page, size = page_of(call, 100)
    before = 1 if page > 1 and call.writer.disguises("page_repeats") else 0
    page_entries = all_entries[(page - 1 - before) * size : (page - before) * size]
    groups = call.writer.element("Links", [], call.writer.up_link(address, path))
    for tag, is_directory in (("Files", False), ("Directories", True)):
        rows = [entry for entry in page_entries if (entry.size is None) is is_directory]
        if rows:
            inner = "".join(call.writer.entry(address, entry) for entry in rows)
            groups += f"<{tag}>{inner}</{tag}>"
    pages = max(1, -(-len(all_entries) // size))
    base = f"{address}/{guest(path)}?action={action or 'listAll'}"
    bare = base.partition("?")[0] + "?" if call.writer.disguises("bare_next") else base
    links = paging(call, bare, page, size, pages)
    href = f"{call.writer.base}/{base}&pageSize={size}&page={page}"
    return Reply(200, call.writer.document("FileSystemEntries", [("Href", href)], groups + links))


# --- restoring and staging ---------------------------------------------------------------------


def _restore(
    manager: SimulatedManager, call: Call, session: SimSession, mount: SimMount, path: str
) -> Reply:
    """Accept a restore: its task works for a while, then has succeeded or failed."""
    spec = spec_of(call)
    user = session.user
    if user.in_place_only and not spec.into_guest:
        raise Refusal(403, "Access denied.")
    files = _files(mount, path)
    if user.extensions is not None:
        ends = {f".{name.rpartition('.')[2].lower()}" for name, _ in files}
        if ends - user.extensions:
            raise Refusal(403, "Access denied.")
    task = manager.new_task(session, "FileRestoreFromMountPoint")
    if spec.into_guest:
        manager.truth.guest_write_orders += 1
    behaviour = manager.behaviour
    seconds = behaviour.stage_s
    if behaviour.stage_bytes_per_s:
        seconds += sum(file.size or 0 for _, file in files) / behaviour.stage_bytes_per_s
    failure = FAILED if call.writer.disguises("task_fails") else None
    asyncio.get_running_loop().call_later(
        seconds, _restored, manager, session, mount, task, spec, files, failure
    )
    if call.writer.disguises("task_vanishes"):
        del session.tasks[task.id]
    return Reply(202, call.writer.task(task, whole=True))


def _files(mount: SimMount, path: str) -> list[tuple[str, GuestFile]]:
    """Return the file, or those directly in the directory, by path."""
    below = tree(mount.point).below(path)
    file = tree(mount.point).get(path)
    if below is None:
        return [(path, file)] if file is not None else []
    return [(f"{path}/{name}", inner) for name, inner in below if not inner.is_directory]


def _restored(
    manager: SimulatedManager,
    session: SimSession,
    mount: SimMount,
    task: SimTask,
    spec: RestoreSpec,
    files: list[tuple[str, GuestFile]],
    failure: str | None,
) -> None:
    """End a restore task; it fails with `failure`, or for a cause of its own."""
    failure = failure or next((file.failure for _, file in files if file.failure), None)
    if not mount.fate.is_open or mount.fate.orphaned:
        failure = GONE
    elif spec.into_guest and not (mount.point.machine.guest_credentials or spec.credentials):
        failure, task.credentials_needed = CREDENTIALS_NEEDED, True
    task.state, task.success, task.finished_at = "Finished", failure is None, manager.clock()
    task.message = failure or "Ok"
    if failure is not None:
        return
    for path, _ in files:
        if spec.into_guest:
            write = (session.id, mount.point.id, path, spec.overwrite)
            manager.truth.guest_writes.append(write)
        else:
            _stage(manager, mount, task, path)


def _stage(manager: SimulatedManager, mount: SimMount, task: SimTask, path: str) -> None:
    behaviour = manager.behaviour
    lower = behaviour.download_link_case == "lower" or (
        behaviour.download_link_case == "lower_windows" and mount.point.machine.os == "Windows"
    )
    shown = path.lower() if lower else path
    mount.staged[tree(mount.point).key(shown)] = path
    mount.fate.staged += 1
    link = f"{address_of(mount)}/{guest(shown)}?action=download"
    task.downloads += [link] * behaviour.download_links


def _download(mount: SimMount, path: str) -> Reply:
    """Send a staged file; any Range is ignored."""
    staged = mount.staged.get(tree(mount.point).key(path))
    file = tree(mount.point).get(staged) if staged is not None else None
    if staged is None or file is None:
        raise Refusal(404, "The file is not prepared for download.")
    stream = Stream(pieces(mount.point, staged), file.size or 0, mount.fate)
    return Reply(200, headers={"Content-Type": "application/octet-stream"}, stream=stream)
