"""`browse`: people look into a held mount through the process of its run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.app.browsing import Got, Seen, got, listed, places, wanted
from orchestrator.app.controlling import ControlOutcome
from orchestrator.core.controls import Look
from orchestrator.core.errors import FileNotSaved
from orchestrator.core.lifecycle import Phase
from orchestrator.core.run_state import RunState
from orchestrator.engine.held_files import FILES_AT_ONCE
from orchestrator.journal import State
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Site, Stage
from tests.scenarios.guest import Content
from tests.scenarios.test_steering import beside, state_of, steered, until, with_a_person

pytestmark = pytest.mark.anyio

HOUR = 3600.0
LEDGER = b"ledger;26\n" * 20_000
OUT = "E:\\Out"


def content() -> Content:
    """Return what every guest of these tests has in `E:\\Out`."""
    return Content(files={"ledger.csv": LEDGER, "Notes.txt": b"x"})


async def look(stage: Stage, key: str, path: str | None = None) -> Seen | ControlOutcome:
    """List a directory, as `browse` does."""
    state = State(stage.state)
    return await listed(state, state.summary("last"), wanted(Look.BROWSE, key, path))


async def fetch(
    stage: Stage, key: str, path: str, to: Path, *, overwrite: bool = False
) -> Got | ControlOutcome:
    """Get a file, as `browse --get` does."""
    state = State(stage.state)
    place = places(str(to), [path])[path]
    work = partial(got, state, state.summary("last"), wanted(Look.GET, key, path), place)
    return await work(overwrite=overwrite, tell=lambda _: None)


def held_keys(stage: Stage) -> list[str]:
    """Return the targets whose mounts are held, by the journal."""
    try:
        records = state_of(stage).records.values()
    except Exception:  # noqa: BLE001 - it has not begun
        return []
    return [each.planned.key for each in records if each.phase is Phase.HELD]


def names(seen: Seen | ControlOutcome) -> list[str]:
    """Return the names of a listing."""
    assert isinstance(seen, Seen), seen.line
    return [each.name + "/" * each.is_directory for each in seen.answer.entries]


def refusal(outcome: Any) -> str:
    """Return why something was not read."""
    assert isinstance(outcome, ControlOutcome), outcome
    assert outcome.code == 2
    return outcome.line.partition(": not read: ")[2]


def leftovers(stage: Stage) -> list[Path]:
    """Return what is left beside the journal of requests, answers and files."""
    return list(stage.state.glob("ctl-*"))


async def test_a_held_guest_is_listed_and_its_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes, a directory, a file by itself; its bytes arrive; the report says who looked."""
    to = tmp_path / "evidence"
    found: list[Any] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        found.append(await look(stage, key))
        found.append(await look(stage, key, OUT))
        found.append(await look(stage, key, OUT + "\\notes.TXT"))
        found.append(await fetch(stage, key, OUT + "\\ledger.csv", to))
        found.append(await fetch(stage, key, OUT + "\\ledger.csv", to, overwrite=True))

    site = Site(machines=1)
    async with steered(tmp_path, monkeypatch, site, face=content().face) as stage:
        done = await with_a_person(stage, person, hold=HOUR)

    assert "C:/" in names(found[0])
    assert names(found[1]) == ["Below/", "ledger.csv", "Notes.txt"]
    assert found[1].answer.entries[1].size == len(LEDGER)
    assert isinstance(found[1].answer.entries[1].modified_at, datetime)
    assert names(found[2]) == ["Notes.txt"]
    assert (to / "ledger.csv").read_bytes() == LEDGER
    assert found[3] == found[4]
    assert [each["verb"] for each in done.report["controls"]] == ["browse"] * 3 + ["get"] * 2
    assert done.report["controls"][1]["words"].endswith(" E:\\Out")
    assert (done.outcome.code, leftovers(stage)) == (0, [])
    assert list(to.iterdir()) == [to / "ledger.csv"]


async def test_looking_steers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is as whole as any other: its time is compared, and it tells about the forecast."""
    seen: list[RunState] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        names(await look(stage, held_keys(stage)[0]))

    async with steered(tmp_path, monkeypatch, Site(machines=1)) as stage:
        await stage.run(hold=HOUR)  # so that there are durations to forecast from
    async with steered(tmp_path, monkeypatch, Site(machines=1), history=2) as stage:
        done = await with_a_person(stage, person, hold=HOUR)
        seen.append(state_of(stage))

    assert seen[0].controls
    assert not seen[0].steered
    assert done.report["run"]["forecast"]["actual_s"] is not None


@pytest.mark.parametrize(
    ("verb", "path", "why"),
    [
        (Look.BROWSE, "E:\\Nowhere", "there is no such path in the guest"),
        (Look.GET, "E:\\Nowhere", "there is no such path in the guest"),
        (Look.GET, OUT, "it is a directory: name one file of it"),
        (Look.BROWSE, "Q:\\x", "Q:"),
        (Look.GET, OUT + "\\locked", "not staged"),
    ],
)
async def test_what_cannot_be_read_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Look, path: str, why: str
) -> None:
    """Nothing appears on this machine, and the mount is held and released as if nobody asked."""
    said: list[str] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        if verb is Look.BROWSE:
            said.append(refusal(await look(stage, key, path)))
        else:
            said.append(refusal(await fetch(stage, key, path, tmp_path / "to")))

    guest = content()
    guest.files["locked"] = b"x"
    guest.stage_fails = "in use" if "locked" in path else None
    async with steered(tmp_path, monkeypatch, Site(machines=1), face=guest.face) as stage:
        done = await with_a_person(stage, person, hold=HOUR)

    assert why in said[0]
    assert (done.outcome.code, leftovers(stage)) == (0, [])
    assert not [*(tmp_path / "to").glob("*")]


async def test_only_what_is_held_can_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that waits, one nobody knows, a machine's name: each with the right form."""
    said: list[str] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        records = state_of(stage).records.values()
        waits = next(each.planned for each in records if each.phase is Phase.QUEUED)
        said.append(refusal(await look(stage, waits.key, OUT)))
        said.append(refusal(await look(stage, "nobody")))
        said.append(refusal(await look(stage, waits.vm)))
        said.append(refusal(await look(stage, key, OUT + "\0x")))

    async with steered(tmp_path, monkeypatch, Site(machines=2, limit=1)) as stage:
        done = await with_a_person(stage, person, hold=HOUR)

    assert "is not held (queued): only a held mount can be looked into" in said[0]
    assert "bulk-restore run PLAN --hold 1h" in said[0]
    assert "no target of the run has the key 'nobody'" in said[1]
    assert "is not a key; the keys of that machine: " in said[2]
    assert len(done.report["controls"]) <= 1  # what was refused at once is not recorded
    assert "no process works on it" in refusal(await look(stage, "nobody"))
    assert leftovers(stage) == []


async def test_the_end_of_a_hold_breaks_a_reading_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount is removed when its hold ends, however slowly a file comes."""
    said: list[str] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        said.append(refusal(await fetch(stage, key, OUT + "\\ledger.csv", tmp_path / "to")))

    slow = Fault(kind="drip", path="/staged/", seconds=2 * HOUR)
    site = Site(machines=2, limit=1, faults=[slow])
    async with steered(tmp_path, monkeypatch, site, face=content().face) as stage:
        done = await with_a_person(stage, person, hold=600.0)

    assert "ended before all was read" in said[0]
    assert all(each["phases_s"]["held"] < 610 for each in done.report["targets"])
    assert {each["mount"] for each in done.report["targets"]} == {"released"}
    assert (done.outcome.code, leftovers(stage)) == (0, [])
    assert not [*(tmp_path / "to").glob("*")]


async def test_who_leaves_ends_what_was_read_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in `browse` frees the run's process, and leaves nothing in the state directory."""

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        get = partial(fetch, stage, key, OUT + "\\ledger.csv", tmp_path / "to")
        for _ in range(FILES_AT_ONCE):
            with anyio.move_on_after(30.0):
                await get()
                raise AssertionError("it cannot have come")
        await anyio.sleep(5.0)
        (directory,) = leftovers(stage)
        assert not list(directory.iterdir())
        assert names(await look(stage, key, OUT))
        async with anyio.create_task_group() as tasks:  # who comes next has a turn at once
            tasks.start_soon(get)
            await anyio.sleep(10.0)
            assert list(directory.glob("*.content.part"))
            tasks.cancel_scope.cancel()

    slow = Fault(kind="drip", path="/staged/", seconds=600.0)
    site = Site(machines=1, faults=[slow])
    async with steered(tmp_path, monkeypatch, site, face=content().face) as stage:
        done = await with_a_person(stage, person, hold=HOUR)

    assert (done.outcome.code, leftovers(stage)) == (0, [])
    assert not [*(tmp_path / "to").glob("*")]


async def test_several_look_at_once_and_steering_does_not_wait_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that takes its time holds up nobody else."""
    order: list[str] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)

        async def slowly() -> None:
            assert isinstance(await fetch(stage, key, OUT + "\\ledger.csv", tmp_path / "to"), Got)
            order.append("file")

        async with anyio.create_task_group() as both:
            both.start_soon(slowly)
            await anyio.sleep(10.0)
            names(await look(stage, key, OUT))
            order.append("listing")

    slow = Fault(kind="drip", path="/staged/", seconds=50.0)
    site = Site(machines=1, faults=[slow])
    async with steered(tmp_path, monkeypatch, site, face=content().face) as stage:
        await with_a_person(stage, person, hold=HOUR)

    assert order == ["listing", "file"]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(kind="xml_503", from_s=50.0, until_s=110.0)],
        [Fault(kind="reset_mid_body", path="/staged/|/Out", count=2)],
        [Fault(kind="drop_after", path="/Out|/staged/", count=2)],
        [Fault(kind="html_503", path="/Out|/staged/", count=3)],
    ],
)
async def test_a_server_in_trouble_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: list[Fault]
) -> None:
    """The file arrives whole, and once."""
    outcomes: list[Any] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        outcomes.append(await look(stage, key, OUT))
        outcomes.append(await fetch(stage, key, OUT + "\\ledger.csv", tmp_path / "to"))

    site = Site(machines=1, faults=faults)
    async with steered(tmp_path, monkeypatch, site, face=content().face) as stage:
        done = await with_a_person(stage, person, hold=HOUR)

    assert names(outcomes[0]) == ["Below/", "ledger.csv", "Notes.txt"]
    assert isinstance(outcomes[1], Got), outcomes[1].line
    assert (tmp_path / "to" / "ledger.csv").read_bytes() == LEDGER
    assert done.outcome.code == 0


async def test_a_file_that_is_there_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --overwrite it is not replaced by other bytes."""
    to = tmp_path / "to"
    to.mkdir()
    (to / "ledger.csv").write_bytes(b"mine")

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        with pytest.raises(FileNotSaved, match="exists"):
            await fetch(stage, key, OUT + "\\ledger.csv", to)

    async with steered(tmp_path, monkeypatch, Site(machines=1), face=content().face) as stage:
        await with_a_person(stage, person, hold=HOUR)

    assert list(to.iterdir()) == [to / "ledger.csv"]
    assert (to / "ledger.csv").read_bytes() == b"mine"
    assert leftovers(stage) == []


async def test_the_mount_that_a_dead_process_held_can_be_looked_into_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`resume` takes the hold up, and its files with it; who looked before is in the report."""
    shown: list[list[str]] = []

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        await until_listed(lambda: look(stage, key, OUT), shown)

    guest = content()
    async with steered(tmp_path, monkeypatch, Site(machines=1), face=guest.face) as stage:
        doom = Doom(stage, monkeypatch)

        async def first() -> Any:
            async with beside(person) as begin:
                return await stage.run(on_run=begin, hold=HOUR)

        assert await doom.lives(first, when=lambda: len(shown) == 1) is None

        async def again() -> Any:
            async with beside(person) as begin:
                return await stage.resume(on_run=begin)

        done = await again()

    assert shown == [["Below/", "ledger.csv", "Notes.txt"]] * 2
    assert [each["verb"] for each in done.report["controls"]] == ["browse"] * 2
    assert done.outcome.code == 0


async def until_listed(
    ask: Callable[[], Awaitable[Seen | ControlOutcome]], shown: list[list[str]]
) -> None:
    """Ask until the mount was taken up, and note what is shown."""
    while True:
        found = await ask()
        if isinstance(found, Seen):
            shown.append(names(found))
            return
        await anyio.sleep(5.0)


async def test_a_linux_guest_is_listed_from_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/etc` and `/` mean what they mean there."""
    shown: list[list[str]] = []

    def linux(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.os = "Linux"

    async def person() -> None:
        await until(lambda: held_keys(stage) != [])
        (key,) = held_keys(stage)
        shown.append(names(await look(stage, key, "/")))
        shown.append(names(await look(stage, key, "/etc")))

    async with steered(tmp_path, monkeypatch, Site(machines=1, change=linux)) as stage:
        await with_a_person(stage, person, hold=HOUR)

    assert "etc/" in shown[0]
    assert "hostname" in shown[1] or "hosts" in shown[1]
