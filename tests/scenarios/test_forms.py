"""A run has the same journal and the same report, whether the servers speak XML or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Site, drill, every_machine
from tests.virtual.clock import run_virtual

FORMS: dict[str, dict[str, object]] = {
    "12": {"speaks": "json"},
    "12, nothing is null": {"speaks": "json", "json_empty_list": "missing"},
    "13": {"speaks": "json", "camel_case_json": True, "json_escapes": True},
    "13, one is no list": {
        "speaks": "json",
        "camel_case_json": True,
        "json_single_is_object": True,
        "json_empty_list": "null",
        "json_text_numbers": True,
        "byte_order_mark": True,
    },
}
"""How a server may write JSON: in place of XML, so that the plan is the same."""
CHECKS = r"""
checks:
  any-volume:
    - {path: 'C:\Windows\System32\config\SYSTEM', min_size: 1MiB}
    - {dir: 'C:\Windows', min_count: 1, absent: ['*.locked']}
    - {path: 'Volume$0:\bootmgr', magic: 4D 5A}
defaults: {checks: [any-volume], retries: {attempts: 2, delay: 5s}}
"""
"""Of every machine; one that runs Linux fails them."""
STORIES: dict[str, Sequence[Fault]] = {
    "nothing goes wrong": (),
    "answers are lost": (
        Fault(kind="drop_after", method="POST", path=r"/mounts$", count=2),
        Fault(kind="truncated", path=r"/query", count=2),
        Fault(kind="error_500_after", method="DELETE", path=r"/mounts/\d+$"),
    ),
    "somebody else answers": (
        Fault(kind="proxy_page", method="POST", path=r"/mounts$"),
        Fault(kind="html_200", path=r"/tasks", count=2),
        Fault(kind="html_503", path=r"/query", count=2),
    ),
    "the service refuses": (
        Fault(kind="xml_503", method="POST", path=r"/mounts$", count=3),
        Fault(kind="error_500", path=r"/query", query="type=Task"),
        Fault(kind="forbidden", method="DELETE", path=r"/mounts/\d+$"),
    ),
    "rows cannot be read": (
        Fault(kind="row_without_date", path="/query", query="VmReplicaPoint"),
        Fault(kind="row_without_id", path="/query", query="type=Task"),
        Fault(kind="row_odd_result", path="/query", query="type=Task"),
        Fault(kind="row_bad_character"),
    ),
    "the session is gone": (Fault(kind="forget_session", path=r"/query", skip=6),),
}


def written(
    story: str, how: dict[str, object], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[str]]:
    """Return report.json and the records of the journal, without places and process numbers."""
    faults = [replace(fault) for fault in STORIES[story]]
    site = Site(machines=4, faults=faults, behaviour=Behaviour(**how))  # type: ignore[arg-type]
    directory.mkdir()
    plan = CHECKS + every_machine([site])
    run_virtual(lambda: drill(directory, monkeypatch, [site], plan))  # each on a clock of its own
    report = (directory / "report" / "report.json").read_text()
    records = (directory / "report" / "journal.jsonl").read_text().splitlines()
    return plain(report, directory), [plain(json.dumps(event(each)), directory) for each in records]


def event(record: str) -> object:
    """Return what happened by a record, without the chain that seals it."""
    value = json.loads(record)
    return {name: each for name, each in value.items() if name not in {"hash", "previous"}}


def plain(text: str, directory: Path) -> str:
    """Return a text without what differs from run to run on one machine."""
    text = text.replace(str(directory), "/drill")
    return re.sub(r'"(?:pid|hash|previous|\w*head)": ?("[^"]*"|\d+)', "", text)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("form", FORMS)
def test_a_story_leaves_the_same_journal_and_report(
    story: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Record by record, and byte by byte."""
    report, records = written(story, {}, tmp_path / "xml", monkeypatch)
    in_json = written(story, FORMS[form], tmp_path / "json", monkeypatch)

    assert in_json[1] == records
    assert in_json[0] == report
    assert len(records) > 20


def test_a_server_that_refuses_xml_costs_one_more_logon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first logon is answered with 406; from the next one on everything is in JSON."""
    site = Site(machines=3, behaviour=Behaviour(speaks="json_406"))
    done = run_virtual(lambda: drill(tmp_path, monkeypatch, [site]))

    assert done.outcome.code == 0
    assert set(done.results().values()) == {"mounted"}
    assert done.truth.requests["POST /api/sessionMngr/"] == 2
