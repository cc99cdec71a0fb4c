"""The simulator's own XML, in the one-line wire form.

Element and attribute names, nesting and order follow the documented examples. Shares nothing
with the client's reader.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from orchestrator.simulator.activity import SimActivity
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.guests import GuestEntry
from orchestrator.simulator.inventory import BackupServer, Point
from orchestrator.simulator.manager import (
    FAMILY_ENTITIES,
    OTHER_FAMILY,
    SimMount,
    SimSession,
    SimTask,
)

HEAD = '<?xml version="1.0" encoding="utf-8"?>'
NAMESPACES = (
    'xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)
BACKUP_SERVER_VERSION = "12.3.2.3617"
DEFAULT_NAMESPACE = 'xmlns="http://www.veeam.com/ent/v1.0"'
JOB_TYPES = {"file_restore": "FileLevelRestore", "restore": "RestoreVm"}
ENTITY = dict(FAMILY_ENTITIES.values())
"""Element name of a restore point, by its family."""

_quoted = lru_cache(maxsize=4096)(quoteattr)
"""The same addresses and names are in one answer after another."""


class Writer:
    """Writes the answers of one server for one request host."""

    def __init__(self, behaviour: Behaviour, host: str, rng: random.Random) -> None:
        """`host` is what the request named; Hrefs may carry another."""
        self._behaviour = behaviour
        self._rng = rng
        self.disguise = ""
        """A kind of fault that changes how this answer looks, or nothing."""
        self.disguised = False
        """Whether it has changed anything."""
        chosen = behaviour.href_host
        port = host.rpartition(":")[2] if ":" in host else "9398"
        if chosen == "request":
            self.base = f"https://{host}/api"
        elif chosen == "localhost":
            self.base = f"https://localhost:{port}/api"
        else:
            self.base = f"https://{chosen}:9398/api"

    # --- pieces ----------------------------------------------------------------------------

    def element(self, tag: str, attributes: Sequence[tuple[str, str]], inner: str) -> str:
        """Return one element; empty ones as ` />`."""
        shown = list(attributes)
        if self._behaviour.shuffle_attributes:
            self._rng.shuffle(shown)
        text = "".join(f" {name}={_quoted(value)}" for name, value in shown)
        return f"<{tag}{text}>{inner}</{tag}>" if inner else f"<{tag}{text} />"

    def document(
        self, tag: str, attributes: Sequence[tuple[str, str]], inner: str, *, whole: bool = True
    ) -> str:
        """Return a document with the declarations of the wire form; else (`whole`) an element."""
        body = self.element(tag, attributes, inner)
        if not whole:
            return body
        start = f"<{tag} {NAMESPACES}"
        rest = body[len(tag) + 1 :]
        close = re.match(r'((?:\s[\w:]+="[^"]*"|\s[\w:]+=\'[^\']*\')*)\s?(/?>)', rest)
        if close is None:
            raise AssertionError(rest[:80])
        tail = rest[close.end(1) :]
        return f"{HEAD}{start}{close.group(1)} {DEFAULT_NAMESPACE}{tail}"

    def link(self, path: str, rel: str, kind: str = "", name: str = "") -> str:
        """Return a Link in the order `Href Name Type Rel`."""
        attributes = [("Href", f"{self.base}/{path}")]
        if name:
            attributes.append(("Name", name))
        if kind:
            attributes.append(("Type", kind))
        return self.element("Link", [*attributes, ("Rel", rel)], "")

    def delete_link(self, path: str, kind: str) -> str:
        """Return a Delete link; its Type is usually missing."""
        return self.link(path, "Delete", kind if self._behaviour.delete_links_have_type else "")

    # --- service and sessions --------------------------------------------------------------

    def service_root(self) -> str:
        """GET /api/."""
        versions = "".join(
            f'<SupportedVersion Name="{name}"><Links>'
            f"{self.link(f'sessionMngr/?v={name}', 'Create', 'LogonSession')}"
            "</Links></SupportedVersion>"
            for name in ("v1_5", "v1_6", "v1_7")
        )
        links = self.link("logonSessions", "Down", "LogonSessionList") + self.link(
            "sessionMngr/?v=latest", "Create", "LogonSession"
        )
        inner = f"<Links>{links}</Links><SupportedVersions>{versions}</SupportedVersions>"
        return self.document("EnterpriseManager", [], inner)

    def logon_session(self, session: SimSession, *, whole: bool = True) -> str:
        """One LogonSession; the collections it links depend on the role."""
        path = f"logonSessions/{session.id}"
        links = [self.link("", "Up", "EnterpriseManager")]
        if session.user.role == "Portal Administrator":
            links.append(self.link("backupServers", "Down", "BackupServerReferenceList"))
        if "Exchange" not in session.user.role:
            links += [
                self.link("vmRestorePoints", "Down", "VmRestorePointReferenceList"),
                self.link("replicas", "Down", "ReplicaReferenceList"),
                self.link("vmReplicaPoints", "Down", "VmReplicaPointReferenceList"),
                self.link("agents", "Down", "AgentsService"),
            ]
        links += [
            self.link("tasks", "Down", "TaskList"),
            self.link("querySvc", "Down", "QueryService"),
            self.delete_link(path, "LogonSession"),
        ]
        inner = (
            f"<Links>{''.join(links)}</Links><UserName>{escape(session.user.name)}</UserName>"
            f"<SessionId>{session.id}</SessionId>"
        )
        attributes = [("Href", f"{self.base}/{path}"), ("Type", "LogonSession")]
        return self.document("LogonSession", attributes, inner, whole=whole)

    # --- restore points --------------------------------------------------------------------

    def point(self, point: Point, *, whole: bool = False) -> str:
        """One restore point as an entity: the first link is the dangerous one."""
        family, entity, machine = point.family, ENTITY[point.family], point.machine
        path = f"{family}/{point.id}"
        links = []
        if family == "vmReplicaPoints":
            links.append(self.link(f"{path}?action=failover", "Failover"))
        elif family == "vmRestorePoints":
            links.append(self.link(f"{path}?action=restore", "Restore"))
        server = machine.backup_server
        links += [
            self.link(f"backupServers/{server.id}", "Up", "BackupServerReference", server.name),
            *self._parents(point),
            self.link(path, "Alternate", f"{entity}Reference", point.name),
            self.link(f"{path}/mounts", "Down", f"{entity}MountList"),
            self.link(f"{path}/mounts", "Create", f"{entity}Mount"),
        ]
        vm = [] if family == "agents/agentRestorePoints" else [("VmDisplayName", machine.name)]
        name = f"<VmName>{escape(machine.name)}</VmName>" if vm else ""
        inner = (
            f"<Links>{''.join(links)}</Links>"
            f"<CreationTimeUTC>{moment(point.created_at)}</CreationTimeUTC>{name}"
            "<Algorithm>Full</Algorithm><PointType>Snapshot</PointType>"
        )
        attributes = [*self._entity_attributes(path, entity, point.id, point.name), *vm]
        return self.document(entity, attributes, inner, whole=whole)

    def _entity_attributes(
        self, path: str, entity: str, identifier: str, name: str
    ) -> list[tuple[str, str]]:
        return [
            ("Href", f"{self.base}/{path}?format=Entity"),
            ("Type", entity),
            ("Name", name),
            ("UID", f"urn:veeam:{entity}:{identifier}"),
        ]

    def _parents(self, point: Point) -> list[str]:
        """Return the Up links to what the point is part of.

        A replica's names the job. A backup's restore point is named after its time and its file
        after the machine: nothing names the job. Source: the documented examples.
        """
        machine = point.machine
        if point.family == "vmReplicaPoints":
            return [self.link(f"replicas/{machine.job_id}", "Up", "ReplicaReference", machine.job)]
        name, file = restore_point_name(point), f"{machine.name}{point.created_at:%Y-%m-%d}.vbk"
        return [
            self.link(f"restorePoints/{machine.job_id}", "Up", "RestorePointReference", name),
            self.link(f"backupFiles/{point.id}", "Up", "BackupFileReference", file),
        ]

    def point_reference(self, point: Point, *, whole: bool = False) -> str:
        """One restore point as a reference: no mounts link, no creation time."""
        entity, machine = ENTITY[point.family], point.machine
        path = f"{point.family}/{point.id}"
        server = machine.backup_server
        up = self.link(f"backupServers/{server.id}", "Up", "BackupServerReference", server.name)
        return self._reference(path, entity, point.id, point.name, up, whole=whole)

    def _reference(
        self, path: str, entity: str, identifier: str, name: str, links: str = "", *, whole: bool
    ) -> str:
        links += self.link(f"{path}?format=Entity", "Alternate", entity, name)
        attributes = [
            ("UID", f"urn:veeam:{entity}:{identifier}"),
            ("Name", name),
            ("Href", f"{self.base}/{path}"),
            ("Type", f"{entity}Reference"),
        ]
        tag = "EntityRef" if whole else "Ref"
        return self.document(tag, attributes, f"<Links>{links}</Links>", whole=whole)

    # --- backup servers --------------------------------------------------------------------

    def backup_server(self, server: BackupServer, *, whole: bool = False) -> str:
        """One backup server as an entity."""
        path = f"backupServers/{server.id}"
        links = self.link(path, "Alternate", "BackupServerReference", server.name)
        links += self.link(f"{path}?action=collect", "Start")
        attributes = self._entity_attributes(path, "BackupServer", server.id, server.name)
        version = f"<Port>9392</Port><Version>{BACKUP_SERVER_VERSION}</Version>"
        inner = f"<Links>{links}</Links><Description />{version}"
        return self.document("BackupServer", attributes, inner, whole=whole)

    def backup_server_reference(self, server: BackupServer, *, whole: bool = False) -> str:
        """One backup server as a reference."""
        path = f"backupServers/{server.id}"
        return self._reference(path, "BackupServer", server.id, server.name, whole=whole)

    # --- what else happens -----------------------------------------------------------------

    def activity(
        self,
        entity: str,
        activity: SimActivity,
        time_of: Callable[[float], datetime],
        *,
        is_over: bool,
    ) -> str:
        """One RestoreSession or ReplicaTaskSession. Source: reference 15.1 and its samples."""
        machine, of_job = activity.machine, entity == "ReplicaTaskSession"
        began, ended = time_of(activity.from_s), time_of(activity.until_s or 0.0)
        place = "replicaTaskSessions" if of_job else "restoreSessions"
        path = f"{place}/{activity.id}"
        shown = f"{began:%Y-%m-%d %H:%M:%S}"
        brackets = f"FLR_[{machine.name}]" if activity.kind == "file_restore" else machine.name
        name = f"{brackets}@{shown}"
        server = machine.backup_server
        links = self.link(f"backupServers/{server.id}", "Up", "BackupServerReference", server.name)
        if of_job:
            run = f"replicaSessions/{machine.job_id}"
            job = f"{machine.job}@{shown}"
            links += self.link(run, "Up", "ReplicaJobSessionReference", job)
        links += self.link(path, "Alternate", f"{entity}Reference", name)
        end = f"<EndTimeUTC>{moment(ended)}</EndTimeUTC>" if is_over else ""
        result = f"<Result>{'Success' if is_over else 'None'}</Result>"
        times = f"<CreationTimeUTC>{moment(began)}</CreationTimeUTC>{end}"
        if of_job:
            state = "Completed" if is_over else "InProgress"
            uid = f"<JobSessionUid>urn:veeam:ReplicaJobSession:{machine.job_id}</JobSessionUid>"
            rest = f"{uid}{times}<State>{state}</State>{result}<Reason />"
            rest += "<TotalSize>107374182400</TotalSize>"
        else:
            state = "Stopped" if is_over else "Working"
            kind = f"<JobType>{JOB_TYPES[activity.kind]}</JobType>"
            rest = f"{kind}{times}<State>{state}</State>{result}<Progress>0</Progress>"
        attributes = [
            *self._entity_attributes(path, entity, activity.id, name),
            ("VmDisplayName", machine.name),
        ]
        return self.element(entity, attributes, f"<Links>{links}</Links>{rest}")

    # --- tasks and mounts ------------------------------------------------------------------

    def task(self, task: SimTask, *, whole: bool = False) -> str:
        """One Task: a running one names no restore point."""
        path = f"tasks/{task.id}"
        state = self._shown_state(task)
        links = self.delete_link(path, "Task")
        if state == "Finished":
            if task.success and task.mount is not None and not self.disguises("no_related"):
                links += self._related(task.mount)
            links += "".join(self.link(path, "Download") for path in task.downloads)
        result = ""
        if task.success is not None and self.disguise in {"state_back", "no_result"}:
            self.disguised = True
        elif task.success is not None:
            message = f"<Message>{escape(task.message)}</Message>" if task.message else ""
            attributes = [("Success", "true" if task.success else "false")]
            if task.credentials_needed:
                attributes += [("CredentialsNeeded", "true"), ("ConfirmationNeeded", "false")]
            result = self.element("Result", attributes, message)
        inner = (
            f"<Links>{links}</Links><TaskId>{task.id}</TaskId><State>{state}</State>"
            f"<Operation>{task.operation}</Operation>{result}"
        )
        attributes = [("Href", f"{self.base}/{path}"), ("Type", "Task")]
        return self.document("Task", attributes, inner, whole=whole)

    def _shown_state(self, task: SimTask) -> str:
        task.is_hidden = self.disguise == "state_back"
        if task.is_hidden:
            return "Running"
        is_odd = task.state != "Finished" and self.disguises("odd_state")
        return "WaitingForCollection" if is_odd else task.state

    def _related(self, mount: SimMount) -> str:
        form = self._behaviour.related
        if form == "absent":
            return ""
        family = mount.family
        if form == "other_family" or (form == "documented" and family == "vmReplicaPoints"):
            family = OTHER_FAMILY[family]
        point = mount.point.id
        return self.link(
            f"{family}/{point}/mounts/{mount.number}",
            "Related",
            f"{ENTITY[family]}Mount",
            f"{point}@{mount.number}",
        )

    def mount(self, mount: SimMount, roots: Sequence[str], *, whole: bool = False) -> str:
        """One mount point with its volume roots."""
        entity = f"{ENTITY[mount.family]}Mount"
        path = f"{mount.family}/{mount.point.id}/mounts/{mount.number}"
        entries = "".join(
            self.element(
                "DirectoryEntry",
                [
                    ("Href", f"{self.base}/{path}/{self._guest(root.lstrip('/'))}"),
                    ("Type", "DirectoryEntry"),
                ],
                f"<Path>{_text(root)}</Path><Name>{_text(root)}</Name>",
            )
            for root in roots
        )
        inner = f"<Links>{self.delete_link(path, entity)}</Links>" + self.element(
            "FSRoots", [], entries
        )
        attributes = [("Href", f"{self.base}/{path}"), ("Type", entity)]
        return self.document(entity, attributes, inner, whole=whole)

    def up_link(self, mount_path: str, path: str) -> str:
        """Return the link to the directory above; a volume root has none."""
        above = self._guest(path.strip("/").rpartition("/")[0])
        if not above:
            return ""
        above += "/" if "/" not in above else ""
        # The documented example of agents leads up into another family.
        family = mount_path.replace("agents/agentRestorePoints", "vmRestorePoints")
        return self.link(f"{family}/{above}?action=listAll&pageSize=100&page=1", "Up")

    def entry(self, mount_path: str, entry: GuestEntry) -> str:
        """One file or directory of a guest."""
        if self.disguises("elsewhere"):
            entry = replace(entry, path=f"{entry.path.partition('/')[0]}/Elsewhere/{entry.name}")
        path = f"{mount_path}/{self._guest(entry.path)}"
        href = f"{self.base}/{path}"
        if self.disguises("foreign_hrefs"):
            href = f"https://elsewhere.example.org:9398/api/{path}"
        elif self.disguises("evil_hrefs"):
            href = f"{self.base}/{mount_path.partition('/mounts/')[0]}?action=failover"
        links = [self.up_link(mount_path, entry.path)]
        if entry.size is None:
            links += [
                self.link(f"{path}?action={action}&pageSize={size}&page=1", "Down")
                for action, size in (("listAll", 100), ("listDirs", 10), ("listFiles", 10))
            ]
        links.append(self.link(f"{path}?action=restore", "Restore"))
        inner = (
            f"<Links>{''.join(links)}</Links><Path>{_text(entry.path)}</Path>"
            f"<Name>{_text(entry.name if entry.shown is None else entry.shown)}</Name>"
        )
        tag = "DirectoryEntry"
        if entry.size is not None:
            tag = "FileEntry"
            modified = moment(entry.modified_at)
            owner = f"<Owner>{_text(entry.owner)}</Owner>" if entry.owner else ""
            inner += f"<Size>{entry.size}</Size>{owner}"
            inner += f"<ModifiedDateUTC>{modified}</ModifiedDateUTC>"
        return self.element(tag, [("Href", href), ("Type", tag)], inner)

    def disguises(self, kind: str) -> bool:
        """Tell whether this answer is to look wrong in this way, and note that it does."""
        struck = self.disguise == kind
        self.disguised = self.disguised or struck
        return struck

    def _guest(self, path: str) -> str:
        return guest(path, raw=self._behaviour.raw_hrefs)

    def error(self, status: int, message: str) -> str:
        """An Error."""
        attributes = [("Message", message), ("StatusCode", str(status))]
        return self.document("Error", attributes, "")


def guest(path: str, *, raw: bool = False) -> str:
    """Return a guest path as the server writes it: `:` and `$` literal, the rest encoded.

    `raw` leaves spaces, brackets and letters of other alphabets as they are.
    """
    if not raw:
        return quote(path, safe="/:$&'()")
    shown = (c if c in " []" or (not c.isascii() and c.isprintable()) else guest(c) for c in path)
    return "".join(shown)


def _text(value: str) -> str:
    """Return text for an element. A control character is written although XML has none."""
    return re.sub(r"[\x00-\x1f]", lambda found: f"&#{ord(found[0])};", escape(value))


def restore_point_name(point: Point) -> str:
    """Return the name of a backup's restore point: its time, as a database writes it."""
    hour = f"{point.created_at:%I}".lstrip("0").rjust(2)
    return f"{point.created_at:%b %d %Y} {hour}:{point.created_at:%M%p}"


def moment(at: datetime) -> str:
    """Return a time as the server writes it: a fraction of any length, or none."""
    fraction = f".{at.microsecond:06}".rstrip("0") if at.microsecond else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"
