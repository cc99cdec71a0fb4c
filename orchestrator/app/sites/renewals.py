"""What renews a worker's leases: the thread of `database.renewal`, joined to the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from orchestrator.core.sites import Held, Standing, WorkerId
from orchestrator.database.address import Address
from orchestrator.database.renewal import Renewal, Renewed
from orchestrator.log import Log

log = Log(__name__)


class RenewalsByThread:
    """Renews beside the event loop; implements `worker.Renewals`."""

    def __init__(self, address: Address, worker: WorkerId) -> None:
        """Nothing is renewed before `serve`."""
        self._address, self._worker = address, worker
        self._held: Callable[[], Sequence[Held]] = tuple
        self._renewal: Renewal | None = None

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
            ours = [standing.lease for standing in found.standings]
            asked = [Held(lease=lease) for lease in (*ours, *found.lost)]
            tell(asked, found.standings, found.sent_at)

        renewal = Renewal(self._address, self._worker, renewed=renewed, failed=_failed)
        renewal.hold(self._held)
        renewal.start()
        self._renewal = renewal
        try:
            await anyio.sleep_forever()
        finally:
            self._renewal = None
            await renewal.stop()


def _failed(exc: Exception) -> None:
    log.warning("leases.not_renewed", why=str(exc))
