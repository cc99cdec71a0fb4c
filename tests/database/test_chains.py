"""Chains: what is appended, what is found to be there, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from orchestrator.core.events import RunNoted, to_json
from orchestrator.core.model import MountKey, RunId, ServerName
from orchestrator.core.records import GENESIS, chain_hash, genesis
from orchestrator.core.sites import (
    CONDUCTOR,
    ChainHead,
    Entry,
    Halted,
    Intent,
    Misfit,
    OnlyHolds,
    Outcome,
    Piece,
    WaveOpened,
)
from orchestrator.database.postgresql import PostgreSQL
from tests.database.owner import Owner
from tests.database.workers import (
    FIRST,
    HQ,
    LAB,
    RUN,
    Change,
    Worker,
    intent,
    note,
    opened,
    piece,
    recorded,
    submission,
)

pytestmark = [pytest.mark.anyio, pytest.mark.process]


async def test_records_are_read_back_as_they_were_chained(anna: Worker) -> None:
    """Every byte, by the same hash as on one machine."""
    lease = await anna.serve(HQ)
    sent = piece(lease, anna.heads[lease], note("ünïcødé\n\u0000"), note("second"), note("third"))

    (answer,) = await anna.send(sent)

    assert answer.outcome is Outcome.WRITTEN
    records = list(await recorded(anna.database, RUN, HQ))
    assert records == [each.record for each in sent.entries]
    head = genesis(HQ)
    for each in records:
        head = chain_hash(head, RUN, each.seq, each.kind, each.body)
        assert each.hash == head
    assert answer.head == ChainHead(3, head)
    assert (await anna.database.heads(RUN))[HQ] == answer.head
    assert [each.seq for each in await recorded(anna.database, RUN, HQ, after=1, most=1)] == [2]


async def test_records_of_several_chains_are_read_in_one_question(anna: Worker) -> None:
    """Each behind its own number; a chain without news is left out."""
    leases = {each.standing.lease.server: each.standing.lease for each in await anna.take()}
    hq, lab = leases[HQ], leases[LAB]
    sent = [piece(each, anna.heads[each], *map(note, "abc")) for each in (hq, lab)]
    await anna.send(*sent)

    found = await anna.database.records(RUN, {HQ: 1, CONDUCTOR: 1, LAB: 0}, most=2)

    assert found == {
        HQ: [entry.record for entry in sent[0].entries[1:]],
        LAB: [entry.record for entry in sent[1].entries[:2]],
    }
    assert await anna.database.records(RUN, {}) == {}


async def test_many_chains_are_continued_in_one_commit(anna: Worker, owner: Owner) -> None:
    """With an answer for each, in the order of the pieces."""
    leases = [each.standing.lease for each in await anna.take("east", "west")]
    pieces = [piece(each, anna.heads[each], note(), note()) for each in reversed(leases)]

    answers = await anna.send(*pieces)

    assert [each.lease for each in answers] == list(reversed(leases))
    assert {each.outcome for each in answers} == {Outcome.WRITTEN}
    assert (
        owner.one("SELECT count(DISTINCT xmin::text) FROM event WHERE seq > 1 OR chain <> ''") == 1
    )


async def test_the_same_records_again_change_nothing_and_say_so(anna: Worker, owner: Owner) -> None:
    """As after an answer that was lost; half of them with new ones are continued."""
    lease = await anna.serve(HQ)
    sent = piece(lease, anna.heads[lease], note("one"), note("two"))
    (first,) = await anna.send(sent)

    (again,) = await anna.send(sent)
    longer = piece(lease, ChainHead(0, genesis(HQ)), note("one"), note("two"), note("three"))
    (more,) = await anna.send(longer)

    assert again.outcome is Outcome.REPEATED
    assert again.head == first.head
    assert more.outcome is Outcome.WRITTEN
    assert owner.one("SELECT count(*) FROM event WHERE chain = 'hq'") == 3


async def test_a_repetition_waits_for_the_standby_as_the_first_did(
    anna: Worker, owner: Owner
) -> None:
    """It writes: a commit that changes nothing would not wait."""
    lease = await anna.serve(HQ)
    sent = piece(lease, anna.heads[lease], note())
    await anna.send(sent)
    before = owner.one("SELECT xmin::text FROM head WHERE chain = 'hq'")

    await anna.send(sent)

    assert owner.one("SELECT xmin::text FROM head WHERE chain = 'hq'") != before


async def test_a_fenced_worker_writes_nothing_and_others_of_its_call_go_on(
    anna: Worker, bert: Worker, owner: Owner
) -> None:
    """Also if what it sends would fit."""
    leases = {each.standing.lease.server: each.standing.lease for each in await anna.take()}
    owner.expire()
    taken = await bert.take(room=1)
    assert [each.standing.lease.server for each in taken] == [CONDUCTOR, HQ]
    pieces = [piece(leases[each], anna.heads[leases[each]], note()) for each in (HQ, LAB)]

    fenced, written = await anna.send(*pieces)

    assert (fenced.outcome, fenced.head) == (Outcome.FENCED, None)
    assert written.outcome is Outcome.WRITTEN
    assert await recorded(bert.database, RUN, HQ) == []


async def test_a_worker_cannot_write_with_the_epoch_of_another(anna: Worker, bert: Worker) -> None:
    """Epochs can be read by everybody."""
    lease = await anna.serve(HQ)
    bert.heads.update(anna.heads)

    assert (await bert.append(lease, note())).outcome is Outcome.FENCED


def _forged(sent: Piece) -> Piece:
    record = msgspec.structs.replace(sent.entries[1].record, hash=b"\x01" * 32)
    return msgspec.structs.replace(sent, entries=(sent.entries[0], Entry(record=record)))


def _changed(sent: Piece) -> Piece:
    body = to_json(RunNoted(at=1.0, message="another"))
    record = msgspec.structs.replace(sent.entries[1].record, body=body)
    return msgspec.structs.replace(sent, entries=(sent.entries[0], Entry(record=record)))


def _with_gap(sent: Piece) -> Piece:
    return msgspec.structs.replace(sent, entries=(sent.entries[0], sent.entries[2]))


@pytest.mark.parametrize(
    ("spoil", "misfit"),
    [(_forged, Misfit.HASH), (_changed, Misfit.HASH), (_with_gap, Misfit.GAP)],
)
async def test_what_does_not_continue_the_chain_is_not_written(
    anna: Worker, spoil: Callable[[Piece], Piece], misfit: Misfit
) -> None:
    """What comes before the first wrong record is."""
    lease = await anna.serve(HQ)
    sent = piece(lease, anna.heads[lease], note("one"), note("two"), note("three"))

    (answer,) = await anna.send(spoil(sent))

    assert (answer.outcome, answer.misfit) == (Outcome.UNFIT, misfit)
    assert answer.head == ChainHead(1, sent.entries[0].record.hash)
    assert len(await recorded(anna.database, RUN, HQ)) == 1


async def test_another_record_under_a_number_that_is_taken_is_a_fork(anna: Worker) -> None:
    """The answer says where the chain ends in truth."""
    lease = await anna.serve(HQ)
    start = anna.heads[lease]
    written = await anna.append(lease, note("one"), note("two"))

    (answer,) = await anna.send(piece(lease, start, note("other")))

    assert (answer.outcome, answer.misfit) == (Outcome.UNFIT, Misfit.FORK)
    assert answer.head == written.head


async def test_a_chain_that_lost_records_is_found_and_mended_by_sending_them_again(
    anna: Worker, owner: Owner
) -> None:
    """As after a failover to a standby that had not heard of them."""
    lease = await anna.serve(HQ)
    await anna.append(lease, note("one"))
    lost = piece(lease, anna.heads[lease], note("two"), note("three"))
    await anna.send(lost)
    owner.rows("DELETE FROM event WHERE chain = 'hq' AND seq > 1")
    owner.rows(
        "UPDATE head SET (seq, hash) = (SELECT seq, hash FROM event WHERE chain = 'hq') "
        "WHERE chain = 'hq'"
    )

    answer = await anna.append(lease, note("four"))

    assert (answer.outcome, answer.misfit) == (Outcome.UNFIT, Misfit.GAP)
    assert answer.head is not None
    assert answer.head.seq == 1
    (mended,) = await anna.send(lost)
    assert mended.outcome is Outcome.WRITTEN
    assert (await anna.append(lease, note("four"))).outcome is Outcome.WRITTEN


async def test_an_attempt_that_arrives_after_a_later_one_writes_nothing(anna: Worker) -> None:
    """A connection that was given up may deliver an intent that its writer has dropped."""
    leases = {each.standing.lease.server: each.standing.lease for each in await anna.take()}
    dropped = piece(leases[HQ], anna.heads[leases[HQ]], intent())
    (refused,) = await anna.send(dropped)
    assert refused.outcome is Outcome.REFUSED
    await anna.open_wave()

    (late,) = await anna.database.append(anna.id, 1, [dropped])

    assert late.outcome is Outcome.STALE
    assert await recorded(anna.database, RUN, HQ) == []
    (now,) = await anna.send(dropped)
    assert now.outcome is Outcome.WRITTEN


async def test_attempts_begin_anew_with_each_epoch(
    anna: Worker, bert: Worker, owner: Owner
) -> None:
    """A successor need not know how often the one before it tried."""
    lease = await anna.serve(HQ)
    anna.attempt = 100
    await anna.append(lease, note())
    owner.expire()
    lease = await bert.serve(HQ)

    assert (await bert.append(lease, note())).outcome is Outcome.WRITTEN


async def test_records_of_one_chain_fit_into_no_other(submitted: PostgreSQL, anna: Worker) -> None:
    """Neither those of another server nor of the run nor of another run."""
    await submitted.submit(submission(RunId("other"), "other plan", shards=()))
    leases = [each.standing.lease for each in await anna.take()]
    by_name = {(each.run, each.server): each for each in leases}
    own = by_name[RUN, HQ]
    records = piece(own, anna.heads[own], note()).entries

    for other in (by_name[RUN, LAB], by_name[RUN, CONDUCTOR], by_name[RunId("other"), CONDUCTOR]):
        (answer,) = await anna.send(Piece(lease=other, entries=records))
        assert answer.outcome is Outcome.UNFIT

    assert genesis(CONDUCTOR) == GENESIS
    assert len({genesis(each) for each in (CONDUCTOR, HQ, LAB)}) == 3


@pytest.mark.parametrize(
    ("shard", "change"),
    [
        (HQ, (intent()[0], None)),
        (HQ, (note()[0], Intent(key=MountKey("dc01"), wave=FIRST))),
        (HQ, (note()[0], WaveOpened(wave=FIRST))),
        (HQ, (note()[0], Halted(reason="budget"))),
        (CONDUCTOR, (note()[0], OnlyHolds())),
        (CONDUCTOR, intent()),
    ],
)
async def test_an_effect_that_a_chain_may_not_have_is_refused(
    anna: Worker, owner: Owner, shard: ServerName, change: Change
) -> None:
    """An intent in disguise, or a shard that opens its own wave."""
    leases = {each.standing.lease.server: each.standing.lease for each in await anna.take()}

    answer = await anna.append(leases[shard], change)

    assert (answer.outcome, answer.misfit) == (Outcome.UNFIT, Misfit.EFFECT)
    assert owner.rows("SELECT FROM gate") == []
    assert owner.rows("SELECT FROM slot") == []


async def test_a_thousand_records_are_one_call(anna: Worker) -> None:
    """As a worker sends after an outage."""
    lease = await anna.serve(HQ)

    answer = await anna.append(lease, *(note(f"note {n}") for n in range(1000)))

    assert answer.head is not None
    assert answer.head.seq == 1000
    assert len(await recorded(anna.database, RUN, HQ)) == 1000


async def test_the_run_chain_begins_with_what_was_submitted(anna: Worker) -> None:
    """And its conductor continues it."""
    lease = await anna.serve(CONDUCTOR)

    await anna.append(lease, opened())

    records = await recorded(anna.database, RUN, CONDUCTOR)
    assert [each.kind for each in records] == ["RunStarted", "WaveStarted"]
    assert records[0].hash == chain_hash(GENESIS, RUN, 1, "RunStarted", records[0].body)
