"""Checklist, "Serialiser knobs": one unreadable row in any list, and odd declarations."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import anyio
import pytest

from orchestrator.simulator.faults import SPOILS, Fault
from tests.simulator.wire import MOUNT_S, NS, Answer, wired

pytestmark = pytest.mark.anyio

ROWS = {
    "row_without_id": ("query", 'UID="urn:veeam:VmReplicaPoint:"'),
    "row_without_date": ("query", "</Links><VmName>"),
    "row_far_date": ("query", "<CreationTimeUTC>30828-09-14T"),
    "row_first_date": ("query", "<CreationTimeUTC>0001-01-01T00:00:00<"),
    "row_bad_character": ("query", "&#x1;</VmName>"),
    "row_odd_state": ("tasks", "<State>WaitingForCollection</State>"),
    "row_hollow_result": ("tasks", "<Result />"),
    "row_odd_result": ("tasks", '<Result Success="Warning" />'),
    "row_nil": ("tasks", '<State xsi:nil="true" />'),
}
"""Kind of fault: a list it can strike, and what is found once in it."""

DECLARATIONS = {
    "no_encoding": b'<?xml version="1.0"?>',
    "utf16_declared": b'<?xml version="1.0" encoding="utf-16"?>',
    "byte_order_mark": b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>',
}


async def listed(kind: str, name: str, **how: str) -> tuple[Answer, Answer]:
    """Return a list with a bad row, and the same as it is."""
    path = "/query" if name == "query" else "/tasks"
    async with wired(faults=[Fault(kind=kind, path=path, count=1, **how)]) as wire:  # type: ignore[arg-type]  # text only
        for place in range(2):
            await wire.start(wire.point(place=place))
        await anyio.sleep(MOUNT_S + 1)

        async def ask() -> Answer:
            if name == "query":
                return await wire.query("VmReplicaPoint", format="Entities")
            return await wire.get("tasks")

        return await ask(), await ask()


@pytest.mark.parametrize("kind", ROWS)
async def test_one_row_is_bad_and_the_rest_is_not(kind: str) -> None:
    """One row of a list, as a .NET service can write it."""
    name, found = ROWS[kind]
    bad, good = await listed(kind, name)

    assert len(re.findall(found, bad.text)) == 1
    assert not re.findall(found, good.text)
    tag = "VmReplicaPoint" if name == "query" else "Task"
    rows = re.compile(rf"<{tag}\b.*?</{tag}>")
    pairs = list(zip(rows.findall(bad.text), rows.findall(good.text), strict=True))
    assert len(pairs) >= 2
    assert sum(one != other for one, other in pairs) == 1


async def test_the_row_can_be_chosen() -> None:
    """The first row in which the expression is found."""
    bad, good = await listed("row_without_date", "query", row="<VmName>[^<]*2</VmName>")

    names = re.findall(r"</Links><VmName>(.*?)</VmName>", bad.text)
    assert len(names) == 1
    assert names[0].endswith("2")
    assert names[0] in good.text


async def test_no_xml_parser_takes_a_forbidden_character() -> None:
    """expat refuses the answer as a whole."""
    bad, good = await listed("row_bad_character", "query")

    with pytest.raises(ET.ParseError):
        ET.fromstring(bad.text)
    assert good.xml.tag == f"{NS}QueryResult"


@pytest.mark.parametrize("kind", DECLARATIONS)
async def test_odd_declarations(kind: str) -> None:
    """No encoding, a wrong one over UTF-8, a byte order mark."""
    bad, good = await listed(kind, "tasks")

    assert bad.body.startswith(DECLARATIONS[kind])
    assert good.body.startswith(b'<?xml version="1.0" encoding="utf-8"?>')


@pytest.mark.parametrize("kind", ["row_without_date", "row_hollow_result", "row_nil"])
async def test_where_there_is_nothing_to_spoil_nothing_strikes(kind: str) -> None:
    """A fault counts only where it changed an answer."""
    fault = Fault(kind=kind, path="/logonSessions", count=1)
    async with wired(faults=[fault]) as wire:
        await wire.get("logonSessions")

        assert (fault.seen, fault.struck) == (1, 0)


def test_every_kind_is_here() -> None:
    """No kind of spoiling exists without being shown."""
    assert {*ROWS, *DECLARATIONS} == SPOILS
