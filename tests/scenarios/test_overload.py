"""Servers in trouble, counted at the servers: few requests, a gradual return, a fitting load."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest

from orchestrator.core.events import (
    Event,
    ServerGivenUp,
    ServerParked,
    SubmissionInDoubt,
    SubmissionStarted,
)
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.policy import PROOF_AFTER, WatchPolicy
from orchestrator.engine.run import Run
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.drill import Site, drill
from tests.virtual.clock import run_virtual
from tests.virtual.sites import Sites, host

pytestmark = pytest.mark.anyio

DIES_AT, DEAD_S = 300.0, 600.0

OTHER = Site("dr", machines=40, limit=8, mount_s=300.0)
"""A server without any trouble; it is busy for as long as the other one is in trouble."""

WAYS_TO_BE_DEAD = {
    "refused": None,
    "swallowed": None,
    "never answered": Fault(kind="black_hole"),
    "503 as a web page": Fault(kind="html_503"),
    "503 with Retry-After": Fault(kind="xml_503", retry_after="7"),
    "reset": Fault(kind="drop_before"),
}


@dataclass(slots=True)
class Death:
    """A server that is dead for ten minutes, and what it saw of us meanwhile."""

    way: str
    requests: int = 0
    connections: int = 0
    waiting: int = 0
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the fault of this way to be dead, if it is one of requests."""
        fault = WAYS_TO_BE_DEAD[self.way]
        if fault is not None:
            self.faults.append(replace(fault, from_s=DIES_AT, until_s=DIES_AT + DEAD_S))

    async def __call__(self, serving: Sites, run: Run) -> None:
        """Die and come back."""
        network, truth, place = serving.network, serving.truth, host("hq")
        await anyio.sleep(DIES_AT - anyio.current_time())
        gone = {"refused": network.refusing, "swallowed": network.swallowing}.get(self.way)
        if gone is not None:
            gone.add(place)
            network.cut(place)
        before = truth.received["hq"], network.attempts[place]
        await anyio.sleep(DEAD_S - 1e-3)
        self.requests = truth.received["hq"] - before[0]
        self.connections = network.attempts[place] - before[1]
        self.waiting = sum(not record.is_final for record in run.ledger.records)
        if gone is not None:
            gone.discard(place)


def mounts_since(truth: GroundTruth, server: str, at: float, until: float) -> int:
    """Return how many mounts a server accepted in a span of time."""
    return sum(fate.server == server and at <= fate.requested_at < until for fate in truth.mounts)


def took(truth: GroundTruth, server: str) -> float:
    """Return the seconds from the first mount of a server to the end of its last."""
    fates = [fate for fate in truth.mounts if fate.server == server]
    return max(fate.closed_at or 0.0 for fate in fates) - min(fate.requested_at for fate in fates)


@pytest.fixture(scope="module")
def undisturbed_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return how long the server without trouble takes if there is no other one."""
    with pytest.MonkeyPatch.context() as patch:
        done = run_virtual(drill, tmp_path_factory.mktemp("alone"), patch, [OTHER])
    return took(done.truth, "dr")


@pytest.mark.parametrize(
    ("way", "limit"),
    [
        ("refused", 100),
        ("never answered", 20),
        ("503 as a web page", 20),
        ("swallowed", 20),
        ("503 with Retry-After", 20),
        ("reset", 20),
    ],
)
async def test_ten_dead_minutes_cost_no_target_and_few_requests(
    way: str,
    limit: int,
    undisturbed_s: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At most 60 requests; gradually back at 90 % of the limit within 90 s; nobody else suffers."""
    death = Death(way)
    hq = Site("hq", machines=6 * limit, backup_servers=limit // 4, limit=limit, mount_s=250.0)
    hq.faults = death.faults

    done = await drill(
        tmp_path,
        monkeypatch,
        [OTHER, hq],
        extra="defaults: {retries: {attempts: 1}}\n",
        meanwhile=death,
    )
    back = DIES_AT + DEAD_S
    later = [fate for fate in done.truth.mounts if fate.requested_at > back]
    first = min(fate.requested_at for fate in later if fate.server == "hq")

    assert Counter(done.results().values()) == {"mounted": 40 + 6 * limit}
    assert death.waiting >= 5 * limit
    assert max(death.requests, death.connections) <= 60
    assert mounts_since(done.truth, "hq", back, back + 90) >= 0.9 * limit
    assert mounts_since(done.truth, "hq", first, first + 5) <= 6
    assert took(done.truth, "dr") == pytest.approx(undisturbed_s, rel=0.02)


async def test_concurrency_finds_what_an_overloaded_server_bears_and_grows_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals become rare while the server stays busy; when it bears more, it gets more."""
    bears, limit, better_at = 8, 24, 2400
    site = Site(
        machines=460,
        backup_servers=6,
        limit=limit,
        mount_s=60.0,
        behaviour=Behaviour(bears_mounts=bears),
    )
    began = anyio.current_time()
    opened: list[int] = []
    refused: list[int] = []

    async def sample(serving: Sites, run: Run) -> None:
        _ = run
        while True:
            opened.append(serving.truth.open_now["server:hq"])
            refused.append(serving.truth.overloads["hq"])
            if len(opened) == better_at:
                serving.managers["hq"].behaviour = Behaviour()
            await anyio.sleep(1)

    done = await drill(tmp_path, monkeypatch, [site], meanwhile=sample)

    accepted = mounts_since(done.truth, "hq", began + 1200, began + better_at)
    late = refused[better_at - 1] - refused[1200]
    grown = next(second for second in range(better_at, len(opened)) if opened[second] == limit)
    assert done.outcome.code == 0
    assert len(done.truth.mounts) == 460
    assert refused[300] > late * 300 / 1200
    assert late <= 0.05 * accepted
    assert sum(opened[1200:better_at]) / 1200 >= 0.8 * bears
    assert grown - better_at <= 420


@pytest.mark.parametrize(
    ("retry_after", "quiet_s"),
    [
        ("20", 20),
        ("Mon, 23 Nov 2026 06:02:00 GMT", 29),
        ("99999999999999999999", 119),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 119),
        ("Mon, 23 Nov 1998 06:02:10 GMT", 0),
        ("-7", 0),
        ("0", 0),
        ("soon", 0),
        (None, 0),
    ],
)
@pytest.mark.parametrize("kind", ["xml_503", "html_503"])
async def test_the_wish_of_a_busy_server_is_heard_and_bounded(
    kind: str,
    retry_after: str | None,
    quiet_s: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is left alone for the seconds or until the date it names, two minutes at most."""
    busy = Fault(kind=kind, from_s=90, until_s=100, retry_after=retry_after)
    seen: list[int] = []
    strikes: list[int] = []

    async def sample(serving: Sites, run: Run) -> None:
        _ = run
        while True:
            seen.append(serving.truth.received["hq"])
            strikes.append(busy.struck)
            await anyio.sleep(1)

    sites = [Site(machines=24, limit=6, faults=[busy])]
    often = WatchPolicy(longest=1.0)  # so that it is met as soon as it is busy
    done = await drill(tmp_path, monkeypatch, sites, meanwhile=sample, watch=often)

    since = next(second for second, struck in enumerate(strikes) if struck)
    silent = next(second for second in range(since + 1, 400) if seen[second] > seen[since])
    assert done.outcome.code == 0
    assert len(done.truth.mounts) == 24
    assert quiet_s <= silent - since <= quiet_s + 8
    assert busy.struck <= 6


@dataclass(slots=True)
class GivenUp:
    """Remembers when a server was parked first, and when it was given up.

    And when the first mount was asked for whose answer was lost, and the last one of all.
    """

    parked_at: float | None = None
    at: float | None = None
    first_lost: float | None = None
    last_asked: float = 0.0

    def observe(self, event: Event, record: MountRecord | None) -> None:
        """Take note."""
        if record is not None and record.planned.server == "hq":
            if isinstance(event, SubmissionStarted):
                self.last_asked = event.at
            if isinstance(event, SubmissionInDoubt) and self.first_lost is None:
                self.first_lost = event.at
        if isinstance(event, ServerParked) and self.parked_at is None:
            self.parked_at = event.at if event.since is None else event.since
        if isinstance(event, ServerGivenUp):
            self.at = event.at


NO_ANSWER = {"skipped": 24, "unknown": 6}
NO_MOUNT = {"skipped": 24, "mounted": 6}


@pytest.mark.parametrize(
    ("fault", "results"),
    [
        (Fault(kind="html_503"), NO_ANSWER),
        (Fault(kind="black_hole"), NO_ANSWER),
        (Fault(kind="drop_before"), NO_ANSWER),
        (Fault(kind="html_503", method="POST", path="/mounts$"), NO_MOUNT),
        (Fault(kind="drop_before", method="POST", path="/mounts$"), NO_MOUNT),
    ],
    ids=["503", "silent", "reset", "no mount accepted", "no mount answered"],
)
async def test_the_outage_limit_of_the_plan_decides_when_to_give_up(
    fault: Fault, results: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes no mount is given up after as long; no target fails for it."""
    sick = Site("hq", machines=30, limit=6, mount_s=100.0)
    sick.faults = [replace(fault, from_s=50)]
    told = GivenUp()

    done = await drill(
        tmp_path, monkeypatch, [OTHER, sick], extra="limits: {outage: 10m}\n", observers=[told]
    )

    of_each = Counter((key.partition("-")[0], value) for key, value in done.results().items())
    assert of_each["dr", "mounted"] == 40
    assert {name: count for (server, name), count in of_each.items() if server == "hq"} == results
    assert done.outcome.code == (5 if results is NO_MOUNT else 3)
    if results is NO_ANSWER:
        assert told.parked_at is not None
        assert told.at == pytest.approx(told.parked_at + 600, abs=20)  # a probe may be under way
    elif told.first_lost is None:
        assert 650 <= (told.at or 0.0) <= 800
    else:  # nothing more is asked for then; what is in doubt is settled before, in 180 s at most
        assert (told.at or 0.0) >= 650
        assert told.last_asked <= told.first_lost + 600
        assert told.at == pytest.approx(told.last_asked + PROOF_AFTER, abs=5)


@pytest.mark.parametrize("kind", ["xml_503", "html_503"])
async def test_refusals_now_and_then_hold_nobody_up(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused is asked once more; the server is left neither alone nor with less work."""
    site = Site(machines=60, limit=20, mount_s=10.0)
    (tmp_path / "alone").mkdir()
    alone = await drill(tmp_path / "alone", monkeypatch, [site])
    site.faults = [Fault(kind=kind, probability=0.05)]
    told = GivenUp()

    done = await drill(tmp_path, monkeypatch, [site], observers=[told])

    assert Counter(done.results().values()) == {"mounted": 60}
    assert site.faults[0].struck >= 10
    assert told.parked_at is None
    assert done.took_s <= 1.5 * alone.took_s


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(kind="delay", seconds=20.0)],
        [Fault(kind="drip", seconds=30.0)],
        [Fault(kind="drip", seconds=30.0), Fault(kind="delay", seconds=20.0, method="POST")],
        [Fault(kind="delay", seconds=90.0, path="/api/query", probability=0.3)],
    ],
    ids=["slow", "dripping", "slow to mount", "some reads time out"],
)
async def test_slow_answers_lose_nothing(
    faults: list[Fault], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every target is mounted once, by one session."""
    site = Site(machines=16, limit=6, mount_s=120.0, faults=faults)

    done = await drill(tmp_path, monkeypatch, [site])

    assert Counter(done.results().values()) == {"mounted": 16}
    assert len(done.truth.mounts) == 16
    assert done.truth.logons == 1


@pytest.mark.parametrize("way", ["refusing", "swallowing"])
@pytest.mark.parametrize(("up_s", "down_s"), [(5.0, 5.0), (20.0, 40.0), (60.0, 120.0)])
async def test_a_flapping_link_loses_nothing_and_doubles_nothing(
    way: str, up_s: float, down_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut again and again in the middle of requests, every target still ends with its mount."""
    site = Site(
        machines=60, limit=10, mount_s=60.0, behaviour=Behaviour(unmount_s=2.0, latency_s=0.5)
    )
    worst: list[int] = []

    async def flap(serving: Sites, run: Run) -> None:
        _ = run
        gone, place = getattr(serving.network, way), host("hq")
        while True:
            await anyio.sleep(up_s)
            gone.add(place)
            serving.network.cut(place)
            before = serving.network.attempts[place]
            await anyio.sleep(down_s)
            worst.append(serving.network.attempts[place] - before)
            gone.discard(place)

    done = await drill(tmp_path, monkeypatch, [site], meanwhile=flap)

    assert Counter(done.results().values()) == {"mounted": 60}
    assert done.truth.logons == 1
    assert max(worst) <= 20


async def test_death_amid_many_unmounts_is_no_flood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred requests that wait for their turn do not each find out that the server died."""
    death = Death("refused")
    site = Site(
        machines=300,
        backup_servers=25,
        limit=100,
        mount_s=260.0,
        behaviour=Behaviour(unmount_s=8.0),
    )

    done = await drill(tmp_path, monkeypatch, [site], meanwhile=death)

    assert Counter(done.results().values()) == {"mounted": 300}
    assert death.connections <= 60


async def test_a_day_of_held_mounts_loses_no_session_by_idling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve mounts of two hours one after the other, looked at too rarely to live by that.

    A second server waits for the last of them all day long.
    """
    sites = [Site("hq", machines=12, limit=1, mount_s=7200.0), Site("dr", machines=1)]
    held = "".join(
        f"      - {{vm: {machine.name}, server: hq, os: {machine.os.lower()}}}\n"
        for machine in sites[0].manager(GroundTruth(), 0).inventory.machines
    )
    plan = (
        f"defaults: {{timeouts: {{mount: 4h}}}}\nwaves:\n  - name: long\n    targets:\n{held}"
        "  - name: after\n    after: [long]\n    targets:\n      - {vm: dr-app0000, server: dr}\n"
    )

    async def short_outages(serving: Sites, run: Run) -> None:
        """Every third hour nobody is reachable for five minutes."""
        _ = run
        while True:
            await anyio.sleep(3 * 3600 - 300)
            for name in ("hq", "dr"):
                serving.network.refusing.add(host(name))
                serving.network.cut(host(name))
            await anyio.sleep(300)
            serving.network.refusing.clear()

    rarely = WatchPolicy(idle_share=0.5, longest=1000.0)

    done = await drill(tmp_path, monkeypatch, sites, plan, meanwhile=short_outages, watch=rarely)

    assert Counter(done.results().values()) == {"mounted": 13}
    assert done.took_s > 23 * 3600
    assert (done.truth.logons, done.truth.sessions_expired) == (2, 0)


async def test_a_server_that_bears_few_requests_at_once_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its refusals of reads and mounts alike are waited out, and stay the lesser part."""
    frail = Behaviour(bears_requests=2, latency_s=0.5)
    site = Site(machines=40, limit=16, mount_s=30.0, behaviour=frail)

    done = await drill(tmp_path, monkeypatch, [site])

    assert Counter(done.results().values()) == {"mounted": 40}
    assert len(done.truth.mounts) == 40
    assert 0 < done.truth.overloads["hq"] < 0.2 * done.truth.received["hq"]
