"""A line of journal.jsonl is what any JSON program writes of a record, and reads back."""

from __future__ import annotations

import json
from math import inf, nan

import pytest

from orchestrator.core.model import RunId
from orchestrator.core.records import RUN_CHAIN, Record
from orchestrator.report.evidence.lines import line


@pytest.mark.parametrize("chain", [RUN_CHAIN, "hq", 'a"b\\é'])
@pytest.mark.parametrize("at", [0.0, -0.0, 5, 0.1 + 0.2, 1e-7, 123456789.125, 1e22, inf, nan])
@pytest.mark.parametrize(
    "body",
    [
        '{"at":0.5,"key":"dc01"}',
        '"\\" and \\\\',
        "é\u2028\u2029\x7f\x85",
        "\x00\x1b[31m\n\t",
        "\U0001f600",
    ],
)
def test_a_line_is_json_in_ascii(chain: str, at: float, body: str) -> None:
    """Whatever a server wrote is in it, and nothing of that steers a terminal or ends the line."""
    record = Record(
        run=RunId("20261130T120000-ab12"),
        seq=7,
        kind="RunNoted",
        at=at,
        body=body.encode(),
        hash=bytes(range(32)),
        chain=chain,
    )
    values = {"run": record.run, "chain": chain, "seq": 7, "type": "RunNoted", "at": at}
    values |= {"body": body, "hash": bytes(range(32)).hex()}
    if chain == RUN_CHAIN:
        del values["chain"]

    written = line(record)

    assert written == json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"
    assert written.count(b"\n") == 1
