"""Chains, intents, requests and tokens, as every kind of database must keep them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from orchestrator.core.errors import Fenced, RunLocked, RunNotFound
from orchestrator.core.events import ChainPinned
from orchestrator.core.model import RunId, SessionId
from orchestrator.core.ports.sites import SitesDatabase
from orchestrator.core.records import genesis
from orchestrator.core.sites import (
    CONDUCTOR,
    Appended,
    Ask,
    ChainHead,
    Ended,
    Intent,
    Lease,
    Misfit,
    Outcome,
    Piece,
    Quota,
    Refusal,
    ShardDone,
    ShardState,
    Stop,
)
from tests.database.workers import (
    BRANCH,
    FIRST,
    HQ,
    LAB,
    RUN,
    SECOND,
    Worker,
    freed,
    halted,
    intent,
    note,
    opened,
    piece,
    recorded,
    submission,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]


async def conductor(worker: Worker) -> Lease:
    """Return the lease of the run chain, which the worker has taken."""
    return next(each for each in worker.heads if (each.run, each.server) == (RUN, CONDUCTOR))


async def ready(worker: Worker) -> Lease:
    """Take everything, open the first wave, and return the lease of hq."""
    lease = await worker.serve(HQ)
    await worker.open_wave()
    return lease


# --- chains ----------------------------------------------------------------------------------


async def test_a_chain_goes_on_where_it_ends(anna: Worker) -> None:
    """Records are kept as they came, and can be read from any of them on."""
    lease = await anna.serve(HQ)

    answers = [await anna.append(lease, note("one"), note("two")), await anna.append(lease, note())]

    assert [each.outcome for each in answers] == [Outcome.WRITTEN] * 2
    records = await recorded(anna.database, RUN, HQ, after=1)
    assert [each.seq for each in records] == [2, 3]
    heads = await anna.database.heads(RUN)
    assert heads[HQ] == ChainHead(3, records[-1].hash)
    assert heads[LAB] == ChainHead(0, genesis(LAB))


async def test_a_commit_that_is_repeated_changes_nothing(anna: Worker) -> None:
    """Its answer may have been lost; half of it may be there."""
    lease = await anna.serve(HQ)
    start = anna.heads[lease]
    await anna.send(piece(lease, start, note("one")))

    (repeated,) = await anna.send(piece(lease, start, note("one")))
    (continued,) = await anna.send(piece(lease, start, note("one"), note("two")))

    assert repeated.outcome is Outcome.REPEATED
    assert continued.outcome is Outcome.WRITTEN
    assert continued.head is not None
    assert continued.head.seq == 2


async def test_what_arrives_after_a_later_attempt_writes_nothing(anna: Worker) -> None:
    """It was given up, and its successor may say something else."""
    lease = await anna.serve(HQ)
    late = piece(lease, anna.heads[lease], note("late"))
    await anna.append(lease, note("one"))

    (answer,) = await anna.database.append(anna.id, anna.attempt, [late])

    assert answer.outcome is Outcome.STALE
    assert len(await recorded(anna.database, RUN, HQ)) == 1


@pytest.mark.parametrize(
    ("make", "misfit"),
    [
        (lambda lease, head: piece(lease, ChainHead(7, head.hash), note()), Misfit.GAP),
        (lambda lease, head: piece(lease, ChainHead(0, genesis(HQ)), note("else")), Misfit.FORK),
        (lambda lease, head: piece(lease, ChainHead(head.seq, b"x" * 32), note()), Misfit.HASH),
        (lambda lease, head: piece(lease, head, (intent()[0], None)), Misfit.EFFECT),
        (lambda lease, head: piece(lease, head, opened()), Misfit.EFFECT),
    ],
    ids=["gap", "fork", "hash", "intent without its effect", "effect of the run chain"],
)
async def test_what_does_not_continue_a_chain_is_not_written(
    anna: Worker, make: Callable[[Lease, ChainHead], Piece], misfit: Misfit
) -> None:
    """And it is said why."""
    lease = await anna.serve(HQ)
    await anna.append(lease, note("one"))

    (answer,) = await anna.send(make(lease, anna.heads[lease]))

    assert (answer.outcome, answer.misfit) == (Outcome.UNFIT, misfit)
    assert len(await recorded(anna.database, RUN, HQ)) == 1


async def test_who_has_lost_the_lease_writes_nothing(
    anna: Worker, bert: Worker, expire: Callable[[], None]
) -> None:
    """Neither records nor tokens, and learns so; other chains of the same commit are written."""
    lease = await anna.serve(HQ)
    mine = next(each for each in anna.heads if each.server == LAB)
    expire()
    await anna.renew(mine)
    await bert.take()

    fenced, written = await anna.send(
        piece(lease, anna.heads[lease], note()), piece(mine, anna.heads[mine], note())
    )

    assert fenced == Appended(lease=lease, outcome=Outcome.FENCED)
    assert written.outcome is Outcome.WRITTEN
    with pytest.raises(Fenced):
        await anna.database.keep_token(anna.id, lease, SessionId("s"), b"sealed")


# --- intents ---------------------------------------------------------------------------------


async def refusal(worker: Worker, lease: Lease, key: str = "dc01") -> Refusal | None:
    """Ask for a mount in the first wave; return why it is not granted, if it is not."""
    answer = await worker.append(lease, intent(key))
    assert answer.outcome in {Outcome.WRITTEN, Outcome.REFUSED}
    return answer.refusal


async def test_an_intent_waits_for_its_wave(anna: Worker) -> None:
    """What comes before it in the commit is written."""
    lease = await anna.serve(HQ)

    answer = await anna.append(lease, note(), intent(wave=SECOND), note())

    assert (answer.outcome, answer.refusal) == (Outcome.REFUSED, Refusal.WAVE)
    assert answer.head is not None
    assert answer.head.seq == 1
    await anna.open_wave(wave=FIRST)
    assert await refusal(anna, lease) is None


@pytest.mark.parametrize("ask", [Ask.STOP, Ask.STOP_NOW])
async def test_no_intent_is_granted_after_a_stop(anna: Worker, ask: Ask) -> None:
    """A renewal says so, and how."""
    lease = await ready(anna)
    number = await anna.database.ask(RUN, ask, {})

    assert await refusal(anna, lease) is Refusal.STOPPED
    (standing,) = await anna.renew(lease)
    assert standing.stopped is (Stop.NOW if ask is Ask.STOP_NOW else Stop.GENTLY)
    assert standing.asked == number


async def test_to_unmount_is_not_cut_short_by_an_earlier_stop(anna: Worker) -> None:
    """What was stopped at once stays stopped, and is unmounted in order."""
    lease = await ready(anna)
    await anna.database.ask(RUN, Ask.STOP_NOW, {})

    await anna.database.ask(RUN, Ask.UNMOUNT, {})

    (standing,) = await anna.renew(lease)
    assert standing.stopped is Stop.GENTLY
    assert await refusal(anna, lease) is Refusal.STOPPED
    await anna.database.ask(RUN, Ask.STOP_NOW, {})
    (standing,) = await anna.renew(lease)
    assert standing.stopped is Stop.NOW


async def test_no_intent_is_granted_after_a_halt_until_somebody_resumes(anna: Worker) -> None:
    """The first reason stays."""
    lease = await ready(anna)
    await anna.append(await conductor(anna), halted())
    assert await refusal(anna, lease) is Refusal.HALTED

    await anna.database.ask(RUN, Ask.RESUME, {"retry_failed": True})

    assert await refusal(anna, lease) is None
    (request,) = await anna.database.requests(RUN)
    assert (request.ask, request.details) == (Ask.RESUME, {"retry_failed": True})


async def test_no_intent_is_granted_once_the_shard_is_done(anna: Worker) -> None:
    """It has given up the right to its server."""
    lease = await ready(anna)
    await anna.append(lease, (note()[0], ShardDone()))

    assert await refusal(anna, lease) is Refusal.ADDRESS


async def test_a_limit_is_shared_and_never_exceeded(database: SitesDatabase) -> None:
    """Lowered first, but to no fewer than are used; then raised as far as it allows."""
    sites = database
    await sites.submit(submission(RunId("limited"), "other", mounts_limit=3, shards=OTHERS))
    worker = Worker(sites, "carl")
    await worker.enter("east", "west")
    taken = await worker.take("east", "west", run=RunId("limited"))
    leases = {each.standing.lease.server: each.standing.lease for each in taken}
    await worker.open_wave(RunId("limited"))
    assert await refusal(worker, leases[HQ]) is Refusal.QUOTA

    share = await sites.share(worker.id, leases[CONDUCTOR], {HQ: 2, LAB: 5})
    assert share == {BRANCH: Quota(0, 0), HQ: Quota(2, 0), LAB: Quota(1, 0)}
    assert [await refusal(worker, leases[HQ], key) for key in ("a", "b", "c")] == [
        None,
        None,
        Refusal.QUOTA,
    ]
    assert await refusal(worker, leases[HQ], "a") is None, "its slot is taken already"

    share = await sites.share(worker.id, leases[CONDUCTOR], {HQ: 0, LAB: 3})
    assert share == {BRANCH: Quota(0, 0), HQ: Quota(2, 2), LAB: Quota(1, 0)}
    await worker.append(leases[HQ], freed("a"), freed("b", vm="b", seconds=3.0))
    share = await sites.share(worker.id, leases[CONDUCTOR], {HQ: 0, LAB: 3})
    assert share == {BRANCH: Quota(0, 0), HQ: Quota(0, 0), LAB: Quota(3, 0)}


async def test_nothing_that_is_shared_is_given_right_after_a_failover(
    database: SitesDatabase, fail_over: Callable[[], None], settle: Callable[[], None]
) -> None:
    """It may have lost a quota, and that a mount is open: who lives writes that again first."""
    sites, run = database, RunId("limited")
    await sites.submit(submission(run, "other", mounts_limit=1, shards=OTHERS))
    worker = Worker(sites, "carl")
    await worker.enter("east", "west")
    taken = await worker.take("east", "west", run=run)
    leases = {each.standing.lease.server: each.standing.lease for each in taken}
    await worker.open_wave(run)
    fail_over()

    share = await sites.share(worker.id, leases[CONDUCTOR], {HQ: 1})
    assert share == {BRANCH: Quota(0, 0), HQ: Quota(0, 0), LAB: Quota(0, 0)}
    assert await refusal(worker, leases[HQ]) is Refusal.SETTLING
    event, effect = intent("lost")
    assert isinstance(effect, Intent)
    await worker.append(leases[LAB], (event, replace(effect, granted=True)))

    settle()
    share = await sites.share(worker.id, leases[CONDUCTOR], {HQ: 1})
    assert share == {BRANCH: Quota(0, 0), HQ: Quota(0, 0), LAB: Quota(0, 1)}
    assert await refusal(worker, leases[HQ]) is Refusal.QUOTA


async def test_no_part_of_the_limit_from_before_a_failover_is_used(
    database: SitesDatabase, fail_over: Callable[[], None], settle: Callable[[], None]
) -> None:
    """It may be one that was taken back, and that another shard has used up since."""
    sites, run = database, RunId("limited")
    await sites.submit(submission(run, "other", mounts_limit=2, shards=OTHERS))
    worker = Worker(sites, "carl")
    await worker.enter("east", "west")
    taken = await worker.take("east", "west", run=run)
    leases = {each.standing.lease.server: each.standing.lease for each in taken}
    await worker.open_wave(run)
    await sites.share(worker.id, leases[CONDUCTOR], {HQ: 1, LAB: 1})
    fail_over()  # which has lost that all went to HQ, and two mounts there
    assert await refusal(worker, leases[LAB]) is Refusal.SETTLING
    for key in ("a", "b"):
        event, effect = intent(key)
        assert isinstance(effect, Intent)
        await worker.append(leases[HQ], (event, replace(effect, granted=True)))
    settle()

    assert await refusal(worker, leases[LAB]) is Refusal.SETTLING
    rows = {each.server: (each.quota, each.used) for each in await sites.shards(run)}
    assert (rows[HQ], rows[LAB]) == ((0, 2), (0, 0)), "so that they are given anew"
    assert [each.quota for each in await worker.renew(leases[HQ], leases[LAB])] == [0, 0]
    share = await sites.share(worker.id, leases[CONDUCTOR], {HQ: 1, LAB: 2})
    assert share == {BRANCH: Quota(0, 0), HQ: Quota(1, 2), LAB: Quota(0, 0)}
    assert await refusal(worker, leases[LAB]) is Refusal.QUOTA
    assert {each.server: each.quota for each in await sites.shards(run)}[HQ] == 1


async def test_a_run_without_a_limit_has_no_parts_of_one_after_a_failover_either(
    database: SitesDatabase, fail_over: Callable[[], None], settle: Callable[[], None]
) -> None:
    """Nothing is given up for it, and nothing given."""
    run = RunId("unlimited")
    await database.submit(submission(run, "other", shards=OTHERS))
    worker = Worker(database, "carl")
    await worker.enter("east", "west")
    taken = await worker.take("east", "west", run=run)
    leases = {each.standing.lease.server: each.standing.lease for each in taken}
    await worker.open_wave(run)
    fail_over()
    await database.share(worker.id, leases[CONDUCTOR], {})
    assert await refusal(worker, leases[HQ]) is None
    settle()

    share = await database.share(worker.id, leases[CONDUCTOR], {})
    assert share == {BRANCH: Quota(None, 0), HQ: Quota(None, 1), LAB: Quota(None, 0)}
    assert await refusal(worker, leases[LAB]) is None


OTHERS = tuple(
    replace(each, address=f"https://other-{each.server}.example.net:9398")
    for each in submission().shards
)


# --- runs ------------------------------------------------------------------------------------


async def test_a_plan_is_open_once(anna: Worker) -> None:
    """To submit the same run again changes nothing."""
    await anna.database.submit(submission())
    assert len(await anna.database.runs()) == 1

    with pytest.raises(RunLocked, match=RUN):
        await anna.database.submit(submission(RunId("second")))
    with pytest.raises(RunNotFound):
        await anna.database.ask(RunId("second"), Ask.STOP, {})

    found = await anna.database.submission(RUN)
    assert (found.plan, found.documents) == (submission().plan, submission().documents)
    assert sorted(found.shards, key=str) == sorted(submission().shards, key=str)


async def test_what_was_given_back_in_turn_is_taken_last(
    anna: Worker, bert: Worker, expire: Callable[[], None]
) -> None:
    """Whoever had a turn waits until all others had one, and who had it first is first again."""
    hq = await anna.serve(HQ, "east", "west")
    others = {each.server: each for each in anna.heads if each.server in {LAB, BRANCH}}
    await anna.database.give_back(anna.id, [others[LAB]], in_turn=True)
    expire()
    await anna.database.give_back(anna.id, [hq], in_turn=True)
    await anna.database.give_back(anna.id, [others[BRANCH]])

    taken = [await bert.take("east", "west", room=1) for _ in range(3)]

    servers = [each.standing.lease.server for found in taken for each in found if each.site]
    assert servers == [BRANCH, LAB, HQ]


async def test_what_is_left_to_do_at_some_sites(anna: Worker) -> None:
    """Of open runs, with the conductors; nothing of what is done."""
    hq = await anna.serve(HQ)
    await anna.database.submit(submission(RunId("later"), "other"))
    undone = anna.database.undone

    await anna.append(hq, (note()[0], ShardDone()))
    found = {each.server: each for each in await undone(["east"], run=RUN)}

    assert found.keys() == {CONDUCTOR, LAB}
    assert all(each.is_served for each in found.values())
    assert [each.server for each in await undone(["nowhere"])] == [CONDUCTOR, CONDUCTOR]
    assert sorted(each.server for each in await undone(["west"])) == ["", "", BRANCH, BRANCH]

    await anna.append(await conductor(anna), (note()[0], Ended()))
    assert {each.server for each in await undone(["east"])} == {CONDUCTOR, HQ, LAB}
    assert await undone(["east"], run=RUN) == []
    await anna.database.ask(RUN, Ask.UNMOUNT, {})
    assert len(await undone(["east"], run=RUN)) == 3


async def test_a_pin_of_what_is_not_there_is_refused(anna: Worker) -> None:
    """A failover may have lost it since it was read; nothing that follows is written either."""
    hq, run = await anna.serve(HQ), await conductor(anna)
    await anna.append(hq, note("one"), note("two"))
    there = (await recorded(anna.database, RUN, HQ))[-1]

    async def pinned(seq: int, hash_: bytes) -> Appended:
        pin = ChainPinned(at=1.0, chain=HQ, seq=seq, hash=hash_.hex())
        return await anna.append(run, (pin, None), (note()[0], Ended()))

    for seq, hash_ in ((there.seq + 1, there.hash), (there.seq, genesis(HQ)), (0, genesis(HQ))):
        refused = await pinned(seq, hash_)
        assert (refused.outcome, refused.refusal) == (Outcome.REFUSED, Refusal.SETTLING)
        assert not await recorded(anna.database, RUN, CONDUCTOR, after=1)
    assert (await pinned(there.seq, there.hash)).outcome is Outcome.WRITTEN


async def test_to_unmount_offers_what_is_done_once_more(anna: Worker, bert: Worker) -> None:
    """As shards that only hold, which post nothing."""
    lease = await ready(anna)
    await anna.append(lease, (note()[0], ShardDone()))
    await anna.database.give_back(anna.id, [lease])
    assert await bert.take() == []

    await anna.database.ask(RUN, Ask.UNMOUNT, {})

    (found,) = await bert.take()
    assert (found.standing.lease.server, found.state) == (HQ, ShardState.HOLDING)
    assert found.standing.unmount
    assert not found.standing.posts


# --- tokens ----------------------------------------------------------------------------------


async def test_a_successor_finds_the_tokens(
    anna: Worker, bert: Worker, expire: Callable[[], None]
) -> None:
    """The oldest first, with the epoch in which each was sealed."""
    lease = await anna.serve(HQ)
    for session in ("one", "two", "three"):
        await anna.database.keep_token(anna.id, lease, SessionId(session), session.encode())
    await anna.database.drop_token(anna.id, lease, SessionId("two"))
    expire()
    again = await bert.serve(HQ)

    found = await bert.database.tokens(bert.id, again)

    assert [(each.session, each.sealed) for each in found] == [("one", b"one"), ("three", b"three")]
    assert {each.epoch for each in found} == {lease.epoch}


async def test_the_end_of_a_shard_deletes_the_tokens_of_what_is_over(anna: Worker) -> None:
    """One may have been stored late, or be back since a failover; those of open sessions stay."""
    lease = await anna.serve(HQ)
    for session in ("over", "open"):
        await anna.database.keep_token(anna.id, lease, SessionId(session), b"sealed")

    over = (SessionId("dropped"), SessionId("over"))
    await anna.append(lease, (note()[0], ShardDone(over=over)))

    with pytest.raises(Fenced):
        await anna.database.keep_token(anna.id, lease, SessionId("late"), b"sealed")
    assert [each.session for each in await anna.database.tokens(anna.id, lease)] == ["open"]
