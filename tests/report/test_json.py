"""report.json: the contract holds for every run, and hostile names change nothing in it."""

from __future__ import annotations

import json
from datetime import timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from jsonschema import Draft202012Validator

from orchestrator.core.events import Event, SessionOpened, WaveStarted, from_json, to_json
from orchestrator.core.model import Objectives, ServerName, WaveName
from orchestrator.core.run_state import RunState, fold
from orchestrator.core.text import printable_json, timestamp
from orchestrator.report.as_json import as_values, pieces, render, report_json_schema
from orchestrator.report.summary import summarize
from tests.report.builders import (
    HOSTILE,
    SESSION,
    STARTED_AT,
    Fate,
    finished,
    life,
    run_of,
    runs,
    started,
    values,
)

VALIDATOR = Draft202012Validator(report_json_schema())

FIELDS = {
    "": "schema_version run totals servers waves targets objectives not_proven",
    "run": "id plan plan_sha256 mode reason version started_at finished_at duration_s exit_code "
    "halted interrupted resumed_from",
    "totals": "targets verified mounted failed unknown skipped cancelled left",
    "servers": "name url tls api_version clock_offset_s mounts_limit peak_mounts sessions "
    "requests retries",
    "waves": "name started_at finished_at targets",
    "targets": "key wave server backup_server vm os result mount message point attempts phases_s "
    "checks downloads objectives",
    "targets.point": "id name created_at age_s fallback_depth",
    "targets.attempts": "point_id session task_id submitted_at accepted_at finished_at outcome "
    "message",
    "targets.phases_s": "queued submitting running collecting verifying unmounting",
    "targets.objectives.rto": "target_s actual_s met",
    "objectives": "scope kind target_s actual_s met",
}
"""The fields that the contract names, by their place."""


def full_run() -> list[Event]:
    """Return the events of a run in which every list of the report has a member."""
    session = SessionOpened(
        at=0.5, server=ServerName("hq"), session=SESSION, user="drill", api_version="v1_7"
    )
    objectives = Objectives(rto=1200.0, rpo=7200.0)
    return [
        started(objectives=objectives, reason="quarterly"),
        session,
        WaveStarted(at=0.6, wave=WaveName("databases")),
        *life("sql01", objectives=objectives),
        *life("sql02", Fate.TASK_FAILED, words=HOSTILE),
        finished(60.0, 1),
    ]


def at(report: Any, place: str) -> dict[str, Any]:
    """Return the object at a dotted place; of a list, its first member."""
    for name in filter(None, place.split(".")):
        report = report[name]
        report = report[0] if isinstance(report, list) else report
    assert isinstance(report, dict)
    return report


def test_the_schema_is_a_schema() -> None:
    """The published schema is valid under the draft that it names."""
    Draft202012Validator.check_schema(report_json_schema())


@pytest.mark.parametrize("place", FIELDS)
def test_every_field_of_the_contract_is_there(place: str) -> None:
    """A reader finds each field that the contract names, at its place."""
    report = values(summarize(fold(full_run())))

    assert set(FIELDS[place].split()) <= set(at(report, place))


@pytest.mark.parametrize("place", FIELDS)
def test_the_schema_demands_what_the_contract_names(place: str) -> None:
    """A report that lacks one of the contract's fields is not valid."""
    for name in FIELDS[place].split():
        report = values(summarize(fold(full_run())))
        del at(report, place)[name]

        assert not VALIDATOR.is_valid(report), name


@given(runs())
@settings(deadline=None, max_examples=30)
def test_every_run_makes_a_valid_report(state: RunState) -> None:
    """Whatever happened, and whatever things are called, the schema accepts the report."""
    report = values(summarize(state))

    VALIDATOR.validate(report)
    assert [target["key"] for target in report["targets"]] == list(state.records)
    assert report["run"]["plan"] == state.started.plan


@given(runs())
@settings(deadline=None, max_examples=30)
def test_json_says_what_the_summary_says(state: RunState) -> None:
    """Results, mounts, messages and totals are the summary's, to the last character."""
    report = summarize(state)
    shown = values(report)

    assert [(t["result"], t["mount"], t["message"]) for t in shown["targets"]] == [
        (t.result, t.mount, t.message) for t in report.targets
    ]
    assert shown["totals"] == report.totals


@given(runs())
@example(run_of())
@settings(deadline=None, max_examples=30)
def test_what_is_made_target_by_target_is_laid_out_as_a_whole(state: RunState) -> None:
    """Byte for byte, without targets, too."""
    report = summarize(state)

    whole = msgspec.json.format(msgspec.json.encode(as_values(report)), indent=1)

    assert render(report) == printable_json(whole.decode()) + "\n"
    assert len([*pieces(report)]) == (len(report.targets) + 1)


def test_a_replayed_run_makes_the_same_bytes() -> None:
    """The report of a journal that was read back is byte for byte the live run's."""
    live = full_run()
    replayed = [from_json(type(event).__name__, to_json(event)) for event in live]

    first, again = (render(summarize(fold(events))).encode() for events in (live, replayed))

    assert first == again


def test_the_order_is_the_contract_s() -> None:
    """Fields stand in a fixed order and targets in the order of the plan."""
    lives = [life(name) for name in ("b", "a", "c")]

    report = json.loads(render(summarize(run_of(*lives))))

    assert [target["label"] for target in report["targets"]] == ["b", "a", "c"]
    assert list(report)[:4] == ["schema_version", "run", "totals", "servers"]


def test_a_logon_session_is_only_a_short_hash() -> None:
    """The GUID of a session is nowhere in the report, but its attempts can be told apart."""
    text = render(summarize(run_of(life("sql01"))))

    assert SESSION not in text
    assert len(json.loads(text)["targets"][0]["attempts"][0]["session"]) == 8


def test_times_are_utc_with_z_and_durations_are_seconds() -> None:
    """Times are RFC 3339 in UTC whatever zone they were taken in."""
    zone = timezone(timedelta(hours=5, minutes=30))
    local = STARTED_AT.astimezone(zone) + timedelta(milliseconds=120)

    assert timestamp(local) == "2026-11-23T06:00:00.120Z"
    assert timestamp(None) is None


def test_times_of_an_attempt_are_those_of_its_events() -> None:
    """Submitted, accepted and finished are the run's start plus the events' seconds."""
    report = values(summarize(run_of(life("sql01"))))

    attempt = report["targets"][0]["attempts"][0]
    assert (attempt["submitted_at"], attempt["accepted_at"], attempt["finished_at"]) == (
        "2026-11-23T06:00:03.000Z",
        "2026-11-23T06:00:03.500Z",
        "2026-11-23T06:00:43.500Z",
    )
    assert (attempt["outcome"], attempt["message"]) == ("success", "Ok")


def test_the_schema_names_every_field_that_is_written() -> None:
    """Who reads the schema knows all that report.json says, the evidence in it too."""
    lives = [life("sql01"), life("web01", Fate.LEFT)]
    report = values(summarize(run_of(*lives, [finished()]), chain_head="ab" * 32))

    assert sorted(_unnamed(report_json_schema(), report)) == []


def _unnamed(schema: dict[str, Any], value: Any, place: str = "") -> set[str]:
    """Return the places of fields that a schema does not name."""
    found: set[str] = set()
    schema = next((each for each in schema.get("anyOf", ()) if "properties" in each), schema)
    if isinstance(value, dict) and "properties" in schema:
        for name, inner in value.items():
            if name not in schema["properties"]:
                found.add(f"{place}.{name}")
            else:
                found |= _unnamed(schema["properties"][name], inner, f"{place}.{name}")
    for each in value if isinstance(value, list) and "items" in schema else ():
        found |= _unnamed(schema["items"], each, place)
    return found
