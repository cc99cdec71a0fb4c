"""Files come out of a mounted guest whole, or are said to have failed, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app import wiring
from orchestrator.core.model import MountRequest
from orchestrator.core.proof import Download
from orchestrator.em.session import Session
from orchestrator.report.summary import summarize
from orchestrator.report.writing import write
from orchestrator.simulator.faults import Fault
from tests.local.hostile import HOSTILE
from tests.scenarios.crash import Doom
from tests.scenarios.drill import Drill, Site, drill, staged
from tests.scenarios.guest import OUT, Content, asking, fits_xml
from tests.virtual.clock import VirtualTimeLoop

pytestmark = pytest.mark.anyio

LEDGER = b"ledger;26\n" * 20_000
DOWNLOADING = r"/staged/"
STAGING = r"/E:/Out/.+"


def ledger(tmp_path: Path, **more: Any) -> Download:
    """Return the order for one file into a directory that does not exist yet."""
    return Download(path="E:\\Out\\ledger.csv", to=f"{tmp_path}/out/", **more)


async def one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
    downloads: Sequence[Download] | Callable[[MountRequest], Sequence[Download]],
    *,
    faults: Sequence[Fault] = (),
    machines: int = 1,
    checks: dict[str, bool] | None = None,
) -> Drill:
    """Mount and copy, on as many machines."""
    asking(monkeypatch, downloads, checks)
    site = Site(machines=machines, faults=faults)
    return await drill(tmp_path, monkeypatch, [site], face=content.face)


def copied(done: Drill) -> list[dict[str, Any]]:
    """Return what the report says of the files of all targets."""
    return [each for target in done.report["targets"] for each in target["downloads"]]


def names_in(directory: Path) -> list[str]:
    """Return the names of everything in a directory, if there is one."""
    return sorted(each.name for each in directory.iterdir()) if directory.exists() else []


def in_out(tmp_path: Path) -> list[str]:
    """Return the names in the download directory."""
    return names_in(tmp_path / "out")


def content_of(said: dict[str, Any]) -> bytes:
    """Return the bytes of a file that the report names."""
    return Path(said["to"]).read_bytes()


async def test_a_file_is_saved_with_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the report says where it is; the mount is released as ever."""
    done = await one(tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [ledger(tmp_path)])

    assert copied(done) == [
        {
            "path": "E:\\Out\\ledger.csv",
            "to": f"{tmp_path}/out/ledger.csv",
            "fate": "saved",
            "size": len(LEDGER),
            "sha256": hashlib.sha256(LEDGER).hexdigest(),
            "message": None,
        }
    ]
    assert (tmp_path / "out" / "ledger.csv").read_bytes() == LEDGER
    assert done.outcome.code == 0


async def test_the_report_can_be_made_again_from_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words on every file."""
    done = await one(tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [ledger(tmp_path)])

    run = done.state.find("last")
    report = summarize(done.state.replay(run), chain_head=done.state.chain_head(run))
    write(report, tmp_path / "again")

    again = json.loads((tmp_path / "again" / "report.json").read_text())
    assert again["targets"] == done.report["targets"]


async def test_the_files_of_a_directory_that_match_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case as the guest's system reads it; nothing below the directory."""
    content = Content({"a.CSV": b"1", "b.csv": b"22", "c.txt": b"333", "empty.csv": b""})
    order = Download(path=OUT, to=f"{tmp_path}/out", glob="*.csv")

    done = await one(tmp_path, monkeypatch, content, [order])

    assert in_out(tmp_path) == ["a.CSV", "b.csv", "empty.csv"]
    assert {each["fate"] for each in copied(done)} == {"saved"}
    assert (tmp_path / "out" / "b.csv").read_bytes() == b"22"


async def test_a_directory_without_a_pattern_means_all_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that turns out to be a directory."""
    content = Content({"a": b"1", "b": b"22"})

    await one(tmp_path, monkeypatch, content, [Download(path=OUT, to=f"{tmp_path}/out")])

    assert in_out(tmp_path) == ["a", "b"]


async def test_no_hostile_name_leaves_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole program: each file is saved with its own bytes, or failed with a reason."""
    names = [name for name in HOSTILE if fits_xml(name)]
    assert len(names) >= 60
    content = Content(
        {name: f"{number}\n".encode() * 9 for number, name in enumerate(names)},
        paths={name: f"{OUT}/{number}" for number, name in enumerate(names)},
        stage_s=0.1,
    )
    done = await one(
        tmp_path, monkeypatch, content, [Download(path=OUT, to=f"{tmp_path}/out/", glob="*")]
    )

    said = {each["path"]: each for each in copied(done)}
    assert len(said) == len(names)
    for number, name in enumerate(names):
        file = said[f"{OUT}/{number}"]
        assert Path(file["to"]).parent == tmp_path / "out"
        if file["fate"] == "saved":
            assert content_of(file) == content.files[name]
        else:
            assert "is not a request that this program sends" in file["message"], file
    refused = [
        names[int(path.rpartition("/")[2])]
        for path, file in said.items()
        if file["fate"] == "failed"
    ]
    means_another = re.compile(r"(^|[/\\])\.\.?([/\\]|$)|[\x00\t\n\x7f]")  # once decoded
    assert all(means_another.search(unquote(name)) for name in refused), refused
    assert len(refused) <= 12
    assert len(in_out(tmp_path)) == len(names) - len(refused)
    assert names_in(tmp_path) == ["out", "report", "state"]


# --- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reset_mid_body", "truncated", "html_503", "drop_before", "drip"])
async def test_a_passing_fault_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A transfer that breaks begins again, and a server in trouble is waited for."""
    fault = Fault(kind=kind, path=DOWNLOADING, count=2, seconds=30)

    done = await one(
        tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [ledger(tmp_path)], faults=[fault]
    )

    assert fault.struck
    assert [each["fate"] for each in copied(done)] == ["saved"]
    assert (tmp_path / "out" / "ledger.csv").read_bytes() == LEDGER


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("reset_mid_body", "the connection broke after 100000 bytes"),
        ("truncated", "100000 bytes arrived, and the listing says 200000"),
        ("html_200", "bytes arrived, and the listing says 200000"),
        ("html_503", "given up after 6 tries"),
        ("xml_503", "given up after 6 tries"),
        ("drop_after", "given up after 6 tries"),
        ("error_500", "answered GET"),
        ("forbidden", "answered GET"),
        ("hollow_204", "204 in place of a file"),
    ],
)
async def test_a_lasting_fault_fails_the_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, why: str
) -> None:
    """With the reason; nothing stays on the disk, the mount is released, the server is kept."""
    fault = Fault(kind=kind, path=DOWNLOADING)

    done = await one(
        tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [ledger(tmp_path)], faults=[fault]
    )

    (said,) = copied(done)
    assert (said["fate"], said["size"], said["sha256"]) == ("failed", None, None)
    assert why in said["message"]
    assert in_out(tmp_path) == []
    (target,) = done.report["targets"]
    assert (target["result"], target["mount"]) == ("failed", "released")
    assert "was not copied" in target["message"]


@pytest.mark.parametrize("listed", [199_999, 200_001])
async def test_a_size_that_is_not_the_listed_one_fails_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: int
) -> None:
    """Too much is cut off at once; too little is not the file."""
    content = Content({"ledger.csv": LEDGER}, listed={"ledger.csv": listed})

    done = await one(tmp_path, monkeypatch, content, [ledger(tmp_path)])

    (said,) = copied(done)
    assert said["fate"] == "failed"
    assert str(listed) in said["message"]
    assert in_out(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stage_fails": "The file is locked."}, "not staged: The file is locked."),
        ({"vanishing": 99}, "the server forgot the task"),
        ({"nameless": True}, "names no address"),
    ],
)
async def test_what_is_not_staged_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], why: str
) -> None:
    """The server's own words, if it has any."""
    content = Content({"ledger.csv": LEDGER}, **changes)

    done = await one(tmp_path, monkeypatch, content, [ledger(tmp_path)])

    (said,) = copied(done)
    assert said["fate"] == "failed"
    assert why in said["message"]
    assert in_out(tmp_path) == []


async def test_a_staging_task_that_vanishes_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staging changes nothing in the guest."""
    content = Content({"ledger.csv": LEDGER}, vanishing=1)

    done = await one(tmp_path, monkeypatch, content, [ledger(tmp_path)])

    assert [each["fate"] for each in copied(done)] == ["saved"]
    assert content.staged == ["ledger.csv"] * 2


@pytest.mark.parametrize(
    ("kind", "why"), [("forbidden", "Access denied"), ("error_500", "with 500")]
)
async def test_a_staging_that_is_refused_fails_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, why: str
) -> None:
    """A role that may not download, for one."""
    fault = Fault(kind=kind, method="POST", path=STAGING)

    done = await one(
        tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [ledger(tmp_path)], faults=[fault]
    )

    (said,) = copied(done)
    assert said["fate"] == "failed"
    assert why in said["message"]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"max_size": 199_999}, "200003 bytes in all; `max_size` allows 199999"),
        ({"max_files": 1}, "2 files match; `max_files` allows 1"),
        ({"glob": "*.mdf"}, "no file there matches *.mdf"),
    ],
)
async def test_what_the_plan_does_not_allow_is_not_even_staged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: dict[str, Any], why: str
) -> None:
    """The listing says enough."""
    content = Content({"ledger.csv": LEDGER, "b.csv": b"abc"})
    wanted = Download(path=OUT, to=f"{tmp_path}/out/", **{"glob": "*.csv", **order})

    done = await one(tmp_path, monkeypatch, content, [wanted])

    (said,) = copied(done)
    assert (said["path"], said["fate"]) == (OUT, "failed")
    assert said["message"] == why
    assert content.staged == []


async def test_a_path_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other files are copied all the same."""
    missing = Download(path="E:/Out/nothing", to=f"{tmp_path}/out/")

    done = await one(
        tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [missing, ledger(tmp_path)]
    )

    assert [(each["fate"], each["message"]) for each in copied(done)] == [
        ("failed", "there is no such path in the guest"),
        ("saved", None),
    ]


async def test_a_session_lost_on_the_way_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target is unknown, and no part is left."""
    fault = Fault(kind="forget_session", path=DOWNLOADING)

    done = await one(
        tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [ledger(tmp_path)], faults=[fault]
    )

    assert copied(done) == []
    assert done.report["targets"][0]["result"] == "unknown"
    assert in_out(tmp_path) == []


async def test_a_copy_that_takes_too_long_is_over_with_its_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of the checks bounds the downloads too, and the mount is released."""
    content = Content({"ledger.csv": LEDGER}, stage_s=3600.0)

    done = await one(tmp_path, monkeypatch, content, [ledger(tmp_path)])

    (target,) = done.report["targets"]
    assert (target["result"], target["mount"]) == ("failed", "released")
    assert "checks took longer than" in target["message"]
    assert in_out(tmp_path) == []


# --- this machine -------------------------------------------------------------------------------


async def test_an_existing_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is asked of the server for it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ledger.csv").write_bytes(b"mine")
    content = Content({"ledger.csv": LEDGER})

    done = await one(tmp_path, monkeypatch, content, [ledger(tmp_path)])

    (said,) = copied(done)
    assert said["fate"] == "failed"
    assert said["message"].endswith("exists, with other content, and is not replaced")
    assert (tmp_path / "out" / "ledger.csv").read_bytes() == b"mine"
    assert content.staged == []


async def test_an_existing_file_is_replaced_where_the_plan_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`overwrite: true`."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "ledger.csv").write_bytes(b"mine")

    await one(
        tmp_path,
        monkeypatch,
        Content({"ledger.csv": LEDGER}),
        [ledger(tmp_path, overwrite=True)],
    )

    assert (tmp_path / "out" / "ledger.csv").read_bytes() == LEDGER


@pytest.mark.parametrize("overwrite", [False, True])
async def test_two_targets_never_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """The first to come has the name; the other one is told whose it is."""
    done = await one(
        tmp_path,
        monkeypatch,
        Content({"ledger.csv": LEDGER}),
        [ledger(tmp_path, overwrite=overwrite)],
        machines=3,
    )

    said = sorted((each["fate"], each["message"] or "") for each in copied(done))
    assert [fate for fate, _ in said] == ["failed", "failed", "saved"]
    assert "exists: this run saved E:\\Out\\ledger.csv of default/hq/" in said[0][1]
    assert in_out(tmp_path) == ["ledger.csv"]


async def test_a_disk_that_fails_fails_the_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is given up, its server is not, and the other files are saved."""
    content = Content({"a": b"x" * 300_000, "b": LEDGER})
    write = os.write

    def full(descriptor: int, piece: Any) -> int:
        if bytes(piece[:1]) == b"x":
            raise OSError(28, "No space left on device")
        return write(descriptor, piece)

    monkeypatch.setattr("orchestrator.local.files.store.os.write", full)
    order = Download(path=OUT, to=f"{tmp_path}/out/", glob="*")

    done = await one(tmp_path, monkeypatch, content, [order])

    assert [(each["fate"], each["message"]) for each in copied(done)] == [
        ("failed", f"{tmp_path}/out/a: No space left on device"),
        ("saved", None),
    ]
    assert in_out(tmp_path) == ["b"]
    assert content.staged == ["a", "b"]


async def test_a_file_in_place_of_the_directory_fails_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As would a directory that nobody may write to."""
    (tmp_path / "out").write_bytes(b"not a directory")

    done = await one(tmp_path, monkeypatch, Content({"ledger.csv": LEDGER}), [ledger(tmp_path)])

    assert "is not a directory" in copied(done)[0]["message"]


async def test_a_restore_point_that_failed_its_checks_gives_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands where the plan wants it was good."""
    content = Content({"ledger.csv": LEDGER})

    done = await one(
        tmp_path, monkeypatch, content, [ledger(tmp_path)], checks={"a": True, "b": False}
    )

    assert (
        copied(done)[0]["message"]
        == "nothing was saved: a check of this restore point did not pass"
    )
    assert content.staged == []
    assert in_out(tmp_path) == []


# --- interrupted --------------------------------------------------------------------------------


def died_at(
    step: int, place: Path, order: Download, content: Content, **choices: Any
) -> tuple[Drill, bool]:
    """Let the run die at a step and go on; tell what came of it, and whether it died at all."""

    async def play() -> tuple[Drill, bool]:
        with pytest.MonkeyPatch.context() as patch:
            may_write(patch)
            patch.setattr("orchestrator.app.runner.beginning", _in_mode("recovery"))
            asking(patch, [order])
            site = Site(machines=1, mount_s=1.0)
            async with staged(place, patch, [site], face=content.face) as stage:
                doom = Doom(stage, patch)
                done = await doom.lives(lambda: stage.run(**choices), at_step=step)
                if done is not None:
                    return done, False
                await anyio.sleep(1)
                return await stage.resume(**choices), True

    place.mkdir()
    return anyio.run(play, backend_options={"loop_factory": VirtualTimeLoop})


def test_a_killed_run_goes_on_with_the_files_that_are_missing(tmp_path: Path) -> None:
    """Wherever it died: in the end each file is there once, whole, and nothing else is."""
    step, died = 12, True
    while died:
        place = tmp_path / str(step)
        content = Content({"a": b"1" * 900, "b": b"2" * 900, "c": b"3" * 900}, stage_s=0.1)
        order = Download(path=OUT, to=f"{place}/out/", glob="*")

        done, died = died_at(step, place, order, content)

        assert (len(copied(done)), in_out(place)) == (3, ["a", "b", "c"]), step
        for each in copied(done):
            assert each["fate"] == "saved", (step, each)
            assert content_of(each) == content.files[Path(each["to"]).name]
        step += 2
    assert step > 60


# --- into the original guest --------------------------------------------------------------------


def may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client send orders to write."""
    allowed = property(lambda self: True, lambda self, value: None)
    for name in ("may_write", "_may_write"):
        monkeypatch.setattr(Session, name, allowed, raising=False)


BACK = Download(path="E:/Out/ledger.csv", to=None, overwrite=True)


async def recovered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: Content,
    *,
    mode: str = "recovery",
    yes_write: bool = True,
    downloads: Sequence[Download] = (BACK,),
    faults: Sequence[Fault] = (),
    checks: dict[str, bool] | None = None,
) -> Drill:
    """Run a plan that writes into the guest."""
    may_write(monkeypatch)
    asking(monkeypatch, downloads, checks)
    monkeypatch.setattr("orchestrator.app.runner.beginning", _in_mode(mode))
    site = Site(machines=1, faults=faults)
    choices = {"yes_write": yes_write}
    return await drill(tmp_path, monkeypatch, [site], face=content.face, choices=choices)


def _in_mode(mode: str) -> Callable[..., Any]:
    begin = wiring.beginning

    def beginning(*args: Any) -> Any:
        return replace(begin(*args), mode=mode)

    return beginning


async def test_a_file_is_written_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In recovery mode, because a person said so, after everything that is saved."""
    content = Content({"ledger.csv": LEDGER})

    done = await recovered(
        tmp_path, monkeypatch, content, downloads=[BACK, ledger(tmp_path)], checks={"good": True}
    )

    assert [(each["fate"], each["to"] is None) for each in copied(done)] == [
        ("saved", False),
        ("restored", True),
    ]
    assert [(name, overwrite) for _, name, overwrite in content.written] == [("ledger.csv", True)]
    assert done.outcome.code == 0


@pytest.mark.parametrize(("mode", "yes"), [("drill", True), ("recovery", False)])
async def test_without_both_words_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, yes: bool
) -> None:
    """The engine looks itself, whatever the plan was allowed to say."""
    content = Content({"ledger.csv": LEDGER})

    done = await recovered(tmp_path, monkeypatch, content, mode=mode, yes_write=yes)

    assert content.written == []
    (said,) = copied(done)
    assert said["fate"] == "failed"
    assert "--yes-write" in said["message"]


async def test_a_failed_check_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is not proven good goes into production."""
    content = Content({"ledger.csv": LEDGER})

    done = await recovered(tmp_path, monkeypatch, content, checks={"good": False})

    assert content.written == []
    assert copied(done)[0]["message"].startswith("nothing was written into the guest: a check")


@pytest.mark.parametrize("kind", ["drop_after", "drop_before", "error_500_after", "proxy_page"])
async def test_a_lost_answer_is_unknown_and_never_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Whether it was carried out or not."""
    content = Content({"ledger.csv": LEDGER})
    fault = Fault(kind=kind, method="POST", path=STAGING)

    done = await recovered(tmp_path, monkeypatch, content, faults=[fault])

    assert fault.struck == 1
    assert len(content.written) == (kind != "drop_before")
    (said,) = copied(done)
    assert said["fate"] == "unknown"
    (target,) = done.report["targets"]
    assert target["result"] == "unknown"
    assert target["message"].startswith("E:/Out/ledger.csv may have been written: ")
    assert "not copied" not in json.dumps(done.report)
    assert done.outcome.code == 3


@pytest.mark.parametrize("status", [503, 429, 408, 403, 302, 204])
async def test_a_foreign_answer_to_an_order_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The service acts, and something before it answers: whatever it says is no refusal."""
    content = Content({"ledger.csv": LEDGER})
    fault = Fault(kind="answer_after", method="POST", path=STAGING, status=status, body="page")

    done = await recovered(tmp_path, monkeypatch, content, faults=[fault])

    assert (fault.struck, len(content.written)) == (1, 1)
    assert copied(done)[0]["fate"] == "unknown"


async def test_an_order_whose_outcome_is_unknown_is_never_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume that tries the failed target again mounts it, and sends no second order."""
    content = Content({"ledger.csv": LEDGER})
    fault = Fault(kind="drop_after", method="POST", path=STAGING)
    may_write(monkeypatch)
    asking(monkeypatch, [BACK])
    monkeypatch.setattr("orchestrator.app.runner.beginning", _in_mode("recovery"))
    site = Site(machines=1, faults=[fault])
    async with staged(tmp_path, monkeypatch, [site], face=content.face) as stage:
        await stage.run(yes_write=True)
        done = await stage.resume(yes_write=True, retry_failed=True)

        (target,) = done.report["targets"]
        assert len(target["attempts"]) == 2
        assert (fault.struck, len(content.written)) == (1, 1)
        assert "not sent again" in copied(done)[-1]["message"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("The disk is full.", "not written: The disk is full."),
        ("Guest OS credentials are required.", "guest processing"),
    ],
)
async def test_a_write_that_failed_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, why: str
) -> None:
    """In the server's words, with what to do where that is known."""
    content = Content({"ledger.csv": LEDGER}, write_fails=words)

    done = await recovered(tmp_path, monkeypatch, content)

    (said,) = copied(done)
    assert said["fate"] == "failed"
    assert words in said["message"]
    assert why in said["message"]


@pytest.mark.parametrize("kind", ["forbidden", "html_503"])
async def test_a_write_that_is_refused_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Once is once."""
    content = Content({"ledger.csv": LEDGER})
    fault = Fault(kind=kind, method="POST", path=STAGING)

    done = await recovered(tmp_path, monkeypatch, content, faults=[fault])

    assert fault.struck == 1
    assert copied(done)[0]["fate"] == "failed"


def test_a_killed_run_never_writes_twice(tmp_path: Path) -> None:
    """Wherever it died: at most one order for each file, and none that took effect is denied."""
    step, died, doubts = 12, True, 0
    while died:
        content = Content({"a": b"1", "b": b"2"}, write_s=0.1)
        order = Download(path=OUT, to=None, glob="*")

        done, died = died_at(step, tmp_path / str(step), order, content, yes_write=True)

        names = [name for _, name, _ in content.written]
        assert len(names) == len(set(names)), step
        fates = {each["path"].rpartition("/")[2]: each["fate"] for each in copied(done)}
        for name in ("a", "b"):
            assert fates[name] in {"restored", "unknown"}, (step, copied(done))
            assert name in names or fates[name] == "unknown", step
        (target,) = done.report["targets"]
        assert (target["result"] == "unknown") >= ("unknown" in fates.values()), (step, target)
        assert (done.outcome.code == 3) >= (target["result"] == "unknown"), step
        doubts += "unknown" in fates.values()
        step += 1
    assert doubts >= 4
