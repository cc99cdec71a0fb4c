"""The waves of a run: what each still waits for, and whether it may start.

A target is decided once its answer is known: at its end, or at the verdict of a mount that is
held. A wave is over when all its targets are decided and no server could still add one; the
waves after it start then, unless it did not end well and says that they must not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import anyio

from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord
from orchestrator.core.model import (
    MountKey,
    OnError,
    Result,
    ServerName,
    WaveFacts,
    WaveName,
)
from orchestrator.engine.ledger import Ledger


class _Wave:
    """What one wave still waits for."""

    def __init__(self, facts: WaveFacts) -> None:
        self.facts = facts
        self.open: set[MountKey] = set()
        self.silent: set[ServerName] = set()
        """Servers that could not be asked yet which targets they have in this wave."""
        self.is_open = False
        """Whether its turn has come, be it to start or to be skipped."""
        self.over = anyio.Event()


class Waves:
    """The order of the targets, wave by wave."""

    def __init__(
        self, facts: Iterable[WaveFacts], ledger: Ledger, finished: frozenset[WaveName]
    ) -> None:
        """`finished` are the waves that an earlier process of the run finished."""
        self._waves = {each.name: _Wave(each) for each in facts}
        self._ledger = ledger
        self._finished = finished
        self._decided: set[MountKey] = set()
        self._skipped: dict[WaveName, str] = {}

    def __iter__(self) -> Iterator[WaveName]:
        """Iterate over the names, in the order of the plan."""
        return iter(self._waves)

    @property
    def wait_for_servers(self) -> bool:
        """Whether a server that could not be asked yet may still have targets."""
        return any(wave.silent for wave in self._waves.values())

    def is_critical(self, name: WaveName) -> bool:
        """Return whether each target of a wave is critical."""
        return self._waves[name].facts.critical

    # --- what a wave waits for -----------------------------------------------------------------

    def await_end(self, name: WaveName, key: MountKey) -> None:
        """Make a wave wait for the answer of a target, also once more."""
        self._decided.discard(key)
        self._waves[name].open.add(key)

    def await_server(self, name: WaveName, server: ServerName) -> None:
        """Make a wave wait for targets that a server may add that cannot be asked yet."""
        self._waves[name].silent.add(server)

    def heard_of(self, server: ServerName) -> None:
        """Wait for nothing more from a server."""
        for wave in self._waves.values():
            wave.silent.discard(server)

    # --- its turn ------------------------------------------------------------------------------

    async def turn(self, name: WaveName) -> None:
        """Return when the waves before this one are over."""
        for before in self._waves[name].facts.after:
            await self._waves[before].over.wait()

    def may_start(self, name: WaveName) -> bool:
        """Return, in its turn, whether a wave starts; the waves after a skipped one do not.

        One that an earlier process finished does not start again, unless something of it is
        taken up.
        """
        wave = self._waves[name]
        why = self._why_skipped(wave.facts)
        if why is not None:
            self.skip(name, why)
            return False
        return name not in self._finished or not self.is_empty(name)

    def is_empty(self, name: WaveName) -> bool:
        """Return whether a wave has no target that is open, and no server yet to say which."""
        wave = self._waves[name]
        return not (wave.open or wave.silent)

    def skip(self, name: WaveName, why: str) -> None:
        """Submit nothing of a wave."""
        self._skipped[name] = why

    def why_skipped(self, name: WaveName) -> str | None:
        """Return why the targets of a wave are not submitted, if it is skipped."""
        return self._skipped.get(name)

    def is_under_way(self, name: WaveName) -> bool:
        """Return whether a wave has begun and waits for targets still."""
        wave = self._waves[name]
        return wave.is_open and not wave.over.is_set() and name not in self._skipped

    def open(self, name: WaveName) -> None:
        """Note that the turn of a wave has come: its targets are offered."""
        self._waves[name].is_open = True

    @property
    def under_way(self) -> Sequence[WaveName]:
        """The waves whose turn has come."""
        return [name for name, wave in self._waves.items() if wave.is_open]

    async def is_over(self, name: WaveName) -> None:
        """Return when a wave is over."""
        await self._waves[name].over.wait()

    def look_at(self, name: WaveName) -> None:
        """Check whether a wave is over."""
        wave = self._waves[name]
        if wave.is_open and not wave.open and not wave.silent:
            wave.over.set()

    # --- answers -------------------------------------------------------------------------------

    def decide(self, key: MountKey) -> bool:
        """Note that the result of a target is known; True the first time."""
        if key in self._decided:
            return False
        self._decided.add(key)
        self._waves[self._ledger[key].planned.wave].open.discard(key)
        return True

    def answer(self, record: MountRecord) -> Result | None:
        """Return a target's result, or the verdict that will be it once its mount is released."""
        if record.result is None and record.planned.key in self._decided:
            return record.standing
        return record.result

    def _why_skipped(self, facts: WaveFacts) -> str | None:
        """Return why a wave must not start: one before it was skipped, or did not end well."""
        befores = [self._waves[name].facts for name in facts.after]
        strict = [wave.name for wave in befores if wave.on_error is OnError.SKIP_DEPENDENTS]
        reasons = [self._skipped[name] for name in facts.after if name in self._skipped]
        reasons += [
            f"wave {record.planned.wave} did not end well: "
            f"{record.planned.key} is {self.answer(record)}"
            for record in self._ledger.records
            if record.planned.wave in strict and self.answer(record) not in FIRM_RESULTS
        ]
        return reasons[0] if reasons else None
