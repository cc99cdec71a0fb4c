"""What renews a worker's leases: the thread of `database.renewal`, joined to the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from orchestrator.core.sites import Held, Standing, WorkerId
from orchestrator.core.text import duration
from orchestrator.database.address import Address
from orchestrator.database.renewal import Renewal, Renewed, boot_clock
from orchestrator.log import Log

log = Log(__name__)


class RenewalsByThread:
    """Renews beside the event loop; implements `worker.Renewals`.

    Failures are logged once when they begin, and once when they are over.
    """

    def __init__(self, address: Address, worker: WorkerId) -> None:
        """Nothing is renewed before `serve`."""
        self._address, self._worker = address, worker
        self._held: Callable[[], Sequence[Held]] = tuple
        self._renewal: Renewal | None = None
        self._failing_since: float | None = None
        """When the first of the renewals failed that have all failed since."""

    def hold(self, held: Callable[[], Sequence[Held]]) -> None:
        """Renew from now on what `held` returns, asked for in the event loop."""
        self._held = held

    def now(self) -> None:
        """Renew soon: what a renewal tells may have changed."""
        if self._renewal is not None:
            self._renewal.now()

    async def serve(
        self, tell: Callable[[Sequence[Held], Sequence[Standing], float], None]
    ) -> None:
        """Renew until cancelled; see `worker.Renewals`."""

        def renewed(found: Renewed) -> None:
            self._note_success()
            ours = [standing.lease for standing in found.standings]
            asked = [Held(lease=lease) for lease in (*ours, *found.lost)]
            tell(asked, found.standings, found.sent_at)

        renewal = Renewal(self._address, self._worker, renewed=renewed, failed=self._note_failure)
        renewal.hold(self._held)
        renewal.start()
        self._renewal = renewal
        try:
            await anyio.sleep_forever()
        finally:
            self._renewal = None
            await renewal.stop()

    def _note_failure(self, exc: Exception) -> None:
        if self._failing_since is None:
            self._failing_since = boot_clock()
            log.warning("leases.not_renewed", why=str(exc))

    def _note_success(self) -> None:
        since, self._failing_since = self._failing_since, None
        if since is not None:
            log.warning("leases.renewed_again", after=duration(boot_clock() - since))
