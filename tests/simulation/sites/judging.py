"""What must be so at the end: the chains, and what they add up to, against the servers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain as joined
from typing import Any, NamedTuple

from orchestrator.app.planned_limits import limits_of
from orchestrator.core.events import (
    ChainPinned,
    Event,
    RunFinished,
    SessionEnded,
    SessionTakenUp,
    ShardTaken,
    SubmissionStarted,
)
from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.core.records import Position, checked, event_of, genesis
from orchestrator.core.run_state import RunState, fold
from orchestrator.core.sites import CONDUCTOR, ShardState
from orchestrator.report import as_json
from orchestrator.report.summary import summarize
from tests.invariants import RESULTS, assert_invariants, assert_told
from tests.simulation.sites.stage import Stage
from tests.simulation.sites.tables import Tables

COUNTED = {*RESULTS, "left"}


def judged(stage: Stage) -> dict[str, Any]:
    """Return the report of a run that is over, after holding all it says against the servers."""
    stage.witness.require_none()
    run, tables = stage.submission.started.run, stage.database.tables
    chains = {server: chain_of(tables, run, server) for (of, server) in tables.events if of == run}
    assert not tables.runs[run].is_open, "the run has not ended"
    assert_pinned(chains, tables, run)
    report = report_of(chains)
    for other in (sorted(chains, reverse=True), sorted(chains)):
        again = {CONDUCTOR: chains[CONDUCTOR], **{name: chains[name] for name in other}}
        assert _in_order(report_of(again)) == _in_order(report), "the order of chains matters"
    assert _in_order(_as_read(joined(*chains.values()))) == _in_order(report)
    limits = limits_of(stage.loaded.plan, stage.max_mounts)
    if stage.witness.has_lost_intents:  # no worker can count what no record knows of
        stage.hits["failover_lost_an_intent"] += 1
        assert_told(stage.sites.truth, report)
    else:
        assert_invariants(stage.sites.truth, report, limits)
    states = {server: row.state for (of, server), row in tables.shards.items() if of == run}
    assert set(states.values()) == {ShardState.DONE}, states
    if report["run"]["exit_code"] == 0:
        assert not tables.slots, tables.slots
        assert not tables.tokens, "tokens of sessions, and nothing is left in any"
    servers = fold(joined(*chains.values())).servers
    over = {session for _, server, session in tables.tokens if session in servers[server].over}
    assert not over, f"tokens of sessions that are over: {over}"
    return report


def chain_of(tables: Tables, run: RunId, server: ServerName) -> Sequence[Event]:
    """Return the events of a chain, after checking that it is whole and goes forward."""
    rows = [
        (record.seq, record.at, record.kind, record.body, record.hash)
        for record, _ in tables.events[run, server]
    ]
    start = Position(0, genesis(server))
    events = [event_of(record) for record in checked(run, rows, start, server)]
    assert tables.heads[run, server].seq == len(events)
    epochs = [epoch for _, epoch in tables.events[run, server]]
    assert epochs == sorted(epochs), f"{server}: a fenced worker has written: {epochs}"
    times = [event.at for event in events]
    assert times == sorted(times), f"the times of chain {server or 'run'} go back"
    return events


def assert_pinned(chains: dict[ServerName, Sequence[Event]], tables: Tables, run: RunId) -> None:
    """The run chain pins what the others have, and before its last end all of it."""
    last: dict[ServerName, int] = {}
    finished = [each for each in chains[CONDUCTOR] if isinstance(each, RunFinished)]
    for event in chains[CONDUCTOR]:
        if isinstance(event, ChainPinned):
            record, _ = tables.events[run, event.chain][event.seq - 1]
            assert record.hash.hex() == event.hash, f"{event} is not what {event.chain} has"
            last[event.chain] = event.seq
        if finished and event is finished[-1]:
            ends = {server: len(events) for server, events in chains.items() if server}
            assert last == ends, f"pinned at the end: {last}; the chains end at {ends}"


def report_of(chains: dict[ServerName, Sequence[Event]]) -> dict[str, Any]:
    """Return the report of chains that are folded one after another."""
    return _report(fold(joined(*chains.values())))


def _as_read(events: Iterable[Event]) -> dict[str, Any]:
    """Return the report of events that are folded in the order of the run's clock."""
    return _report(fold(sorted(events, key=lambda event: event.at)))


def _report(state: RunState) -> dict[str, Any]:
    code = state.finished.exit_code if state.finished is not None else 0
    return as_json.as_values(summarize(state).with_exit_code(code))


def _in_order(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report whose rows are sorted by what they are about."""
    targets = sorted(report["targets"], key=lambda target: str(target["key"]))
    return {**report, "targets": targets, "warnings": sorted(report["warnings"])}


def results(report: dict[str, Any]) -> dict[str, int]:
    """Return how many targets have each result, and how many mounts are left."""
    return {name: count for name, count in report["totals"].items() if count and name in COUNTED}


class UnknownEnd(NamedTuple):
    """A session whose last record does not say that nothing is open there."""

    server: ServerName
    worker: str
    """Who has written that."""
    at: float
    why: str


def unknown_ends(stage: Stage) -> list[UnknownEnd]:
    """Return the sessions that ended without anybody's knowing what is open in them."""
    found = list[UnknownEnd]()
    run, tables = stage.submission.started.run, stage.database.tables
    for of, server in tables.events:
        if of != run:
            continue
        ends: dict[SessionId, UnknownEnd] = {}
        worker = ""
        for event in chain_of(tables, run, server):
            if isinstance(event, ShardTaken):
                worker = event.worker
            elif isinstance(event, SessionEnded):
                ends.pop(event.session, None)
                if event.left_open or event.unaudited is not None:
                    why = event.unaudited or event.reason
                    ends[event.session] = UnknownEnd(server, worker, event.at, why)
        found += ends.values()
    return found


def takeover_s(stage: Stage, server: str, since: float) -> tuple[float, float, float]:
    """Return after how many seconds a shard was taken, its session taken up, and a mount asked for.

    Each the first one `since` then, in the chain of the server.
    """
    events = chain_of(stage.database.tables, stage.submission.started.run, ServerName(server))
    kinds = (ShardTaken, SessionTakenUp, SubmissionStarted)
    first = [
        min(
            (event.at for event in events if isinstance(event, kind) and event.at > since),
            default=1e9,
        )
        for kind in kinds
    ]
    return first[0] - since, first[1] - since, first[2] - since
