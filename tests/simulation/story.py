"""What a seed stands for: servers, their moods, a plan, and what will go wrong.

A few well-aimed troubles per story, drawn from `RULES`; together the stories of a thousand
seeds play every kind often. The same seed always tells the same story.

Traps of the protocol reference (section 11) that stories play, by number:
    refused as a request when it arrives    1 2 3 11 12 16 17 18 19 20
    a limit counted at the servers          37
    how servers behave                      5 7 8 9 13 21 22 23 24 25 26 27 30 32 33 34
    what strikes                            6 10 15 16
    what strikes, of `troubles`             44 to 52, 54, 56, 59 to 63
    how servers write JSON                  31 65 66
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestrator.core.model import Cause, Order, Unmount
from orchestrator.core.policy import WatchPolicy
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.simulation.steers import Steers, peeks, steers
from tests.simulation.troubles import (
    CALM_S,
    IN_JSON,
    PLAYED,
    one_form,
    one_lasting,
    one_mood,
    one_more,
)
from tests.virtual.sites import PORT, host

ACCOUNT = "LAB\\svc-drill"
PASSWORD = "not-a-real-password"

POINT_MOUNTS, ONE_MOUNT, LOGON = r"/mounts$", r"/mounts/\d+$", r"/sessionMngr"
READS, TASKS = r"/(tasks|query|mounts|logonSessions)", r"/(tasks|query)"

RULES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "post_reset_before": (("drop_before",), "POST", POINT_MOUNTS),
    "post_reset_after": (("drop_after",), "POST", POINT_MOUNTS),
    "post_silent_before": (("black_hole",), "POST", POINT_MOUNTS),
    "post_silent_after": (("late",), "POST", POINT_MOUNTS),
    "post_acted_later": (("act_later",), "POST", POINT_MOUNTS),
    "post_half_body": (("truncated", "reset_mid_body"), "POST", POINT_MOUNTS),
    "post_proxy_page": (("proxy_page",), "POST", POINT_MOUNTS),
    "post_page_200": (("html_200",), "POST", POINT_MOUNTS),
    "post_500_before": (("error_500",), "POST", POINT_MOUNTS),
    "post_500_after": (("error_500_after",), "POST", POINT_MOUNTS),
    "get_reset": (("drop_before", "drop_after"), "GET", READS),
    "get_silent": (("black_hole",), "GET", READS),
    "get_half_body": (("truncated", "reset_mid_body"), "GET", READS),
    "get_page": (("html_200", "proxy_page"), "GET", READS),
    "get_500": (("error_500",), "GET", READS),
    "delete_reset_before": (("drop_before",), "DELETE", ONE_MOUNT),
    "delete_reset_after": (("drop_after",), "DELETE", ONE_MOUNT),
    "delete_silent": (("black_hole",), "DELETE", ONE_MOUNT),
    "delete_proxy_page": (("proxy_page",), "DELETE", ONE_MOUNT),
    "delete_500_before": (("error_500",), "DELETE", ONE_MOUNT),
    "delete_500_after": (("error_500_after",), "DELETE", ONE_MOUNT),
    "unmount_refused": (("forbidden",), "DELETE", ONE_MOUNT),
    "unmount_slow": (("delay", "late"), "DELETE", ONE_MOUNT),
    "unmount_ineffective": (("hollow_204",), "DELETE", ONE_MOUNT),
    "busy": (("xml_503",), "", ""),
    "busy_seconds": (("xml_503",), "", ""),
    "busy_date": (("xml_503",), "", ""),
    "busy_absurd": (("xml_503",), "", ""),
    "busy_page": (("html_503",), "", ""),
    "slow": (("delay", "late"), "", ""),
    "dripping": (("drip",), "", ""),
    "session_expired": (("clock_jump",), "", READS),
    "session_killed": (("forget_session",), "", READS),
    "service_restart": (("restart",), "", READS),
    "passing_401": (("unauthorized",), "", READS),
    "logon_busy": (("xml_503", "html_503"), "POST", LOGON),
    "logon_lost": (("drop_after", "truncated"), "POST", LOGON),
    "logon_refused": (("unauthorized",), "POST", LOGON),
    "odd_state": (("odd_state",), "GET", TASKS),
    "state_back": (("state_back",), "GET", TASKS),
    "no_result": (("no_result",), "GET", TASKS),
    "no_related": (("no_related",), "GET", TASKS),
}
"""Kind of hit: the simulator's kinds of fault for it, the method and the path."""

SPELLS = {
    "service_stopped": ("html_404", ""),
    "service_failing": ("error_500", ""),
    "session_denied": ("unauthorized", "^(?!.*sessionMngr)"),
}
"""Kind of hit: the simulator's kind of fault that every request meets for a while, and where."""

ONCE = {"session_expired", "session_killed", "service_restart", "passing_401", "logon_refused"}
DISGUISED = {"odd_state", "state_back", "no_result", "no_related"}
WEIGHTS = {
    **dict.fromkeys((kind for kind in RULES if kind.startswith("post")), 3.3),
    **dict.fromkeys((kind for kind in RULES if kind.startswith(("delete", "unmount"))), 4.1),
    **dict.fromkeys(ONCE | DISGUISED, 2.5),
    **dict.fromkeys(("post_silent_after", "post_acted_later", "post_half_body"), 3.7),
    **dict.fromkeys(("post_proxy_page", "post_page_200"), 3.6),
    **dict.fromkeys(("post_reset_after", "post_500_after"), 3.8),
    **dict.fromkeys(("delete_reset_before", "delete_500_before", "delete_proxy_page"), 4.5),
    **dict.fromkeys(("delete_reset_after", "unmount_refused", "unmount_slow"), 5.2),
    **dict.fromkeys(("delete_500_after", "delete_silent"), 5.4),
    **dict.fromkeys(("busy_date", "dripping", "slow", "get_silent"), 1.2),
    **dict.fromkeys(("get_reset", "busy", "busy_page"), 1.2),
    **dict.fromkeys(
        ("busy_absurd", "busy_seconds", "logon_lost", "get_half_body", "get_page", "get_500"), 1.4
    ),
    **dict.fromkeys(
        ("session_expired", "session_killed", "passing_401", "state_back", "no_related"), 2.9
    ),
    "service_restart": 2.8,
    "logon_busy": 1.6,
    "odd_state": 2.0,
}
"""Weights other than 1: the fewer strikes come of a fault, the more such faults there are."""

RARE = ("delete_proxy_page", "delete_proxy_page", "unmount_slow", "post_500_after")
"""What is added where people steer: fewer mounts are made while faults are on."""

RETRY_AFTER = {
    "busy_seconds": ("1", "7", "45"),
    "busy_date": ("Mon, 23 Nov 2026 06:01:30 GMT", "Mon, 23 Nov 2026 06:06:00 GMT"),
    "busy_absurd": ("soon", "-5", "99999999999999999999", "Mon, 23 Nov 2099 06:00:00 GMT", "1e9"),
}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A job or a restore at work on one machine, in virtual seconds."""

    kind: str
    machine: int
    from_s: float
    until_s: float


@dataclass(slots=True, kw_only=True)
class Place:
    """One server of a story."""

    name: str
    seed: int
    machines: int
    backup_servers: int
    exclusive: bool
    behaviour: Behaviour
    limit: int
    backup_limit: int
    mount_s: float
    failing: float
    """Share of mounts that fail at the server."""
    stuck: float
    """Share of mounts that take longer than the plan allows."""
    faults: dict[int, str] = field(default_factory=dict)
    """What each fault of `rules` is counted as, by its place there."""
    rules: list[Fault] = field(default_factory=list)
    neighbours: list[Neighbour] = field(default_factory=list)
    counts_others: bool = False
    moods: list[str] = field(default_factory=list)
    """What its knobs are counted as."""
    format: str = ""
    """What the plan says of the form that is spoken; empty if nothing."""

    def adds(self, hit: str, fault: Fault, at: int = 0) -> None:
        """Let this strike after so many of the others."""
        self.rules.insert(at, fault)
        self.faults = {old + (old >= at): name for old, name in self.faults.items()} | {at: hit}


ASKING = (3, 4)
"""Of each five seeds, those whose plans ask for more than one mount of the newest point."""


@dataclass(slots=True, kw_only=True)
class Asks:
    """What a plan asks for beyond mounting the newest point. Times in virtual seconds."""

    seed: int
    points: int
    order: Order
    on: tuple[Cause, ...]
    checks: bool
    bad: float
    """Share of the points whose check fails."""
    monotone: bool
    """Whether the bad points of a machine are the newest ones."""
    hold_s: float | None
    keep_failed_s: float | None
    unmount: Unmount
    requests: list[float]
    """When somebody asks that the holds end."""

    def good(self, vm: str, place: int) -> bool:
        """Tell whether the check of a machine's point passes; places count from the newest."""
        rng = random.Random(f"{self.seed}:{vm}")
        if self.monotone:
            return place >= sum(rng.random() < self.bad for _ in range(self.points))
        return [rng.random() >= self.bad for _ in range(place + 1)][-1]

    @property
    def is_holding(self) -> bool:
        """True if some mount may be held."""
        return bool(self.hold_s or self.keep_failed_s) or self.unmount is not Unmount.ALWAYS

    @property
    def longest_s(self) -> float:
        """How long one target may take for all this, beyond one mount."""
        held = max(self.hold_s or 0.0, self.keep_failed_s or 0.0)
        if self.unmount is not Unmount.ALWAYS:
            held = max(held, EVERY_S)
        return 900.0 * (self.points - 1) + held


CALM, MILD = (7,), (3, 16)
"""Of each 25 seeds, those in whose stories nothing goes wrong, and those with a fault or two."""

EVERY_S = 200.0
"""Seconds between two requests to end the holds where no hold ends by itself."""


@dataclass(slots=True, kw_only=True)
class Story:
    """What a seed stands for. Times in virtual seconds."""

    seed: int
    places: list[Place]
    settings: str
    waves: bool
    critical: bool
    missing: bool
    """One target names a machine that is not there."""
    wrong_os: bool
    watch: WatchPolicy
    network: list[tuple[float, str, str]] = field(default_factory=list)
    """(second, what, server): what is one of the network's kinds, or "well"."""
    signals: list[tuple[float, str]] = field(default_factory=list)
    strangers: list[tuple[float, str]] = field(default_factory=list)
    """(second, server) of somebody else's mounts."""
    consoles: list[tuple[float, str]] = field(default_factory=list)
    """(second, server) at which a person ends the mounts that nobody can reach any more."""
    freezes: list[tuple[float, float]] = field(default_factory=list)
    """(second, seconds) for which the process stands still."""
    asks: Asks | None = None
    open_os: bool = False
    """The plan leaves it open which systems the machines have."""
    steers: Steers | None = None
    punctual: bool = False
    """Nothing keeps the run from having unmounted everything by its deadline."""

    @property
    def is_calm(self) -> bool:
        """True if nothing goes wrong, and every target is good in the end."""
        return self.seed % 25 in CALM

    @property
    def is_mild(self) -> bool:
        """True if next to nothing goes wrong."""
        return self.seed % 25 in MILD

    @property
    def ends_s(self) -> float:
        """When everything must be over: faults, what they left, and the targets' own deadlines."""
        rounds = max(
            -(-place.machines // min(place.limit, place.backup_limit)) for place in self.places
        )
        machines, later = sum(place.machines for place in self.places), 0.0
        if self.steers is not None:
            rounds, later = self.steers.rounds(machines, rounds), self.steers.later_s(machines)
        more = self.asks.longest_s if self.asks is not None else 0.0
        more += 900.0 * self.open_os
        frozen = sum(seconds for _at, seconds in self.freezes)
        busy = any(place.neighbours for place in self.places) or self.consoles
        waiting = rounds * (BUSY_S + 900.0) + 900.0 if busy else 0.0
        return CALM_S + 900.0 + rounds * (900.0 + more) + frozen + waiting + later


def told(seed: int, more: frozenset[str] = PLAYED) -> Story:
    """Return the story of a seed; `more` are the kinds of `troubles` that it may play."""
    rng = random.Random(seed)
    names = ["hq", "dr", "branch"][: rng.choices([1, 2, 3], [64, 28, 8])[0]]
    large = rng.random() < 0.03
    places = [_place(rng, name, large=large) for name in names]
    pace = rng.choice([8.0, 15.0, 30.0])
    _forms(random.Random(f"forms:{seed}"), places, more)
    story = Story(
        seed=seed,
        places=places,
        settings=_settings(rng),
        waves=rng.random() < 0.2,
        critical=rng.random() < 0.2,
        missing=rng.random() < 0.05,
        wrong_os=rng.random() < 0.05,
        watch=WatchPolicy(shortest=pace, crowded=pace, longest=3 * pace),
    )
    _leave_open(random.Random(f"os:{seed}"), story)
    if story.is_calm:
        return _calmed(story, rng, more)
    for _ in range(rng.choice([0, 1, 1] if story.is_mild else [7, 8, 9, 10])):
        _trouble(rng, rng.choice(places))
    for place in places:
        order = list(range(len(place.rules)))
        rng.shuffle(order)
        place.faults = {new: place.faults[old] for new, old in enumerate(order)}
        place.rules = [place.rules[old] for old in order]
        _network(rng, story, place.name)
        if rng.random() < 0.2:
            story.strangers.append((rng.uniform(0.0, 90.0), place.name))
    if rng.random() < 0.2:
        first = rng.uniform(0.0, 300.0)
        story.signals = [(first, rng.choice(["SIGINT", "SIGTERM"]))]
        if rng.random() < 0.95:
            story.signals.append((first + rng.choice([0.0, 0.5, 3.0, 15.0, 60.0]), "SIGTERM"))
    _spell(random.Random(f"spell:{seed}"), places)
    _more(random.Random(f"more:{seed}"), story, more)
    _neighbours(random.Random(f"neighbours:{seed}"), story)
    if "stopped" in more:
        _stops(random.Random(f"stops:{seed}"), story)
    if seed % 5 in ASKING:
        story.asks = _asks(random.Random(f"asks:{seed}"), seed)
    _steer(random.Random(f"{seed}:controls"), story)
    if story.asks is not None and story.asks.unmount is not Unmount.ALWAYS:
        story.asks.requests += [EVERY_S * n for n in range(1, int(story.ends_s / EVERY_S))]
    return story


def _steer(rng: random.Random, story: Story) -> None:
    """Let people want something of the story; some with a deadline go wrong in nothing else."""
    places = {place.name: place.limit for place in story.places}
    has_waves = story.waves or random.Random(f"{story.seed}:gate").random() < 0.5
    backups = {name: f"vbr-{name}-01" for name in places}
    story.steers = steers(rng, places, has_waves=has_waves, backups=backups)
    if story.steers is None:
        return
    if story.asks is not None and story.asks.is_holding:
        story.steers.peeks = peeks(random.Random(f"{story.seed}:peeks"))
    story.waves = has_waves
    story.settings = story.settings.replace("limits: {", f"limits: {{{story.steers.limits}")
    if story.steers.deadline_s is not None and rng.random() < 0.5:
        _be_punctual(story)
    dice = random.Random(f"{story.seed}:rare")
    if dice.random() < 0.4 and not (story.punctual or story.is_mild):
        _trouble(dice, dice.choice(story.places), RARE)


def _be_punctual(story: Story) -> None:
    """Leave out what no deadline can be kept with: outages, lost answers, tasks without an end."""
    story.punctual = True
    for happening in (story.network, story.signals, story.strangers, story.consoles):
        happening.clear()
    story.freezes.clear()
    for place in story.places:
        place.rules.clear()
        place.faults.clear()
        place.neighbours.clear()
        place.stuck = 0.0
        place.behaviour = replace(
            place.behaviour,
            task_stop="ended",
            stopped_mount_after_s=None,
            cancel_leaves_mount=False,
            purge_finished_after=None,
        )


def _leave_open(rng: random.Random, story: Story) -> None:
    """Let some plans name no system: each Linux machine is mounted as Windows first.

    A volume that cannot be read is for those only: a plan's own word is not looked after.
    """
    story.open_os = rng.random() < 0.25
    for place in story.places if story.open_os and not story.wrong_os else ():
        shown = rng.choice(["nothing", "nothing", "unreadable"])
        place.behaviour = replace(place.behaviour, wrong_system=shown)


def _calmed(story: Story, rng: random.Random, wanted: frozenset[str]) -> Story:
    """Leave a server its moods only: none of them is a reason to say anything but good."""
    story.missing = story.wrong_os = False
    for place in story.places:
        place.failing = place.stuck = 0.0
        place.behaviour = replace(place.behaviour, backup_server_slots=64)
    _mood(rng, story, wanted)
    return story


def _forms(rng: random.Random, places: list[Place], wanted: frozenset[str]) -> None:
    """Let some servers be spoken to in JSON: nothing else of a story changes by it."""
    for place in places:
        hit, form, knobs = one_form(rng)
        if rng.random() < IN_JSON and hit in wanted:
            place.format = form
            place.behaviour = replace(place.behaviour, **knobs)
            place.moods.append(hit)


def _stops(rng: random.Random, story: Story) -> None:
    """Say what a stop does to a task of each server; some have many tasks that come to it.

    A task that has ended by its own word mounts nothing later than a run looks for it.
    """
    for place in story.places:
        answer = rng.choice(["ended", "vanished", "refused", "goes_on"])
        place.behaviour = replace(
            place.behaviour,
            task_stop=answer,
            stopped_mount_after_s=rng.choice(
                [None, 5.0, 60.0, 200.0] if answer == "ended" else [None, None, 5.0, 200.0, 400.0]
            ),
        )
        if rng.random() < 0.4:
            place.stuck = max(place.stuck, 0.3)


def _mood(rng: random.Random, story: Story, wanted: frozenset[str]) -> None:
    place = rng.choice(story.places)
    hit, knob, value = one_mood(rng)
    if hit in wanted:
        place.behaviour = replace(place.behaviour, **{knob: value})
        place.moods.append(hit)


def _asks(rng: random.Random, seed: int) -> Asks:
    checks = rng.random() < 0.85
    holding = rng.random() < 0.6
    return Asks(
        seed=seed,
        points=rng.choice([1, 2, 3, 3, 5]),
        order=rng.choice(list(Order)),
        on=rng.choice([tuple(Cause), tuple(Cause), (Cause.MOUNT_FAILED,), (Cause.CHECK_FAILED,)]),
        checks=checks,
        bad=rng.choice([0.0, 0.5, 0.5, 0.5, 0.7]) if checks else 0.0,
        monotone=rng.random() < 0.5,
        hold_s=rng.choice([None, 40.0, 300.0]) if holding else None,
        keep_failed_s=rng.choice([None, 20.0, 150.0]) if holding else None,
        unmount=rng.choice([Unmount.ALWAYS, Unmount.ALWAYS, *Unmount])
        if holding
        else Unmount.ALWAYS,
        requests=[rng.uniform(30.0, 400.0)] if holding and rng.random() < 0.4 else [],
    )


def _place(rng: random.Random, name: str, *, large: bool) -> Place:
    mood = Behaviour(
        href_host=rng.choice(["localhost", "request", "evil.example.org"]),
        related=rng.choice(["other_family", "own_family", "absent"]),
        related_answers=rng.random() < 0.5,
        operation_finished_share=rng.choice([0.0, 0.3, 1.0]),
        operation_finished_s=rng.choice([0.4, 30.0]),
        empty_mounts_are_404=rng.random() < 0.5,
        filters_tasks=rng.random() < 0.7,
        paging_keeps_filter=rng.random() < 0.5,
        purge_finished_after=rng.choice([None, None, 0.0, 10.0]),
        cancel_leaves_mount=rng.random() < 0.5,
        backup_server_slots=rng.choice([1, 4, 64]),
        unmount_s=rng.choice([0.0, 5.0]),
        latency_s=rng.choice([0.0, 0.05, 1.0]),
        message_share=rng.choice([0.0, 1.0]),
        byte_order_mark=rng.random() < 0.2,
        shuffle_attributes=rng.random() < 0.1,
    )
    return Place(
        name=name,
        seed=rng.getrandbits(32),
        machines=rng.randint(15, 30) if large else rng.choice([3, 4, 4, 5, 5, 6, 6]),
        backup_servers=rng.choice([1, 1, 2]),
        exclusive=rng.random() < 0.1,
        behaviour=mood,
        limit=rng.choice([1, 2, 4, 5, 6, 8]),
        backup_limit=rng.choice([1, 2, 4, 4, 8]),
        mount_s=rng.choice([5.0, 40.0, 90.0]),
        failing=rng.choice([0.0, 0.0, 0.2]),
        stuck=rng.choice([0.0, 0.0, 0.1]),
    )


def _settings(rng: random.Random) -> str:
    return (
        "defaults:\n"
        "  timeouts: {mount: 4m, unmount: 3m}\n"
        f"  retries: {{attempts: {rng.choice([1, 2, 3, 3])}, delay: 5s}}\n"
        f"limits: {{outage: {rng.choice([1, 5, 20, 20, 20])}m, "
        f"failures: {rng.choice([*['100%'] * 5, '2'])}"
        f"{rng.choice(['', '', '', ', mounts: 3'])}}}\n"
    )


def _trouble(rng: random.Random, place: Place, among: Sequence[str] = tuple(RULES)) -> None:
    hit = rng.choices(among, [WEIGHTS.get(kind, 1.0) for kind in among])[0]
    alternatives, method, path = RULES[hit]
    kind = rng.choice(alternatives)
    seconds = {"clock_jump": 1000.0, "drip": 40.0}.get(kind, rng.choice([5.0, 30.0, 100.0]))
    if hit == "post_silent_after":
        seconds = 400.0
    if hit == "post_acted_later":
        seconds = rng.choice([0.2, 3.0, 20.0])
    if hit == "unmount_slow":
        seconds = rng.choice([60.0, 150.0, 400.0])
    place.faults[len(place.rules)] = hit
    place.rules.append(
        Fault(
            kind=kind,
            method=method,
            path=path,
            skip=_skip(rng, hit, method),
            count=1 if hit in ONCE else rng.choice([1, 1, 2, 3, 4]),
            probability=1.0 if hit in ONCE else rng.choice([0.5, 1.0, 1.0]),
            until_s=CALM_S,
            seconds=seconds,
            retry_after=rng.choice(RETRY_AFTER[hit]) if hit in RETRY_AFTER else None,
        )
    )


def _spell(rng: random.Random, places: list[Place]) -> None:
    """Perhaps let one server answer nothing well for a while, as one whose service is stopped."""
    if rng.random() < 0.1:
        place = rng.choice(places)
        hit = rng.choice(list(SPELLS))
        begin = rng.uniform(0.0, 150.0)
        place.faults[len(place.rules)] = hit
        kind, path = SPELLS[hit]
        end = begin + rng.choice([10.0, 60.0, 300.0])
        place.rules.append(Fault(kind=kind, path=path, from_s=begin, until_s=end))


def _more(rng: random.Random, story: Story, wanted: frozenset[str]) -> None:
    """Add what `troubles` knows; the dice fall the same, whatever is wanted of it."""
    for _ in range(rng.choice([0, 0, 1] if story.is_mild else [5, 6, 7, 8])):
        place = rng.choice(story.places)
        hit, fault = one_more(rng)
        at = rng.randint(0, len(place.rules))
        if hit in wanted:
            place.adds(hit, fault, at)
    place = rng.choice(story.places)
    hit, fault = one_lasting(rng)
    if rng.random() < 0.14 and hit in wanted:
        place.adds(hit, fault)
    _mood(rng, story, wanted)
    freeze = (rng.uniform(1.0, 200.0), rng.choice([20.0, 200.0, 1000.0]))
    if rng.random() < 0.2 and "frozen" in wanted:
        story.freezes.append(freeze)
    if rng.random() < 0.18 and not story.signals and "stop_early" in wanted:
        story.signals = [(0.0, "SIGTERM")]


BUSY_S = 600.0
"""Seconds that a target of a story waits for its machine, at most."""


def _neighbours(rng: random.Random, story: Story) -> None:
    """Let others be at work on the backup servers, seen by this account, seen late, or never."""
    conflict = rng.choice(["wait"] * 6 + ["skip", "fail"])
    busy = ", busy: 10m}\n  conflict: wait" if conflict == "wait" else f"}}\n  conflict: {conflict}"
    story.settings = story.settings.replace("unmount: 3m}", f"unmount: 3m{busy}")
    for place in story.places:
        if rng.random() < 0.35:
            continue
        place.behaviour = replace(
            place.behaviour,
            shows_activity=rng.choice(["denied", "by_role", "nothing", "all", "all", "all", "all"]),
            activity_delay_s=rng.choice([0.0, 0.0, 50.0, 900.0]),
            shows_own_mounts=rng.random() < 0.8,
        )
        stays = place.name in {name for _at, name in story.strangers}  # a stranger never leaves
        place.counts_others = rng.random() < 0.3 and not stays
        for _ in range(rng.choice([0, 1, 2, 3])):
            begin = rng.uniform(-100.0, 200.0)
            place.neighbours.append(
                Neighbour(
                    rng.choice(["replication"] * 3 + ["file_restore", "restore"]),
                    rng.randrange(place.machines),
                    begin,
                    min(begin + rng.choice([60.0, 300.0, 900.0]), CALM_S),
                )
            )
        if rng.random() < 0.4:
            story.consoles.append((rng.uniform(100.0, CALM_S), place.name))
        if place.counts_others:  # what no session can reach would keep a slot for ever
            story.consoles.append((CALM_S + 300.0, place.name))


def _skip(rng: random.Random, hit: str, method: str) -> int:
    """Return how many requests pass before the first that may be struck."""
    if hit.startswith("logon") or hit in DISGUISED:
        return 0
    if hit.startswith(("post", "delete", "unmount")):
        return rng.choice([0, 0, 0, 0, 1, 2])
    return rng.choice([0, 0, 0, 1, 2, 4] if method else [0, 1, 3, 6, 10])


def _network(rng: random.Random, story: Story, name: str) -> None:
    """Add what happens to the links of one server."""
    if rng.random() > 0.22:
        return
    at = rng.uniform(0.0, 200.0)
    what = rng.choice(["refused", "swallowed", "cut", "flapping"])
    if what == "cut":
        story.network.append((at, what, name))
        return
    for _ in range(rng.randint(3, 6) if what == "flapping" else 1):
        story.network.append((at, what, name))
        lasting = rng.uniform(1.0, 8.0) if what == "flapping" else rng.uniform(5.0, 240.0)
        story.network.append((min(at + lasting, CALM_S), "well", name))
        at += lasting + rng.uniform(1.0, 15.0)


def plan_of(story: Story, machines: dict[str, list[tuple[str, str]]]) -> str:
    """Return the plan; `machines` are (name, operating system) by server."""
    lines = ["version: 1", "name: story", "servers:"]
    for place in story.places:
        lines += [
            f"  {place.name}:",
            f"    url: https://{host(place.name)}:{PORT}",
            f"    username: {ACCOUNT}",
            "    password: {env: STORY_PASSWORD}",
            *([f"    api: {{format: {place.format}}}"] if place.format else []),
            f"    limits: {{mounts: {place.limit}{', count_others: true' * place.counts_others}}}",
            "    backup_servers:",
            f"      vbr-{place.name}-01: {{mounts: {place.backup_limit}}}",
        ]
    rows = [
        f"{{vm: {name}, server: {server}, os: {os}}}"
        for server, listed in machines.items()
        for name, os in listed
    ]
    if story.missing:
        rows.append(f"{{vm: nowhere, server: {story.places[0].name}}}")
    head = "\n".join(lines) + "\n" + story.settings
    gates = story.steers.gates if story.steers is not None else ""
    if not story.waves or len(rows) < 2:
        return head + "targets:\n" + "".join(f"  - {row}\n" for row in rows)
    half = len(rows) // 2
    first = "".join(f"      - {row}\n" for row in rows[:half])
    second = "".join(f"      - {row}\n" for row in rows[half:])
    critical = "true" if story.critical else "false"
    return (
        f"{head}waves:\n"
        f"  - name: first\n    critical: {critical}\n    targets:\n{first}"
        f"  - name: second\n    after: [first]\n    targets:\n{second}{gates}"
    )
