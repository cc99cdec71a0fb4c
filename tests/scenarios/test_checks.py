"""Checks on the mounted guest: every kind passing, failing and unreadable, in whole drills."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.core.model import PhaseTimeouts
from orchestrator.core.ports.local import Answering
from orchestrator.core.proof import BaselineCheck, Check, DirCheck, Ended, ExecCheck, PathCheck
from orchestrator.engine.run import Run
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.crash import Doom
from tests.scenarios.demanding import demand
from tests.scenarios.drill import Drill, Site, drill, staged
from tests.scenarios.guests import File, Guests
from tests.virtual.sites import Sites

pytestmark = pytest.mark.anyio

LEDGER = "id;amount\r\n1;100\r\n"
BUILD = "4f2c1d\n"
TREE: dict[str, File] = {
    "C:/Windows/System32/config/SYSTEM": File(size=15 * 2**20, owner="NT AUTHORITY\\SYSTEM"),
    "C:/Windows/notepad.exe": File(b"MZ\x90\x00", age=-7200.0),
    "C:/Windows/undated.txt": File(b"x", age=None),
    "E:/Data/payments.mdf": File(size=5_583_457_485, owner="LAB\\sql", age=1800.0),
    "E:/Data/old.MDF": File(size=4096, age=90_000.0),
    "E:/Data/Ledger.csv": File(LEDGER.encode("utf-16")),
    "E:/Data/build.txt": File(BUILD.encode()),
    "E:/Data/lies.bin": File(b"short", size=10),
    "E:/Data/locked.bin": File(b"locked", staging="fails"),
    "E:/Data/odd.bin": File(b"odd", staging="nameless"),
    "E:/Data/gone.bin": File(b"gone", staging="vanishes"),
    "E:/Data/broken.bin": File(b"broken"),
    "E:/Data/secret.bin": File(b"secret"),
    "E:/Data/café #1%.txt": File(b"caf\xc3\xa9"),
}
DIGEST = hashlib.sha256(BUILD.encode()).hexdigest()
GUESTS = Guests(
    lambda point: TREE,
    refusals={"e:/data/broken.bin": 500, "e:/data/secret.bin": 403, "e:/denied": 403},
    directories=frozenset({"E:/Empty", "Volume$0:"}),
)


def p(path: str, **wanted: Any) -> PathCheck:
    """Return a path check."""
    return PathCheck(path=path, **wanted)


def d(path: str, **wanted: Any) -> DirCheck:
    """Return a directory check."""
    return DirCheck(dir=path, **wanted)


GOOD: dict[str, Check] = {
    "exists": p(r"C:\Windows\System32\config\SYSTEM"),
    "in another case": p(r"c:\WINDOWS\notepad.EXE"),
    "with slashes": p("C:/Windows/notepad.exe"),
    "a directory": p(r"C:\Windows"),
    "a volume": p("C:\\"),
    "without a letter": d("Volume$0:", min_count=0),
    "min_size": p(r"E:\Data\payments.mdf", min_size=5 * 2**30),
    "max_size": p(r"E:\Data\payments.mdf", max_size=6 * 2**30),
    "fresh": p(r"E:\Data\payments.mdf", modified_within=3600.0),
    "newer than its point": p(r"C:\Windows\notepad.exe", modified_within=60.0),
    "owner": p(r"E:\Data\payments.mdf", owner="lab\\SQL"),
    "counted": d(r"E:\Data", glob="*.mdf", min_count=2, max_count=2),
    "newest": d(r"E:\Data", glob="*.mdf", modified_within=1800.0),
    "absent": d(r"E:\Data", absent=("*.locked", "*README*DECRYPT*")),
    "empty": d(r"E:\Empty", max_count=0),
    "sha256": p(r"E:\Data\build.txt", sha256=DIGEST.upper()),
    "contains in UTF-16": p(r"E:\Data\ledger.csv", contains="1;100"),
    "matches": p(r"E:\Data\ledger.csv", matches=r"^\d+;\d+$"),
    "magic": p(r"C:\Windows\notepad.exe", magic="4D5A"),
    "awkward name": p("E:\\Data\\CAFÉ #1%.txt", contains="café"),
    "baseline": BaselineCheck(baseline=r"E:\Data"),
}

BAD: dict[str, tuple[Check, str]] = {
    "no such file": (p(r"E:\Data\nothing.mdf"), "no such file"),
    "no such volume": (p(r"D:\Data\payments.mdf"), "there is no volume D:, only"),
    "too small": (p(r"E:\Data\payments.mdf", min_size=6 * 2**30), "5.2 GiB (5583457485 bytes)"),
    "too large": (p(r"E:\Data\payments.mdf", max_size=2**30), "5.2 GiB"),
    "stale": (p(r"E:\Data\old.mdf", modified_within=86_400.0), "1 d 1 h before the restore point"),
    "no time": (p(r"C:\Windows\undated.txt", modified_within=60.0), "names no usable date"),
    "another owner": (p(r"E:\Data\payments.mdf", owner="root"), "LAB\\sql"),
    "no owner": (p(r"E:\Data\build.txt", owner="root"), "names no owner"),
    "size of a directory": (p(r"E:\Data", min_size=1), "a directory, not a file"),
    "content of a directory": (p(r"E:\Data", contains="x"), "a directory, not a file"),
    "listing of a file": (d(r"E:\Data\build.txt", min_count=1), "a directory"),
    "missing directory": (d(r"E:\Date"), "no such file or directory"),
    "denied": (d(r"E:\Denied"), "does not let this account read it"),
    "too few": (d(r"E:\Data", glob="*.mdf", min_count=3), "2 of 11 entries"),
    "too many": (d(r"E:\Data", max_count=3), "11 entries"),
    "nothing matches": (d(r"E:\Data", glob="*.bak"), "0 of 11 entries"),
    "nothing is new": (d(r"E:\Data", glob="*.MDF", modified_within=60.0), "payments.mdf: "),
    "present": (d(r"E:\Data", absent=("*.BIN",)), "6 of 11 entries: broken.bin, gone.bin"),
    "another digest": (p(r"E:\Data\build.txt", sha256="0" * 64), DIGEST),
    "not contained": (p(r"E:\Data\build.txt", contains="9"), "not found in 7 bytes"),
    "no line": (p(r"E:\Data\build.txt", matches="^x"), "no line matches in 7 bytes"),
    "no pattern": (p(r"E:\Data\build.txt", matches="("), "no regular expression"),
    "other bytes": (p(r"E:\Data\build.txt", magic="4d5a"), "3466"),
    "not downloaded": (p(r"E:\Data\payments.mdf", contains="x"), "max_download of 1MiB"),
    "500": (p(r"E:\Data\broken.bin"), "the server answered 500"),
    "403": (p(r"E:\Data\secret.bin"), "does not let this account read it"),
    "staging fails": (p(r"E:\Data\locked.bin", contains="x"), "The file is locked."),
    "staging is forgotten": (p(r"E:\Data\gone.bin", contains="x"), "the server forgot"),
    "no download named": (p(r"E:\Data\odd.bin", contains="x"), "named no download"),
    "truncated": (p(r"E:\Data\lies.bin", contains="short"), "5 bytes, and the file 10"),
    "dots": (p(r"C:\Windows\..\Windows"), "not a path that can be asked for"),
}


async def checked(
    directory: Path, monkeypatch: pytest.MonkeyPatch, checks: Sequence[Check], **drilling: Any
) -> tuple[Drill, dict[str, Any]]:
    """Drill one Windows machine with these checks; return its target in the report too."""
    demand(monkeypatch, {"content": checks}, **drilling.pop("demanding", {}))
    guests = drilling.pop("guests", GUESTS)
    site = Site(machines=1, faults=drilling.pop("faults", ()))
    done = await drill(directory, monkeypatch, [site], face=guests.face, **drilling)
    return done, done.target("hq-app0000")


@pytest.mark.parametrize("check", GOOD.values(), ids=GOOD)
async def test_a_check_that_holds_verifies_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Check
) -> None:
    """The target is verified by what was read of the guest, and unmounted."""
    done, target = await checked(tmp_path, monkeypatch, [check])

    assert (target["result"], target["mount"]) == ("verified", "released"), target["checks"]
    assert target["checks"]
    assert all(outcome["passed"] for outcome in target["checks"])
    assert done.outcome.code == 0


@pytest.mark.parametrize(("check", "observed"), BAD.values(), ids=BAD)
async def test_a_check_that_fails_or_cannot_be_made_fails_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Check, observed: str
) -> None:
    """The outcome says what was observed, or why nothing was; the mount is released."""
    done, target = await checked(tmp_path, monkeypatch, [check])

    assert (target["result"], target["mount"]) == ("failed", "released")
    assert any(observed in each["observed"] for each in target["checks"] if not each["passed"]), (
        target["checks"]
    )
    assert observed.split(":")[0] in target["message"]
    assert done.outcome.code == 1


MIXED: tuple[Check, ...] = (
    p(r"C:\Windows\System32\config\SYSTEM", min_size=2**20),
    p(r"E:\Data\payments.mdf", min_size=2**30, modified_within=21_600.0),
    d(r"E:\Data", glob="*.mdf", min_count=2),
    d(r"E:\DATA", absent=("*.locked",)),
    p(r"E:\Data\build.txt", sha256=DIGEST),
    p(r"e:\data\BUILD.txt", contains="4f2c"),
)
APART: tuple[Check, ...] = tuple(p(path) for path in list(TREE)[:6])


@pytest.mark.parametrize("checks", [MIXED, APART], ids=["mixed", "apart"])
@pytest.mark.parametrize("machines", [1, 40])
async def test_six_checks_cost_at_most_eight_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: int, checks: Sequence[Check]
) -> None:
    """What one check has read, another does not read again; watching downloads is shared."""

    def windows_only(inventory: Inventory) -> None:
        for machine in inventory.machines:
            machine.os = "Windows"

    guests = Guests(lambda point: TREE)
    requests: list[int] = []
    for asked in ((p("C:\\"),), checks):
        site = Site(machines=machines, change=windows_only, limit=20)
        with monkeypatch.context() as patch:
            demand(patch, {"content": asked})
            done = await drill(tmp_path / str(len(requests)), patch, [site], face=guests.face)
        assert set(done.results().values()) == {"verified"}
        requests.append(done.truth.received["hq"])

    assert max(guests.asked.values()) <= 6
    assert requests[1] - requests[0] <= 8 * machines


async def test_a_directory_is_read_to_its_last_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry that must not be there is found on the third page."""
    tree = {f"E:/Data/row-{number:04}": File() for number in range(1100)}
    tree["E:/Data/zz.locked"] = File()
    guests = Guests(lambda point: tree)

    _, target = await checked(
        tmp_path, monkeypatch, [d(r"E:\Data", absent=("*.locked",))], guests=guests
    )

    assert target["checks"][0]["observed"] == "1 of 1101 entries: zz.locked"
    assert max(guests.asked.values()) == 3


async def test_a_page_that_cannot_be_read_leaves_nothing_to_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a listing does not show that something is absent, nor how much there is."""
    tree = {f"E:/Data/row-{number:04}": File() for number in range(1100)}
    broken = [Fault(kind="error_500", path="/Data$", skip=1)]
    check = d(r"E:\Data", absent=("*.locked",), min_count=1)
    guests = Guests(lambda point: tree)

    _, target = await checked(tmp_path, monkeypatch, [check], guests=guests, faults=broken)

    assert target["result"] == "failed"
    assert [each["passed"] for each in target["checks"]] == [False, False]
    assert all("the server answered 500" in each["observed"] for each in target["checks"])


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(kind="drop_after", method="POST", path="build", count=2)],
        [Fault(kind="html_200", method="GET", path="(?i)build", count=1)],
        [Fault(kind="reset_mid_body", method="GET", path="(?i)build", skip=1, count=2)],
        [Fault(kind="truncated", method="GET", path="(?i)build", skip=1, count=1)],
        [Fault(kind="xml_503", path="/Data", count=5)],
    ],
    ids=lambda faults: faults[0].kind,
)
async def test_trouble_of_the_server_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: list[Fault]
) -> None:
    """Lost and senseless answers are asked for again; the verdict is that of the content."""
    _, target = await checked(
        tmp_path, monkeypatch, [p(r"E:\Data\build.txt", sha256=DIGEST)], faults=faults
    )

    assert target["result"] == "verified"
    assert all(fault.struck for fault in faults)


@pytest.mark.parametrize("kind", ["html_200", "truncated", "reset_mid_body", "html_503"])
async def test_one_file_that_never_can_be_read_costs_only_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The server answers everything else, so it is not given up, and the mount is released."""
    broken = [Fault(kind=kind, method="GET", path=r"(?i)/data/build\.txt$")]
    checks = [p(r"C:\Windows"), p(r"E:\Data\build.txt", sha256=DIGEST)]

    done, target = await checked(tmp_path, monkeypatch, checks, faults=broken)

    assert (target["result"], target["mount"]) == ("failed", "released")
    assert [each["passed"] for each in target["checks"]] == [True, False]
    assert "the server's answer cannot be used" in target["checks"][1]["observed"]
    assert done.took_s < 300


async def test_a_lost_session_leaves_the_content_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be read because the session is gone is neither good nor bad."""
    gone = [Fault(kind="forget_session", path="/Data", count=1)]

    _, target = await checked(tmp_path, monkeypatch, [p(r"E:\Data\build.txt")], faults=gone)

    assert (target["result"], target["mount"]) == ("unknown", "unknown")


async def test_an_unknown_or_empty_check_set_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is verified by checks that do not exist."""
    demand(monkeypatch, {"empty": ()}, asked=["empty", "nowhere"])

    done = await drill(tmp_path, monkeypatch, [Site(machines=1)], face=GUESTS.face)

    target = done.target("hq-app0000")
    assert target["result"] == "failed"
    assert [each["observed"] for each in target["checks"]] == [
        "the set is empty",
        "the run has no such check set",
    ]


async def test_checks_that_look_the_same_in_a_report_are_all_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long texts are shortened where they are shown, and nowhere else."""
    long = "x" * 400
    runs: list[Mapping[str, object]] = []

    async def ask(briefing: Mapping[str, object], answer: Answering) -> Ended:
        runs.append(briefing)
        return Ended(code=0)

    monkeypatch.setattr("orchestrator.app.run_part.ChildProcesses", lambda secrets: Scripted(ask))
    tree = {"E:/text": File(f"{long}1".encode()), f"E:/{long}1": File()}
    checks: list[Check] = [
        p("E:\\text", contains=f"{long}1"),
        p("E:\\text", contains=f"{long}2"),
        p(f"E:\\{long}1"),
        p(f"E:\\{long}2"),
        d("E:\\", absent=(f"{long}0",)),
        d("E:\\", absent=(f"{long}1",)),
        ExecCheck(argv=(long, "1")),
        ExecCheck(argv=(long, "2")),
    ]

    _, target = await checked(tmp_path, monkeypatch, checks, guests=Guests(lambda point: tree))

    assert sorted(each["passed"] for each in target["checks"]) == [False] * 3 + [True] * 5
    assert len(runs) == 2
    assert target["result"] == "failed"


async def test_linux_names_are_exact_and_its_root_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/etc` means the one root's `etc`; /root is the home below it; case matters."""
    tree = {
        "root/etc/hosts": File(b"127.0.0.1\n", owner="root"),
        "root/root/.bashrc": File(b"umask 077\n"),
        "root/srv/a/b": File(b"x"),
    }
    checks: list[Check] = [
        p("/etc/hosts", owner="root", contains="127"),
        p("/root/.bashrc"),
        p("/srv/a\\b"),
        p("/etc/HOSTS"),
        p("/etc/hosts", owner="Root"),
        d("/etc", glob="H*"),
    ]
    guests = Guests(lambda point: tree)
    demand(monkeypatch, {"content": checks})
    site = Site(machines=4)
    plan = "targets:\n  - {vm: hq-file0003, os: linux}\n"

    done = await drill(tmp_path, monkeypatch, [site], plan, face=guests.face)

    made = {
        (each["path"], each["expected"]): each["passed"]
        for each in done.target("hq-file0003")["checks"]
    }
    assert made == {
        ("/etc", "min_count 1 of H*"): False,
        ("/etc/hosts", "owner root"): True,
        ("/etc/hosts", "contains '127'"): True,
        ("/root/.bashrc", "exists"): True,
        ("/srv/a\\b", "exists"): False,
        ("/etc/HOSTS", "exists"): False,
        ("/etc/hosts", "owner Root"): False,
    }


async def test_a_baseline_compares_with_the_last_verified_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run measures and warns; a failed one is no baseline; a shrunken guest fails."""
    tree = {f"E:/Data/row-{number:04}": File(size=1000) for number in range(100)}
    guests = Guests(lambda point: tree)
    checks = [BaselineCheck(baseline=r"E:\Data", count=0.1, size=0.1)]

    async def run(history: int) -> list[dict[str, Any]]:
        demanded = {"guests": guests, "history": history}
        _, target = await checked(tmp_path, monkeypatch, checks, **demanded)
        found: list[dict[str, Any]] = target["checks"]
        return found

    first = await run(1)
    for number in range(95, 100):
        del tree[f"E:/Data/row-{number:04}"]
    second = await run(2)
    for number in range(60, 95):
        del tree[f"E:/Data/row-{number:04}"]
    third = await run(3)
    fourth = await run(4)

    assert first[0]["observed"] == "no earlier run to compare with: 100 files, 97.7 KiB"
    assert [each["passed"] for each in second] == [True, True]
    assert second[0]["expected"] == "100 files as last time, within 10%"
    assert [each["passed"] for each in third] == [False, False]
    assert fourth[0]["expected"] == "95 files as last time, within 10%"


@dataclass(slots=True)
class Scripted:
    """A program that lives in the test: it asks, and judges by the answers."""

    ask: Callable[[Mapping[str, object], Answering], Awaitable[Ended]]
    runs: list[Mapping[str, object]] = field(default_factory=list)

    async def run(
        self,
        argv: Sequence[str],
        briefing: Mapping[str, object],
        answer: Answering,
        *,
        timeout: float,
    ) -> Ended:
        """Act the program."""
        self.runs.append({**briefing, "argv": argv})
        with anyio.move_on_after(timeout):
            return await self.ask(briefing, answer)
        return Ended(why=f"the program did not end within {timeout:g} s")


async def test_a_program_reads_the_guest_and_its_exit_code_is_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees files by three verbs that read; everything else it asks for is refused."""
    answers: list[Mapping[str, object]] = []
    requests: list[dict[str, object]] = [
        {"verb": "list", "path": r"E:\Data"},
        {"verb": "stat", "path": r"E:\Data\payments.mdf"},
        {"verb": "read", "path": r"E:\Data\build.txt"},
        {"verb": "read", "path": r"E:\Data\payments.mdf"},
        {"verb": "read", "path": r"E:\Data"},
        {"verb": "read", "path": r"E:\Data\build.txt", "max_bytes": -1},
        {"verb": "stat", "path": r"E:\nothing"},
        {"verb": "delete", "path": r"E:\Data"},
        {"verb": "list"},
    ]

    async def ask(briefing: Mapping[str, object], answer: Answering) -> Ended:
        answers.extend([await answer(request) for request in requests])
        return Ended(code=2, message="rather few rows")

    program = Scripted(ask)
    monkeypatch.setattr("orchestrator.app.run_part.ChildProcesses", lambda secrets: program)

    done, target = await checked(tmp_path, monkeypatch, [ExecCheck(argv=("judge", "it is"))])

    assert [answer["ok"] for answer in answers] == [True] * 3 + [False] * 6
    assert answers[2]["content"] == "NGYyYzFkCg=="
    assert "more than 1048576" in str(answers[3]["error"])
    assert target["result"] == "verified"
    assert target["checks"][0]["observed"] == "rather few rows"
    assert target["checks"][0]["path"] == "judge 'it is'"
    assert program.runs[0]["roots"] == ["Volume$0:", "C:", "E:"]
    assert done.truth.dangerous == 0


@pytest.mark.parametrize(
    ("ended", "observed"),
    [
        (Ended(code=1, message="3 tables are missing"), "3 tables are missing"),
        (Ended(code=1, complaint="boom"), "boom"),
        (Ended(code=7, complaint="Traceback"), "ended with exit code 7: Traceback"),
        (Ended(code=-9), "ended with signal 9"),
        (Ended(why="the program cannot be started: No such file"), "cannot be started"),
    ],
)
async def test_a_program_that_does_not_end_well_fails_its_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended, observed: str
) -> None:
    """Its last words are what was observed."""

    async def ask(briefing: Mapping[str, object], answer: Answering) -> Ended:
        return ended

    monkeypatch.setattr("orchestrator.app.run_part.ChildProcesses", lambda secrets: Scripted(ask))

    _, target = await checked(tmp_path, monkeypatch, [ExecCheck(argv=("judge",))])

    assert target["result"] == "failed"
    assert observed in target["checks"][0]["observed"]


async def test_an_outage_amid_an_examination_begins_nothing_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One longer than the time for checks is waited out; what was judged or begun stays."""
    dead = [Fault(kind="drop_before", path=".", from_s=68.0, until_s=800.0)]
    started: list[float] = []

    async def ask(briefing: Mapping[str, object], answer: Answering) -> Ended:
        started.append(anyio.current_time())
        await anyio.sleep(10)
        found = await answer({"verb": "stat", "path": r"E:\Data\payments.mdf"})
        return Ended(code=0 if found["ok"] else 1)

    monkeypatch.setattr("orchestrator.app.run_part.ChildProcesses", lambda secrets: Scripted(ask))
    checks: list[Check] = [
        p(r"C:\Windows"),
        p(r"E:\Data\build.txt", sha256=DIGEST),
        ExecCheck(argv=("judge",), timeout=10_000.0),
    ]

    _, target = await checked(
        tmp_path,
        monkeypatch,
        checks,
        faults=dead,
        demanding={"change": lambda request: replace(request, timeouts=PhaseTimeouts(checks=60.0))},
    )

    assert len(started) == 1
    assert target["result"] == "verified"
    assert len(target["checks"]) == 3


async def test_a_resumed_run_makes_only_the_checks_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier process has judged and journaled stands; the mount is proven to its end."""
    runs: list[float] = []

    async def ask(briefing: Mapping[str, object], answer: Answering) -> Ended:
        runs.append(anyio.current_time())
        await anyio.sleep(100)
        return Ended(code=0)

    monkeypatch.setattr("orchestrator.app.run_part.ChildProcesses", lambda secrets: Scripted(ask))
    judge = ExecCheck(argv=("judge",))
    counted = d(r"E:\Data", min_count=1)
    demand(monkeypatch, {"content": [counted, p(r"E:\Data\build.txt", sha256=DIGEST), judge]})
    guests = Guests(lambda point: TREE)
    async with staged(tmp_path, monkeypatch, [Site(machines=1)], face=guests.face) as stage:
        doom = Doom(stage, monkeypatch)
        assert await doom.lives(stage.run, at_s=150.0) is None
        downloads = guests.downloads

        done = await stage.resume()

    target = done.target("hq-app0000")
    assert (len(runs), guests.downloads) == (2, downloads) == (2, 1)
    assert (target["result"], target["mount"]) == ("verified", "released")
    assert len(target["checks"]) == 3


async def test_checks_that_take_too_long_fail_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of the phase holds for all checks together; the mount is released."""

    async def ask(briefing: Mapping[str, object], answer: Answering) -> Ended:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr("orchestrator.app.run_part.ChildProcesses", lambda secrets: Scripted(ask))
    endless = ExecCheck(argv=("judge",), timeout=10_000.0)

    _, target = await checked(tmp_path, monkeypatch, [endless])

    assert (target["result"], target["mount"]) == ("failed", "released")
    assert "checks took longer than the 10 min" in target["message"]


async def test_a_run_that_is_stopped_during_checks_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second signal ends the checks: unmounted, and nobody says that the content is bad."""

    async def ask(briefing: Mapping[str, object], answer: Answering) -> Ended:
        await anyio.sleep_forever()
        raise AssertionError

    async def stop(_sites: Sites, run: Run) -> None:
        await anyio.sleep(120)
        run.stop("SIGTERM")
        run.stop("SIGTERM")

    monkeypatch.setattr("orchestrator.app.run_part.ChildProcesses", lambda secrets: Scripted(ask))
    checks: list[Check] = [p(r"E:\Data\build.txt"), ExecCheck(argv=("judge",), timeout=10_000.0)]

    done, target = await checked(tmp_path, monkeypatch, checks, meanwhile=stop)

    assert (target["result"], target["mount"]) == ("unknown", "released")
    assert "stopped before its checks were made" in target["message"]
    assert not done.truth.still_open()


async def test_a_lost_mount_answer_is_never_settled_by_a_staging_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloads go on while a mount POST is in doubt: each target proves its own mount."""
    lost = [Fault(kind="drop_after", method="POST", path="/mounts$", skip=3, count=2)]
    demand(monkeypatch, {"content": [p(r"E:\Data\build.txt", sha256=DIGEST)]})
    guests = Guests(lambda point: TREE)
    site = Site(machines=8, faults=lost, limit=3, mount_s=20.0)
    windows = [name for name in range(8) if name % 4 != 3]
    roles = ("app", "sql", "web", "file", "dc", "mail", "cache", "build")
    plan = "targets:\n" + "".join(f"  - {{vm: hq-{roles[n]}{n:04}}}\n" for n in windows)

    async with staged(tmp_path, monkeypatch, [site], plan, face=guests.face) as stage:
        done = await stage.run()

    assert set(done.results().values()) == {"verified"}
