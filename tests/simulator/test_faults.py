"""Checklist, "Faults, per request or by script, seeded": each kind, and that it is repeatable."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import aiohttp
import anyio
import defusedxml.ElementTree as SafeTree
import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import FILE_KINDS, KINDS, SPOILS, Fault, FaultScript
from tests.simulator.test_between import BETWEEN_KINDS
from tests.simulator.wire import MOUNT_S, NS, Wire, wired
from tests.virtual.network import MemoryNetwork

pytestmark = pytest.mark.anyio

MOUNT = "/mounts$"


async def lost(wire: Wire) -> None:
    """Start a mount whose answer never comes whole."""
    with pytest.raises(aiohttp.ClientError):
        await wire.start(wire.point())


async def test_the_mount_happens_although_the_answer_is_lost() -> None:
    """Accept the POST and drop the connection before replying: the mount still happens."""
    async with wired(faults=[Fault(kind="drop_after", method="POST", path=MOUNT)]) as wire:
        await lost(wire)
        await anyio.sleep(MOUNT_S + 1)

        assert [fate.succeeded for fate in wire.truth.mounts] == [True]
        assert (await wire.get("tasks")).texts("TaskId") == ["task-1"]


async def test_the_mount_begins_after_the_connection_is_gone() -> None:
    """Drop the connection and act later: the request was in a queue."""
    fault = Fault(kind="act_later", method="POST", path=MOUNT, seconds=12.0)
    async with wired(faults=[fault]) as wire:
        await lost(wire)
        before = len(wire.truth.mounts)
        await anyio.sleep(12.5)

        assert (before, len(wire.truth.mounts)) == (0, 1)


async def test_a_request_dropped_before_acting_does_nothing() -> None:
    """Drop before acting: no mount, no task."""
    async with wired(faults=[Fault(kind="drop_before", method="POST", path=MOUNT)]) as wire:
        await lost(wire)

        assert wire.truth.mounts == []
        assert (await wire.get("tasks")).texts("TaskId") == []


async def test_a_delay_is_of_the_given_length() -> None:
    """Delay: then the right answer."""
    async with wired(faults=[Fault(kind="delay", path="/tasks", seconds=25.0)]) as wire:
        assert (await wire.get("tasks")).status == 200
        assert anyio.current_time() == 25.0


async def test_a_dripping_answer_is_whole_in_the_end() -> None:
    """Drip: the right answer, piece by piece over the given time."""
    async with wired(faults=[Fault(kind="drip", path="/tasks", seconds=30.0)]) as wire:
        answer = await wire.get("tasks")

        assert (answer.status, answer.texts("TaskId")) == (200, [])
        assert anyio.current_time() == pytest.approx(30.0)


async def test_a_dripping_answer_has_the_time_of_its_server() -> None:
    """Its Date header is as far from the real time as that of any other answer."""
    async with wired(faults=[Fault(kind="drip", path="/tasks", count=1)]) as wire:
        wire.manager.skew = 1_000_000.0
        slow, usual = [await wire.get("tasks") for _ in range(2)]

        times = [parsedate_to_datetime(answer.headers["Date"]) for answer in (slow, usual)]
        assert abs((times[1] - times[0]).total_seconds()) < 100.0


async def test_a_server_with_enough_mounts_open_refuses_one_more() -> None:
    """Overload by mounts: further POSTs are a 503 that starts nothing, everything else goes on."""
    async with wired(behaviour=Behaviour(bears_mounts=1)) as wire:
        statuses = [(await wire.start(wire.point())).status for _each in range(2)]

        assert statuses == [202, 503]
        assert len(wire.truth.mounts) == 1
        assert (await wire.get("tasks")).status == 200
        assert (sum(wire.truth.overloads.values()), len(wire.truth.overloads)) == (1, 1)


async def test_a_server_with_enough_requests_in_work_refuses_one_more() -> None:
    """Overload by requests: whatever it is, beyond so many at once it is a 503."""
    async with wired() as wire:
        wire.manager.behaviour = Behaviour(bears_requests=2, latency_s=1.0)
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await wire.get("tasks")).status)

        async with anyio.create_task_group() as tasks:
            for _each in range(3):
                tasks.start_soon(ask)

        assert sorted(statuses) == [200, 200, 503]


async def test_a_reset_in_the_middle_of_a_body() -> None:
    """Reset mid-body: the status arrives, the body does not; the server has acted."""
    async with wired(faults=[Fault(kind="reset_mid_body", path=MOUNT)]) as wire:
        with pytest.raises(aiohttp.ClientPayloadError):
            await wire.start(wire.point())

        assert len(wire.truth.mounts) == 1


async def test_truncated_xml_looks_whole_to_http() -> None:
    """Truncated XML: Content-Length matches, and no parser takes it."""
    async with wired(faults=[Fault(kind="truncated", path="/tasks")]) as wire:
        answer = await wire.get("tasks")

        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(answer.body)))
        assert answer.headers["Content-Type"] == "application/xml; charset=utf-8"
        assert answer.body.startswith(b"<?xml")
        with pytest.raises(SafeTree.ParseError):
            _ = answer.xml


@pytest.mark.parametrize(
    ("kind", "status", "is_html"),
    [
        ("html_503", 503, True),
        ("html_404", 404, True),
        ("xml_503", 503, False),
        ("error_500", 500, False),
        ("html_200", 200, True),
        ("unauthorized", 401, False),
    ],
)
async def test_wrong_answers(kind: str, status: int, is_html: bool) -> None:
    """HTML 503, XML 503, 500, 401 mid-run, HTTP 200 HTML page: none of them acts."""
    async with wired(faults=[Fault(kind=kind, path=MOUNT, count=1)]) as wire:
        answer = await wire.start(wire.point())

        assert (answer.status, wire.truth.mounts) == (status, [])
        if is_html:
            assert answer.headers["Server"] == "Microsoft-HTTPAPI/2.0"
            assert answer.headers["Content-Type"].startswith("text/html")
            assert b"<html" in answer.body
        else:
            assert answer.xml.tag == f"{NS}Error"
            assert answer.xml.attrib["StatusCode"] == str(status)
        assert (answer.headers.get("WWW-Authenticate") is not None) == (status == 401)
        assert (await wire.get("tasks")).status == 200


@pytest.mark.parametrize(("kind", "status"), [("error_500_after", 500), ("proxy_page", 502)])
async def test_wrong_answers_to_what_was_done(kind: str, status: int) -> None:
    """A 500, or a proxy's page: the mount happens all the same."""
    async with wired(faults=[Fault(kind=kind, path=MOUNT, count=1)]) as wire:
        assert (await wire.start(wire.point())).status == status
        assert len(wire.truth.mounts) == 1


@pytest.mark.parametrize(("kind", "status"), [("forbidden", 403), ("hollow_204", 204)])
async def test_an_unmount_that_does_nothing(kind: str, status: int) -> None:
    """Refused, or confirmed: the mount is still there."""
    async with wired(faults=[Fault(kind=kind, method="DELETE", count=1)]) as wire:
        await wire.mounted(wire.point())
        mount = f"vmReplicaPoints/{wire.point().id}/mounts/1"

        assert (await wire.delete(mount)).status == status
        assert (await wire.get(mount)).status == 200
        assert (await wire.delete(mount)).status == 204
        assert (await wire.get(mount)).status == 404


@pytest.mark.parametrize("kind", ["late", "drip"])
async def test_a_slow_answer_comes_after_the_deed(kind: str) -> None:
    """Late, or in pieces: the mount has begun long before the answer is whole."""
    async with wired(faults=[Fault(kind=kind, path=MOUNT, seconds=40.0)]) as wire:
        answer = await wire.start(wire.point())

        assert (answer.status, anyio.current_time()) == (202, 40.0)
        assert [fate.requested_at for fate in wire.truth.mounts] == [0.0]


@pytest.mark.parametrize(
    ("kind", "after_s", "state", "result", "related"),
    [
        ("odd_state", 0.0, "WaitingForCollection", 0, 0),
        ("state_back", MOUNT_S + 1, "Running", 0, 0),
        ("no_result", MOUNT_S + 1, "Finished", 0, 1),
        ("no_related", MOUNT_S + 1, "Finished", 1, 0),
    ],
)
async def test_tasks_that_look_odd(
    kind: str, after_s: float, state: str, result: int, related: int
) -> None:
    """In one answer a task looks odd, and only where there is something to disguise."""
    async with wired(faults=[Fault(kind=kind, path="/tasks", count=1)]) as wire:
        await wire.get("tasks")
        await wire.start(wire.point())
        await anyio.sleep(after_s)

        odd, usual = await wire.get("tasks"), await wire.get("tasks")

        shown = (odd.texts("State"), len(odd.all("Result")), len(odd.hrefs("Related")))
        assert shown == ([state], result, related)
        assert usual.texts("State") == ["Finished" if after_s else "Running"]
        assert len(usual.all("Result")) == len(usual.hrefs("Related")) == bool(after_s)


@pytest.mark.parametrize("kind", ["html_503", "xml_503"])
@pytest.mark.parametrize("value", [None, "7", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"])
async def test_retry_after_is_sent_as_it_is(kind: str, value: str | None) -> None:
    """503 with no Retry-After, seconds, a date, or nonsense."""
    async with wired(faults=[Fault(kind=kind, path="/tasks", retry_after=value)]) as wire:
        assert (await wire.get("tasks")).headers.get("Retry-After") == value


async def test_errors_come_in_bursts() -> None:
    """500 bursts: the first `skip` pass, then `count` are struck, then all is well."""
    burst = Fault(kind="error_500", path="/tasks", skip=2, count=3)
    async with wired(faults=[burst]) as wire:
        statuses = [(await wire.get("tasks")).status for _ in range(7)]

        assert statuses == [200, 200, 500, 500, 500, 200, 200]


async def test_a_session_can_be_forgotten_in_the_middle() -> None:
    """401 mid-run because the session is really gone: its mounts are orphans, the logon goes on."""
    fault = Fault(kind="forget_session", path="/tasks$", skip=1, count=1)
    async with wired(faults=[fault]) as wire:
        await wire.start(wire.point())

        statuses = [(await wire.get("tasks")).status for _ in range(3)]

        assert statuses == [200, 401, 401]
        assert [fate.orphaned for fate in wire.truth.mounts] == [True]
        assert (await wire.log_on()).status == 201


async def test_a_restart_loses_every_session() -> None:
    """Service restart: all sessions gone, all mounts orphaned."""
    async with wired(faults=[Fault(kind="restart", path="/logonSessions$", count=1)]) as wire:
        other = (await wire.log_on()).headers["X-RestSvcSessionId"]
        await wire.start(wire.point())
        await wire.start(wire.point(), token=other)

        with pytest.raises(aiohttp.ClientError):
            await wire.post("logonSessions")

        assert [(await wire.get("tasks", token=one)).status for one in (wire.token, other)] == [
            401,
            401,
        ]
        assert [fate.orphaned for fate in wire.truth.mounts] == [True, True]


async def test_a_clock_jump_expires_what_was_in_use() -> None:
    """Clock jump: idle expiry and purging follow the server's clock, not the client's."""
    fault = Fault(kind="clock_jump", path="/logonSessions$", seconds=901.0, count=1)
    async with wired(faults=[fault]) as wire:
        other = (await wire.log_on()).headers["X-RestSvcSessionId"]

        statuses = [
            (await wire.get("logonSessions", token=other)).status,
            (await wire.get("tasks", token=wire.token)).status,
        ]

        assert statuses == [401, 401]
        assert anyio.current_time() == 0.0
        assert wire.truth.sessions_expired == 2


async def test_a_black_hole_never_answers() -> None:
    """Never an answer, and nothing done: only a deadline helps."""
    async with wired(faults=[Fault(kind="black_hole", path=MOUNT)]) as wire:
        with anyio.move_on_after(3600.0) as deadline:
            await wire.start(wire.point())

        assert deadline.cancelled_caught
        assert wire.truth.mounts == []


async def test_faults_strike_within_their_window_only() -> None:
    """A window of the server's time; outside it nothing happens."""
    fault = Fault(kind="html_503", path="/tasks", from_s=60.0, until_s=120.0)
    async with wired(faults=[fault]) as wire:
        seen = []
        for _ in range(5):
            seen.append(((await wire.get("tasks")).status, anyio.current_time()))
            await anyio.sleep(30.0)

        assert seen == [(200, 0.0), (200, 30.0), (503, 60.0), (503, 90.0), (200, 120.0)]


async def test_a_window_counts_from_when_the_server_began_to_serve() -> None:
    """A machine's clock runs since its start: long before that of any server."""
    await anyio.sleep(1000.0)
    faults = [
        Fault(kind="html_503", path="/tasks", from_s=60.0, until_s=120.0),
        Fault(kind="error_500", path="/tasks", from_s=1000.0),
    ]
    async with wired(faults=faults) as wire:
        seen = []
        for pause in (60.0, 60.0, 880.0, 0.0):
            seen.append((await wire.get("tasks")).status)
            await anyio.sleep(pause)

        assert seen == [200, 503, 200, 500]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_seeded_script_is_deterministic(seed: int) -> None:
    """Per request or by script, seeded: the same seed gives the same misbehaviour."""

    async def statuses(seed: int) -> list[int]:
        rows = [{"kind": "error_500", "path": "/tasks", "probability": 0.4}]
        script = FaultScript.from_json(rows, seed=seed)
        async with wired(faults=script.faults, seed=seed) as wire:
            return [(await wire.get("tasks")).status for _ in range(40)]

    first = await statuses(seed)

    assert first == await statuses(seed)
    assert first != await statuses(seed + 10)
    assert 5 < first.count(500) < 30


async def test_the_first_matching_fault_strikes() -> None:
    """Several rules: method and path choose, in the order of the script."""
    faults = [
        Fault(kind="error_500", method="DELETE"),
        Fault(kind="xml_503", path="/tasks/task-1$"),
        Fault(kind="unauthorized", path="/tasks"),
    ]
    async with wired(faults=faults) as wire:
        answers = [
            await wire.delete("tasks/task-1"),
            await wire.get("tasks/task-1"),
            await wire.get("tasks"),
            await wire.get("logonSessions"),
        ]

        assert [answer.status for answer in answers] == [500, 503, 401, 200]


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "gremlins"},
        {"kind": "delay", "second": 3},
        {"kind": "answer", "status": 503, "body": "poem"},
        {"kind": "answer"},
    ],
)
def test_a_script_that_makes_no_sense_is_refused(row: dict[str, object]) -> None:
    """An unknown kind or option is an error, not silence."""
    with pytest.raises((ValueError, TypeError)):
        FaultScript.from_json([row])


def test_every_kind_has_a_test() -> None:
    """No kind of fault exists without showing what it does, here or in a neighbour."""
    assert set(KINDS) - FILE_KINDS - SPOILS - BETWEEN_KINDS == {
        *("drop_before", "drop_after", "delay", "reset_mid_body", "truncated", "html_503"),
        *("xml_503", "error_500", "unauthorized", "forget_session", "restart", "html_200"),
        *("black_hole", "clock_jump", "forbidden", "hollow_204", "error_500_after", "proxy_page"),
        *("html_404", "act_later", "late", "drip", "odd_state", "state_back", "no_result"),
        "no_related",
    }


# --- the network itself ------------------------------------------------------------------------


async def test_a_slow_handshake_delays_new_connections_only() -> None:
    """Slow TLS handshake: every new connection takes its time, a kept one does not."""
    async with wired() as wire:
        wire.network.cut("em-hq.example.net")
        await anyio.sleep(1.0)
        wire.network.connect_s = 8.0
        began = anyio.current_time()
        await wire.get("tasks")
        first = anyio.current_time() - began
        await wire.get("tasks")

        assert (first, anyio.current_time() - began) == (8.0, 8.0)


@pytest.mark.parametrize("how", ["refusing", "nobody"])
async def test_a_refused_connection(how: str) -> None:
    """A host that refuses, or that nobody knows, is aiohttp's own connector error."""
    network = MemoryNetwork()
    if how == "refusing":
        network.refusing.add("em.example.net")
    async with aiohttp.ClientSession(connector=network.connector()) as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get("https://em.example.net:9398/api/")


async def test_a_swallowed_connection_runs_into_the_connect_timeout() -> None:
    """A connection that is never made ends by the client's own limit, in virtual time."""
    network = MemoryNetwork()
    network.swallowing.add("em.example.net")
    limit = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
    async with aiohttp.ClientSession(connector=network.connector(), timeout=limit) as http:
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await http.get("https://em.example.net:9398/api/")
    assert anyio.current_time() == 10.0


async def test_a_cut_connection_fails_what_is_in_flight() -> None:
    """Cutting a host resets its connections at once; the next request makes a new one."""
    async with wired(faults=[Fault(kind="delay", path="/tasks", seconds=60.0, count=1)]) as wire:
        async with anyio.create_task_group() as tasks:

            async def asked() -> None:
                with pytest.raises(aiohttp.ClientError):
                    await wire.post("tasks")

            tasks.start_soon(asked)
            await anyio.sleep(5.0)
            wire.network.cut("em-hq.example.net")
        assert anyio.current_time() == 5.0
        before = wire.network.connections

        assert (await wire.get("tasks")).status == 200
        assert wire.network.connections == before + 1
