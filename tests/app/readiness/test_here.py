"""This machine's part: other runs, the journal, room for downloads, the expected duration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app.readiness.expected import expected_duration
from orchestrator.app.readiness.findings import Finding, Scope, Status, Subject
from orchestrator.app.readiness.here import disk_findings, journal_findings
from orchestrator.core.model import MountKey, MountRequest, ServerName, WaveName
from orchestrator.core.proof import Download
from orchestrator.core.text import duration
from orchestrator.engine.limits import Limits
from orchestrator.journal import State
from orchestrator.plan.file.settings import Wave
from tests.app.readiness.desk import Answers, asked, at_desk, checked
from tests.plan.builders import expanded, point
from tests.scenarios.drill import Site, staged

pytestmark = pytest.mark.anyio

RUN = Subject(Scope.RUN, "plan")
OK, WARNING = Status.OK, Status.WARNING
PROBLEM, NOT_VISIBLE = Status.PROBLEM, Status.NOT_VISIBLE


# --- other runs and the journal ------------------------------------------------------------------


async def test_a_run_of_the_same_plan_is_seen_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a real run holds its lock: the plan, its machines and its open mounts are told."""
    async with staged(tmp_path, monkeypatch) as stage, anyio.create_task_group() as tasks:
        tasks.start_soon(stage.run)
        await anyio.sleep(30.0)
        during = await checked_beside_a_run(stage)
        await anyio.sleep(60.0)
        later = await checked_beside_a_run(stage)
        await anyio.sleep(3600.0)
        after = await checked_beside_a_run(stage)

    assert during.problems == {("scenario", "same_plan")}
    assert "20261123T060000Z-0001" in during.of("scenario", "same_plan").detail
    busy = [each for each in during.readiness.findings if each.item == "other_run"]
    assert len(busy) == during.readiness.targets == 8
    left = [each for each in later.readiness.findings if each.item == "other_run"]
    assert 0 < len(left) < 8, "what that run has done with is free again"
    held = during.of("hq", "open_mounts")
    assert held.status is WARNING
    assert "holds 6 mounts there now" in held.detail
    assert "beside the plan's 6" in held.detail

    assert after.readiness.is_ready
    assert after.of("hq", "open_mounts").status is NOT_VISIBLE
    assert after.of("scenario", "duration").status is OK


async def checked_beside_a_run(stage: Any) -> Answers:
    """Check without comparing the files of the state directory: the run writes them."""
    from orchestrator.app.readiness.checking import check
    from orchestrator.app.wiring import Choices

    return Answers(await check(stage.loaded, Choices(state=stage.state), world=stage.world()))


async def test_a_history_gives_the_duration_of_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one run, the forecast is close to what it took; the journal is as it was."""
    async with staged(tmp_path, monkeypatch) as stage:
        took = (await stage.run()).outcome.report.run.duration_s
        found = await asked(stage)

    told = found.of("scenario", "duration")
    assert told.status is OK
    assert "no history" not in told.detail
    forecast = expected_of(tmp_path, stage.loaded.plan.waves, 6)
    assert duration(forecast) in told.detail
    assert forecast == pytest.approx(took, rel=0.15)


def expected_of(directory: Path, waves: tuple[Wave, ...], server: int) -> float:
    """Return the forecast for the machines that a journal knows."""
    state = State(directory / "state")
    run = state.find("last")
    records = state.replay(run).records.values()
    requests = [
        replace(
            target(record.planned.vm, behind=record.planned.backup_server or ""),
            key=record.planned.key,
            wave=waves[0].name,
        )
        for record in records
    ]
    limits = Limits(servers={ServerName("hq"): server})
    durations = state.durations(state.naming(run))
    found = expected_duration(requests, waves, limits, durations)
    assert found.seconds is not None
    return found.seconds


async def test_a_forecast_beyond_the_deadline_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run would end before its last target."""
    async with staged(tmp_path, monkeypatch) as stage:
        await stage.run()
        plan = stage.loaded.plan
        hurried = replace(plan, limits=replace(plan.limits, deadline=60.0))
        found = await asked(stage, replace(stage.loaded, plan=hurried))

    assert found.of("scenario", "duration").status is WARNING
    assert "the deadline is 1 min" in found.of("scenario", "duration").detail


async def test_nothing_is_made_where_there_is_no_state_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No journal, no lock, not even the directory."""
    async with at_desk(tmp_path, monkeypatch) as stage:
        found = await asked(stage)
        assert not stage.state.exists()

    assert found.of("scenario", "journal").status is OK
    assert found.of("scenario", "duration").detail == "no history for 8 of 8 targets"


async def test_a_damaged_journal_is_a_problem_and_the_rest_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run could not be recorded; what the journal would tell is not visible."""
    async with at_desk(tmp_path, monkeypatch) as stage:
        stage.state.mkdir()
        (stage.state / "journal.sqlite").write_bytes(b"no journal at all" * 100)
        found = await asked(stage)

    assert found.problems == {("scenario", "journal")}
    assert found.of("scenario", "same_plan").status is NOT_VISIBLE
    assert found.of("scenario", "duration").status is NOT_VISIBLE
    assert found.of("hq", "role").status is OK


def test_a_state_directory_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found out without writing."""
    state = State(tmp_path / "a" / "b")
    assert journal_findings(RUN, state, None).status is OK

    (tmp_path / "a").write_text("a file")
    assert journal_findings(RUN, state, None).status is PROBLEM
    (tmp_path / "a").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert journal_findings(RUN, state, None).status is PROBLEM


# --- downloads --------------------------------------------------------------------------------


def target(vm: str = "a", *downloads: Download, behind: str = "vbr-01") -> MountRequest:
    """Return a target on server hq."""
    (found,) = expanded(f"targets: [{{vm: {vm}}}]", point(vm, behind=behind)).requests
    return replace(found, downloads=downloads)


def room(tmp_path: Path, *downloads: Download) -> list[Finding]:
    """Return what is said of the disks for two targets with these downloads."""
    return list(disk_findings(RUN, [target("a", *downloads), target("b", *downloads)]))


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let every file system have `size` bytes left."""
    real = os.statvfs

    def fake(path: Any) -> Any:
        facts = list(real(path))
        facts[0], facts[1], facts[4] = 1, 1, size
        return os.statvfs_result(facts)

    monkeypatch.setattr(os, "statvfs", fake)


def test_downloads_are_added_up_per_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they may take in all, against what is free there; nothing is made to find out."""
    download = Download(path="C:/a", to=f"{tmp_path}/not/there/yet/", max_size=3 * 2**20)

    free(monkeypatch, 6 * 2**20)
    (enough,) = room(tmp_path, download)
    free(monkeypatch, 6 * 2**20 - 1)
    (short,) = room(tmp_path, download)

    assert enough.status is OK
    assert enough.detail == f"downloads may take 6.0 MiB below {tmp_path}, 6.0 MiB are free"
    assert short.status is PROBLEM
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named once, however many downloads go there."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    download = Download(path="C:/a", to=str(tmp_path), max_size=1)

    found = [each for each in room(tmp_path, download) if each.status is PROBLEM]

    assert [each.detail for each in found] == [f"downloads cannot be written below {tmp_path}"]


def test_what_goes_back_into_the_guest_needs_no_disk_here(tmp_path: Path) -> None:
    """A file for the original guest is written by the server."""
    assert room(tmp_path, Download(path="C:/a", to=None)) == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("targets:\n  - vm: nobody\n", "no target has a restore point"),
        ("targets:\n  - match: no*\n    expect: {min: 0}\n", "there are no targets"),
    ],
)
async def test_a_duration_that_cannot_be_known_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, says: str
) -> None:
    """Targets without a restore point are targets."""
    found = await checked(tmp_path, monkeypatch, plan=body)

    assert found.of("scenario", "duration").detail == says


async def test_targets_of_a_server_that_was_not_asked_are_targets_without_a_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing secret leaves the targets of the plan, and what is known leaves them out."""
    plan = (
        "targets:\n  - {vm: hq-app0000, server: hq}\n  - {vm: dr-app0000, server: dr}\n"
        "  - {vm: dr-sql0001, server: dr}\n"
    )
    async with staged(tmp_path, monkeypatch, [Site("hq"), Site("dr")], plan) as stage:
        await stage.run()
        stage.sites.managers["dr"].users.clear()
        half = await asked(stage)
        monkeypatch.delenv("SCENARIO_PASSWORD")
        nothing = await asked(stage)

    assert nothing.readiness.targets == 3
    told = nothing.of("scenario", "duration")
    assert told.status is NOT_VISIBLE
    assert told.detail == "their servers were not asked (3 of 3 targets)"
    assert ", without the 2 targets of servers that were not asked" in (
        half.of("scenario", "duration").detail
    )


# --- the expected duration ----------------------------------------------------------------------


class Known:
    """A history by machine."""

    def __init__(self, **seconds: float) -> None:
        self._seconds = seconds

    def expected(self, server: ServerName, vm: str) -> float | None:
        _ = server
        return self._seconds.get(vm)

    def recent(self, server: ServerName, vm: str) -> Sequence[float]:
        """Return the same as a list."""
        seconds = self.expected(server, vm)
        return () if seconds is None else (seconds,)


def waves(*after: tuple[str, ...]) -> tuple[Wave, ...]:
    """Return waves w0, w1, …, each after the ones that are named."""
    return tuple(
        Wave(name=WaveName(f"w{n}"), entries=(), after=tuple(map(WaveName, names)))
        for n, names in enumerate(after)
    )


def in_wave(vm: str, wave: int = 0) -> MountRequest:
    """Return a target of a wave."""
    return replace(target(vm), key=MountKey(f"w{wave}/{vm}"), wave=WaveName(f"w{wave}"))


@pytest.mark.parametrize(
    ("names", "limit", "seconds", "unknown"),
    [
        (("a", "b", "c"), 4, 30.0, 0),
        (("a", "b", "c"), 1, 60.0, 0),
        (("a", "b", "c"), 2, 30.0, 0),
        (("a", "x"), 1, 20.0, 1),
        (("c", "x", "y"), 4, 30.0, 2),
        (("x",), 4, None, 1),
        ((), 4, None, 0),
    ],
)
def test_mounts_are_packed_as_admission_would(
    names: tuple[str, ...], limit: int, seconds: float | None, unknown: int
) -> None:
    """Longest first under the limits; unknown machines count as the median of the known."""
    found = expected_duration(
        [in_wave(name) for name in names],
        waves(()),
        Limits(backup_server_default=limit),
        Known(a=10.0, b=20.0, c=30.0),
    )

    assert (found.seconds, found.unknown, found.targets) == (seconds, unknown, len(names))


def test_waves_wait_for_those_before_them_also_for_empty_ones() -> None:
    """w2 begins when w0 has ended, through the empty w1; w3 beside w0."""
    requests = [in_wave("a", 0), in_wave("b", 2), in_wave("c", 3)]

    found = expected_duration(
        requests, waves((), ("w0",), ("w1",), ()), Limits(), Known(a=10.0, b=25.0, c=30.0)
    )

    assert found.seconds == 35.0


def test_a_start_interval_makes_the_run_longer() -> None:
    """As in `forecast`: the third mount is asked for a minute after the second."""
    requests = [in_wave(name) for name in "abc"]

    found = expected_duration(
        requests, waves(()), Limits(start_interval=60.0), Known(a=30.0, b=30.0, c=30.0)
    )

    assert found.seconds == 150.0


def test_thousands_of_targets_are_forecast_at_once() -> None:
    """5,000 mounts on four at a time: the sum over the limit, as nearly as they can be packed."""
    one = in_wave("a")
    requests = [
        replace(one, key=MountKey(f"w0/{n}"), point=replace(one.point, vm=f"m{n}"))
        for n in range(5000)
    ]
    known = Known(**{f"m{n}": 10.0 + n % 7 for n in range(5000)})

    found = expected_duration(requests, waves(()), Limits(), known)

    whole = sum(10.0 + n % 7 for n in range(5000)) / 4
    assert found.seconds == pytest.approx(whole, abs=10.0)
