"""What a server calls things is shown, and neither obeyed nor taken for markup, anywhere."""

from __future__ import annotations

import io
import json
import logging
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from orchestrator.app import logs
from orchestrator.cli import command
from orchestrator.core.text import printable_json
from orchestrator.journal import State
from orchestrator.log import Log, prepare
from orchestrator.simulator.inventory import Inventory
from orchestrator.views.json_events import JsonEvents
from orchestrator.views.lines import LineView
from orchestrator.views.live import LiveView
from tests.hostile.twisting import Said, answered, drill_with_a_liar
from tests.scenarios.drill import Drill, Site
from tests.views.story import fed

C1_TITLE = "\x9d0;owned\x9c"
TURNED = "\u202egpj.exe\u2066\u200f"
MARKUP = "</testcase><script>alert(1)</script>]]>&amp;<!--[bold red]x[/x][link=file:///etc]"
LINES = "first\nsecond\u2028third\x85fourth\ttab"
SPELLS = [C1_TITLE, TURNED, MARKUP, LINES, "{0}%s%n${HOME}`id`", "'; DROP TABLE events; --"]
ESCAPES = (
    b'{"Message": "\\u001b]0;owned\\u0007\\u001b[2J\\u0000\\ud800\\r\\n' + b"\xe2\x80\xae" + b'no"}'
)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def bewitched(inventory: Inventory) -> None:
    """Give everything a hostile name; one mount fails with hostile words."""
    for number, machine in enumerate(inventory.machines):
        spell = SPELLS[number % len(SPELLS)]
        machine.name = f"vm{number} {spell}"
        machine.job, machine.os = "All", "Windows"
        machine.backup_server.name = f"vbr {machine.backup_server.id} {TURNED}{C1_TITLE}"
    inventory.machines[0].points[0].fails = f"no: {C1_TITLE}{TURNED}{MARKUP}{LINES}"
    inventory.machines[1].points[0].gone = True
    inventory.__init__(inventory.machines)  # type: ignore[misc]  # its indexes, anew


def words_with_escapes(said: Said) -> Said:
    """Put terminal escapes into the words of a refusal."""
    return replace(said, status=400, body=ESCAPES) if said.status >= 400 else said


@pytest.mark.anyio
async def test_hostile_names_are_text_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views, events, logs, every report and every later command: one value, one line, no
    control, bidirectional or format character, no markup, and the results as ever.
    """
    kept = structlog.get_config()
    lines, events, log, screen = io.StringIO(), io.StringIO(), io.StringIO(), Terminal()
    logs.configure(verbosity=2, style="console", stream=log)
    live = LiveView(screen, color=False)

    try:
        played, _ = await drill_with_a_liar(
            tmp_path,
            monkeypatch,
            answered("POST", "/mounts", words_with_escapes),
            hq=Site(machines=6, change=bewitched),
            plan="targets:\n  - {job: All, server: hq}\n  - {vm: dr-app0000, server: dr}\n",
            observers=fed(LineView(lines, verbose=True), JsonEvents(events), live),
        )
        Log(__name__).warning("names", names=[t["vm"] for t in played.report["targets"]])
        live.draw(played.took_s)
        live.close()
    finally:
        structlog.configure(**kept)
        prepare(logging.NOTSET, lambda: None)

    results = sorted(played.results().values())
    assert results == ["failed"] * 2 + ["mounted"] * 5
    for text in (lines.getvalue(), events.getvalue(), log.getvalue(), *shown(played, tmp_path)):
        assert text.strip()
        text = text.removeprefix("\ufeff")  # by which a spreadsheet knows UTF-8
        assert not {char for char in text if not char.isprintable()} - {"\n", "\r"}
    assert not set(screen.getvalue()) & set(C1_TITLE[0] + TURNED[0] + "\u2028\x85\x07\x00")
    assert "owned\x07" not in screen.getvalue()
    assert len(lines.getvalue().splitlines()) == lines.getvalue().count("\n")
    check_the_machine_readable(played, tmp_path, events.getvalue())


def shown(played: Drill, directory: Path) -> list[str]:
    """Return every report, and what the commands say about the run afterwards."""
    _ = played
    texts = [path.read_text(encoding="utf-8") for path in (directory / "report").iterdir()]
    for arguments in (["status"], ["status", "last"], ["status", "last", "--json"]):
        said = CliRunner().invoke(command, [*arguments, "--state", str(directory / "state")])
        texts.append(said.output)
    return texts


def check_the_machine_readable(played: Drill, directory: Path, events: str) -> None:
    """Check that what is escaped still means the names that the server gave."""
    names = {target["vm"] for target in played.report["targets"]}
    assert any(TURNED in name for name in names)
    assert any(MARKUP in name for name in names)
    for line in events.splitlines():
        json.loads(line)
    root = ET.parse(directory / "report" / "junit.xml").getroot()
    cases = list(root.iter("testcase"))
    assert {tag.tag for tag in root.iter()} <= {
        *("testsuites", "testsuite", "testcase", "failure", "error", "skipped"),
        *("properties", "property", "system-out"),
    }
    labels = {case.attrib["name"] for case in cases}
    assert any(MARKUP in label for label in labels)
    run = State(directory / "state").find("last")
    assert len(State(directory / "state").replay(run).records) == len(cases)


def test_a_document_with_escapes_means_the_same() -> None:
    """Whatever is in its texts, an escaped JSON document has the same values, printable."""
    rng = random.Random(20261124)
    for _round in range(300):
        value = {"a": ["".join(chr(rng.choice(ODD)) for _ in range(12)) for _ in range(3)]}
        document = printable_json(json.dumps(value, ensure_ascii=False, indent=1))

        assert json.loads(document) == value
        assert document.replace("\n", "").isprintable()


ODD = [
    *(9, 10, 13, 27, 34, 92, 127, 0x85, 0x9B, 0xAD, 0x200E, 0x2028, 0x202E, 0x2066, 0xFEFF),
    *(0xE9, 0x4E2D, 0x1F600, 0xE0001, 0x10FFFF),
]
