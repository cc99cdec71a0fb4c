"""Guests whose system the plan leaves open, and Windows guests that a Linux server mounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core.events import (
    Event,
    MountReleased,
    NothingReadable,
    SystemFound,
    TargetEvent,
    UnmountStarted,
)
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.proof import Check, DirCheck, PathCheck
from orchestrator.engine.run import Run
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.guests import shown_volume
from orchestrator.simulator.inventory import AGENTS, Inventory
from orchestrator.simulator.truth import GroundTruth
from tests.scenarios.crash import Doom
from tests.scenarios.demanding import demand
from tests.scenarios.drill import Drill, Site, Stage, drill, servers_yaml, staged

pytestmark = pytest.mark.anyio

WINDOWS: list[Check] = [
    PathCheck(path=r"C:\Windows\notepad.exe"),
    DirCheck(dir=r"E:\Data", glob="*.mdf"),
]
LINUX: list[Check] = [PathCheck(path="/etc/fstab")]


def of_systems(*systems: str, **facts: object) -> Callable[[Inventory], None]:
    """Return a change of a server's machines: their systems in turn, all in one job."""

    def change(inventory: Inventory) -> None:
        for number, machine in enumerate(inventory.machines):
            machine.os = systems[number % len(systems)]
            machine.job = "Everything"
            for name, value in facts.items():
                setattr(machine, name, value)
        inventory.by_job.clear()
        for machine in inventory.machines:
            for point in machine.points:
                inventory.by_job.setdefault((point.family, "everything"), []).append(point)

    return change


MIXED = Site(machines=24, change=of_systems("Windows", "Windows", "Linux"))
JOB = "targets:\n  - {job: Everything, expect: {min: 24, max: 24}}\n"


def systems(done: Drill) -> Counter[tuple[str, str]]:
    """Return as which systems the targets were mounted in the end, and how that was known."""
    return Counter((each["os"], each.get("os_known", "plan")) for each in done.report["targets"])


def mounts(done: Drill) -> int:
    """Return how many mounts the servers ever made."""
    return len(done.truth.mounts)


async def test_a_job_of_windows_and_linux_machines_is_one_selector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 Windows and 8 Linux machines: all good; only the first run needs a mount too many."""
    async with staged(tmp_path, monkeypatch, [MIXED], JOB) as stage:
        first = await stage.run()
        assert first.outcome.code == 0
        assert Counter(first.results().values()) == {"mounted": 24}
        assert systems(first) == {("windows", "found_out"): 16, ("linux", "found_out"): 8}
        assert mounts(first) == 24 + 8

        second = await another(stage)

    assert second.outcome.code == 0
    assert Counter(second.results().values()) == {"mounted": 24}
    assert systems(second) == {("windows", "found_out"): 16, ("linux", "earlier_run"): 8}
    assert mounts(second) == 24
    assert second.truth.peaks["server:hq"] <= MIXED.limit


async def another(stage: Stage) -> Drill:
    """Conduct another run with the same plan and state directory; only its mounts count."""
    stage.sites.truth.mounts.clear()
    stage.history += 1
    stage.report = stage.report.parent / f"report-{stage.history}"
    return await stage.run()


async def test_the_second_mount_costs_no_attempt_and_takes_no_second_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one attempt and one slot a Linux machine is good all the same."""
    site = Site(machines=3, limit=1, change=of_systems("Linux"))
    plan = "defaults: {retries: {attempts: 1}}\ntargets:\n  - {job: Everything}\n"

    done = await drill(tmp_path, monkeypatch, [site], plan)

    assert (done.outcome.code, mounts(done)) == (0, 6)
    assert done.truth.peaks["server:hq"] == 1
    assert [each["os"] for each in done.report["targets"][0]["attempts"]] == ["windows", "linux"]


async def test_a_volume_that_cannot_be_listed_is_not_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server shows of a guest of the other system counts only if it can be listed."""
    behaviour = Behaviour(wrong_system="unreadable")
    site = Site(machines=4, behaviour=behaviour, change=of_systems("Windows", "Linux"))

    done = await drill(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n")

    assert (done.outcome.code, mounts(done)) == (0, 6)
    assert systems(done) == {("windows", "found_out"): 2, ("linux", "found_out"): 2}


async def test_what_is_readable_as_neither_system_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two mounts, one verdict, and nothing that a later run would believe."""
    site = Site(machines=1, change=of_systems("Windows", roots=()))
    async with staged(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n") as stage:
        done = await stage.run()
        again = await another(stage)

    (target,) = done.report["targets"]
    assert target["result"] == "failed"
    assert target["message"] == "mounted as Windows and as Linux, but no volume is readable"
    assert (target["os"], target["os_known"]) == ("windows", "assumed")
    assert mounts(again) == 2
    assert again.report["targets"][0]["attempts"][0]["os"] == "windows"


async def test_a_system_that_the_plan_names_is_not_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One mount, and the words that lead to the mistake."""
    site = Site(machines=1, change=of_systems("Linux"))
    plan = "targets:\n  - {job: Everything, os: windows}\n"

    done = await drill(tmp_path, monkeypatch, [site], plan)

    (target,) = done.report["targets"]
    assert (target["result"], mounts(done)) == ("failed", 1)
    assert "is the plan's `os` right?" in target["message"]


async def test_what_a_plan_said_of_a_machine_is_not_what_the_next_one_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has looked whether it is Linux: a plan that leaves it open finds it out."""
    site = Site(machines=1, change=of_systems("Linux"))
    named = "targets:\n  - {job: Everything, os: linux}\n"
    async with staged(tmp_path, monkeypatch, [site], named) as stage:
        await stage.run()
        stage.loaded = load_plan_text(
            (servers_yaml([site]) + named.replace(", os: linux", "")).encode(),
            tmp_path / "plan.yaml",
        )
        done = await another(stage)

    assert systems(done) == {("linux", "found_out"): 1}
    assert mounts(done) == 2


async def test_a_machine_that_changed_its_system_is_found_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What earlier runs know is only where the search begins."""
    site = Site(machines=1, change=of_systems("Linux"))
    async with staged(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n") as stage:
        await stage.run()
        (machine,) = stage.sites.managers["hq"].inventory.machines
        machine.os = "Windows"
        changed = await another(stage)
        last = await another(stage)

    assert systems(changed) == {("windows", "found_out"): 1}
    assert [each["os"] for each in changed.report["targets"][0]["attempts"]] == ["linux", "windows"]
    assert systems(last) == {("windows", "earlier_run"): 1}
    assert mounts(last) == 1


async def test_no_system_is_named_to_mount_an_agent_so_it_is_mounted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would be different the second time; `/` shows that it is Linux."""
    site = Site(
        machines=2,
        families=(AGENTS,),
        role="Portal Administrator",
        change=of_systems("Linux", roots=("/",)),
    )
    plan = "defaults: {source: agent}\ntargets:\n  - {job: Everything}\n"
    demand(monkeypatch, {"linux": LINUX})

    done = await drill(tmp_path, monkeypatch, [site], plan)

    assert (done.outcome.code, mounts(done)) == (0, 2), done.report["targets"][0]["message"]
    assert systems(done) == {("linux", "found_out"): 2}


async def test_each_machine_passes_the_checks_of_its_own_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two sets the other one is left out, and the report says so."""
    demand(monkeypatch, {"windows": WINDOWS, "linux": LINUX})

    done = await drill(tmp_path, monkeypatch, [MIXED], JOB)

    assert done.outcome.code == 0
    assert Counter(done.results().values()) == {"verified": 24}
    left_out = [
        (check["name"], target["os"])
        for target in done.report["targets"]
        for check in target["checks"]
        if check.get("warning")
    ]
    assert Counter(left_out) == {("linux", "windows"): 16, ("windows", "linux"): 8}


async def test_a_set_is_left_out_only_where_another_one_is_for_the_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Linux machine for which only Windows paths are asked is not good."""
    site = Site(machines=2, change=of_systems("Windows", "Linux"))
    demand(monkeypatch, {"windows": WINDOWS})

    done = await drill(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n")

    assert Counter(done.results().values()) == {"verified": 1, "failed": 1}


# --- killed, stopped --------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [NothingReadable, UnmountStarted, MountReleased, SystemFound])
async def test_a_resume_knows_which_system_was_tried(
    moment: type[TargetEvent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the first process dies, each system is tried once, and nothing stays mounted."""
    site = Site(machines=1, behaviour=Behaviour(unmount_s=3.0), change=of_systems("Linux"))
    async with staged(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n") as stage:
        seen = Seen()
        doom = Doom(stage, monkeypatch)
        died = await doom.lives(
            lambda: stage.run(observers=[seen]), when=lambda: moment in seen.kinds
        )
        assert died is None
        done = await stage.resume()

    assert (done.outcome.code, mounts(done)) == (0, 2)
    assert systems(done) == {("linux", "found_out"): 1}


class Seen:
    """Notes which events were recorded."""

    def __init__(self) -> None:
        self.kinds: list[type[Event]] = []

    def observe(self, event: Event, record: MountRecord | None) -> None:
        _ = record
        self.kinds.append(type(event))


class Ending:
    """Ends the run as soon as nothing was readable as the first system."""

    def __init__(self, end: Callable[[Run], None]) -> None:
        self.end = end
        self.begun: list[Run] = []

    def observe(self, event: Event, record: MountRecord | None) -> None:
        _ = record
        if isinstance(event, NothingReadable):
            self.end(self.begun[-1])


ENDS: dict[str, tuple[Callable[[Run], None], str]] = {
    "stopped": (lambda run: run.stop("SIGINT"), "the run was stopped first (SIGINT)"),
    "halted": (
        lambda run: run.shard._board.halt("deadline", "it took too long"),
        "the run halted first: it took too long",
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_run_that_ends_between_the_two_mounts_leaves_the_target_to_a_resume(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted as the wrong system: that is what failed, and its resume begins with the other."""
    site = Site(machines=1, change=of_systems("Linux"))
    async with staged(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n") as stage:
        act, why = ENDS[end]
        ending = Ending(act)

        ended = await stage.run(observers=[ending], on_run=ending.begun.append)

        (target,) = ended.report["targets"]
        assert (target["result"], target["mount"]) == ("failed", "released")
        assert (target["cause"], target["os"], target["os_known"]) == (
            "wrong_os", "windows", "assumed",
        )  # fmt: skip
        assert target["message"] == (
            f"mounted as Windows, and nothing was readable; not mounted as Linux: {why}"
        )
        done = await stage.resume()

    assert (done.outcome.code, mounts(done)) == (0, 2)
    assert systems(done) == {("linux", "found_out"): 1}
    assert [each["os"] for each in done.report["targets"][0]["attempts"]] == ["windows", "linux"]


async def test_a_resume_that_ends_before_the_other_system_leaves_it_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken up and not tried: still the same failure, and the next resume tries it."""
    site = Site(machines=1, change=of_systems("Linux"))
    async with staged(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n") as stage:
        ending = Ending(lambda run: run.stop("SIGINT"))
        await stage.run(observers=[ending], on_run=ending.begun.append)

        again = await stage.resume(on_run=lambda run: run.stop("SIGTERM"))

        (target,) = again.report["targets"]
        assert (target["result"], target["cause"], target["os"]) == (
            "failed", "wrong_os", "windows",
        )  # fmt: skip
        assert target["message"] == (
            "mounted as Windows, and nothing was readable; not mounted as Linux: the run was "
            "stopped first (SIGTERM)"
        )
        done = await stage.resume()

    assert (done.outcome.code, mounts(done)) == (0, 2)


# --- no drive letters -------------------------------------------------------------------------


def letterless(**facts: object) -> Site:
    """Return a server with one Windows machine whose volumes a Linux server mounts."""
    return Site(machines=1, change=of_systems("Windows", letterless=True, **facts))


def volume_of(site: Site, letter: str) -> str:
    """Return what the mount calls a volume of the site's machine."""
    (machine,) = site.manager(GroundTruth(), 0).inventory.machines
    return shown_volume(machine, letter)


@pytest.mark.parametrize("os", ["auto", "windows"])
async def test_what_has_no_drive_letter_cannot_be_judged(
    os: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither good nor failed: exit code 3, an error in JUnit, and the volumes by name."""
    site = letterless()
    demand(monkeypatch, {"windows": WINDOWS})

    plan = f"targets:\n  - {{job: Everything, os: {os}}}\n"
    done = await drill(tmp_path, monkeypatch, [site], plan)

    (target,) = done.report["targets"]
    names = ", ".join(volume_of(site, letter) for letter in ("Volume$0:", "C:", "E:"))
    why = f"cannot be judged: this mount shows no drive letters (volumes: {names})"
    assert (done.outcome.code, target["result"], mounts(done)) == (3, "unknown", 1)
    assert {check["observed"] for check in target["checks"]} == {why}
    assert all(check["undecided"] and not check["passed"] for check in target["checks"])
    assert why in target["message"]
    junit = (tmp_path / "report" / "junit.xml").read_text()
    assert 'failures="0" errors="1"' in junit
    assert "NOT JUDGED" in junit


async def test_the_plan_says_which_volume_has_which_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `volumes` the same checks are made, and pass."""
    site = letterless()
    named = f"{{C: {volume_of(site, 'C:')}, e: {volume_of(site, 'E:').upper()}}}"
    demand(monkeypatch, {"windows": WINDOWS})

    plan = f"defaults: {{volumes: {named}}}\ntargets:\n  - {{job: Everything}}\n"
    done = await drill(tmp_path, monkeypatch, [site], plan)

    assert (done.outcome.code, done.results().popitem()[1]) == (0, "verified")


async def test_a_check_that_fails_is_worse_than_one_that_cannot_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One letter is known, and what should be there is not."""
    site = letterless()
    checks = [PathCheck(path=r"C:\gone"), PathCheck(path=r"E:\Data")]
    demand(monkeypatch, {"windows": checks})

    plan = f"targets:\n  - {{job: Everything, volumes: {{C: {volume_of(site, 'C:')}}}}}\n"
    done = await drill(tmp_path, monkeypatch, [site], plan)

    (target,) = done.report["targets"]
    assert (done.outcome.code, target["result"]) == (1, "failed")
    assert "there is no such file or directory" in target["message"]


async def test_a_letter_that_is_not_among_others_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that shows drive letters shows all of them."""
    site = Site(machines=1, change=of_systems("Windows"))
    demand(monkeypatch, {"windows": [PathCheck(path=r"Q:\x")]})

    done = await drill(tmp_path, monkeypatch, [site], "targets:\n  - {job: Everything}\n")

    (target,) = done.report["targets"]
    assert (target["result"], target["checks"][0].get("undecided")) == ("failed", None)
    assert "there is no volume Q:" in target["message"]


async def test_nothing_is_copied_from_what_cannot_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are copied of points that passed; the target stays undecided."""
    demand(monkeypatch, {"windows": WINDOWS})
    plan = (
        "targets:\n  - job: Everything\n"
        "    download: [{path: 'C:\\Windows\\notepad.exe', to: out/}]\n"
    )

    done = await drill(tmp_path, monkeypatch, [letterless()], plan)

    (target,) = done.report["targets"]
    assert target["result"] == "unknown"
    assert [copied["fate"] for copied in target["downloads"]] == ["failed"]
    assert not (tmp_path / "out").exists()


async def test_an_agent_with_nothing_readable_is_mounted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other system could be named."""
    site = Site(
        machines=1,
        families=(AGENTS,),
        role="Portal Administrator",
        change=of_systems("Linux", roots=()),
    )
    plan = "defaults: {source: agent}\ntargets:\n  - {job: Everything}\n"

    done = await drill(tmp_path, monkeypatch, [site], plan)

    (target,) = done.report["targets"]
    assert (target["result"], mounts(done)) == ("failed", 1)
    assert target["message"] == "mounted, but no volume is readable"
