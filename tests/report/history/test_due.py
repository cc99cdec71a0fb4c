"""`due`: a plan is due until each of its machines was proven within its `every`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.core.events import Event, SessionOpened, TargetPlanned
from orchestrator.core.model import ServerName, SessionId
from orchestrator.core.parts import Part
from tests.report.builders import HOSTILE, Fate, life
from tests.report.history.runs import beginning, called, keep

NOW = datetime.now(UTC)
HEAD = """version: 1
name: payments-tier1
every: 90d
servers:
  hq: {url: "https://hq.example:9398", username: u, password: {env: NOT_SET}}
waves:
  - name: databases
    targets:
      - vm: sql01
"""
NAMED = HEAD + "      - vm: SQL02\n"
SELECTED = HEAD + '      - match: "web*"\n'
SAMPLED = HEAD + '      - {match: "web*", sample: {count: 1, order: stalest}}\n'


def days_ago(days: float) -> datetime:
    """Return a moment so many days before this test."""
    return NOW - timedelta(days=days)


class Desk:
    """A state directory and a plan."""

    def __init__(self, directory: Path) -> None:
        self.state, self.path = directory / "state", directory / "plan.yaml"
        self.number = 0

    def ran(self, days: float, *lives: list[Event], text: str = NAMED, **changes: Any) -> None:
        """Write a run of the plan that began so many days ago."""
        self.number += 1
        digest = changes.pop("plan_sha256", sha256(text.encode()).hexdigest())
        first = beginning(self.number, days_ago(days), plan_sha256=digest, **changes)
        keep(self.state, first, lives)

    def asked(self, text: str = NAMED, *more: str) -> tuple[int, dict[str, Any]]:
        """Return the exit code, and what is said of the plan."""
        self.path.write_text(text, encoding="utf-8")
        done = called(self.state, "due", self.path, "--json", *more)
        values: list[dict[str, Any]] = json.loads(done.output)
        return done.exit_code, values[0]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Nothing has run yet."""
    return Desk(tmp_path)


def of_match(events: list[Event]) -> list[Event]:
    """Return a target's events as those of the plan's second entry."""
    return [
        replace(each, place="10:9") if isinstance(each, TargetPlanned) else each for each in events
    ]


def test_what_never_ran_is_due(desk: Desk) -> None:
    """There is not even a journal; nothing is made."""
    assert desk.asked() == (
        0,
        {
            "file": str(desk.path),
            "plan": "payments-tier1",
            "due": True,
            "why": "2 machines of 2 never proven",
            "since": None,
        },
    )
    assert not desk.state.exists()


@pytest.mark.parametrize(("days", "code"), [(89.9, 1), (90.1, 0)])
def test_the_oldest_proof_decides(desk: Desk, days: float, code: int) -> None:
    """One machine that was proven too long ago makes the plan due."""
    desk.ran(days, life("sql01"))
    desk.ran(1, life("sql02"))

    found, values = desk.asked()

    assert found == code
    assert values["due"] is (code == 0)
    since = datetime.fromisoformat(values["since"])
    assert abs(since - days_ago(days - 90)) < timedelta(minutes=5)


def test_a_plan_can_be_due_ahead_of_time(desk: Desk) -> None:
    """A look every day may come a little too early each time."""
    desk.ran(89.9, life("sql01"), life("sql02"))

    assert desk.asked(NAMED, "--ahead", "1h")[0] == 1
    assert desk.asked(NAMED, "--ahead", "12h")[0] == 0


def test_a_failed_run_proves_nothing_and_takes_nothing(desk: Desk) -> None:
    """The last good proof counts; what failed since is told."""
    desk.ran(5, life("sql01", Fate.TASK_FAILED), life("sql02"))
    assert desk.asked()[1]["why"] == "1 machine of 2 never proven"

    desk.ran(4, life("sql01"), life("sql02"))
    desk.ran(3, life("sql01", Fate.TASK_FAILED), life("sql02"))
    code, values = desk.asked()

    assert code == 1
    assert values["why"].endswith("1 failed since then")


def test_machines_of_a_selector_that_no_run_has_expanded_make_it_due(desk: Desk) -> None:
    """Neither does a run of another plan, a narrowed one or one shard say which they are."""
    lives = [life("sql01"), of_match(life("web01"))]
    desk.ran(9, *lives, text=SELECTED, plan_sha256="ab" * 32)
    assert desk.asked(SELECTED)[1]["why"].startswith("which machines it means is not known")
    desk.ran(8, *lives, text=SELECTED, only=("*",))
    desk.ran(7, *lives, text=SELECTED, part=Part(number=1, of=2))
    assert desk.asked(SELECTED)[0] == 0

    desk.ran(6, *lives, text=SELECTED)
    assert desk.asked(SELECTED)[0] == 1


def test_of_a_sample_the_last_one_counts(desk: Desk) -> None:
    """A machine that an earlier sample drew long ago is no target now."""
    desk.ran(100, life("sql01"), of_match(life("web01")), text=SAMPLED)
    assert desk.asked(SAMPLED)[0] == 0
    desk.ran(5, life("sql01"), of_match(life("web02")), text=SAMPLED)

    assert desk.asked(SAMPLED)[0] == 1


def test_a_proof_from_the_future_makes_it_due(desk: Desk) -> None:
    """A clock was set back: how old the proof is nobody knows."""
    desk.ran(-2, life("sql01"), life("sql02"))

    code, values = desk.asked()

    assert code == 0
    assert "from the future" in values["why"]


def test_a_simulated_run_proves_nothing_of_a_real_server(desk: Desk) -> None:
    """Its address may be the same."""

    def opened(simulated: bool) -> Event:
        return SessionOpened(
            at=0.1,
            server=ServerName("hq"),
            session=SessionId("s1"),
            user="u",
            api_version="v1_7",
            simulated=simulated,
        )

    desk.ran(100, [opened(simulated=False)], life("sql01"), life("sql02"))
    desk.ran(1, [opened(simulated=True)], life("sql01"), life("sql02"))

    assert desk.asked()[0] == 0


def test_one_due_plan_of_several_is_enough(desk: Desk, tmp_path: Path) -> None:
    """Each has its own line."""
    desk.ran(1, life("sql01"), life("sql02"))
    desk.asked()
    other = tmp_path / "other.yaml"
    other.write_text(NAMED.replace("vm: sql01", "vm: new01"))

    done = called(desk.state, "due", desk.path, other)

    assert done.exit_code == 0
    one, two = done.output.splitlines()
    assert one.startswith(f"{desk.path}: not due: all 2 machines proven within ")
    assert two == f"{other}: DUE: 1 machine of 2 never proven"
    assert called(desk.state, "due", desk.path, "-q").output == ""


def test_a_plan_without_every_is_refused(desk: Desk, tmp_path: Path) -> None:
    """All problems of all plans are told; for a condition of systemd that is a failure."""
    desk.path.write_text(NAMED.replace("every: 90d\n", ""))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("every: 90\n")

    done = called(desk.state, "due", desk.path, wrong)
    assert done.exit_code == 2
    assert "add 'every: 90d'" in done.output
    assert "'90' is not a duration: write a number with a unit" in done.output
    assert called(desk.state, "due", desk.path, "--condition").exit_code == 255
    desk.path.write_text(NAMED)
    assert called(desk.state, "due", desk.path, "--ahead", "x").exit_code == 2
    assert called(desk.state, "due", desk.path, "--condition").exit_code == 0
    desk.ran(1, life("sql01"), life("sql02"))
    assert called(desk.state, "due", desk.path, "--condition").exit_code == 1


def test_hostile_names_are_inert(desk: Desk) -> None:
    """What servers say steers no terminal."""
    desk.ran(1, life("sql01"), of_match(life(HOSTILE, Fate.TASK_FAILED)), text=SELECTED)
    desk.path.write_text(SELECTED)

    output = called(desk.state, "due", desk.path).output

    assert output.replace("\n", "").isprintable()
