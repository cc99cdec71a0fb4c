"""The renewal: beside the loop, told of what is lost, and silent while the loop hangs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from orchestrator.core.errors import DatabaseAway
from orchestrator.core.sites import Held
from orchestrator.database.address import read_address
from orchestrator.database.private_server import PrivateServer
from orchestrator.database.renewal import Renewal, Renewed, boot_clock
from tests.database.owner import Owner
from tests.database.patience import until_overdue
from tests.database.proxy import proxied
from tests.database.workers import HQ, LAB, Worker

pytestmark = [pytest.mark.anyio, pytest.mark.process]

OFTEN = 0.05
SEVERAL = 3
LEFT = "SELECT extract(epoch FROM expires - clock_timestamp())::float FROM lease WHERE server = %s"


class Reports:
    """What a renewal has reported."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.renewed: list[Renewed] = []
        self.failures: list[Exception] = []

    async def until(self, seen: Callable[[], object]) -> None:
        """Wait until something was seen."""
        for _ in until_overdue():
            if seen():
                return
            await anyio.sleep(0.01)


@pytest.fixture
async def reports() -> Reports:
    """Return an empty list of reports."""
    return Reports()


@pytest.fixture
async def renewal(
    server: PrivateServer, name: str, anna: Worker, reports: Reports
) -> AsyncIterator[Renewal]:
    """Renew for anna, often, and count as hung what does not answer for a fifth of a second."""
    found = Renewal(
        read_address(server.url(name, "drill")),
        anna.id,
        renewed=reports.renewed.append,
        failed=reports.failures.append,
        every_s=OFTEN,
        hung_after_s=0.2,
    )
    found.start()
    yield found
    await found.stop()


async def test_what_is_held_is_renewed_and_what_was_taken_is_lost(
    renewal: Renewal, reports: Reports, anna: Worker, bert: Worker, owner: Owner
) -> None:
    """In one report, with when it was sent."""
    leases = {each.standing.lease.server: each.standing.lease for each in await anna.take()}
    began = boot_clock()
    renewal.hold(lambda: [Held(lease=leases[each], wants=3) for each in (HQ, LAB)])
    await reports.until(lambda: reports.renewed and reports.renewed[-1].standings)
    assert {each.lease for each in reports.renewed[-1].standings} == {leases[HQ], leases[LAB]}
    assert not reports.renewed[-1].lost
    assert began <= reports.renewed[-1].sent_at <= boot_clock()
    owner.rows("UPDATE lease SET worker = 'bert' WHERE server = 'hq'")

    await reports.until(lambda: reports.renewed[-1].lost)

    assert reports.renewed[-1].lost == (leases[HQ],)
    assert [each.lease for each in reports.renewed[-1].standings] == [leases[LAB]]


async def test_a_hung_loop_loses_its_leases_and_a_living_one_keeps_them(
    renewal: Renewal, reports: Reports, anna: Worker, owner: Owner
) -> None:
    """The thread renews on while the loop is busy, but not for ever."""
    owner.rows("UPDATE meta SET lease_life = interval '1 s'")
    lease = await anna.serve(HQ)
    renewal.hold(lambda: [Held(lease=lease)])
    await reports.until(lambda: reports.renewed and reports.renewed[-1].standings)

    for _ in until_overdue():
        if owner.one(LEFT, HQ) <= 0:
            break
        time.sleep(0.02)  # noqa: ASYNC251 - so it hangs

    now = boot_clock()  # what was renewed while it hung is reported only now
    await reports.until(lambda: reports.renewed[-1].sent_at > now)
    assert owner.one(LEFT, HQ) > 0
    assert reports.failures == []


async def test_a_busy_loop_keeps_its_leases(
    server: PrivateServer, name: str, reports: Reports, anna: Worker, owner: Owner
) -> None:
    """Renewals go on while nothing else does: several, for one may have been under way."""
    lease = await anna.serve(HQ)
    address = read_address(server.url(name, "drill"))
    renewed, failed = reports.renewed.append, reports.failures.append
    renewal = Renewal(
        address, anna.id, renewed=renewed, failed=failed, every_s=OFTEN, hung_after_s=60.0
    )
    renewal.hold(lambda: [Held(lease=lease)])
    renewal.start()
    await reports.until(lambda: reports.renewed and reports.renewed[-1].standings)
    count, seen = len(reports.renewed), {expiry(owner)}

    for _ in until_overdue():
        seen.add(expiry(owner))
        if len(seen) > SEVERAL:
            break
        time.sleep(0.005)  # noqa: ASYNC251 - so it is busy

    assert len(reports.renewed) == count, "the loop has answered meanwhile"
    await renewal.stop()


async def test_a_renewal_goes_on_by_itself_when_the_path_is_back(
    server: PrivateServer, name: str, anna: Worker, reports: Reports
) -> None:
    """What happens meanwhile is told as what it is: away."""
    lease = await anna.serve(HQ)
    with TemporaryDirectory(dir="/tmp") as directory:
        url = server.url(name, "drill")
        async with proxied(server, Path(directory), url) as (proxy, address):
            renewal = Renewal(
                address,
                anna.id,
                renewed=reports.renewed.append,
                failed=reports.failures.append,
                every_s=OFTEN,
            )
            renewal.hold(lambda: [Held(lease=lease)])
            renewal.start()
            await reports.until(lambda: reports.renewed)
            proxy.loses_answers = True
            await reports.until(lambda: reports.failures)
            count = len(reports.renewed)
            await reports.until(lambda: len(reports.renewed) > count)
            await renewal.stop()

    assert {type(each) for each in reports.failures} == {DatabaseAway}
    assert [each.lease for each in reports.renewed[-1].standings] == [lease]


async def test_nothing_is_reported_after_the_stop(
    renewal: Renewal, reports: Reports, anna: Worker
) -> None:
    """And stopping twice is harmless."""
    await reports.until(lambda: reports.renewed)
    await renewal.stop()
    count = len(reports.renewed)

    await anna.take()
    await anyio.wait_all_tasks_blocked()

    assert len(reports.renewed) == count


def expiry(owner: Owner) -> object:
    """Return when the lease of a server expires."""
    return owner.one("SELECT expires FROM lease WHERE server = 'hq'")
