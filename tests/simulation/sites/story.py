"""What a seed stands for: servers at sites, a plan, workers, and what strikes them at which moment.

A fault strikes at a moment that hurts: between grant and POST, between POST and answer, between
answer and commit, in the middle of settling, in a takeover, at the end of a run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from orchestrator.simulator.behaviour import Behaviour
from tests.scenarios.drill import Site
from tests.simulation.sites.link import Trouble
from tests.simulation.troubles import one_mood, one_more

MOMENTS = (
    ("granted", 3.0),
    ("posted", 3.0),
    ("answered", 2.0),
    ("accepted", 2.0),
    ("succeeded", 1.5),
    ("unmounting", 2.0),
    ("released", 1.5),
    ("taken", 2.0),
    ("taken_up", 1.5),
    ("opened", 1.5),
    ("planned", 1.0),
    ("logging_off", 1.0),
    ("wave", 1.0),
    ("finishing", 0.7),
)
"""Where a fault strikes, and its weight."""

STRIKES = (
    ("kill", 4.0),
    ("freeze_stopped", 2.0),
    ("freeze_suspended", 1.5),
    ("freeze_paused", 1.5),
    ("hang", 1.5),
    ("leave", 2.0),
    ("cut_database", 1.5),
    ("cut_server", 1.0),
    ("cut_both", 1.0),
    ("restart", 1.0),
    ("read_only", 0.7),
)
"""What strikes, and its weight."""

LASTING = (0.5, 2.0, 4.0, 5.5, 7.0, 12.0, 30.0, 120.0)
"""Seconds that a freeze, a cut or an outage lasts."""

GENTLE = (1, 2, 5, 8, 13, 17, 19)
"""Of each twenty seeds, those whose plans may give servers their mounts little by little."""

BRIEFLY = 10
"""How many times shorter what servers need is in a brief story. Leases are not, nor most freezes
and cuts."""
FEW = 3
"""Machines of a server in a brief story."""
AT_MOST_S = 20.0
"""Longest that a strike lasts in a brief story, and until another worker comes: longer than a
connection to the database is waited for (`link.ANSWER_S`), which is given up then."""

CALM, ONLY_SITES, FAILOVER = (0,), (1, 2, 3, 4, 5), (6,)
"""Of each ten seeds: nothing goes wrong; servers are well and machines are not; commits are lost.
In the others both servers and machines have trouble."""


@dataclass(slots=True, kw_only=True)
class Strike:
    """Something that happens to the worker that has come to a moment for the nth time."""

    moment: str
    number: int
    what: str
    after_s: float
    """Seconds after the moment."""
    seconds: float
    """How long it lasts."""
    lost: int = 0
    """Commits that a failover loses."""

    def __str__(self) -> str:
        """Return it in words."""
        when = f"{self.after_s:.3f} s after {self.moment} number {self.number}"
        return f"{self.what} for {self.seconds:g} s, {when}"


@dataclass(slots=True, kw_only=True)
class Crew:
    """The workers of a story that serve the same sites."""

    sites: tuple[str, ...]
    workers: int
    room: int


@dataclass(slots=True, kw_only=True)
class SitesStory:
    """What a seed stands for. Times in virtual seconds."""

    seed: int
    servers: list[Site]
    of_sites: list[str]
    crews: list[Crew]
    waves: int
    run_limit: int | None
    failures: str | None
    deadline: float | None
    link: Trouble
    strikes: list[Strike] = field(default_factory=list)
    replaced_after_s: float = 5.0
    """Seconds after which another worker comes for one that was killed or has left."""
    sealed: bool = True
    open_os: bool = False
    """The plan leaves it open which systems the machines have."""
    ramp: tuple[int, float] | None = None
    """So many mounts, and the seconds after which as many more are given."""
    interval_s: float = 0.0
    """Least time between two mount requests to a server."""
    mount_within_s: float = 240.0
    unmount_within_s: float = 180.0
    is_brief: bool = False

    @property
    def is_calm(self) -> bool:
        """True if nothing goes wrong."""
        return self.seed % 10 in CALM

    @property
    def servers_are_well(self) -> bool:
        """True if only machines and the database have trouble."""
        return self.seed % 10 in (*CALM, *ONLY_SITES, *FAILOVER)

    @property
    def fails_over(self) -> bool:
        """True if the database may lose what it acknowledged, and nothing else happens."""
        return self.seed % 10 in FAILOVER

    @property
    def ends_s(self) -> float:
        """When everything must be over."""
        rounds = sum(-(-server.machines // server.limit) for server in self.servers)
        lasting = sum(strike.seconds + self.replaced_after_s for strike in self.strikes)
        machines = sum(server.machines for server in self.servers)
        rounds = machines if self.ramp is not None else rounds
        gentle = 4 * machines * self.interval_s
        least, round_s = (1500.0, 200.0) if self.is_brief else (2400.0, 1000.0)
        return least + round_s * rounds * (1 + self.open_os) + 4 * lasting + gentle


def told(seed: int) -> SitesStory:
    """Return the story of a seed."""
    rng = random.Random(f"sites:{seed}")
    names = ["hq", "dr", "branch"][: rng.choices([1, 2, 3], [3, 5, 3])[0]]
    sites = ["main", "moon"][: rng.choice([1, 1, 2])]
    story = SitesStory(
        seed=seed,
        servers=[_server(rng, name) for name in names],
        of_sites=[rng.choice(sites) for _ in names],
        crews=[],
        waves=rng.choice([1, 1, 2, 3]),
        run_limit=rng.choice([None, 1, 2, 3, 5]),
        failures=rng.choice([None, None, None, "1", "50%"]),
        deadline=rng.choice([None] * 9 + [150.0]),
        link=_link(rng),
        replaced_after_s=rng.choice([0.0, 3.0, 10.0, 60.0]),
        sealed=rng.random() > 0.05,
        open_os=random.Random(f"os:{seed}").random() < 0.3,
    )
    story.crews = _crews(rng, story)
    if seed % 20 in GENTLE:
        _go_gently(random.Random(f"gentle:{seed}"), story)
    if story.is_calm:
        story.link = Trouble()
        story.failures = story.deadline = None
        return story
    if not story.servers_are_well:
        story.servers = [_troubled(rng, server) for server in story.servers]
    else:
        story.failures = None
    for _ in range(rng.choice([1, 1, 2, 2, 3, 5])):
        story.strikes.append(_strike(rng, story))
    _stops(random.Random(f"stops:{seed}"), story)
    for strike in story.strikes:
        if strike.what == "freeze_paused" and not story.sealed:
            strike.what = "freeze_stopped"  # who has no clock and no token proves nothing
    return story


def told_briefly(seed: int) -> SitesStory:
    """Return the story of a seed with mounts of seconds: half the time to play it."""
    story = told(seed)
    story.is_brief = True
    story.mount_within_s /= BRIEFLY
    story.unmount_within_s /= BRIEFLY
    story.replaced_after_s = min(story.replaced_after_s, AT_MOST_S)
    story.interval_s /= BRIEFLY
    if story.ramp is not None:
        story.ramp = story.ramp[0], story.ramp[1] / BRIEFLY
    if story.deadline is not None:
        story.deadline /= BRIEFLY
    for strike in story.strikes:
        strike.seconds = min(strike.seconds, AT_MOST_S)
    for server in story.servers:
        assert server.mount_s is not None
        server.mount_s /= BRIEFLY
        server.machines = min(server.machines, FEW)
        late_s = server.behaviour.stopped_mount_after_s
        if late_s is not None:
            server.behaviour = replace(server.behaviour, stopped_mount_after_s=late_s / BRIEFLY)
    return story


def _go_gently(rng: random.Random, story: SitesStory) -> None:
    """Draw a ramp, or a start interval, or both; some have neither."""
    ramp = rng.choice([1, 1, 2]), rng.choice([20.0, 60.0])
    story.ramp = ramp if rng.random() < 0.6 else None
    story.interval_s = rng.choice([3.0, 10.0, 25.0]) if rng.random() < 0.6 else 0.0


def _server(rng: random.Random, name: str) -> Site:
    return Site(
        name,
        machines=rng.choice([1, 2, 3, 4, 6]),
        backup_servers=rng.choice([1, 1, 2]),
        behaviour=Behaviour(
            latency_s=rng.choice([0.0, 0.05, 1.0]),
            unmount_s=rng.choice([0.0, 5.0]),
            operation_finished_share=rng.choice([0.0, 0.5]),
            filters_tasks=rng.random() < 0.7,
            empty_mounts_are_404=rng.random() < 0.5,
            related_answers=rng.random() < 0.5,
        ),
        limit=rng.choice([1, 2, 3, 6]),
        mount_s=rng.choice([5.0, 40.0, 90.0]),
    )


def _troubled(rng: random.Random, server: Site) -> Site:
    _, knob, value = one_mood(rng)
    if rng.random() < 0.3:
        server.behaviour = replace(server.behaviour, **{knob: value})
    purged = rng.choice([None, None, 10.0])
    server.behaviour = replace(server.behaviour, purge_finished_after=purged)
    server.faults = [one_more(rng)[1] for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    return server


def _stops(rng: random.Random, story: SitesStory) -> None:
    """Say what a stop does to a task, where servers have trouble; on some every mount is late."""
    for server in story.servers:
        answer = rng.choice(["ended", "vanished", "refused", "goes_on"])
        after_s, is_late = rng.choice([None, 5.0, 60.0, 200.0]), rng.random() < 0.2
        leaves = rng.random() < 0.5
        if story.servers_are_well:
            continue
        server.behaviour = replace(
            server.behaviour,
            task_stop=answer,
            cancel_leaves_mount=leaves,
            stopped_mount_after_s=after_s,
        )
        if is_late:
            server.mount_s = 330.0


def _crews(rng: random.Random, story: SitesStory) -> list[Crew]:
    """Return the workers. With too little room their shards take turns."""
    sites = sorted(set(story.of_sites))
    rooms = [1, 2, 50, 50] if story.waves == 1 else [50]
    if len(sites) == 1 or rng.random() < 0.3:
        crew = Crew(sites=tuple(sites), workers=rng.choice([2, 2, 3, 5]), room=rng.choice(rooms))
        few = random.Random(f"sites:{story.seed}:room")  # what else a seed stands for stays
        if story.waves > 1 and few.random() < 0.5:
            crew.workers, crew.room = few.choice([(1, 1), (1, 2), (2, 1)])
        return [crew]
    return [Crew(sites=(site,), workers=rng.choice([1, 2, 2]), room=50) for site in sites]


def _link(rng: random.Random) -> Trouble:
    kind = rng.choice(["well", "well", "slow", "lossy", "late", "far"])
    match kind:
        case "slow":
            return Trouble(slow=0.03, slow_s=rng.choice([1.0, 4.0, 8.0]))
        case "lossy":
            share = rng.choice([0.01, 0.05, 0.2])
            return Trouble(lost_before=share, lost_after=share)
        case "late":
            return Trouble(late=rng.choice([0.01, 0.05]), lost_after=0.02)
        case "far":
            return Trouble(delay_s=(0.04, 0.15))
    return Trouble()


def _strike(rng: random.Random, story: SitesStory) -> Strike:
    moments, weights = zip(*MOMENTS, strict=True)
    whats, shares = zip(*STRIKES, strict=True)
    what = "fail_over" if story.fails_over else rng.choices(whats, shares)[0]
    return Strike(
        moment=rng.choices(moments, weights)[0],
        number=rng.choice([1, 1, 2, 3, 5, 8]),
        what=what,
        after_s=rng.choice([0.0, 0.0, rng.uniform(0.0, 0.01), rng.uniform(0.0, 1.0)]),
        seconds=rng.choice(LASTING),
        lost=rng.choice([1, 2, 5, 12]),
    )
