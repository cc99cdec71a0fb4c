"""Checklist, "State and identity": sessions, their tokens, their numbers and their end."""

from __future__ import annotations

import re
from base64 import b64decode

import anyio
import pytest

from orchestrator.simulator.behaviour import Behaviour
from tests.simulator.wire import ACCOUNT, MOUNT_S, PASSWORD, TOKEN, Wire, wired

pytestmark = pytest.mark.anyio

IDLE = 900.0
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def test_the_token_is_opaque_and_is_not_the_session_id() -> None:
    """Own token with `/`, `+` and `=` in it, distinct from the GUID in body and Location."""
    async with wired() as wire:
        logon = await wire.log_on()

        token, (session,) = logon.headers[TOKEN], logon.texts("SessionId")
        assert logon.status == 201
        assert set("/+=") <= set(token)
        assert len(b64decode(token)) == 16
        assert GUID.fullmatch(session)
        assert logon.headers["Location"].endswith(f"/api/logonSessions/{session}")
        assert logon.headers["Set-Cookie"] == f"{TOKEN}={token}; Path=/api;"
        assert (await wire.get("tasks", token=session)).status == 401
        assert (await wire.delete(f"logonSessions/{token}")).status in {400, 404}
        assert (await wire.get("tasks", token=token)).status == 200


@pytest.mark.parametrize(
    ("account", "password"), [("LAB\\svc-drill", "wrong"), ("LAB\\nobody", PASSWORD)]
)
async def test_wrong_credentials_make_no_session(account: str, password: str) -> None:
    """Per EM: users; bad credentials are a 401 that names the scheme."""
    async with wired() as wire:
        logon = await wire.log_on(account, password)

        assert (logon.status, wire.truth.logons) == (401, 1)
        assert logon.headers["WWW-Authenticate"] == "Basic Realm=RestSvc"
        assert TOKEN not in logon.headers


async def test_a_session_dies_exactly_fifteen_minutes_after_its_last_request() -> None:
    """Idle expiry at 15 min since the last request on that token, exact; then 401."""
    async with wired() as wire:
        for _ in range(3):
            await anyio.sleep(IDLE - 0.001)
            assert (await wire.get("tasks")).status == 200
        await anyio.sleep(IDLE)

        late = await wire.get("tasks")

        assert late.status == 401
        assert late.headers["WWW-Authenticate"] == "Basic Realm=RestSvc"
        assert wire.truth.sessions_expired == 1


async def test_a_refused_request_keeps_its_own_token_alive_and_no_other() -> None:
    """Idle expiry counts any request, but only those on that token."""
    async with wired() as wire:
        other = (await wire.log_on()).headers[TOKEN]
        await anyio.sleep(IDLE - 1)
        assert (await wire.get("tasks/task-99")).status == 500
        await anyio.sleep(2)

        assert (await wire.get("tasks")).status == 200
        assert (await wire.get("tasks", token=other)).status == 401


async def test_mounts_of_an_expired_session_are_orphans_at_that_moment() -> None:
    """After idle expiry mounts stay held on the backup server as orphans a test can count."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        used = anyio.current_time()

        await anyio.sleep(IDLE + 60)

        (fate,) = wire.truth.still_open()
        assert (fate.orphaned, fate.orphaned_at) == (True, used + IDLE)
        assert (fate.succeeded, fate.closed_by) == (True, None)


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_mount_that_finishes_after_its_session_ended_is_an_orphan(forgotten: bool) -> None:
    """Logoff with a task running, even a deleted one: the mount happens, and nobody owns it."""
    async with wired() as wire:
        session = (await wire.get("logonSessions")).texts("SessionId")[0]
        await wire.start(wire.point())
        if forgotten:
            await wire.delete("tasks/task-1")
        await wire.delete(f"logonSessions/{session}")
        await anyio.sleep(MOUNT_S + 1)

        (fate,) = wire.truth.still_open()
        assert (fate.orphaned, fate.succeeded, fate.finished_at) == (True, True, MOUNT_S)


async def test_logoff_ends_the_session_and_counts_what_it_left() -> None:
    """Logoff 204; further use 401; orphans counted."""
    async with wired() as wire:
        await wire.mounted(wire.point())
        session = (await wire.get("logonSessions")).texts("SessionId")[0]

        gone = await wire.delete(f"logonSessions/{session.upper()}")

        assert (gone.status, gone.body) == (204, b"")
        assert (await wire.get("tasks")).status == 401
        assert [fate.orphaned for fate in wire.truth.mounts] == [True]
        assert wire.truth.sessions_closed == 1


async def test_every_session_counts_from_one() -> None:
    """Own task counter from task-1 per session; own mount counter per point."""
    async with wired() as wire:
        first, second = wire.point(), wire.point(place=1)
        other = (await wire.log_on()).headers[TOKEN]

        tasks = [
            (await wire.start(point, token=token)).texts("TaskId")[0]
            for token, point in [
                (wire.token, first),
                (wire.token, first),
                (wire.token, second),
                (other, first),
            ]
        ]

        assert tasks == ["task-1", "task-2", "task-3", "task-1"]
        assert [fate.number for fate in wire.truth.mounts] == [1, 2, 1, 1]
        assert len({(fate.session, fate.task) for fate in wire.truth.mounts}) == 4


async def test_nothing_of_a_session_is_visible_from_another() -> None:
    """Nothing visible from another session: no task, no mount, and no unmounting either."""
    async with wired() as wire:
        point = wire.point()
        await wire.mounted(point)
        other = (await wire.log_on()).headers[TOKEN]
        mounts = f"vmReplicaPoints/{point.id}/mounts"

        assert len((await wire.get("tasks", token=other)).all("Task")) == 0
        assert (await wire.get("tasks/task-1", token=other)).status == 500
        assert len((await wire.get(mounts, token=other)).all("VmReplicaPointMount")) == 0
        assert (await wire.get(f"{mounts}/1", token=other)).status == 404
        assert (await wire.delete(f"{mounts}/1", token=other)).status == 404
        assert (await wire.get(f"{mounts}/1")).status == 200
        assert len(wire.truth.still_open()) == 1


async def test_the_list_of_sessions_names_living_ones_only() -> None:
    """Sessions of the same account list one another until they end."""
    async with wired() as wire:
        await anyio.sleep(IDLE - 1)
        fresh = await wire.log_on()
        wire.token = fresh.headers[TOKEN]
        both = await wire.get("logonSessions")
        await anyio.sleep(1)

        left = await wire.get("logonSessions")

        assert (len(both.texts("SessionId")), both.texts("UserName")) == (2, [ACCOUNT, ACCOUNT])
        assert left.texts("SessionId") == fresh.texts("SessionId")


async def test_a_cookie_beats_the_header() -> None:
    """Cookie beats header: the header is not even looked at."""
    async with wired() as wire:
        other = (await wire.log_on()).headers[TOKEN]
        await wire.start(wire.point(), token=other)

        async def seen(cookie: str, header: str) -> tuple[int, int]:
            answer = await wire.get("tasks", token=header, headers={"Cookie": f"{TOKEN}={cookie}"})
            return answer.status, len(answer.all("TaskId"))

        assert await seen(other, wire.token) == (200, 1)
        assert await seen(wire.token, other) == (200, 0)
        assert (await seen("stale", wire.token))[0] == 401


@pytest.mark.parametrize(("refused", "status"), [(True, 401), (False, 200)])
async def test_a_quoted_cookie_is_refused_unless_told_otherwise(refused: bool, status: int) -> None:
    """A quoted cookie value is rejected with 401, even beside a good header (knob)."""
    async with wired(behaviour=Behaviour(quoted_cookie_is_refused=refused)) as wire:
        quoted = {"Cookie": f'{TOKEN}="{wire.token}"'}

        assert (await wire.get("tasks", headers=quoted)).status == status


@pytest.mark.parametrize("idle", [10.0, 900.0])
async def test_a_three_hour_mount_takes_no_time_to_test(idle: float) -> None:
    """Virtual time: idle expiry and long mounts test in milliseconds (knob for the limit)."""
    async with wired(behaviour=Behaviour(idle_limit_s=idle)) as wire:
        await polled_for(wire, 10_800.0, every=idle / 2)

        assert (await wire.get("tasks")).status == 200
        assert wire.truth.sessions_expired == 0


async def polled_for(wire: Wire, seconds: float, every: float) -> None:
    """Poll so that the session never idles."""
    until = anyio.current_time() + seconds
    while anyio.current_time() < until:
        await anyio.sleep(every)
        await wire.get("tasks")
