"""Every answer of the reference is read right, and nothing else gets through."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import OsKind, Source, TaskState
from orchestrator.em.families import FAMILIES
from orchestrator.em.json_codec import JsonCodec
from orchestrator.em.moments import moment
from orchestrator.em.wire import SHORT_LIST, XmlCodec
from tests.em.documents import (
    AGENT_POINT,
    BACKUP_POINT,
    MOUNT,
    OLDER,
    POINT,
    document,
    read,
    sample,
)

CODEC = XmlCodec()
REPLICA = FAMILIES[Source.REPLICA]


# --- tasks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state", "success", "message"),
    [
        ("running", "Running", None, None),
        ("running.wire", "Running", None, None),
        ("running.href-localhost", "Running", None, None),
        ("operation-finished", "OperationFinished", True, "OperationFinished"),
        ("finished-success.related-as-documented", "Finished", True, "Ok"),
        ("finished-success.related-replica-family", "Finished", True, "Ok"),
        ("finished-success.no-related-link", "Finished", True, None),
        (
            "finished-failed",
            "Finished",
            False,
            "Failed to mount restore point: the replica VM is running.",
        ),
        ("finished-failed.no-message", "Finished", False, None),
    ],
)
def test_a_mount_task_is_read(
    name: str, state: str, success: bool | None, message: str | None
) -> None:
    """Traps 6 and 8: state, success and message come from the body; a Message may be missing."""
    task = read(CODEC.task(), sample(f"task.mount.{name}"))

    assert (task.state.value, task.success, task.message) == (state, success, message)
    assert task.operation == "MountRestorePoint"
    assert task.is_final == (state == "Finished")
    assert task.succeeded == (state == "Finished" and success is True)


def test_finished_without_a_result_is_not_final() -> None:
    """Nobody can say yet how it ended: it is read again, and not taken for a failure."""
    whole = sample("task.mount.finished-failed.no-message")
    without = re.sub(rb"<Result[^>]*?(/>|>.*?</Result>)", b"", whole, flags=re.DOTALL)

    task = read(CODEC.task(), without)

    assert without != whole
    assert (task.state.value, task.success) == ("Finished", None)
    assert not task.is_final


def test_operation_finished_with_a_result_is_not_final() -> None:
    """Traps 5 and 7: a Result beside OperationFinished claims success too early."""
    task = read(CODEC.task(), sample("task.mount.operation-finished"))

    assert task.success is True
    assert not task.is_final
    assert not task.succeeded


@pytest.mark.parametrize(
    ("name", "href", "point"),
    [
        ("related-as-documented", f"/api/vmRestorePoints/{POINT}/mounts/1", POINT),
        ("related-replica-family", MOUNT, POINT),
        ("vmrestorepoint", f"/api/vmRestorePoints/{BACKUP_POINT}/mounts/1", BACKUP_POINT),
        ("agent", f"/api/agents/agentRestorePoints/{AGENT_POINT}/mounts/1", AGENT_POINT),
    ],
)
def test_the_related_link_is_read_in_any_family(name: str, href: str, point: str) -> None:
    """Trap 9: the link is a hint, whatever family it points into."""
    mount = read(CODEC.task(), sample(f"task.mount.finished-success.{name}")).mount

    assert mount is not None
    assert (mount.href, mount.point, mount.number) == (href, point, "1")


@pytest.mark.parametrize(
    "link",
    [
        "",
        f'<Link Href="{MOUNT}" Rel="Related" />',
        f'<Link Href="{MOUNT}" Type="VmReplicaPoint" Rel="Related" />',
        f'<Link Href="/api/vmReplicaPoints/{POINT}?action=failover" '
        'Type="VmReplicaPointMount" Rel="Related" />',
        f'<Link Href="{MOUNT}" Type="VmReplicaPointMount" Rel="Failover" />',
    ],
)
def test_without_a_usable_related_link_a_finished_task_still_succeeded(link: str) -> None:
    """Traps 1 and 9: no link, no Type, or one that is no mount point: only the hint is missing."""
    task = read(
        CODEC.task(),
        document(
            f"<Links>{link}</Links><TaskId>task-1</TaskId><State>Finished</State>"
            '<Result Success="true" />'
        ),
    )

    assert task.mount is None
    assert task.succeeded


@pytest.mark.parametrize("state", ["Stopped", "finished", "Finished ok", ""])
def test_an_unknown_state_is_not_final(state: str) -> None:
    """Trap 5: a word never seen before proves nothing, even with a Result."""
    task = read(
        CODEC.task(),
        document(f'<TaskId>task-1</TaskId><State>{state}</State><Result Success="true" />'),
    )

    assert task.state is TaskState.UNKNOWN
    assert not task.succeeded


def test_finished_without_a_result_is_no_success() -> None:
    """Trap 6: only Success="true" is success."""
    task = read(CODEC.task(), document("<TaskId>task-1</TaskId><State>Finished</State>"))

    assert task.success is None
    assert not task.succeeded


def test_a_list_of_tasks_is_read_in_five_states() -> None:
    """GET /tasks: five tasks side by side, each with its own facts."""
    page = read(CODEC.tasks(), sample("tasks"))

    assert [(task.id, task.state.value, task.success) for task in page.rows] == [
        ("task-10", "Finished", True),
        ("task-11", "Finished", True),
        ("task-12", "Running", None),
        ("task-13", "Finished", False),
        ("task-14", "OperationFinished", True),
    ]
    assert [task.id for task in page.rows if task.mount is not None] == ["task-11"]
    assert not page.has_next


def test_a_task_query_and_an_empty_list_are_read() -> None:
    """A QueryResult wraps the same tasks; an empty list is a list."""
    assert [task.id for task in read(CODEC.tasks(), sample("query.task.running")).rows] == [
        "task-12"
    ]
    assert list(read(CODEC.tasks(), sample("tasks.empty")).rows) == []


def test_one_task_may_come_wrapped_in_tasks() -> None:
    """One documented example wraps the single task; two of them are not one."""
    one = sample("task.mount.running.wire").partition(b"?>")[2].decode()

    assert read(CODEC.task(), document(one, "Tasks")).id == "task-12"
    with pytest.raises(MalformedResponse):
        read(CODEC.task(), document(one + one, "Tasks"))


def test_downloads_are_paths_with_the_servers_own_encoding() -> None:
    """Trap 29: an address of the server is used as it came, without its host."""
    task = read(CODEC.task(), sample("task.file-restore.finished-download"))

    assert task.downloads == (f"{MOUNT}/e:/finance%202026/desktop.ini?action=download",)


# --- restore points ----------------------------------------------------------------------


def test_a_replica_point_is_read() -> None:
    """Every field that selection and admission use; the failover link is carried nowhere."""
    (point,) = read(CODEC.points(REPLICA), sample("vmreplicapoint.entity")).rows

    assert (point.id, point.vm, point.name) == (POINT, "appsql07", "appsql07@2026-03-14 21:00:39")
    assert point.created_at == datetime(2026, 3, 14, 21, 0, 39, 707000, tzinfo=UTC)
    assert point.source is Source.REPLICA
    assert point.backup_server == "vbr01.dr.example"
    assert point.backup_server_id == "8d0f6b52-41c7-4b3e-9a55-0c7be2f1d9a4"
    assert (point.job, point.job_id) == (
        "DR Tier 1 Replication",
        "5e47c1d9-2f36-4c0a-b8e1-93d2a6074f58",
    )
    assert "failover" not in repr(point)


@pytest.mark.parametrize(
    ("source", "name", "point", "vm"),
    [
        (Source.BACKUP, "vmrestorepoint.entity", BACKUP_POINT, "appsql07"),
        (Source.AGENT, "agentrestorepoint.entity", AGENT_POINT, "rhel-edge-03"),
    ],
)
def test_points_of_the_other_families_are_read(
    source: Source, name: str, point: str, vm: str
) -> None:
    """Without VmDisplayName the machine is the Name up to its last `@`; files are no jobs."""
    (found,) = read(CODEC.points(FAMILIES[source]), sample(name)).rows

    assert (found.id, found.vm, found.source) == (point, vm, source)
    assert found.backup_server == "vbr01.dr.example"
    assert found.job == ""


def test_lists_and_query_pages_of_points_are_read() -> None:
    """Trap 26: a page says whether there are more."""
    listed = read(CODEC.points(REPLICA), sample("vmreplicapoints.entities"))
    second = read(CODEC.points(REPLICA), sample("query.vmreplicapoint.entities"))
    empty = read(CODEC.points(REPLICA), sample("query.vmreplicapoint.empty"))

    assert [point.id for point in listed.rows] == [POINT, OLDER]
    assert ([point.id for point in second.rows], second.has_next) == ([OLDER], True)
    assert (list(empty.rows), empty.has_next) == ([], False)


@pytest.mark.parametrize(
    ("paging", "more"),
    [
        ("", False),
        ('<PagingInfo PageNum="1" PageSize="5" PagesCount="3" />', True),
        ('<PagingInfo PageNum="3" PageSize="5" PagesCount="3" />', False),
        ('<PagingInfo><Links><Link Rel="Next" Href="/x" /></Links></PagingInfo>', True),
        ('<PagingInfo PageNum="" PagesCount="many" />', False),
        ('<PagingInfo PageNum="²" PagesCount="³" />', False),
        (f'<PagingInfo PageNum="1" PagesCount="{"9" * 5000}" />', False),
    ],
)
def test_there_is_a_next_page_by_link_or_by_number(paging: str, more: bool) -> None:
    """Trap 26: either sign is enough, and nonsense is no number."""
    assert read(CODEC.tasks(), document(paging, "QueryResult")).has_next is more


@pytest.mark.parametrize("vm", ["mail@branch", "a@b@c", "plain"])
def test_a_machine_name_may_hold_an_at_sign(vm: str) -> None:
    """Trap 35: Name is split at the last `@` only."""
    body = document(
        "<CreationTimeUTC>2026-03-14T21:00:39Z</CreationTimeUTC>",
        "VmReplicaPoint",
        f'Name="{vm}@2026-03-14 21:00:39" UID="urn:veeam:VmReplicaPoint:{POINT.upper()}"',
    )

    (point,) = read(CODEC.points(REPLICA), body).rows

    assert (point.vm, point.id) == (vm, POINT)


@pytest.mark.parametrize(
    ("text", "micro"),
    [("", 0)]
    + [(".1234567"[: digits + 1], int("123456"[:digits].ljust(6, "0"))) for digits in range(1, 8)],
)
def test_a_time_has_any_number_of_fraction_digits(text: str, micro: int) -> None:
    """Trap 34: 0 to 7 digits."""
    assert moment(f"2026-03-14T21:00:39{text}Z") == datetime(
        2026, 3, 14, 21, 0, 39, micro, tzinfo=UTC
    )


def test_no_time_and_a_bad_time() -> None:
    """Trap 62: no zone is UTC; years before 1970, and what cannot be kept or read, are no time."""
    assert moment("2026-03-14T21:00:39") == datetime(2026, 3, 14, 21, 0, 39, tzinfo=UTC)
    assert moment("2026-03-14T21:00:39+02:00") == datetime(2026, 3, 14, 19, 0, 39, tzinfo=UTC)
    for text in (
        *(None, "", "yesterday", "2026-13-01T00:00:00Z", "30828-09-14T02:48:05Z"),
        *("1753-01-01T00:00:00Z", "1601-01-01T00:00:00Z", "0001-01-01T00:00:00"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999", "9999-12-31T23:59:59-14:00"),
    ):
        assert moment(text) is None


# --- mounts, entries, logon -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hrefs", "roots"),
    [
        ("vmreplicapointmount", [MOUNT], 3),
        ("vmreplicapointmounts", [MOUNT, f"{MOUNT[:-1]}2"], 3),
        ("vmreplicapointmounts.empty", [], 0),
        ("vmrestorepointmount", [f"/api/vmRestorePoints/{BACKUP_POINT}/mounts/1"], 3),
        (
            "agentrestorepointmounts",
            [f"/api/agents/agentRestorePoints/{AGENT_POINT}/mounts/{number}" for number in (1, 2)],
            1,
        ),
    ],
)
def test_mounts_are_read(name: str, hrefs: list[str], roots: int) -> None:
    """Trap 13: a mount is its address and the volume roots that could be read."""
    mounts = read(CODEC.mounts(), sample(name))

    assert [mount.href for mount in mounts] == hrefs
    assert {len(mount.roots) for mount in mounts} <= {roots}
    for _ in range(2):
        assert CODEC.mounts().whole(sample(name)) == mounts


def test_what_was_read_before_is_that_of_its_own_bytes_and_form() -> None:
    """Lists of a few bytes are read once: their errors, other lists and JSON are still told."""
    empty = sample("vmreplicapointmounts.empty")
    assert CODEC.mounts().whole(empty) == ()

    for wrong in (empty[:-3], empty.replace(b"PointMounts", b"Points"), b""):
        for _ in range(2):
            with pytest.raises(MalformedResponse):
                CODEC.mounts().whole(wrong)
    for _ in range(2):
        with pytest.raises(MalformedResponse):
            JsonCodec().mounts().whole(empty)
    short = document("", "VmReplicaPointMount", f'Href="{MOUNT}"')
    assert len(short) < SHORT_LIST
    assert [mount.href for mount in CODEC.mounts().whole(short)] == [MOUNT]
    assert CODEC.mounts().whole(empty) == ()


def test_volume_roots_keep_their_odd_names() -> None:
    """`Volume$0:` is a name and part of an address."""
    (mount,) = read(CODEC.mounts(), sample("vmreplicapointmount"))

    assert [(root.name, root.href) for root in mount.roots] == [
        (name, f"{MOUNT}/{name}") for name in ("Volume$0:", "C:", "E:")
    ]


@pytest.mark.parametrize("roots", ["", "<FSRoots />"])
def test_a_mount_without_roots_is_a_mount(roots: str) -> None:
    """Trap 13: whether empty roots are good enough is not for the reader to say."""
    (mount,) = read(CODEC.mounts(), document(roots, "VmReplicaPointMount", f'Href="{MOUNT}"'))

    assert mount.roots == ()


def test_a_directory_is_read() -> None:
    """Files and directories with what is known of them; an absent Owner is none."""
    page = read(CODEC.entries(), sample("filesystementries.listall"))
    folder = f"{MOUNT}/E:/Finance%202026"

    assert [(entry.name, entry.is_directory, entry.size, entry.owner) for entry in page.rows] == [
        ("Archive", True, None, None),
        ("ledger & notes.xlsx", False, 48213, "DR\\jdoe"),
        ("desktop.ini", False, 174, None),
    ]
    assert page.rows[1].href == f"{folder}/ledger%20&%20notes.xlsx"
    assert page.rows[1].modified_at == datetime(2026, 3, 14, 16, 2, 51, tzinfo=UTC)
    assert not page.has_next
    assert read(CODEC.entries(), sample("filesystementries.listdirs")).has_next


@pytest.mark.parametrize("name", ["directory", "file"])
def test_a_single_entry_is_read(name: str) -> None:
    """A path that names one file or directory answers with just that."""
    (entry,) = read(CODEC.entries(), sample(f"filesystementry.{name}")).rows

    assert entry.is_directory == (name == "directory")
    assert entry.path.startswith("E:/Finance 2026")


@pytest.mark.parametrize("size", ["-1", "²", "1e3", "9" * 40, ""])
def test_a_size_that_is_no_number_is_none(size: str) -> None:
    """A file of unknown size is still a file."""
    body = f'<FileEntry Href="{MOUNT}/C:/a"><Name>a</Name><Size>{size}</Size></FileEntry>'

    (entry,) = read(CODEC.entries(), document(body, "FileSystemEntry")).rows

    assert entry.size is None


def test_a_logon_is_read() -> None:
    """Trap 17: the GUID stands in the body, the token does not; links tell what is allowed."""
    answer = read(CODEC.logon(), sample("logon-session"))

    assert answer.guid == "1c7e94b2-d80a-4f53-a6e7-92b0d3f5c814"
    assert answer.user == "DR\\svc-restore"
    assert {"vmreplicapoints", "vmrestorepoints", "tasks"} <= answer.collections


@pytest.mark.parametrize("os_kind", OsKind)
def test_the_mount_body_names_root_namespace_and_system(os_kind: OsKind) -> None:
    """Traps 22 and 24: right root, one namespace for all, OsKind always explicit."""
    assert CODEC.mount_spec(os_kind) == (
        b'<?xml version="1.0" encoding="utf-8"?>'
        b'<StartMountSpec xmlns="http://www.veeam.com/ent/v1.0">'
        b"<OsKind>" + os_kind.value.encode() + b"</OsKind></StartMountSpec>"
    )
