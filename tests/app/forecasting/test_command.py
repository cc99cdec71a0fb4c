"""`forecast` of a locked plan: no server is asked, and the journal is only read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import anyio
import defusedxml.ElementTree as SafeTree
import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from orchestrator.app.forecasting.json_schema import forecast_json_schema
from orchestrator.cli import command
from orchestrator.journal import State
from tests.app.forecasting import recorded
from tests.app.forecasting.recorded import first, life
from tests.journal.sample import written
from tests.plan.builders import point

NAMES = ("dc01", "sql01", "web01", "web02")
PLAN = """objectives: {rto: 10m}
limits: {mounts: 3}
waves:
  - name: first
    targets: [{vm: dc01, server: hq}]
  - name: rest
    after: [first]
    targets: [{vm: sql01, server: hq}, {vm: web01, server: hq}, {vm: web02, server: hq}]
"""


def locked(directory: Path, body: str = PLAN, names: Sequence[str] = NAMES) -> Path:
    """Save a locked plan, with the points of machines that are listed."""
    return recorded.locked(directory, body, [point(name) for name in names])


def history(directory: Path, *seconds: float, names: Sequence[str] = NAMES) -> Path:
    """Record a run for each of `seconds` a mount; every submission took 2 s, after 5 s."""
    state = State(directory / "state")
    for number, each in enumerate(seconds):
        events = [event for name in names for event in life(name, each)]
        events.sort(key=lambda event: event.at)
        anyio.run(written, state, events, first(number))
    return state.directory


def called(*arguments: str | Path) -> Result:
    """Call `forecast`."""
    return CliRunner().invoke(command, ["forecast", *map(str, arguments)])


def test_the_waves_and_the_end_come_from_earlier_runs(tmp_path: Path) -> None:
    """5 s of logon, then two waves of 60 s and a submission of 2 s each."""
    state = history(tmp_path, 60.0, 60.0, 60.0)

    found = called(locked(tmp_path), "--state", state, "--json")

    values = json.loads(found.stdout)
    assert found.exit_code == 0, found.output
    assert values["makespan"] == {"low_s": 116.1, "about_s": 129.0, "high_s": 141.9}
    assert [(each["name"], each["start"]["about_s"]) for each in values["waves"]] == [
        ("first", 5.0),
        ("rest", 67.0),
    ]
    assert (values["begins_s"], values["per_mount_s"]) == (5.0, 2.0)
    assert values["overheads_of_run"] == "run2"
    assert values["objectives"][0]["status"] == "met"
    assert "as_planned" not in values


def test_start_interval_and_ramp_are_counted_and_named(tmp_path: Path) -> None:
    """Three mounts of the last wave, one each 100 s, from 2 s after the answer before it."""
    state = history(tmp_path, 60.0, 60.0, 60.0)
    body = PLAN.replace("{mounts: 3}", "{mounts: 3, start_interval: 98s}")

    found = called(locked(tmp_path, body), "--state", state)
    values = json.loads(called(locked(tmp_path, body), "--state", state, "--json").stdout)

    assert values["makespan"]["about_s"] == 5.0 + 100.0 + 2 * 100.0 + 62.0
    assert "the start interval and the ramp decide" in " ".join(found.stdout.split())
    assert "with the plan's start interval and ramp" in found.stdout


SCHEMA = forecast_json_schema()


@pytest.mark.parametrize(
    ("options", "machines"),
    [
        ((), NAMES),
        (("--limit", "run.mounts=1", "--limit", "waves/rest.mounts=1"), NAMES),
        ((), NAMES[:2]),  # two of the targets have no restore point
        (("--only", "web02"), ("dc01",)),  # nothing is left
    ],
)
@pytest.mark.parametrize("runs", [0, 4])
def test_the_json_form_is_what_its_schema_says(
    tmp_path: Path, options: tuple[str, ...], machines: Sequence[str], runs: int
) -> None:
    """Every field of it is there, and every value is of its kind."""
    state = history(tmp_path, *[60.0] * runs) if runs else tmp_path / "state"
    body = f"limits: {{deadline: 3m, mounts: 3}}\n{PLAN.replace('limits: {mounts: 3}', '')}"

    plan = locked(tmp_path, body, machines)
    found = called(plan, "--state", state, "--json", *options)
    values = json.loads(found.stdout)

    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(values)
    assert set(values) | {"as_planned"} == set(SCHEMA["properties"])


def test_the_schema_is_printed() -> None:
    """With the others."""
    printed = CliRunner().invoke(command, ["schema", "forecast"])

    assert json.loads(printed.stdout) == SCHEMA


def test_a_person_who_was_asked_takes_no_time(tmp_path: Path) -> None:
    """What lies between the listing and the first submission was the person's."""
    state = State(tmp_path / "state")
    anyio.run(written, state, life("dc01", 60.0), first(0, confirmed=False))

    values = json.loads(called(locked(tmp_path), "--state", state.directory, "--json").stdout)

    assert values["begins_s"] == 1.0


def test_without_history_it_says_so(tmp_path: Path) -> None:
    """No journal at all: 120 s a mount, and nothing is made on disk."""
    found = called(locked(tmp_path), "--state", tmp_path / "none")

    assert found.exit_code == 0, found.output
    assert "4 targets: about 4 min (2 min to 8 min)" in found.stdout
    assert "no history for 4 of 4 targets (100%): 120 s a mount" in found.stdout
    assert "RTO of run, 10 min: unknown" in found.stdout
    assert not (tmp_path / "none").exists()


def test_another_limit_is_compared_with_the_plans_own(tmp_path: Path) -> None:
    """One at a time: the second wave takes three times as long."""
    state = history(tmp_path, 58.0, 58.0, 58.0)
    plan = locked(tmp_path)

    found = called(plan, "--state", state, "--limit", "hq/vbr-01.mounts=1")
    same = called(plan, "--state", state, "--limit", "run.mounts=9", "--json")

    assert "with hq/vbr-01.mounts=1; the plan's own limits: about 2 min 5 s, so 2 min longer" in (
        found.stdout
    )
    assert "hq/vbr-01.mounts=1 binds for 49% of the run (2 min)" in found.stdout
    values = json.loads(same.stdout)
    assert values["as_planned"]["makespan"] == values["makespan"]
    assert values["limits_changed"] == {"run.mounts": 9}


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("hq.mount=8", "there is no limit 'hq.mount': did you mean 'hq.mounts'?"),
        ("hq/vbr-1.mounts=8", "there is no limit 'hq/vbr-1.mounts': did you mean "),
        ("waves/frist.mounts=8", "did you mean 'waves/first.mounts'?"),
        ("run.mounts_per_wm=2", "did you mean 'run.mounts_per_vm'?"),
        ("hq.mounts", "'hq.mounts' is not NAME=N, such as hq.mounts=8"),
        ("hq.mounts=0", "is not NAME=N"),
        ("hq.mounts=-1", "is not NAME=N"),
        ("hq.mounts=²", "is not NAME=N"),
        ("=3", "is not NAME=N"),
    ],
)
def test_an_unknown_limit_is_an_error_with_what_was_meant(
    limit: str, message: str, tmp_path: Path
) -> None:
    """Exit code 2, and nothing is forecast."""
    found = called(locked(tmp_path), "--state", tmp_path / "none", "--limit", limit)

    assert (found.exit_code, found.stdout) == (2, "")
    assert message in found.stderr


@pytest.mark.parametrize(
    "limit",
    ["hq.mounts=1", "waves/rest.mounts=1", "run.mounts=1", "hq/vbr-01.mounts=1"],
)
def test_every_kind_of_limit_can_be_changed(limit: str, tmp_path: Path) -> None:
    """Each of them makes the three mounts of the second wave follow each other."""
    state = history(tmp_path, 58.0, 58.0, 58.0)

    found = called(locked(tmp_path), "--state", state, "--limit", limit, "--json")

    values = json.loads(found.stdout)
    assert values["makespan"]["about_s"] == 245.0
    name, _, mounts = limit.partition("=")
    assert (values["limits"][0]["name"], values["limits"][0]["mounts"]) == (name, int(mounts))


def test_an_rto_that_will_be_missed_ends_with_1(tmp_path: Path) -> None:
    """For a pipeline that forecasts before it runs; the deadline is said, too."""
    state = history(tmp_path, 900.0, 900.0, 900.0)
    plan = locked(tmp_path, PLAN.replace("{mounts: 3}", "{mounts: 3, deadline: 10m}"))

    found = called(plan, "--state", state)

    assert found.exit_code == 1
    assert "RTO of run, 10 min: missed" in found.stdout
    assert "deadline 10 min: it is expected to end the run" in found.stdout


def test_a_target_without_a_restore_point_is_named(tmp_path: Path) -> None:
    """The others are forecast; the run itself would end with 1, too."""
    state = history(tmp_path, 60.0)

    found = called(locked(tmp_path, names=NAMES[:3]), "--state", state)

    assert found.exit_code == 1
    assert "no point: rest/hq/web02: " in found.stderr
    assert "  expected" in found.stdout
    assert "1 of its targets has no restore point" in found.stdout


def test_a_locked_plan_has_no_seed(tmp_path: Path) -> None:
    """As for `run`: what was drawn is in the file."""
    found = called(locked(tmp_path), "--state", tmp_path / "none", "--seed", "7")

    assert (found.exit_code, found.stdout) == (2, "")
    assert "--seed cannot change a locked plan" in found.stderr


def test_holds_and_part_of_a_plan_are_forecast(tmp_path: Path) -> None:
    """--only takes what `run --only` takes; a hold keeps the slot after the verdict."""
    state = history(tmp_path, 58.0, 58.0, 58.0)

    found = called(
        locked(tmp_path), "--state", state, "--only", "sql*", "--hold", "5m", "--json"
    )  # fmt: skip

    values = json.loads(found.stdout)
    assert (values["targets"], values["makespan"]["about_s"]) == (1, 365.0)
    assert [each["targets"] for each in values["waves"]] == [0, 1]


def test_the_page_has_pictures_and_nothing_foreign(tmp_path: Path) -> None:
    """No script, nothing from outside; a hostile name is text."""
    hostile = "<script>x</script>&amp;"
    body = PLAN.replace("vm: web02", f"vm: '{hostile}'").replace("rest", "rest-a")
    plan = locked(tmp_path, body, (*NAMES[:3], hostile))
    page = tmp_path / "forecast.html"

    found = called(plan, "--state", tmp_path / "none", "-q", "--html", page)

    text = page.read_text()
    pictures = [SafeTree.fromstring(each) for each in re.findall("<svg.*?</svg>", text)]
    assert (found.exit_code, found.stdout, len(pictures)) == (0, "", 2)
    assert "rest-a: ends about 4 min" in text
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert "<script" not in text
    assert "&lt;script&gt;x&lt;/script&gt;&amp;amp;" in text
    assert "default-src 'none'" in text
