"""Admission: limits hold at every instant, and no usable slot waits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core.model import BackupServerName, MountRequest, ServerName, WaveName
from orchestrator.engine.limits import Limits
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.slot import Slot
from tests.bench.schedule import greedy_makespan, heavy_tailed, lower_bound, request


class Room:
    """Takes delivered slots and remembers in which order they came."""

    def __init__(self) -> None:
        self.slots: dict[MountRequest, Slot] = {}
        self.order: list[str] = []
        self.refused: list[str] = []
        self.admitted: set[str] = set()

    def __call__(self, wanted: MountRequest, slot: Slot | None) -> None:
        if slot is None:
            self.refused.append(wanted.vm)
        else:
            self.order.append(wanted.vm)
            self.admitted.add(wanted.key)
            self.slots[wanted] = slot

    def release(self, vm: str) -> None:
        wanted = next(request for request in self.slots if request.vm == vm)
        self.slots.pop(wanted).release()


def equal(_request: MountRequest) -> float:
    return 1.0


def scheduler(limits: Limits, *waves: str) -> Scheduler:
    return Scheduler(limits, [WaveName(wave) for wave in waves or ("w",)], equal)


def test_a_full_narrow_limit_is_skipped_and_not_waited_for() -> None:
    """Requests behind a full backup server do not hold up those of another one."""
    room = Room()
    offered = [request(n, "hq", "busy") for n in range(3)] + [request(9, "hq", "free")]

    scheduler(Limits(backup_server_default=1)).offer(offered, room)

    assert sorted(room.order) == ["vm00000", "vm00009"]


def test_a_changed_limit_of_a_backup_server_counts_from_the_next_grant_on() -> None:
    """In any spelling of its name, down and up."""
    room, allowed = Room(), Limits(backup_server_default=2)
    door = scheduler(allowed)
    door.offer([request(n, "hq", "VBR") for n in range(6)], room)

    def changed(mounts: int) -> None:
        limits = {(ServerName("hq"), BackupServerName("vbr")): mounts}
        door.limit_to(replace(allowed, backup_servers=limits))

    changed(1)
    room.release(room.order[0])
    lowered = len(room.order)
    changed(4)

    assert (lowered, len(room.order)) == (2, 5)


def test_one_machine_is_mounted_once_at_a_time() -> None:
    """A second request for the same machine waits for the first one's release."""
    room = Room()
    offered = [request(1, "hq", "b", vm="sql01"), request(2, "hq", "b", vm="sql01")]

    scheduler(Limits(backup_server_default=4)).offer(offered, room)
    first = len(room.order)
    room.release("sql01")

    assert (first, len(room.order)) == (1, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("is_over", [False, True])
async def test_a_slot_of_a_denied_session_is_free_when_it_must_be_forgotten(
    *, is_over: bool
) -> None:
    """No second earlier, also if that is put off; and never once nothing is admitted any more."""
    room, began = Room(), anyio.current_time()
    door = scheduler(Limits(run=1))
    door.offer([request(1, "hq", "b"), request(2, "hq", "b")], room)
    until = [began + 900.0]
    room.slots[request(1, "hq", "b")].release_after(lambda: until[0] - anyio.current_time())
    until[0] += 100.0

    await anyio.sleep(999.0)
    assert room.order == ["vm00001"]
    if is_over:
        door.close()
    await anyio.sleep(2.0)

    assert room.order == ["vm00001"] + ["vm00002"] * (not is_over)
    assert door.open_mounts == 1


def test_earlier_waves_and_critical_targets_come_first() -> None:
    """Order is by wave, then critical, then the order of the plan."""
    room = Room()
    late = request(1, "hq", "b", wave="late")
    plain = request(2, "hq", "b", wave="early")
    vital = replace(request(3, "hq", "b", wave="early"), critical=True)
    door = scheduler(Limits(run=0), "early", "late")
    door.offer([late, plain, vital], room)
    door.allow(3)  # the door opens with everything in the queue

    assert room.order == ["vm00003", "vm00002", "vm00001"]


def test_the_limit_of_the_run_changes_while_it_mounts() -> None:
    """Raised, it is used at once; lowered, nothing is admitted until fewer are open than that."""
    room, door = Room(), scheduler(Limits(run=2, backup_server_default=9))
    door.offer([request(n, "hq", "b") for n in range(6)], room)

    door.allow(4)
    assert len(room.order) == 4
    door.allow(3)
    room.release("vm00000")
    assert len(room.order) == 4
    room.release("vm00001")
    assert len(room.order) == 5
    door.allow(None)
    assert len(room.order) == 6


def test_what_could_begin_is_what_all_other_limits_leave_room_for() -> None:
    """Of machines that wait, within the limits of backup servers and Enterprise Managers."""
    room, limits = Room(), Limits(run=1, servers={ServerName("lab"): 1}, backup_server_default=2)
    door = scheduler(limits)
    door.offer([request(n, "hq", "b") for n in range(5)], room)  # one of them is admitted
    door.offer([request(n, "lab", backup) for n, backup in enumerate("xy", 10)], room)
    door.offer([request(20, "moon", "b", vm="sql01"), request(21, "moon", "b", vm="sql01")], room)

    assert door.could_begin == 1 + 1 + 1
    door.close()
    assert door.could_begin == 0


def test_the_longest_known_mount_goes_first() -> None:
    """With a history, long mounts start early so that they do not end last."""
    room = Room()
    seconds = {"vm00001": 10.0, "vm00002": 900.0, "vm00003": 60.0}
    door = Scheduler(Limits(run=1), [WaveName("w")], lambda wanted: seconds[wanted.vm])

    door.offer([request(n, "hq", "b") for n in (1, 2, 3)], room)
    room.release("vm00002")
    room.release("vm00003")

    assert room.order == ["vm00002", "vm00003", "vm00001"]


def test_a_closed_server_admits_nothing_until_it_opens() -> None:
    """Targets of a parked server wait; others go on."""
    room = Room()
    door = scheduler(Limits())
    door.close_server(ServerName("hq"))
    door.offer([request(1, "hq", "b"), request(2, "dr", "b")], room)
    before = list(room.order)

    door.open_server(ServerName("hq"))

    assert (before, room.order) == (["vm00002"], ["vm00002", "vm00001"])


def test_a_forfeited_slot_never_comes_back() -> None:
    """A mount that nobody can see still counts, and those who can never start are told."""
    room = Room()
    door = scheduler(Limits(backup_server_default=1))
    door.offer([request(1, "hq", "b"), request(2, "hq", "b")], room)

    next(iter(room.slots.values())).forfeit()
    door.offer([request(3, "hq", "b")], room)

    assert (room.order, room.refused) == (["vm00001"], ["vm00002", "vm00003"])
    assert door.open_mounts == 1


def test_a_limit_that_goes_back_to_the_plan_s_turns_away_those_who_can_never_start() -> None:
    """A lower one than the plan's may be raised again: they wait for that."""
    room, planned = Room(), Limits(servers={ServerName("hq"): 2})
    door = scheduler(planned)
    door.limit_to(replace(planned, servers={ServerName("hq"): 3}, run=2))
    door.offer([request(n, "hq", "b") for n in (1, 2, 3)], room)
    for slot in room.slots.values():
        slot.forfeit()
    before = list(room.refused), door.waits_for_higher_limits

    door.limit_to(planned)

    assert before == ([], True)
    assert (room.order, room.refused) == (["vm00001", "vm00002"], ["vm00003"])
    assert not door.waits_for_higher_limits


def test_a_slot_held_without_end_counts_and_turns_away_those_who_can_never_start() -> None:
    """It is in every limit, no work of the server, and free for others once its hold is over."""
    room = Room()
    door = scheduler(Limits(backup_server_default=1))
    door.offer([request(1, "hq", "b"), request(2, "hq", "b"), request(9, "hq", "c")], room)
    slot = next(slot for wanted, slot in room.slots.items() if wanted.vm == "vm00001")

    slot.idle(endless=True)
    held = (door.open_mounts, door.working_on(ServerName("hq")), door.is_held_full)
    door.offer([request(3, "hq", "b")], room)
    slot.wake()
    awake = (door.working_on(ServerName("hq")), door.is_held_full)
    door.offer([request(4, "hq", "b")], room)
    slot.release()

    assert (held, awake) == ((2, 1, True), (2, False))
    assert room.refused == ["vm00002", "vm00003"]
    assert room.order == ["vm00001", "vm00009", "vm00004"]


def test_a_slot_held_for_a_time_turns_nobody_away() -> None:
    """What waits gets its turn when the hold is over."""
    room = Room()
    door = scheduler(Limits(run=1))
    door.offer([request(1, "hq", "b"), request(2, "hq", "b")], room)

    next(iter(room.slots.values())).idle(endless=False)
    waiting = list(room.refused)
    room.release("vm00001")

    assert (waiting, room.order) == ([], ["vm00001", "vm00002"])
    assert door.working_on(ServerName("hq")) == 1


def test_held_mounts_are_no_load_that_holds_others_back() -> None:
    """A server that bears one mount at work gets another one while the first only is held."""
    room = Room()
    door = Scheduler(Limits(), [WaveName("w")], equal, lambda server: 1)
    door.offer([request(1, "hq", "b"), request(2, "hq", "b")], room)

    next(iter(room.slots.values())).idle(endless=False)

    assert room.order == ["vm00001", "vm00002"]


def test_a_slot_released_twice_counts_once() -> None:
    """Release is safe to repeat."""
    room = Room()
    door = scheduler(Limits(run=1))
    door.offer([request(n, "hq", "b") for n in (1, 2, 3)], room)
    slot = room.slots[next(iter(room.slots))]

    slot.release()
    slot.release()

    assert door.open_mounts == 1
    assert len(room.order) == 2


def test_closing_gives_everybody_an_answer() -> None:
    """Nothing that waits is forgotten when the run submits nothing more."""
    room = Room()
    door = scheduler(Limits(run=1))
    door.offer([request(n, "hq", "b") for n in (1, 2, 3)], room)

    door.close()
    door.offer([request(4, "hq", "b")], room)

    assert room.refused == ["vm00002", "vm00003", "vm00004"]


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Limits, list[MountRequest], int]:
    """Draw limits, requests over a few servers and machines, and a seed."""
    small = st.integers(1, 4)
    servers = [ServerName(name) for name in "ab"]
    limits = Limits(
        run=draw(st.none() | st.integers(1, 6)),
        per_vm=draw(st.integers(1, 2)),
        waves={WaveName("w0"): draw(small)} if draw(st.booleans()) else {},
        servers={name: draw(small) for name in servers if draw(st.booleans())},
        backup_servers={(servers[0], BackupServerName("x")): draw(small)},
        backup_server_default=draw(small),
    )
    places = draw(
        st.lists(
            st.tuples(
                st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 9), st.integers(0, 1)
            ),
            max_size=40,
        )
    )
    requests = [
        request(n, server, backup, vm=f"vm{vm}", wave=f"w{wave}")
        for n, (server, backup, vm, wave) in enumerate(places)
    ]
    return limits, requests, draw(st.integers(0, 999))


def exceeded(limits: Limits, held: list[MountRequest], extra: MountRequest | None = None) -> bool:
    """Tell from first principles whether the held requests break a limit."""
    crowd = [*held, *([extra] if extra else [])]
    servers = Counter(r.server for r in crowd)
    backups = Counter((r.server, r.backup_server) for r in crowd)
    machines = Counter((r.server, r.backup_server, r.vm) for r in crowd)
    waves = Counter(r.wave for r in crowd)
    return (
        (limits.run is not None and len(crowd) > limits.run)
        or any(n > limits.servers.get(name, n) for name, n in servers.items())
        or any(
            n > limits.backup_servers.get(name, limits.backup_server_default)
            for name, n in backups.items()
        )
        or any(n > limits.per_vm for n in machines.values())
        or any(n > limits.waves.get(name, n) for name, n in waves.items())
    )


@given(crowds())
@settings(deadline=None, max_examples=150)
def test_limits_hold_and_no_usable_slot_waits(case: tuple[Limits, list[MountRequest], int]) -> None:
    """At every instant: no limit is exceeded, and nothing that could run is waiting."""
    limits, requests, seed = case
    rng = random.Random(seed)
    room = Room()
    door = Scheduler(limits, [WaveName("w0"), WaveName("w1")], equal)
    half = len(requests) // 2

    door.offer(requests[:half], room)
    offered = requests[:half]
    while room.slots or len(offered) < len(requests):
        if len(offered) < len(requests) and (not room.slots or rng.random() < 0.3):
            door.offer(requests[half:], room)
            offered = requests
        else:
            gone = rng.choice(list(room.slots))
            room.slots.pop(gone).release()
        held = list(room.slots)
        waiting = [one for one in offered if one.key not in room.admitted]
        assert not exceeded(limits, held)
        assert all(exceeded(limits, held, one) for one in waiting)
    assert len(room.order) == len(requests)


class Elsewhere:
    """What other runs have open, as a test sets it; claims what fits."""

    is_present, trouble, is_unsure, earlier_seen_at = True, None, False, None

    def __init__(self) -> None:
        self.open: Counter[tuple[str, ...]] = Counter()

    def on_server(self, server: ServerName) -> int:
        return self.open[(server,)]

    def behind(self, server: ServerName, backup_server: BackupServerName) -> int:
        return self.open[server, backup_server]

    def of_machine(self, server: ServerName, backup_server: BackupServerName, vm: str) -> int:
        return self.open[server, backup_server, vm]

    def claim(self, request: MountRequest, fits: Callable[[], bool]) -> int | None:
        return 1 if fits() else None

    def occupy(self, request: MountRequest) -> int:
        return 1

    def release(self, number: int) -> None:
        return None

    def forget_earlier(self) -> None:
        return None

    def look(self) -> bool:
        return True

    def why_waiting(self, request: MountRequest) -> str:
        return "another run"

    def meet(self, server: ServerName, endpoints: frozenset[str]) -> None:
        raise NotImplementedError

    def sharing_sessions(self, server: ServerName) -> frozenset[str]:
        raise NotImplementedError

    def sessions(self) -> frozenset[str]:
        return frozenset()


@given(crowds())
@settings(deadline=None, max_examples=150)
def test_what_others_have_open_and_a_server_bears_counts(
    case: tuple[Limits, list[MountRequest], int],
) -> None:
    """Room that comes and goes from outside is respected, and used as soon as it is known."""
    limits, requests, seed = case
    rng, room, elsewhere = random.Random(seed), Room(), Elsewhere()
    bears = {ServerName("a"): 3, ServerName("b"): 3}
    waves = [WaveName("w0"), WaveName("w1")]
    door = Scheduler(limits, waves, equal, lambda server: bears[server], elsewhere)
    door.offer(requests, room)

    for _ in range(30):
        wanted = rng.choice(requests) if requests else request(1, "a", "x")
        place = (wanted.server, wanted.backup_server, wanted.vm)[: rng.randint(1, 3)]
        elsewhere.open[place] = rng.choice([0, 0, 1, 2])
        bears[wanted.server] = rng.randint(1, 4)
        before = list(room.slots)
        door.open_server(wanted.server)
        door.look_again()
        if room.slots:
            room.slots.pop(rng.choice(list(room.slots))).release()

        held = list(room.slots)
        assert not exceeded(limits, held)
        new = [each for each in held if each not in before]
        for each in new:
            assert not beside(limits, [one for one in held if one is not each], each, elsewhere)
        waiting = [one for one in requests if one.key not in room.admitted]
        for one in waiting:
            here = [each for each in held if each.server == one.server]
            full = exceeded(limits, held, one) or len(here) >= bears[one.server]
            assert full or beside(limits, here, one, elsewhere)


def beside(
    limits: Limits, held: list[MountRequest], one: MountRequest, elsewhere: Elsewhere
) -> bool:
    """Tell whether one more breaks a limit together with what other runs have open."""
    there = [each for each in held if each.server == one.server]
    behind = [each for each in there if each.backup_server == one.backup_server]
    same = [each for each in behind if each.vm == one.vm]
    backup = (one.server, one.backup_server)
    return (
        len(there) + elsewhere.on_server(one.server) >= limits.servers.get(one.server, 10**6)
        or len(behind) + elsewhere.behind(*backup)
        >= limits.backup_servers.get(backup, limits.backup_server_default)
        or len(same) + elsewhere.of_machine(*backup, one.vm) >= limits.per_vm
    )


@pytest.mark.parametrize("order", ["as planned", "reversed", "shuffled"])
def test_machines_with_several_points_end_near_the_bound(order: str) -> None:
    """A machine's points are mounted one after another: the longest chains start first."""
    chains = [request(n, "hq", f"b{n % 4}", vm=f"db{n % 12}") for n in range(240)]
    requests = [*(request(n, "hq", f"b{n % 4}") for n in range(240, 480)), *chains]
    if order == "reversed":
        requests.reverse()
    elif order == "shuffled":
        random.Random(order).shuffle(requests)
    limits = Limits(servers={ServerName("hq"): 24}, backup_server_default=8)

    ratio = greedy_makespan(requests, limits, equal, equal) / lower_bound(requests, limits, equal)

    assert ratio <= 1.05


def test_a_later_wave_that_bounds_the_end_starts_in_time() -> None:
    """Waves that do not wait for each other end near the bound, whatever their tail shares."""
    rng = random.Random(5)
    requests = [request(n, "hq", f"b{n % 4}", wave="first") for n in range(300)]
    requests += [request(n, "hq", "b0", wave="second") for n in range(300, 380)]
    seconds = dict(zip(requests, heavy_tailed(rng, len(requests), sigma=0.3), strict=True))
    limits = Limits(run=30, servers={ServerName("hq"): 12}, backup_server_default=4)

    ratio = greedy_makespan(requests, limits, seconds.__getitem__, lambda each: 180.0) / (
        lower_bound(requests, limits, seconds.__getitem__)
    )

    assert ratio <= 1.05


def test_a_later_wave_never_goes_ahead_of_a_critical_target() -> None:
    """The backlog of a later wave does not delay what may end the run."""
    room = Room()
    vital = [replace(request(n, "hq", f"b{n}", wave="early"), critical=True) for n in range(3)]
    plain = [request(n, "hq", f"b{n}", wave="early") for n in range(3, 5)]
    late = [request(n, "hq", "full", wave="late") for n in range(5, 40)]
    door = scheduler(Limits(run=2, backup_server_default=1), "early", "late")
    door.offer([*late, *plain, *vital], room)

    for vm in ("vm00000", "vm00001"):
        room.release(vm)

    assert room.order[:3] == ["vm00000", "vm00001", "vm00002"]
    assert room.order[3:] == ["vm00005"], "then what bounds the end goes ahead of the wave"


class Counting(Scheduler):
    """Counts how often room is looked for."""

    asked = 0

    def has_backup_room(self, backup: tuple[ServerName, BackupServerName], **how: bool) -> bool:
        self.asked += 1
        return super().has_backup_room(backup, **how)

    def has_server_room(self, server: ServerName, **how: bool) -> bool:
        self.asked += 1
        return super().has_server_room(server, **how)

    def has_machine_room(self, machine: tuple[ServerName, BackupServerName, str]) -> bool:
        self.asked += 1
        return super().has_machine_room(machine)


@pytest.mark.parametrize("servers", [1, 20, 2000])
def test_giving_a_slot_back_costs_the_same_at_any_number_of_lanes(servers: int) -> None:
    """What is looked at after a release does not grow with servers and backup servers."""
    asked = []
    for lanes in (16, 2000):
        some = min(servers, lanes)
        requests = [
            request(n, f"em{n % some}", f"b{n // some % (lanes // some)}") for n in range(3 * lanes)
        ]
        room = Room()
        door = Counting(Limits(run=8), [WaveName("w")], equal)
        door.offer(requests, room)
        door.asked = 0
        for _ in range(16):
            room.slots.pop(next(iter(room.slots))).release()
        asked.append(door.asked)

    assert asked[1] <= asked[0] * 3


@pytest.mark.parametrize("arrangement", ["by server", "interleaved", "random", "by backup server"])
def test_any_arrangement_of_the_plan_ends_near_the_bound(arrangement: str) -> None:
    """Nested limits cost little, whatever the order of the plan: at most 8 % over the bound."""
    rng = random.Random(arrangement)
    requests = arrange(arrangement, rng)
    seconds = dict(zip(requests, heavy_tailed(rng, len(requests), sigma=0.3), strict=True))
    limits = Limits(run=30, servers={ServerName(name): 12 for name in "abc"})

    ratio = greedy_makespan(requests, limits, seconds.__getitem__, equal) / lower_bound(
        requests, limits, seconds.__getitem__
    )

    assert ratio <= 1.08


def arrange(kind: str, rng: random.Random, count: int = 600) -> list[MountRequest]:
    """Return requests for 3 servers with 4 backup servers each, in the named order."""
    requests = [request(n, "abc"[n % 3], f"{'abc'[n % 3]}{n // 3 % 4}") for n in range(count)]
    if kind == "by server":
        requests.sort(key=lambda wanted: wanted.server)
    elif kind == "by backup server":
        requests.sort(key=lambda wanted: wanted.backup_server)
    elif kind == "random":
        rng.shuffle(requests)
    return requests
