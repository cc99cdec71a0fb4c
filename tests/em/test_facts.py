"""What a server says of itself: service root, open logon sessions, backup servers."""

from __future__ import annotations

import pytest

from orchestrator.core.errors import AccessDenied, AddressUnusable, MalformedResponse
from orchestrator.core.model import SessionId, Source, session_id
from orchestrator.em.facts import OpenSession
from orchestrator.em.wire import XmlCodec
from orchestrator.simulator.faults import Fault
from tests.em.documents import document, read, sample
from tests.em.logons import ACCOUNT, PASSWORD, START, desk, query_of

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()


async def test_the_service_root_is_read_without_a_logon(monkeypatch: pytest.MonkeyPatch) -> None:
    """One GET, no account and no token: versions and the server's clock."""
    async with desk(monkeypatch) as at:
        root = await at.client.service_root()

    (asked,) = at.requests
    assert (asked.method, asked.target) == ("GET", "/api/")
    assert not {"authorization", "x-restsvcsessionid"} & set(asked.headers)
    assert root.versions == ("v1_5", "v1_6", "v1_7")
    assert root.clock_offset_s is not None
    assert at.client.certificate is None
    assert at.manager.truth.logons == 0


async def test_open_sessions_of_every_account_are_listed_and_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another program's session is seen, and still lives afterwards."""
    async with desk(monkeypatch) as at:
        other = at.manager.logon(ACCOUNT, PASSWORD)
        assert other is not None
        async with at.client.logon() as session:
            found = await session.open_sessions()

        assert {each.id for each in found} == {session_id(other.id), session.id}
        assert {each.user for each in found} == {ACCOUNT}
        assert list(at.manager.sessions) == [other.token]


async def test_backup_servers_are_listed_where_the_role_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Portal Administrator sees names and versions; a File Restore Operator is refused."""
    async with (
        desk(monkeypatch, role="Portal Administrator") as at,
        at.client.logon() as session,
    ):
        found = await session.backup_servers()
    assert {each.name for each in found} == {"vbr-01", "vbr-02"}
    assert {each.version for each in found} == {"12.3.2.3617"}

    async with desk(monkeypatch) as at, at.client.logon() as session:
        with pytest.raises(AccessDenied):
            await session.backup_servers()


async def test_the_newest_point_of_everything_costs_one_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One request with a page of one, newest first."""
    async with desk(monkeypatch) as at, at.client.logon() as session:
        found = await session.newest_point(Source.REPLICA)

    (asked,) = at.sent("GET", "/api/query")
    assert query_of(asked)["pageSize"] == "1"
    newest = max(point.created_at for point in at.manager.inventory.by_id.values())
    assert found is not None
    assert found.created_at == newest < START


async def test_no_point_at_all_is_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty inventory is an answer."""
    async with desk(monkeypatch, machines=0) as at, at.client.logon() as session:
        assert await session.newest_point(Source.REPLICA) is None


def test_the_documented_samples_are_read() -> None:
    """As the public documentation shows them."""
    assert read(CODEC.versions(), sample("service-root"), 7) == ("v1_5", "v1_6", "v1_7")
    first, second = read(CODEC.open_sessions(), sample("logon-sessions"))
    assert (first.user, second.user) == ("DR\\svc-restore", "DR\\svc-monitoring")
    (server,) = read(CODEC.backup_servers(), sample("backupserver.entity"))
    assert (server.name, server.version) == ("vbr01.dr.example", "12.3.2.3617")


@pytest.mark.parametrize("reading", [CODEC.versions, CODEC.open_sessions, CODEC.backup_servers])
def test_another_document_is_no_answer(reading: object) -> None:
    """A login page or another service is never taken for one."""
    assert callable(reading)
    with pytest.raises(MalformedResponse):
        read(reading(), document("", "Task"))


def test_rows_without_their_identity_are_there_all_the_same() -> None:
    """Trap 60: a session without a GUID is somebody's, a backup server without a name is one."""
    rows = "<LogonSession><SessionId>x</SessionId><UserName>u</UserName></LogonSession>"
    (session,) = read(CODEC.open_sessions(), document(rows, "LogonSessions"))
    (server,) = read(CODEC.backup_servers(), document("<BackupServer/>", "BackupServers"))

    assert (session.id, session.user) == ("", "u")
    assert server.name == "(without a name)"


async def test_a_web_page_in_place_of_the_service_is_a_wrong_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wrong port answers 200 with HTML."""
    async with desk(monkeypatch, faults=[Fault(kind="html_200")]) as at:
        with pytest.raises(AddressUnusable):
            await at.client.service_root()


@pytest.mark.parametrize(
    ("account", "user", "same"),
    [
        ("LAB\\svc", "lab\\SVC", True),
        ("LAB\\svc", "svc", True),
        ("svc", "LAB\\svc", True),
        ("DR\\svc", "svc@dr.example", True),
        ("svc@dr.example", "SVC@DR", True),
        ("LAB\\svc", "OTHER\\svc", False),
        ("LAB\\svc", "LAB\\svc2", False),
        ("LAB\\svc", "", False),
    ],
)
def test_one_account_is_the_same_however_its_name_is_written(
    account: str, user: str, same: bool
) -> None:
    """The server shows the account as it resolved it."""
    assert OpenSession(id=SessionId(""), user=user).is_of(account) is same
