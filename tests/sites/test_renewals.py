"""What a worker says of renewals that fail: that it begins, and that it is over."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from orchestrator.app.sites import renewals
from orchestrator.app.sites.renewals import RenewalsByThread
from orchestrator.core.errors import DatabaseAway
from orchestrator.core.sites import WorkerId
from orchestrator.database.address import read_address
from orchestrator.database.renewal import Renewal, Renewed
from tests.captured import captured_logs

pytestmark = pytest.mark.anyio

ADDRESS = read_address("postgresql://127.0.0.1:1/drills")


class Scripted(Renewal):
    """Renews nothing: it fails three times, then succeeds, and all of that twice."""

    def __init__(
        self,
        *_: object,
        renewed: Callable[[Renewed], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._renewed, self._failed = renewed, failed

    def hold(self, held: object) -> None:
        """Hold nothing."""

    def start(self) -> None:
        """Report all of it at once."""
        for number in range(8):
            if number % 4 < 3:
                self._failed(DatabaseAway(f"failure {number}"))
            else:
                self._renewed(Renewed(sent_at=0.0, standings=(), lost=()))

    async def stop(self) -> None:
        """Be over already."""


async def test_it_is_said_once_that_nothing_is_renewed_and_once_that_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many renewals fail in between; with why, and how long it lasted."""
    monkeypatch.setattr(renewals, "Renewal", Scripted)
    told: list[float] = []

    with captured_logs() as logs:
        async with anyio.create_task_group() as tasks:
            found = RenewalsByThread(ADDRESS, WorkerId("w"))
            tasks.start_soon(found.serve, lambda asked, renewed, sent_at: told.append(sent_at))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    assert [each["event"] for each in logs] == ["leases.not_renewed", "leases.renewed_again"] * 2
    assert [each["why"] for each in logs[::2]] == ["failure 0", "failure 4"]
    assert [each["after"] for each in logs[1::2]] == ["0 s", "0 s"]
    assert len(told) == 2
