"""Unmounts that are answered wrongly: the point's own list decides what became of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site, drill

pytestmark = pytest.mark.anyio

ONE = r"/mounts/\d+$"


async def test_an_unmount_that_worked_and_was_answered_with_500_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 for a DELETE that worked, then 500 because there is nothing: the list shows it gone."""
    faults = [
        Fault(kind="error_500_after", method="DELETE", path=ONE, count=1),
        Fault(kind="error_500", method="DELETE", path=ONE, count=3),
    ]
    site = Site(machines=6, limit=2, faults=faults)

    done = await drill(tmp_path, monkeypatch, [site])

    assert done.outcome.code == 0
    assert {target["mount"] for target in done.report["targets"]} == {"released"}
    assert not done.truth.still_open()


@pytest.mark.parametrize("body", ["service", "page", "empty"])
async def test_a_refused_unmount_that_worked_is_released(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers, and whatever: only the list counts."""
    wrong = Fault(kind="answer_after", method="DELETE", path=ONE, status=403, body=body)

    done = await drill(tmp_path, monkeypatch, [Site(machines=3, faults=[wrong])])

    assert done.outcome.code == 0
    assert not done.truth.still_open()


async def test_a_failed_unmount_task_is_reported_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount is left, and the report says what the server said."""
    fails = Fault(kind="unmount_task_fails", method="DELETE", path=ONE)

    done = await drill(tmp_path, monkeypatch, [Site(machines=1, faults=[fails])])

    (target,) = done.report["targets"]
    assert target["mount"] == "left"
    assert "did not unmount" in target["message"]
    assert done.outcome.code == 3


async def test_an_unmount_task_that_never_ends_is_not_waited_for_longer_than_the_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five minutes, and the mount is left, named and within reach."""
    endless = Fault(kind="unmount_task_endless", method="DELETE", path=ONE)

    done = await drill(tmp_path, monkeypatch, [Site(machines=1, faults=[endless])])

    (target,) = done.report["targets"]
    assert target["mount"] == "left"
    assert done.took_s < 60.0 + 2 * 300.0
    assert done.outcome.code == 3
