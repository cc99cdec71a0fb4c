"""A run's limit is shared among its servers: all of it, by what they need."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.app.sites.served_conductor import fair_parts
from orchestrator.core.model import ServerName
from orchestrator.core.sites import ShardRow, ShardState, WorkerId


def shard(
    name: str,
    *,
    quota: int = 0,
    used: int = 0,
    wants: int = 0,
    done: bool = False,
    lease_s: float = 4.0,
) -> ShardRow:
    """Return a shard as the database shows it; by default a worker serves it."""
    return ShardRow(
        server=ServerName(name),
        site="default",
        address=name,
        state=ShardState.DONE if done else ShardState.OPEN,
        epoch=1,
        quota=quota,
        used=used,
        wants=wants,
        worker=WorkerId("anna"),
        lease_s=lease_s,
    )


def test_what_nobody_needs_yet_is_spread() -> None:
    """So that mounts begin as soon as the first wave is open."""
    assert fair_parts(10, [shard("dr"), shard("hq")]) == {"dr": 5, "hq": 5}


def test_what_nobody_needs_stays_where_it_is() -> None:
    """A worker that has just taken a shard over has not said what it needs."""
    rows = [shard("dr", quota=6, used=2), shard("hq", quota=4, used=4)]

    assert fair_parts(10, rows) == {"dr": 6, "hq": 4}


def test_who_needs_it_gets_what_is_idle() -> None:
    """The neediest first; none is kept idle while another one waits."""
    rows = [shard("dr", quota=6, used=2), shard("hq", quota=4, used=4, wants=9)]

    assert fair_parts(10, rows) == {"dr": 2, "hq": 8}


def test_a_server_that_is_done_keeps_nothing() -> None:
    """Nothing begins there any more."""
    rows = [shard("dr", quota=6, done=True), shard("hq", quota=4, used=1)]

    assert fair_parts(10, rows) == {"dr": 0, "hq": 10}


def test_what_nobody_serves_keeps_what_it_uses_and_no_more() -> None:
    """Its worker died with mounts open, and said before that it could begin more."""
    rows = [shard("dr", quota=6, used=2, wants=9, lease_s=-1.0), shard("hq", used=1)]

    assert fair_parts(10, rows) == {"dr": 2, "hq": 8}
    assert fair_parts(10, rows[:1]) == {"dr": 2}


amounts = st.integers(0, 12)
shards = st.builds(
    lambda name, quota, used, wants, done, lease_s: shard(
        str(name), quota=quota, used=used, wants=wants, done=done, lease_s=lease_s
    ),
    amounts,
    amounts,
    amounts,
    amounts,
    st.booleans(),
    st.sampled_from([4.0, -1.0]),
)


@given(st.integers(1, 40), st.lists(shards, min_size=1, max_size=6, unique_by=lambda s: s.server))
def test_parts_never_exceed_the_limit_nor_fall_below_what_is_used(
    limit: int, rows: Sequence[ShardRow]
) -> None:
    """Unless more is used already."""
    parts = fair_parts(limit, rows)
    used = sum(row.used for row in rows)

    assert all(parts[row.server] >= row.used for row in rows)
    assert sum(parts.values()) <= max(limit, used)
