"""Checklist, "HTTP": headers, media types, ids, methods, roles; the shape of every answer."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from orchestrator.simulator.behaviour import Behaviour
from tests.simulator.wire import NS, SPEC, STEADY, UNKNOWN, wired

pytestmark = pytest.mark.anyio

BOM = b"\xef\xbb\xbf"
ROOT = "Node [root] does not exist."
DECLARED = (
    ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)


async def test_every_answer_carries_the_headers_of_a_real_one() -> None:
    """Headers of 1.2, with Content-Length and never chunked; success with charset."""
    async with wired() as wire:
        for answer in (await wire.get("tasks"), await wire.get("tasks/task-9")):
            assert answer.headers["Cache-Control"] == "private"
            assert answer.headers["Server"] == "Microsoft-HTTPAPI/2.0"
            assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
            assert answer.headers["X-XSS-Protection"] == "1; mode=block"
            assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Date" in answer.headers
            assert int(answer.headers["Content-Length"]) == len(answer.body)
            assert "Transfer-Encoding" not in answer.headers


@pytest.mark.parametrize("form", ["xml", "json"])
async def test_success_names_its_charset_and_errors_do_not(form: str) -> None:
    """Success with charset, errors without."""
    async with wired() as wire:
        good = await wire.get("tasks", accept=f"application/{form}")
        bad = await wire.get("tasks/task-9", accept=f"application/{form}")

        assert good.headers["Content-Type"] == f"application/{form}; charset=utf-8"
        assert bad.headers["Content-Type"] == f"application/{form}"


async def test_reasons_are_one_word() -> None:
    """One-word reasons, as captured: BadRequest, NotFound, NoContent."""
    async with wired() as wire:
        point = wire.point().id
        answers = [
            await wire.get("tasks"),
            await wire.log_on(),
            await wire.start(wire.point()),
            await wire.delete("tasks/task-1"),
            await wire.get("vmReplicaPoints/nonsense"),
            await wire.get("tasks", token="stale"),
            await wire.get("backupServers"),
            await wire.get(f"vmReplicaPoints/{UNKNOWN}"),
            await wire.delete(f"vmReplicaPoints/{point}"),
            await wire.get("tasks/task-1"),
        ]

        assert [(answer.status, answer.reason) for answer in answers] == [
            (200, "OK"),
            (201, "Created"),
            (202, "Accepted"),
            (204, "NoContent"),
            (400, "BadRequest"),
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "NotFound"),
            (405, "MethodNotAllowed"),
            (500, "InternalServerError"),
        ]


async def test_xml_comes_in_the_one_line_wire_form() -> None:
    """XML one-line wire form: declaration, root at once, namespaces, empty elements as ` />`."""
    async with wired() as wire:
        tasks = await wire.get("tasks")
        started = await wire.start(wire.point())

        space = ' xmlns="http://www.veeam.com/ent/v1.0"'
        head = '<?xml version="1.0" encoding="utf-8"?>'
        assert tasks.text == f"{head}<Tasks{DECLARED}{space} />"
        href = "https://localhost:9398/api/tasks/task-1"
        assert started.text == (
            f'{head}<Task{DECLARED} Href="{href}" Type="Task"{space}>'
            f'<Links><Link Href="{href}" Rel="Delete" /></Links>'
            "<TaskId>task-1</TaskId><State>Running</State>"
            "<Operation>MountRestorePoint</Operation></Task>"
        )


@pytest.mark.parametrize("accept", [None, "*/*", "application/xml", "text/html"])
async def test_anything_but_json_is_answered_in_xml(accept: str | None) -> None:
    """XML by default; `*/*` and no Accept at all give XML."""
    async with wired() as wire:
        assert (await wire.get("tasks", accept=accept)).body.startswith(b"<?xml")


async def test_json_follows_the_names_of_the_xml() -> None:
    """JSON on Accept: PascalCase, attributes and elements merged, Links a bare array."""
    async with wired() as wire:
        await wire.start(wire.point())

        listed = await wire.get("tasks", accept="application/json")
        failed = await wire.get("tasks/task-9", accept="application/json")

        href = "https://localhost:9398/api/tasks/task-1"
        assert listed.json == {
            "Tasks": [
                {
                    "Links": [{"Href": href, "Rel": "Delete"}],
                    "TaskId": "task-1",
                    "State": "Running",
                    "Operation": "MountRestorePoint",
                    "Href": href,
                    "Type": "Task",
                }
            ]
        }
        assert failed.json == {
            "FirstChanceExceptionMessage": None,
            "Message": "There is no backup task with id [task-9] in current rest session",
            "StackTrace": None,
            "Status": None,
            "StatusCode": 500,
        }


async def test_camel_case_json_is_a_knob() -> None:
    """Knob: camelCase JSON, as v13 is said to send it."""
    async with wired(behaviour=replace(STEADY, camel_case_json=True)) as wire:
        point = wire.point()
        await wire.mounted(point)

        (task,) = (await wire.get("tasks", accept="application/json")).json["tasks"]
        path = f"vmReplicaPoints/{point.id}?format=Entity"
        entity = (await wire.get(path, accept="application/json")).json

        assert {"taskId", "state", "operation", "result", "links", "href", "type"} == set(task)
        assert task["result"] == {"message": "Ok", "success": True}
        assert entity["uid"].endswith(point.id)
        assert entity["creationTimeUTC"]
        assert {"rel", "href"} <= set(entity["links"][0])


@pytest.mark.parametrize("accept", ["application/xml", "application/json"])
async def test_a_byte_order_mark_is_a_knob(accept: str) -> None:
    """Knob: BOM on/off, before XML and before JSON."""
    async with wired(behaviour=replace(STEADY, byte_order_mark=True)) as wire:
        assert (await wire.get("tasks", accept=accept)).body.startswith(BOM)
    async with wired() as wire:
        assert not (await wire.get("tasks", accept=accept)).body.startswith(BOM)


async def test_the_order_of_attributes_is_a_knob() -> None:
    """Knob: attribute order shuffled; still the same document."""
    async with wired(behaviour=replace(STEADY, shuffle_attributes=True)) as wire:
        shuffled = await wire.query("VmReplicaPoint")
    async with wired() as wire:
        ordered = await wire.query("VmReplicaPoint")
    first = re.compile(r"<Link (\w+)=")

    assert set(first.findall(ordered.text)) == {"Href"}
    assert len(set(first.findall(shuffled.text))) > 1
    assert [one.attrib for one in shuffled.all("Link")] == [
        one.attrib for one in ordered.all("Link")
    ]


@pytest.mark.parametrize(("typed", "expected"), [(False, None), (True, "Task")])
async def test_the_type_of_delete_links_is_a_knob(typed: bool, expected: str | None) -> None:
    """Knob: Type missing on Delete links."""
    async with wired(behaviour=replace(STEADY, delete_links_have_type=typed)) as wire:
        (link,) = (await wire.start(wire.point())).all("Link")

        assert (link.attrib["Rel"], link.attrib.get("Type")) == ("Delete", expected)


@pytest.mark.parametrize(
    ("knob", "host"),
    [
        ("request", "em-hq.example.net:9398"),
        ("localhost", "localhost:9398"),
        ("em.lan", "em.lan:9398"),
    ],
)
async def test_the_host_in_links_is_a_knob(knob: str, host: str) -> None:
    """Knob: Href host = request host, a fixed other host, or localhost."""
    async with wired(behaviour=replace(STEADY, href_host=knob)) as wire:
        answers = [await wire.get(""), await wire.query("VmReplicaPoint"), await wire.get("tasks")]
        links = [link.attrib["Href"] for answer in answers for link in answer.all("Link")]

        assert {urlsplit(href).netloc for href in links} == {host}
        assert {urlsplit(href).path[:5] for href in links} == {"/api/"}


async def test_the_service_root_needs_no_session() -> None:
    """GET /api/ names versions and the logon link, without a token."""
    async with wired() as wire:
        root = await wire.get("", token="")

        names = [one.attrib["Name"] for one in root.all("SupportedVersion")]
        assert (root.status, root.xml.tag, names) == (
            200,
            f"{NS}EnterpriseManager",
            ["v1_5", "v1_6", "v1_7"],
        )
        assert (root.xml.get("Href"), root.xml.get("Type")) == (None, None)


@pytest.mark.parametrize(
    ("accept", "sent", "body", "json_error"),
    [
        ("application/json", "application/xml", SPEC % b"Windows", True),
        ("application/xml, application/json", "application/xml", SPEC % b"Windows", True),
        ("application/xml", "application/json", b'{"OsKind":"Windows"}', False),
    ],
)
async def test_accept_and_content_type_must_agree(
    accept: str, sent: str, body: bytes, json_error: bool
) -> None:
    """Accept/Content-Type mismatch is a 400 with the known text, in the form that Accept asks."""
    for strict in (True, False):
        async with wired(behaviour=replace(STEADY, strict_media_types=strict)) as wire:
            path = f"vmReplicaPoints/{wire.point().id}/mounts"
            sent_as = {"Content-Type": sent}
            answer = await wire.post(path, accept=accept, body=body, headers=sent_as)
            if not strict:
                assert answer.status == 202
                continue
            said = answer.json if json_error else answer.xml.attrib
            assert (answer.status, said["Message"]) == (400, ROOT)
            assert wire.truth.mounts == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (SPEC.replace(b"StartMountSpec", b"MountSpec") % b"Windows", ROOT),
        (SPEC.replace(b"ent/v1.0", b"ent/v2.0") % b"Windows", ROOT),
        (b"<StartMountSpec><OsKind>Windows</OsKind></StartMountSpec>", ROOT),
        (SPEC.replace(b"<OsKind>", b'<OsKind xmlns="">') % b"Windows", "not valid"),
        (SPEC % b"BSD", "not valid"),
        (SPEC % b"", "not valid"),
        (b"<StartMountSpec", ROOT),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', ROOT),
    ],
)
async def test_a_wrong_body_mounts_nothing(body: bytes, message: str) -> None:
    """Body root or namespace wrong is a 400; so is an OsKind outside the two values."""
    async with wired() as wire:
        answer = await wire.post(f"vmReplicaPoints/{wire.point().id}/mounts", body=body)

        assert (answer.status, wire.truth.mounts) == (400, [])
        assert message in answer.xml.attrib["Message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"OsKind":"Linux"}', 202),
        (b'{"osKind":"Linux"}', 202),
        (b'{"OsKind":"BSD"}', 400),
        (b"{nonsense}", 400),
    ],
)
async def test_a_json_body_is_read_as_strictly(body: bytes, status: int) -> None:
    """Request bodies may be JSON; the same values are refused."""
    async with wired() as wire:
        how = {"accept": "application/json", "headers": {"Content-Type": "application/json"}}
        path = f"vmReplicaPoints/{wire.point('Linux').id}/mounts"

        answer = await wire.post(path, body=body, **how)

        assert (answer.status, len(wire.truth.mounts)) == (status, int(status == 202))


async def test_an_empty_body_means_windows() -> None:
    """Empty body accepted = Windows: a Linux guest then shows nothing."""
    async with wired() as wire:
        for os in ("Windows", "Linux"):
            assert (await wire.post(f"vmReplicaPoints/{wire.point(os).id}/mounts")).status == 202
        session = wire.manager.sessions[wire.token]

        assert [task.mount and task.mount.os_kind for task in session.tasks.values()] == [
            "Windows",
            "Windows",
        ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "vmReplicaPoints/17", 400),
        ("GET", "vmReplicaPoints/urn:x/mounts", 400),
        ("POST", "vmRestorePoints/17/mounts", 400),
        ("GET", "logonSessions/17", 400),
        ("GET", f"vmReplicaPoints/{UNKNOWN}", 404),
        ("GET", f"vmReplicaPoints/{UNKNOWN}/mounts", 404),
        ("POST", f"vmReplicaPoints/{UNKNOWN}/mounts", 404),
        ("GET", f"vmReplicaPoints/{UNKNOWN}/mounts/1", 404),
        ("GET", f"logonSessions/{UNKNOWN}", 404),
        ("GET", "nothing", 404),
        ("POST", "tasks", 405),
        ("PUT", "tasks/task-1", 405),
        ("PUT", "logonSessions", 405),
        ("POST", "query?type=Task", 405),
        ("POST", "vmReplicaPoints", 405),
        ("DELETE", "vmReplicaPoints/{point}", 405),
        ("GET", "vmReplicaPoints/{point}?action=failover", 405),
        ("DELETE", "vmReplicaPoints/{point}/mounts", 405),
        ("GET", "sessionMngr/?v=latest", 405),
    ],
)
async def test_bad_ids_unknown_ids_and_wrong_methods(method: str, path: str, status: int) -> None:
    """Non-GUID id is 400; unknown GUID is 404; wrong method is 405; always with an Error."""
    async with wired() as wire:
        answer = await wire.send(method, path.format(point=wire.point().id))

        assert answer.status == status
        assert answer.xml.tag == f"{NS}Error"
        assert answer.xml.attrib["StatusCode"] == str(status)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_task_is_a_500(method: str) -> None:
    """Unknown task is 500 with the exact text, not 404."""
    async with wired() as wire:
        answer = await wire.send(method, "tasks/task-297")

        assert (answer.status, answer.xml.attrib["Message"]) == (
            500,
            "There is no backup task with id [task-297] in current rest session",
        )


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("VMREPLICAPOINTS/{point}/Mounts", "vmReplicaPoints/{point}/mounts"),
        ("/vmReplicaPoints//{point}/mounts", "vmReplicaPoints/{point}/mounts"),
        ("vmReplicaPoints/{POINT}", "vmReplicaPoints/{point}"),
        ("TASKS", "tasks"),
        ("LogonSessions", "logonSessions"),
        (
            "QUERY?TYPE=vmreplicapoint&FORMAT=entities&sortASC=NAME&FILTER=REPLICAname!=x",
            "query?type=VmReplicaPoint&format=Entities&sortAsc=Name&filter=ReplicaName!=x",
        ),
        ("query?type=task&sortdesc=taskid", "query?type=Task&sortDesc=TaskId"),
    ],
)
async def test_literals_are_matched_in_any_case(path: str, canonical: str) -> None:
    """Case-insensitive path literals, query type and field names; doubled slashes tolerated."""
    async with wired() as wire:
        point = wire.point().id
        await wire.mounted(wire.point())

        odd = await wire.get(path.format(point=point, POINT=point.upper()))
        usual = await wire.get(canonical.format(point=point))

        assert (odd.status, usual.status) == (200, 200)
        shapes = [
            [(one.tag, one.get("Name"), one.text) for one in answer.xml.iter()]
            for answer in (odd, usual)
        ]
        assert shapes[0] == shapes[1]


def test_the_defaults_are_awkward() -> None:
    """The default server is as awkward as the real one may be: foreign host, other family."""
    knobs = Behaviour()

    assert (knobs.href_host, knobs.related, knobs.related_answers) == (
        "localhost",
        "documented",
        False,
    )
    assert knobs.strict_media_types
    assert not knobs.paging_keeps_filter
