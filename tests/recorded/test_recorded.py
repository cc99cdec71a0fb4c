"""Recorded runs are still read and written as they were: journal and report.json byte for byte.

Each directory holds the events of a run that a scenario made, one per line (type, space, body as
in the journal), and its reports. The events never change, and report.json only where a field is
added that is always there, or a value was wrong: remove it first. The other reports are for
people: where their words change on purpose, `python -m tests.recorded.test_recorded` writes them
anew, and the difference is in the commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.core.events import Event, from_json, to_json
from orchestrator.core.run_state import fold
from orchestrator.report.summary import summarize
from orchestrator.report.values import Report
from orchestrator.report.writing import RENDERINGS, rendered

RUNS = sorted(path.parent for path in Path(__file__).parent.glob("*/journal.events"))
HEAD = "9d2c" * 16
NAMES = [name for name in RENDERINGS if name != "report.html"]  # it is mostly its style


def recorded(run: Path) -> Iterator[tuple[str, bytes]]:
    """Yield type and body of each event."""
    for line in (run / "journal.events").read_bytes().splitlines():
        kind, body = line.split(b" ", 1)
        yield kind.decode(), body


def read(run: Path) -> list[Event]:
    """Return the events of a run."""
    return [from_json(kind, body) for kind, body in recorded(run)]


def report_of(run: Path) -> Report:
    """Return the report of a run."""
    return summarize(fold(read(run)), chain_head=HEAD)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_event_is_written_as_it_was(run: Path) -> None:
    """What was read from a journal is written with the same bytes."""
    assert [to_json(event) for event in read(run)] == [body for _, body in recorded(run)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_every_report_is_written_as_it_was(run: Path, name: str) -> None:
    """The same journal makes the same bytes."""
    assert b"".join(rendered(name, report_of(run))) == (run / name).read_bytes()


def record() -> None:
    """Write the reports of the recorded runs anew; report.json only where there is none."""
    for run in RUNS:
        report = report_of(run)
        for name in NAMES:
            if name != "report.json" or not (run / name).exists():
                (run / name).write_bytes(b"".join(rendered(name, report)))


if __name__ == "__main__":
    record()
