"""A conductor's view of the chains, when the database loses what was read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from orchestrator.app.sites.chain import KEPT_S
from orchestrator.app.sites.chain_reading import ChainReader, ChainReplaced
from orchestrator.core.events import RunNoted, to_json
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.records import Record, chain_hash, genesis
from orchestrator.core.sites import ChainHead

RUN, HQ = RunId("r"), ServerName("hq")

pytestmark = pytest.mark.anyio


class Database:
    """One chain, and its end."""

    def __init__(self) -> None:
        self.records_of_hq: list[Record] = []

    def write(self, message: str) -> None:
        """Add a record."""
        body, seq = to_json(RunNoted(at=1.0, message=message)), len(self.records_of_hq) + 1
        digest = chain_hash(self._head.hash, RUN, seq, "RunNoted", body)
        record = Record(run=RUN, seq=seq, kind="RunNoted", at=1.0, body=body, hash=digest)
        self.records_of_hq.append(record)

    @property
    def _head(self) -> ChainHead:
        if not self.records_of_hq:
            return ChainHead(0, genesis(HQ))
        return ChainHead(self.records_of_hq[-1].seq, self.records_of_hq[-1].hash)

    async def heads(self, run: RunId) -> Mapping[ServerName, ChainHead]:
        """Return where it ends."""
        _ = run
        return {HQ: self._head}

    async def records(
        self, run: RunId, after: Mapping[ServerName, int], *, most: int = 5000
    ) -> Mapping[ServerName, Sequence[Record]]:
        """Return what is behind a place."""
        _ = run, most
        found = self.records_of_hq[after[HQ] :]
        return {HQ: found} if found else {}


class Stage:
    """A reader that has read three records, of which the database has lost two."""

    def __init__(self) -> None:
        self.now, self.database = 0.0, Database()
        database = cast("SitesDatabase", self.database)
        self.reader = ChainReader(database, RUN, self._asked, lambda: self.now)
        for message in "abc":
            self.database.write(message)

    async def _asked(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        return await ask()

    async def lose(self) -> None:
        """Read all, and lose what was written last."""
        await self.reader.new_events(own=False)
        del self.database.records_of_hq[1:]
        await self.reader.new_events(own=False)
        assert self.reader.misses_some


async def test_what_is_written_again_in_time_is_not_missed_any_more() -> None:
    """Its writer knows for a minute what the database has lost."""
    stage = Stage()
    await stage.lose()

    stage.now = KEPT_S
    stage.database.write("b")
    assert await stage.reader.new_events(own=False) == []
    stage.database.write("c")
    stage.now = 2 * KEPT_S
    assert await stage.reader.new_events(own=False) == []

    assert not stage.reader.misses_some


@pytest.mark.parametrize("others", ["", "x", "xy"])
async def test_a_chain_that_stays_shorter_or_other_than_what_was_read_is_read_anew(
    others: str,
) -> None:
    """Else its conductor would wait for ever: another worker has gone on from what was left."""
    stage = Stage()
    await stage.lose()
    for message in others:
        stage.database.write(message)

    await stage.reader.new_events(own=False)
    stage.now = KEPT_S + 1.0

    with pytest.raises(ChainReplaced):
        await stage.reader.new_events(own=False)


async def test_a_chain_that_goes_on_from_other_records_than_those_read_is_read_anew_at_once() -> (
    None
):
    """What was read is not what was done."""
    stage = Stage()
    await stage.lose()
    for message in "xyz":
        stage.database.write(message)

    with pytest.raises(ChainReplaced):
        await stage.reader.new_events(own=False)
