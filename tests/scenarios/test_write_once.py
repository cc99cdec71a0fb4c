"""One guest file is written at most once, and one in doubt leaves its target unknown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.core.model import Result, Unmount
from orchestrator.core.proof import Download
from orchestrator.engine.mount.holds import HoldRule
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site, staged
from tests.scenarios.guest import OUT, Content, asking
from tests.scenarios.test_downloads import STAGING, _in_mode, copied, may_write, recovered

pytestmark = pytest.mark.anyio

FILE = f"{OUT}/ledger.csv"


def back(path: str, glob: str | None = None) -> Download:
    """Return the order to write something into the guest."""
    return Download(path=path, to=None, glob=glob, overwrite=True)


TWICE = {
    "a file and a pattern": (back(FILE), back(OUT, "*.csv")),
    "a pattern and a file": (back(OUT, "*.csv"), back(FILE)),
    "two patterns": (back(OUT, "*.csv"), back(OUT, "l*")),
    "other case": (back(FILE), back("e:/out/LEDGER.CSV")),
    "other slashes": (back(FILE), back("E:\\Out\\ledger.csv")),
    "a pattern below other case": (back(FILE), back("e:\\OUT", "*")),
}


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "lost"])
@pytest.mark.parametrize("downloads", TWICE.values(), ids=TWICE)
async def test_a_file_that_two_entries_name_is_sent_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, downloads: Sequence[Download], lost: bool
) -> None:
    """However they write its path, and whatever became of the first order."""
    content = Content({"ledger.csv": b"1"})
    faults = [Fault(kind="drop_after", method="POST", path=STAGING)] if lost else []

    done = await recovered(tmp_path, monkeypatch, content, downloads=downloads, faults=faults)

    assert [name for _, name, _ in content.written] == ["ledger.csv"]
    (target,) = done.report["targets"]
    fate, result, code = ("unknown", "unknown", 3) if lost else ("restored", "mounted", 0)
    assert {each["fate"] for each in copied(done)} == {fate}
    assert (target["result"], done.outcome.code) == (result, code)
    assert target["attempts"][-1]["verdict"] == result


async def test_a_refused_order_is_not_sent_again_for_another_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second entry has the outcome of the first."""
    content = Content({"ledger.csv": b"1"}, write_fails="The disk is full.")

    done = await recovered(
        tmp_path, monkeypatch, content, downloads=TWICE["a pattern below other case"]
    )

    assert len(content.written) == 1
    assert {each["fate"] for each in copied(done)} == {"failed"}
    assert done.outcome.code == 1


async def test_a_listing_that_claims_other_paths_makes_no_second_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan's directory and the name say which file it is."""
    content = Content({"ledger.csv": b"1"}, paths={"ledger.csv": "sda1/Out/other.csv"})

    done = await recovered(
        tmp_path, monkeypatch, content, downloads=[back(FILE), back(OUT, "*.csv")]
    )

    assert len(content.written) == 1
    assert done.outcome.code == 0


async def test_a_file_in_doubt_beside_a_failed_one_leaves_the_target_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are said; what is not certain decides, as it does for the exit code."""
    content = Content({"ledger.csv": b"1"})
    fault = Fault(kind="drop_after", method="POST", path=STAGING)

    done = await recovered(
        tmp_path, monkeypatch, content, downloads=[back(f"{OUT}/none"), back(FILE)], faults=[fault]
    )

    (target,) = done.report["targets"]
    assert (target["result"], done.outcome.code) == ("unknown", 3)
    doubt, failure = target["message"].split("; ", 1)
    assert doubt.startswith(f"{FILE} may have been written: ")
    assert failure == f"{OUT}/none was not copied: there is no such path in the guest"


async def test_checks_that_take_too_long_during_a_write_leave_the_target_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is certain, the file is not."""
    content = Content({"ledger.csv": b"1"}, write_s=3600.0)

    done = await recovered(tmp_path, monkeypatch, content, downloads=[back(FILE)])

    (target,) = done.report["targets"]
    assert len(content.written) == 1
    assert (target["result"], done.outcome.code) == ("unknown", 3)
    assert target["message"].startswith(f"{FILE} may have been written: ")
    assert "checks took longer" in target["message"]


async def test_a_doubt_outlives_an_attempt_that_comes_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second mount is refused, which says nothing about the file of the first."""
    content = Content({"ledger.csv": b"1"})
    lost = Fault(kind="drop_after", method="POST", path=STAGING)
    refused = Fault(kind="forbidden", method="POST", path=r"/mounts$", skip=1)
    may_write(monkeypatch)
    asking(monkeypatch, [back(FILE)])
    monkeypatch.setattr("orchestrator.app.runner.beginning", _in_mode("recovery"))
    site = Site(machines=1, faults=[lost, refused])
    async with staged(tmp_path, monkeypatch, [site], face=content.face) as stage:
        await stage.run(yes_write=True)
        done = await stage.resume(yes_write=True, retry_failed=True)

        (target,) = done.report["targets"]
        assert refused.struck >= 1
        assert (target["result"], done.outcome.code) == ("unknown", 3)
        assert target["message"].startswith(f"{FILE} may have been written: ")


@pytest.mark.parametrize(
    "rule", [HoldRule(unmount=Unmount.ON_SUCCESS), HoldRule(failed_s=60.0)], ids=["always", "60 s"]
)
def test_a_mount_from_which_a_file_may_have_been_written_is_held_as_a_failed_one(
    rule: HoldRule,
) -> None:
    """A person has to look."""
    assert rule.asked(Result.UNKNOWN) == rule.asked(Result.FAILED) is not None
    assert rule.asked(Result.VERIFIED) is None
