"""The check for a person, calm at 5,000 targets, and for a program, by its published schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from orchestrator.app.readiness.as_json import readiness_json, readiness_json_schema
from orchestrator.app.readiness.findings import Finding, Readiness, Scope, Status, Subject
from orchestrator.app.readiness.text import text
from tests.app.readiness.desk import asked, at_desk
from tests.scenarios.drill import Site

SERVER = Subject(Scope.SERVER, "hq")
RUN = Subject(Scope.RUN, "drill")


def target(number: int, *, critical: bool = False) -> Subject:
    """Return a target to speak about."""
    return Subject(Scope.TARGET, f"default/hq/vm{number:04}", critical)


def readiness(*findings: Finding, targets: int = 1) -> Readiness:
    """Return a check with these answers."""
    return Readiness(
        plan="drill",
        plan_sha256="ab" * 32,
        checked_at=datetime(2026, 11, 23, 6, tzinfo=UTC),
        servers=1,
        targets=targets,
        findings=findings,
    )


def test_the_answer_comes_first_and_then_what_stands_in_the_way() -> None:
    """Problems before warnings before what is not visible; the critical targets first."""
    shown = text(
        readiness(
            SERVER.ok("clock", "+0.1 s"),
            SERVER.not_visible("backup_servers", "not visible to this role"),
            target(1).problem("point", "no point"),
            target(2, critical=True).problem("point", "none either"),
            target(3).warning("helper_host", "needs one"),
            targets=3,
        )
    )

    assert shown.splitlines() == [
        "NOT READY: drill: 3 targets on 1 server; 2 problems, 1 warning",
        "",
        "Problems:",
        "  default/hq/vm0002 (critical): point: none either",
        "  default/hq/vm0001: point: no point",
        "",
        "Warnings:",
        "  default/hq/vm0003: helper host: needs one",
        "",
        "Not visible from here:",
        "  hq: backup servers: not visible to this role",
        "",
        "Seen:",
        "  hq",
        "    clock: +0.1 s",
        "",
        "5 answers: 1 ok, 1 warning, 2 problems, 1 not visible",
    ]


def test_five_thousand_targets_are_calm() -> None:
    """The same said of many is one row; of different things 20 are shown, the rest counted."""
    findings = []
    for number in range(5000):
        findings += [
            target(number).problem("point", f"its own reason {number}"),
            target(number).not_visible("replica_state", "not told"),
            target(number).warning("helper_host", f"for vbr-{number % 2}"),
            target(number).ok("rpo", "met"),
        ]

    shown = text(readiness(*findings, targets=5000)).splitlines()

    assert len(shown) < 40
    assert "  and 4980 more, see --json" in shown
    names = "default/hq/vm0000, default/hq/vm0001, default/hq/vm0002 and 4997 more"
    assert f"  {names}: replica state: not told" in shown


def test_what_is_said_of_several_items_is_said_once() -> None:
    """An unreachable server is one row of what was not asked; two of them share it."""
    other = Subject(Scope.SERVER, "dr")
    found = readiness(
        *(
            about.not_visible(item, "not asked")
            for about in (SERVER, other)
            for item in ("logon", "inventory_age")
        ),
        other.not_visible("role", "no point"),
    )

    rows = text(found).partition("Not visible from here:\n")[2].partition("\n\n")[0].splitlines()

    assert rows == ["  hq, dr: logon, inventory age: not asked", "  dr: role: no point"]


def test_quiet_is_the_answer_and_its_reasons() -> None:
    """-q leaves one line where all is well; strict makes warnings reasons."""
    warned = readiness(SERVER.ok("clock", "+0 s"), SERVER.warning("trust", "insecure"))

    assert text(warned, quiet=True) == "ready: drill: 1 target on 1 server; 1 warning\n"
    strict = text(replace(warned, strict=True), quiet=True)
    assert strict.startswith("NOT READY")
    assert "  hq: trust: insecure" in strict


def test_verbose_tells_what_is_as_it_should_be() -> None:
    """-v shows every kind of answer."""
    shown = text(readiness(RUN.ok("guards", "hold")), verbose=True)

    assert "OK:\n  drill: guards: hold\n" in shown


@pytest.mark.parametrize("hostile", ["\x1b[2J\x1b]0;owned\x07", "a\nready: fake", "\u202etxt.exe"])
def test_names_and_words_from_a_server_steer_no_terminal(hostile: str) -> None:
    """Neither the text nor the JSON form passes a control character on."""
    found = readiness(
        Finding(
            scope=Scope.TARGET, name=hostile, item="point", status=Status.PROBLEM, detail=hostile
        ),
        Finding(scope=Scope.SERVER, name=hostile, item="clock", status=Status.OK, detail=hostile),
    )

    for shown in (text(found), readiness_json(found)):
        assert all(char.isprintable() or char == "\n" for char in shown)
    assert len(text(found).splitlines()) == 10
    assert json.loads(readiness_json(found))["items"][0]["name"] == hostile


def validated(document: str) -> Any:
    """Return the values of a JSON form that its published schema allows."""
    schema = readiness_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    values = json.loads(document)
    jsonschema.validate(values, schema)
    return values


def test_the_json_form_counts_what_it_lists() -> None:
    """Totals per status, the version, and the exit code that the process ends with."""
    found = readiness(target(1, critical=True).problem("point", "none"), RUN.ok("guards", "hold"))

    values = validated(readiness_json(found))

    assert (values["v"], values["ready"], values["exit_code"]) == (1, False, 4)
    assert values["totals"] == {
        "servers": 1,
        "targets": 1,
        "ok": 1,
        "warning": 0,
        "problem": 1,
        "not_visible": 0,
    }
    assert values["items"] == [
        {
            "scope": "target",
            "name": "default/hq/vm0001",
            "item": "point",
            "status": "problem",
            "detail": "none",
            "critical": True,
        },
        {"scope": "run", "name": "drill", "item": "guards", "status": "ok", "detail": "hold"},
    ]


def test_a_check_without_any_answer_is_still_a_document() -> None:
    """An empty list is one."""
    assert validated(readiness_json(readiness()))["items"] == []


@pytest.mark.anyio
async def test_a_real_check_fits_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Good and bad servers beside each other."""
    async with at_desk(tmp_path, monkeypatch, [Site("hq"), Site("dr", password="another")]) as at:
        found = (await asked(at)).readiness

    values = validated(readiness_json(found))
    assert {item["status"] for item in values["items"]} >= {"ok", "problem", "not_visible"}
    assert values["totals"]["targets"] == 16
