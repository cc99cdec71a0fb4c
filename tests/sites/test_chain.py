"""The chain of a shard: what is written, what is refused, and what a failed-over database lost."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import pytest

from orchestrator.app.sites.chain import KEPT_LEAST, KEPT_S, Chain
from orchestrator.core.earlier_runs.durations import MountTimes
from orchestrator.core.errors import Fenced, JournalDamaged
from orchestrator.core.events import (
    ChainPinned,
    Event,
    MountReleased,
    RunNoted,
    SubmissionNotSent,
    SubmissionStarted,
    TargetPlanned,
    TaskAccepted,
    UnmountStarted,
    to_json,
)
from orchestrator.core.model import (
    Href,
    MountKey,
    OsKind,
    RestorePointId,
    RunId,
    ServerName,
    SessionId,
    TaskId,
    WaveName,
)
from orchestrator.core.records import chain_hash, genesis
from orchestrator.core.sites import (
    Appended,
    ChainHead,
    Freed,
    Intent,
    Lease,
    Misfit,
    Outcome,
    Piece,
    Refusal,
)

pytestmark = pytest.mark.anyio

RUN, HQ, WAVE = RunId("r"), ServerName("hq"), WaveName("w")
KEY, OTHER = MountKey("w/hq/a"), MountKey("w/hq/b")
LEASE = Lease(run=RUN, server=HQ, epoch=3)
START = ChainHead(0, genesis(HQ))


def intent(key: MountKey = KEY, *, at: float = 1.0) -> SubmissionStarted:
    return SubmissionStarted(
        at=at, key=key, attempt=1, session=SessionId("s"), point=RestorePointId("p")
    )


def note(text: str = "x", *, at: float = 0.5) -> RunNoted:
    return RunNoted(at=at, message=text)


@dataclass(slots=True)
class Desk:
    """A chain, and a database that answers as it is told."""

    woken: int = 0
    told: int = 0
    now: float = 100.0
    written: list[Event] = field(default_factory=list)
    chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        self.chain = Chain(
            LEASE,
            START,
            wake=self.wake,
            shortly=self.wake,
            soon=self.tell,
            waves={KEY: WAVE, OTHER: WAVE},
            wave_limits={WAVE: 7},
            times=MountTimes(),
        )

    def wake(self) -> None:
        self.woken += 1

    def tell(self) -> None:
        self.told += 1

    def write(self) -> Piece:
        """Write everything that waits; return what that was."""
        piece = self.chain.piece()
        assert piece is not None
        self.answer(piece, Outcome.WRITTEN, len(piece.entries))
        return piece

    def answer(
        self,
        piece: Piece,
        outcome: Outcome,
        written: int = 0,
        *,
        refusal: Refusal | None = None,
        misfit: Misfit | None = None,
        head: ChainHead | None = None,
    ) -> None:
        """Say that the first `written` entries of a piece are in the database."""
        if head is None:
            head = self.chain.head
        if written:
            last = piece.entries[written - 1].record
            head = ChainHead(last.seq, last.hash)
        answer = Appended(
            lease=LEASE,
            outcome=outcome,
            head=None if outcome is Outcome.FENCED else head,
            refusal=refusal,
            misfit=misfit,
        )
        self.chain.answered(piece, answer, self.now)


async def test_records_follow_one_another_and_are_durable_once_written() -> None:
    """The hash of each is that of the journal, from the chain's own beginning."""
    desk = Desk()
    desk.chain.append(note("a"))
    desk.chain.append(note("b"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.chain.durable)
        await anyio.sleep(1)
        piece = desk.write()
    first, second = (entry.record for entry in piece.entries)
    assert first.hash == chain_hash(genesis(HQ), RUN, 1, "RunNoted", to_json(note("a")))
    assert second.hash == chain_hash(first.hash, RUN, 2, "RunNoted", to_json(note("b")))
    assert desk.chain.head == ChainHead(2, second.hash)
    assert not desk.chain.is_behind
    assert (desk.told, desk.woken) == (2, 1)


async def test_a_piece_stays_the_same_until_it_is_answered() -> None:
    """A commit whose answer was lost is repeated with what it had, and more behind it."""
    desk = Desk()
    desk.chain.append(note("a"))
    first = desk.chain.piece()
    desk.chain.append(note("b"))
    again = desk.chain.piece()
    assert first is not None
    assert again is not None
    assert again.entries[:1] == first.entries
    desk.answer(again, Outcome.REPEATED, 2)
    assert not desk.chain.is_behind


async def test_an_intent_is_applied_when_it_is_granted_and_not_before() -> None:
    """It asks for its wave, within the wave's limit; what follows it is chained behind it."""
    desk, applied = Desk(), list[str]()
    answers: list[str | None] = []

    async def ask() -> None:
        answers.append(await desk.chain.granted(intent(), lambda: applied.append("intent")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(1)
        assert applied == []
        piece = desk.write()
        assert applied == ["intent"]
    assert answers == [None]
    assert piece.entries[0].effect == Intent(key=KEY, wave=WAVE, wave_limit=7)


async def test_a_refused_intent_is_in_no_chain_and_the_rest_is_chained_without_it() -> None:
    """What was recorded around it is written; who asked learns why, in words."""
    desk = Desk()
    answers: list[str | None] = []

    async def ask() -> None:
        answers.append(await desk.chain.granted(intent(), lambda: pytest.fail("applied")))

    async with anyio.create_task_group() as tasks:
        desk.chain.append(note("before"))
        tasks.start_soon(ask)
        await anyio.sleep(1)
        desk.chain.append(note("after", at=2.0))
        piece = desk.chain.piece()
        assert piece is not None
        desk.answer(piece, Outcome.REFUSED, 1, refusal=Refusal.QUOTA)
    assert answers == ["the run's other servers have its limit"]
    rest = desk.write()
    assert [entry.record.seq for entry in rest.entries] == [2]
    assert piece is not None
    before = piece.entries[0].record.hash
    assert rest.entries[0].record.hash == chain_hash(
        before, RUN, 2, "RunNoted", to_json(note("after", at=2.0))
    )
    await desk.chain.durable()


async def test_an_intent_cannot_be_left_half_asked() -> None:
    """Whoever is cancelled meanwhile still learns whether it is there: it may be acted on."""
    desk, applied = Desk(), list[str]()

    async def write() -> None:
        await anyio.sleep(2)
        desk.write()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        with anyio.move_on_after(1):
            await desk.chain.granted(intent(), lambda: applied.append("intent"))
    assert applied == ["intent"]


async def test_a_slot_is_freed_with_the_record_that_ends_its_mount() -> None:
    """With the seconds that it took, for later runs; and once."""
    desk = Desk()
    planned = TargetPlanned(
        at=0, key=KEY, wave=WAVE, server=HQ, label="vm-a", os_kind=OsKind.WINDOWS
    )
    desk.chain.append(planned)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.chain.granted, intent(), lambda: None)
        await anyio.sleep(1)
        desk.write()
    desk.chain.append(TaskAccepted(at=2.0, key=KEY, task=TaskId("t")))
    desk.chain.append(UnmountStarted(at=9.0, key=KEY, mount=Href("/m/1")))
    desk.chain.append(MountReleased(at=12.0, key=KEY))
    desk.chain.append(SubmissionNotSent(at=13.0, key=KEY, reason="x"))
    effects = [entry.effect for entry in desk.write().entries]
    assert effects == [None, None, Freed(key=KEY, vm="vm-a", seconds=10.0), None]


async def test_who_has_lost_the_lease_writes_nothing_more_and_everybody_learns_it() -> None:
    """Those who wait, those who ask later; what is said then is dropped."""
    desk, ended = Desk(), list[str]()

    async def durable() -> None:
        with pytest.raises(Fenced):
            await desk.chain.durable()
        ended.append("durable")

    async def granted() -> None:
        with pytest.raises(Fenced):
            await desk.chain.granted(intent(), lambda: pytest.fail("applied"))
        ended.append("granted")

    async with anyio.create_task_group() as tasks:
        desk.chain.append(note())
        tasks.start_soon(durable)
        tasks.start_soon(granted)
        await anyio.sleep(1)
        piece = desk.chain.piece()
        assert piece is not None
        desk.answer(piece, Outcome.FENCED)
    assert sorted(ended) == ["durable", "granted"]
    desk.chain.append(note())
    assert desk.chain.piece() is None
    with pytest.raises(Fenced):
        await desk.chain.durable()


async def test_what_a_failed_over_database_has_lost_is_written_again() -> None:
    """The very records, and only then what is new."""
    desk = Desk()
    desk.chain.append(note("a"))
    desk.chain.append(note("b"))
    before = desk.write()
    desk.chain.append(note("c"))
    piece = desk.chain.piece()
    assert piece is not None
    kept = before.entries[0].record
    desk.answer(piece, Outcome.UNFIT, misfit=Misfit.GAP, head=ChainHead(kept.seq, kept.hash))
    again = desk.chain.piece()
    assert again is not None
    assert again.entries == before.entries[1:]
    desk.answer(again, Outcome.WRITTEN, 1)
    assert [entry.record.body for entry in desk.write().entries] == [to_json(note("c"))]


def pin() -> ChainPinned:
    return ChainPinned(at=0.5, chain=ServerName("dr"), seq=7, hash="00")


async def test_a_pin_of_what_the_database_has_not_got_leaves_the_rest_to_a_successor() -> None:
    """It was read before a failover: the end of the run, which follows, is not written without."""
    desk = Desk()
    desk.chain.append(pin())
    desk.chain.append(note())
    piece = desk.chain.piece()
    assert piece is not None

    desk.answer(piece, Outcome.REFUSED, refusal=Refusal.SETTLING, head=START)

    assert desk.chain.piece() is None
    assert desk.chain.damage is None
    with pytest.raises(Fenced):
        await desk.chain.durable()


async def test_a_pin_that_is_written_again_waits_for_what_it_covers() -> None:
    """What follows it, such as a halt, is not lost: the shard may be about to write that again."""
    desk = Desk()
    desk.chain.append(pin())
    desk.chain.append(note("halted"))
    before = desk.write()
    desk.chain.compare(desk.chain.head)
    desk.chain.compare(START)
    again = desk.chain.piece()
    assert again is not None

    desk.answer(again, Outcome.REFUSED, refusal=Refusal.SETTLING, head=START)

    assert desk.chain.is_put_off
    repeated = desk.chain.piece()
    assert repeated is not None
    assert repeated.entries == before.entries
    desk.answer(repeated, Outcome.WRITTEN, 2)
    assert not desk.chain.is_behind


@pytest.mark.parametrize("why", ["too long ago", "another record", "not taken again"])
async def test_a_chain_that_cannot_be_mended_ends_the_shard(why: str) -> None:
    """It is said to be damaged: nothing is written over it."""
    desk = Desk()
    desk.chain.append(note("a"))
    before = desk.write()
    if why == "too long ago":
        desk.now += KEPT_S + 1
        for _ in range(KEPT_LEAST):
            desk.chain.append(note("b"))
        desk.write()
    desk.chain.append(note("c"))
    piece = desk.chain.piece()
    assert piece is not None
    if why == "another record":
        desk.answer(piece, Outcome.UNFIT, misfit=Misfit.FORK)
    else:
        desk.answer(piece, Outcome.UNFIT, misfit=Misfit.GAP, head=START)
    if why == "not taken again":
        again = desk.chain.piece()
        assert again is not None
        assert again.entries == before.entries
        desk.answer(again, Outcome.REFUSED, refusal=Refusal.STOPPED, head=START)
    with pytest.raises(JournalDamaged):
        await desk.chain.durable()


async def test_the_newest_records_are_known_however_old_they_are() -> None:
    """The database was away for longer than a minute, and its standby has not got the last ones."""
    desk = Desk()
    for _ in range(KEPT_LEAST - 1):
        desk.chain.append(note("before"))
    before = desk.write()
    desk.now += 10 * KEPT_S
    desk.chain.append(note("after"))
    after = desk.write()
    desk.chain.append(note("lost"))
    piece = desk.chain.piece()
    assert piece is not None

    desk.answer(piece, Outcome.UNFIT, misfit=Misfit.GAP, head=START)

    again = desk.chain.piece()
    assert again is not None
    assert again.entries == before.entries + after.entries


async def test_a_shard_that_is_handed_over_takes_no_further_intent() -> None:
    """Whoever has one waits until the lease is lost; what was said before is written."""
    desk, ended = Desk(), list[str]()

    async def granted() -> None:
        with pytest.raises(Fenced):
            await desk.chain.granted(intent(), lambda: pytest.fail("applied"))
        ended.append("granted")

    async with anyio.create_task_group() as tasks:
        desk.chain.close_to_intents()
        tasks.start_soon(granted)
        await anyio.sleep(1)
        assert desk.chain.piece() is None
        desk.chain.append(note())
        desk.write()
        assert ended == []
        desk.chain.lose()
    assert ended == ["granted"]
