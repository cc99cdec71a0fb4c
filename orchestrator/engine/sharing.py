"""Wait for other runs of this state directory, and report for which.

Their mounts count in this run's limits (see `scheduler`). What waits for them alone goes on
when they give something back; meanwhile the views say who is waited for, and at the end the
report says for how long.
"""

from __future__ import annotations

import anyio
from msgspec import Struct

from orchestrator.core.events import LimitsShared
from orchestrator.core.model import MountRequest, ServerName
from orchestrator.core.ports.journal import OtherRuns
from orchestrator.core.text import duration
from orchestrator.engine.containment import harmless
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.scheduler import Scheduler

LOOK_S = 1.0
"""Seconds between looks at what other runs have open."""

ALONE_S = 5.0
"""Seconds between looks while no other run has anything open: they show that this one lives.

Each claim of a mount looks as well.
"""

RETOLD_S = 60.0
"""Seconds after which other words are said for a wait that goes on."""


class _WaitForRuns(Struct):
    """A wait for other runs on one server; times on the run's clock."""

    why: str
    began: float
    told_at: float


class LimitSharing:
    """Looks at the other runs beside the run."""

    def __init__(self, others: OtherRuns, scheduler: Scheduler, ledger: Ledger) -> None:
        """Nothing is looked at before `watch`."""
        self._others, self._scheduler, self._ledger = others, scheduler, ledger
        self._waits: dict[ServerName, _WaitForRuns] = {}
        self._waited: dict[ServerName, tuple[float, str]] = {}
        self._told_trouble = False

    async def watch(self) -> None:
        """Admit what fits as soon as other runs have given slots back; until cancelled."""
        while True:
            is_shared = self._waits or self._others.is_present or self._others.is_unsure
            await anyio.sleep(LOOK_S if is_shared else ALONE_S)
            with harmless("sharing.internal_error"):
                self._look()

    def _look(self) -> None:
        was_unsure = self._others.is_unsure
        if self._others.look() or was_unsure:
            self._scheduler.look_again()
        if self._waits or self._others.is_present or self._others.trouble is not None:
            self._tell()

    def note_waits(self) -> None:
        """Note for the report which runs this run has waited for, and how long; at its end."""
        for server in tuple(self._waits):
            self._end(server)
        for server, (waited, why) in self._waited.items():
            message = f"{server}: waited {duration(waited)} in all for other runs, at last: {why}"
            self._ledger.note(message)

    def _tell(self) -> None:
        now = self._ledger.now()
        if self._others.trouble is not None and not self._told_trouble:
            self._told_trouble = True
            self._ledger.note(self._others.trouble)
        waiting: dict[ServerName, MountRequest] = {}
        for request in self._scheduler.waiting_for_others():
            waiting.setdefault(request.server, request)
        for server, request in waiting.items():
            wait = self._waits.setdefault(server, _WaitForRuns("", now, now))
            if wait.why and now - wait.told_at < RETOLD_S:
                continue  # the reason costs a look at all that others have
            why = self._others.why_waiting(request)
            if why != wait.why:
                wait.why, wait.told_at = why, now
                self._ledger.record(LimitsShared(at=now, server=server, reason=why))
        for server in self._waits.keys() - waiting.keys():
            self._end(server)

    def _end(self, server: ServerName) -> None:
        now, wait = self._ledger.now(), self._waits.pop(server)
        waited, _ = self._waited.get(server, (0.0, ""))
        self._waited[server] = (waited + now - wait.began, wait.why)
        self._ledger.record(LimitsShared(at=now, server=server, waited_s=now - wait.began))
