"""The ways in which a simulated server writes JSON, and what it makes of another form."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.json_form import as_json
from tests.simulator.wire import STEADY, wired

pytestmark = pytest.mark.anyio

EMPTY = "<QueryResult><Entities><VmReplicaPoints /></Entities></QueryResult>"
ENTRY = (
    '<FileSystemEntries><Files><FileEntry Type="FileEntry"><Links></Links>'
    "<Name>a &amp; ü&#1;</Name><Size>174</Size></FileEntry></Files></FileSystemEntries>"
)


def written(xml: str, **knobs: Any) -> Any:
    """Return what a server with these knobs writes."""
    return json.loads(as_json(xml, Behaviour(**knobs)))


@pytest.mark.parametrize(
    ("empty", "expected"),
    [
        ("list", {"VmReplicaPoints": {"VmReplicaPoints": []}}),
        ("null", {"VmReplicaPoints": {"VmReplicaPoints": None}}),
        ("no_wrapper", {"VmReplicaPoints": None}),
    ],
)
def test_an_empty_list_is_written_in_several_ways(empty: str, expected: object) -> None:
    """Knob: `[]`, null, or no object around it; other members of a page are null."""
    page = written(EMPTY, json_empty_list=empty)

    assert page["Entities"] == expected
    assert {name: page[name] for name in ("Refs", "Resources", "Links")} == dict.fromkeys(
        ("Refs", "Resources", "Links")
    )


def test_what_is_null_may_be_missing() -> None:
    """Knob: a serialiser that leaves nulls out."""
    assert written(EMPTY, json_empty_list="missing") == {"Entities": {}}


def test_values_and_lists_of_one_are_written_in_several_ways() -> None:
    """Knobs: numbers in quotes, a list of one that is its row, and letters that are escaped."""
    plain = written(ENTRY)["Files"]["FileEntries"]
    assert plain == [
        {
            "Owner": None,
            "Actions": None,
            "Links": None,
            "Name": "a & ü\x01",
            "Size": 174,
            "Type": "FileEntry",
        }
    ]
    row = written(ENTRY, json_single_is_object=True, json_text_numbers=True)["Files"]["FileEntries"]
    assert (row["Size"], row["Name"]) == ("174", "a & ü\x01")
    assert b"a \\u0026 \\u00FC\\u0001" in as_json(ENTRY, Behaviour(json_escapes=True))
    assert "a & ü\\u0001".encode() in as_json(ENTRY, Behaviour())


@pytest.mark.parametrize(
    ("speaks", "accept", "starts"),
    [
        ("both", "application/xml", b"<?xml"),
        ("both", "application/json", b"{"),
        ("json", "application/xml", b"{"),
        ("json", "application/json", b"{"),
        ("xml", "application/json", b"<?xml"),
    ],
)
async def test_a_server_may_speak_one_form_only(speaks: str, accept: str, starts: bytes) -> None:
    """Knob: whatever Accept says."""
    async with wired(behaviour=replace(STEADY, speaks=speaks)) as wire:
        answer = await wire.get("", accept=accept)

        assert answer.status == 200
        assert answer.body.startswith(starts)
