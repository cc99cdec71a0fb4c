"""Damage: whatever was changed in the file is found and named, and never made worse."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core import reading
from orchestrator.core.errors import JournalDamaged, JournalError
from orchestrator.core.events import Event
from orchestrator.core.model import RunId
from orchestrator.core.records import BEGINNING, GENESIS, chain_hash
from orchestrator.journal import State
from tests.journal.sample import RUN, database, mounted, note, started, written

pytestmark = pytest.mark.anyio

EVENTS = [*mounted("dc01"), note(1), note(2)]
LAST = len(EVENTS) + 1


@pytest.fixture
async def state(tmp_path: Path) -> State:
    """A state directory with one run, and another one around it."""
    state = State(tmp_path / "state")
    await written(state, [note(7)], started("before"))
    await written(state, EVENTS)
    await written(state, [note(8)], started("later"))
    return state


def change(state: State, statement: str, *values: object) -> None:
    """Change the file behind the journal's back."""
    with closing(sqlite3.connect(database(state), isolation_level=None)) as connection:
        connection.execute(statement, values)


def record(state: State, seq: int) -> dict[str, Any]:
    """Return one record as it lies in the file."""
    with closing(sqlite3.connect(database(state))) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute("SELECT * FROM events WHERE run = ? AND seq = ?", (RUN, seq))
        return dict(found.fetchone())


def flipped(value: bytes, place: int) -> bytes:
    """Return `value` with one bit changed."""
    return bytes(byte ^ (1 if n == place else 0) for n, byte in enumerate(value))


def assert_found(state: State, seq: int, run: str = RUN) -> None:
    """Every way to read the run names the record, and the other runs can still be read."""
    for read in (state.replay, state.chain_head, lambda run: list(state.events(run))):
        with pytest.raises(JournalDamaged, match=rf"record {seq} .*of run {run}"):
            read(RunId(run))
    for other in {"before", "later"} - {run}:
        assert state.replay(RunId(other)).notes


@pytest.mark.parametrize("seq", range(1, LAST + 1))
async def test_any_changed_byte_of_a_body_is_found(state: State, seq: int) -> None:
    """Whichever byte of whichever record changes, that record is named."""
    body: bytes = record(state, seq)["body"]

    for place in range(len(body)):
        change(
            state, "UPDATE events SET body = ? WHERE run = ? AND seq = ?",
            flipped(body, place), RUN, seq,
        )  # fmt: skip
        with pytest.raises(JournalDamaged, match=f"record {seq} .*of run {RUN}"):
            state.chain_head(RUN)

    assert_found(state, seq)


@pytest.mark.parametrize(
    "assignment",
    [
        "type = 'RunNoted2'",
        "type = 'RunHalted'",
        "type = x'52756E4E6F746564'",
        "hash = zeroblob(32)",
        "hash = substr(hash, 1, 31)",
        "hash = 'text'",
        "body = body || ' '",
        "body = x''",
        "body = CAST(body AS TEXT)",
        "body = 17",
        "at = at + 1",
        "at = 'noon'",
    ],
)
@pytest.mark.parametrize("seq", [LAST - 1, LAST])
async def test_any_changed_column_is_found(state: State, assignment: str, seq: int) -> None:
    """No column of a record can be changed unnoticed, not even into a value of another kind."""
    change(state, f"UPDATE events SET {assignment} WHERE run = ? AND seq = ?", RUN, seq)

    assert_found(state, seq)


@pytest.mark.parametrize("seq", range(1, LAST))
async def test_a_deleted_record_is_found(state: State, seq: int) -> None:
    """A gap is named by the record that is missing."""
    change(state, "DELETE FROM events WHERE run = ? AND seq = ?", RUN, seq)

    assert_found(state, seq)


@pytest.mark.parametrize("seq", range(1, LAST))
async def test_a_closed_gap_is_found(state: State, seq: int) -> None:
    """Numbering the rest anew does not hide a deleted record."""
    change(state, "DELETE FROM events WHERE run = ? AND seq = ?", RUN, seq)
    for later in range(seq + 1, LAST + 1):
        change(state, "UPDATE events SET seq = seq - 1 WHERE run = ? AND seq = ?", RUN, later)

    assert_found(state, seq)


@pytest.mark.parametrize("seq", range(1, LAST))
async def test_swapped_records_are_found(state: State, seq: int) -> None:
    """Two neighbours that changed places are noticed at the first of them."""
    for before, after in ((seq, 0), (seq + 1, seq), (0, seq + 1)):
        change(
            state, "UPDATE events SET seq = ? WHERE run = ? AND seq = ?", after, RUN, before
        )  # fmt: skip

    assert_found(state, seq)


@pytest.mark.parametrize("seq", range(1, LAST))
async def test_a_record_with_a_mended_hash_is_found_at_the_next(state: State, seq: int) -> None:
    """A changed record whose own hash was put right breaks the chain behind it."""
    head = GENESIS if seq == 1 else record(state, seq - 1)["hash"]
    forged = record(state, seq)
    body = forged["body"].replace(b"}", b" }")
    mended = chain_hash(head, RUN, seq, forged["type"], body)

    change(
        state, "UPDATE events SET body = ?, hash = ? WHERE run = ? AND seq = ?",
        body, mended, RUN, seq,
    )  # fmt: skip

    assert_found(state, seq + 1)


@pytest.mark.parametrize(
    "other",
    [
        (b"\x01" * 32, "run", 1, "Kind", b"{}"),
        (GENESIS, "rum", 1, "Kind", b"{}"),
        (GENESIS, "run", 2, "Kind", b"{}"),
        (GENESIS, "run", 1, "King", b"{}"),
        (GENESIS, "run", 1, "Kind", b"{ }"),
        (GENESIS, "run\n1", 1, "Kind", b"{}"),
        (GENESIS, "run", 1, "Kind\n", b"{}"),
    ],
)
def test_a_hash_covers_everything(other: tuple[bytes, str, int, str, bytes]) -> None:
    """What went before, the run, the number, the type and the body: each makes another hash."""
    assert chain_hash(*other) != chain_hash(GENESIS, "run", 1, "Kind", b"{}")


def test_the_hash_is_the_one_of_version_1() -> None:
    """Heads in old reports can still be compared: 32 zero bytes, then lines, then the body."""
    text = b"\0" * 32 + b"\nrun\n1\nKind\n{}"

    assert chain_hash(GENESIS, "run", 1, "Kind", b"{}") == hashlib.sha256(text).digest()


async def test_a_record_of_another_run_is_found(state: State) -> None:
    """A valid record cannot be moved from one run to another."""
    change(state, "DELETE FROM events WHERE run = ? AND seq = 2", "later")
    change(state, "UPDATE events SET run = 'later' WHERE run = 'before' AND seq = 2")

    with pytest.raises(JournalDamaged, match=r"record 2 .*of run later"):
        state.replay(RunId("later"))


async def test_missing_last_records_change_the_head(state: State) -> None:
    """What a chain cannot see by itself, its cut end, shows in the head that reports name."""
    before = state.chain_head(RUN)

    change(state, "DELETE FROM events WHERE run = ? AND seq = ?", RUN, LAST)

    assert state.chain_head(RUN) != before


async def test_a_run_without_records_is_damaged(state: State) -> None:
    """A run whose every record was taken away is not an empty success."""
    change(state, "DELETE FROM events WHERE run = ?", RUN)

    with pytest.raises(JournalDamaged, match="no records"):
        state.replay(RUN)


async def test_nothing_is_added_to_a_damaged_journal(state: State) -> None:
    """Later records are refused, and the damaged ones stay as they are."""
    change(state, "UPDATE events SET body = x'00' WHERE run = ? AND seq = 3", RUN)
    before = [record(state, seq) for seq in range(1, LAST + 1)]

    with pytest.raises(JournalDamaged, match="record 3 "):
        async with state.append_later(RUN):
            pytest.fail("the journal was opened")

    assert [record(state, seq) for seq in range(1, LAST + 1)] == before


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM events WHERE run = ? AND seq >= 5", "record 5 of run .* is gone"),
        ("DELETE FROM events WHERE run = ?", "record 5 of run .* is gone"),
        ("DELETE FROM events WHERE run = ? AND seq = 6", "record 6 of run .* is missing"),
        ("UPDATE events SET hash = x'00' WHERE run = ? AND seq = 5", "record 5 of run .* is not"),
        ("UPDATE events SET body = x'7b7d' WHERE run = ? AND seq = 7", "record 7 .* is not what"),
        ("UPDATE events SET type = 'RunNoted' WHERE run = ? AND seq = 7", "record 7 .* is not"),
        ("UPDATE events SET at = 99 WHERE run = ? AND seq = 7", "record 7 .* is not what"),
    ],
)
async def test_what_is_cut_off_or_changed_meanwhile_is_found(
    state: State, statement: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the place that was read last, and in everything behind it."""
    with monkeypatch.context() as patch:
        patch.setattr(reading, "BATCH", 5)
        _, mark = state.read_on(RUN, BEGINNING)
    change(state, statement, RUN)

    with pytest.raises(JournalDamaged, match=words):
        state.read_on(RUN, mark)


# --- the file itself ------------------------------------------------------------------------


def every_reading(state: State) -> list[Callable[[], object]]:
    """Return all ways to read a journal."""
    return [
        state.runs,
        state.durations,
        lambda: state.find("last"),
        lambda: state.replay(RUN),
        lambda: state.chain_head(RUN),
    ]


async def assert_refused(state: State, words: str) -> None:
    """Reading and writing both raise a JournalError, and not one byte of the file changes."""
    before = database(state).read_bytes()
    for read in every_reading(state):
        with pytest.raises(JournalError, match=words):
            read()
    with pytest.raises(JournalError, match=words):
        async with state.open_run(started("new")):
            pytest.fail("the run began")
    assert database(state).read_bytes() == before


@pytest.mark.parametrize("content", [b"version: 1\nname: a plan\n" * 100, b"SQLite format 3\0???"])
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    """A file of somebody else in the journal's place is named and not overwritten."""
    state = State(tmp_path)
    database(state).write_bytes(content)

    await assert_refused(state, r"journal\.sqlite")


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """No tables are added to a database that is not ours."""
    state = State(tmp_path)
    change(state, "CREATE TABLE photos (name TEXT)")

    await assert_refused(state, r"journal\.sqlite")


async def test_a_journal_of_a_newer_version_is_left_alone(state: State) -> None:
    """An older program neither misreads nor changes what a newer one wrote."""
    change(state, "UPDATE meta SET schema_version = 2")

    await assert_refused(state, r"written by another version \(schema 2\)")


async def test_random_damage_is_found_or_harmless(state: State) -> None:
    """A flipped bit anywhere in the file: a JournalError, or what was written, or its beginning.

    That the end is missing, a chain cannot see; its head is another one then.
    """
    with closing(sqlite3.connect(database(state))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = database(state).read_bytes()
    events = list(state.events(RUN))
    rng = random.Random(7)
    found = 0

    for place in [*range(100), *rng.sample(range(100, len(whole)), 300)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        database(state).write_bytes(damaged)
        for read in every_reading(state):
            try:
                read()
            except JournalError:
                found += 1
        seen: list[Event] = []
        try:
            seen.extend(state.events(RUN))
        except JournalError:
            found += 1
        assert seen == events[: len(seen)]

    assert found > 50


def assert_a_beginning(state: State, whole: list[Event]) -> int:
    """Check that what can be read is a beginning of `whole`, or refused; return its length."""
    seen: list[Event] = []
    try:
        seen.extend(state.events(RUN))
    except JournalError:
        return 0
    assert seen == whole[: len(seen)]
    return len(seen)


def every_byte_near_an_edge(size: int, edges: range, near: int = 40) -> Iterator[int]:
    """Yield the sizes that a file of `size` bytes may be cut to, densest where frames meet."""
    for edge in edges:
        yield from range(max(0, edge - near), min(edge + near, size))
    yield from range(0, size, 211)
    yield size


async def test_every_prefix_of_the_write_ahead_log_is_a_beginning(tmp_path: Path) -> None:
    """Wherever a crash has cut the log, what is left is what was written first, in order."""
    state = State(tmp_path / "state")
    first = started()
    async with state.open_run(first, inline=True) as journal:
        for event in (first, *EVENTS):
            journal.append(event)
            await journal.durable()
        main = database(state).read_bytes()
        log = database(state).with_name("journal.sqlite-wal").read_bytes()
        whole = list(state.events(RUN))
    cut = State(tmp_path / "cut")
    cut.directory.mkdir()
    page = 4096 + 24
    lengths: dict[int, int] = {}

    for size in sorted(set(every_byte_near_an_edge(len(log), range(32, len(log), page)))):
        for left in cut.directory.iterdir():
            left.unlink()
        database(cut).write_bytes(main)
        database(cut).with_name("journal.sqlite-wal").write_bytes(log[:size])
        lengths[size] = assert_a_beginning(cut, whole)

    assert len(whole) == LAST
    assert list(lengths.values()) == sorted(lengths.values()), "a longer log never says less"
    assert set(lengths.values()) == set(range(LAST + 1)), "every record is durable by itself"


async def test_every_prefix_of_the_file_is_a_beginning_or_refused(
    state: State, tmp_path: Path
) -> None:
    """A journal that was copied half says what it holds from its beginning, or is refused."""
    with closing(sqlite3.connect(database(state))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole, events = database(state).read_bytes(), list(state.events(RUN))
    cut = State(tmp_path / "cut")
    cut.directory.mkdir()
    length = 0

    for size in sorted(set(every_byte_near_an_edge(len(whole), range(0, len(whole), 4096)))):
        database(cut).write_bytes(whole[:size])
        length = assert_a_beginning(cut, events)

    assert length == LAST, "the last one was whole"
