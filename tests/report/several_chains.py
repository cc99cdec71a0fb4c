"""Runs over several machines for the report's tests: a chain for the run, and one per server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

from hypothesis import strategies as st

from orchestrator.core.events import (
    ChainPinned,
    Event,
    HaltAsked,
    RunHalted,
    RunNoted,
    RunResumed,
    ServerGivenUp,
    ServerMeasured,
    ServerPaced,
    ServerParked,
    SessionEnded,
    SessionOpened,
    ShardFinished,
    ShardPlanned,
    ShardTaken,
    StopRequested,
    WaveFinished,
    WaveStarted,
    to_json,
)
from orchestrator.core.model import ServerName, WaveName
from orchestrator.core.records import RUN_CHAIN, Record, beginning_of, chain_hash, merged
from tests.report.builders import (
    RUN,
    SESSION,
    STARTED_AT,
    WAVES,
    Fate,
    finished,
    hostile_text,
    life,
    started,
)

SERVERS = ("hq", "dr", "lab")
Chains = Mapping[str, Sequence[Event]]


def taken(
    server: str, at: float, worker: str = "ada", *, over: str | None = None, epoch: int = 1
) -> ShardTaken:
    """Return how a worker takes a server, or takes it `over`."""
    return ShardTaken(
        at=at,
        server=ServerName(server),
        worker=worker,
        host=f"{worker}.example",
        epoch=epoch,
        used_until=at,
        taken_over=over,
        site="east",
    )


def served(server: str, *lives: Sequence[Event], at: float = 0.0) -> list[Event]:
    """Return the chain of a server that one worker served to its end."""
    name = ServerName(server)
    events = [
        taken(server, at),
        SessionOpened(at=at, server=name, session=SESSION, user="svc", api_version="v1_7"),
        *sorted((event for events in lives for event in events), key=attrgetter("at")),
        ShardPlanned(at=at + 1.0, server=name),
        ShardFinished(at=at + 55.0, server=name),
    ]
    return sorted(events, key=attrgetter("at"))


def records(chains: Chains, run: str = RUN) -> list[Record]:
    """Return the events of chains as they are recorded, in the order of `merged`."""
    return list(merged({chain: chained(chain, events, run) for chain, events in chains.items()}))


def chained(chain: str, events: Iterable[Event], run: str = RUN) -> list[Record]:
    """Return the events of one chain as they are recorded."""
    seq, head = beginning_of(chain)
    found = []
    for event in events:
        seq, kind, body = seq + 1, type(event).__name__, to_json(event)
        head = chain_hash(head, run, seq, kind, body)
        found.append(
            Record(run=run, seq=seq, kind=kind, at=event.at, body=body, hash=head, chain=chain)
        )
    return found


def pins(chains: Chains, at: float, upto: Mapping[str, int] | None = None) -> list[Event]:
    """Return how the run's own chain pins the others: as far as they go, or `upto` a record."""
    found: list[Event] = []
    for chain, events in chains.items():
        last = len(events) if upto is None else upto.get(chain, 0)
        if chain != RUN_CHAIN and last:
            end = chained(chain, events[:last])[-1]
            name, head = ServerName(chain), end.hash.hex()
            found.append(ChainPinned(at=at, chain=name, seq=end.seq, hash=head))
    return found


SMALL: Chains = {
    "hq": served("hq", life("sql01"), life("web01", Fate.TASK_FAILED)),
    "dr": [
        *served("dr", life("dc01", server="dr"))[:6],
        taken("dr", 30.0, "bert", over="ada", epoch=2),
        *served("dr", life("dc01", server="dr"))[6:],
    ],
}
"""The chains of two servers, one of which another worker took over."""


def whole(servers: Chains = SMALL, *, ended: bool = True) -> Chains:
    """Return all chains of a run, which pins those of its servers twice."""
    half = {name: len(events) // 2 for name, events in servers.items()}
    own: list[Event] = [
        started(servers=tuple(servers), reason="a drill"),
        WaveStarted(at=1.0, wave=WaveName(WAVES[1])),
        *pins(servers, 20.0, half),
        WaveFinished(at=54.0, wave=WaveName(WAVES[1])),
    ]
    end = [*pins(servers, 58.0), finished(exit_code=1), RunNoted(at=61.0, message="a note")]
    return {RUN_CHAIN: [*own, *(end if ended else [])], **servers}


# --- any run ---------------------------------------------------------------------------------


@st.composite
def chains(draw: st.DrawFn) -> Chains:
    """Draw the chains of a run: any fates, takeovers, troubles; maybe halted, maybe resumed."""
    names = SERVERS[: draw(st.integers(1, 3))]
    servers = {name: draw(_chain(name)) for name in names}
    own: list[Event] = [started(servers=names), WaveStarted(at=1.0, wave=WaveName(WAVES[0]))]
    if draw(st.booleans()):
        own += [RunHalted(at=40.0, reason="critical", detail="x"), RunNoted(at=41.0, message="n")]
    if draw(st.booleans()):
        own.append(StopRequested(at=45.0, signal="stop", forced=False))
    own += [*pins(servers, 59.0), *([finished(exit_code=1)] if draw(st.booleans()) else [])]
    if len(own) > 2 and draw(st.booleans()):
        servers = {name: [*events, *draw(_again(name))] for name, events in servers.items()}
        resumed = RunResumed(at=70.0, resumed_at=STARTED_AT, version="1")
        own += [resumed, *([finished(at=200.0)] if draw(st.booleans()) else [])]
    return {RUN_CHAIN: own, **servers}


@st.composite
def _chain(draw: st.DrawFn, server: str) -> list[Event]:
    """Draw what happens on a server."""
    name = ServerName(server)
    fates = draw(st.lists(st.tuples(st.sampled_from(Fate), st.sampled_from(WAVES)), max_size=4))
    lives = [
        life(f"vm{number}", fate, wave=wave, server=server, words=draw(st.none() | hostile_text()))
        for number, (fate, wave) in enumerate(fates)
    ]
    times = st.floats(0.5, 59.0)
    kinds = st.sampled_from(
        [
            lambda at: taken(server, at, "bert", over="ada"),
            lambda at: taken(server, at, "cleo"),
            lambda at: ServerParked(at=at, server=name, reason="silent"),
            lambda at: ServerPaced(at=at, server=name, allowed=2),
            lambda at: ServerGivenUp(at=at, server=name, reason="dead", refused=False),
            lambda at: SessionEnded(at=at, server=name, session=SESSION, lost=True, reason="401"),
            lambda at: HaltAsked(at=at, server=name, reason="expect", detail=f"{server} broke it"),
            lambda at: RunNoted(at=at, message=f"a note of {server}"),
            lambda at: RunNoted(at=7.0, message=f"a note of {server} at a time of many"),
            lambda at: ShardPlanned(at=at, server=name, matched={"1": 2}),
            lambda at: ServerMeasured(
                at=at, server=name, requests=9, retries=1, peak_mounts=1, sessions=1
            ),
        ]
    )
    troubles = [kind(draw(times)) for kind in draw(st.lists(kinds, max_size=5))]
    end = [ShardFinished(at=58.0, server=name)] if draw(st.booleans()) else []
    events = sorted([*(e for events in lives for e in events), *troubles], key=attrgetter("at"))
    return [taken(server, 0.0), *events, *end]


@st.composite
def _again(draw: st.DrawFn, server: str) -> list[Event]:
    """Draw what happens on a server when the run goes on; it may begin before the run itself."""
    at = draw(st.floats(60.0, 80.0))
    more = life("late", draw(st.sampled_from(Fate)), server=server)
    later = [_later(event, at + 1.0) for event in more]
    return [
        taken(server, at, "dora"),
        *later,
        ShardFinished(at=at + 100.0, server=ServerName(server)),
    ]


def _later(event: Event, by: float) -> Event:
    from msgspec.structs import replace

    return replace(event, at=event.at + by)


@st.composite
def interleavings(draw: st.DrawFn, chains: Chains) -> list[Event]:
    """Draw an order of the events of chains: the beginning first, each chain in its own."""
    rest: dict[str, Iterator[Event]] = {name: iter(events) for name, events in chains.items()}
    first = next(rest[RUN_CHAIN])
    turns = [name for name, events in chains.items() for _ in events]
    turns.remove(RUN_CHAIN)
    return [first, *(next(rest[name]) for name in draw(st.permutations(turns)))]
