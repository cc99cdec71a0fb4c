"""What a command loads before its first line: nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PLAN = Path(__file__).parents[2] / "plans" / "complete.yaml"
WITHOUT_SERVERS = {"aiohttp", "asyncio", "sqlite3", "ssl", "defusedxml", "structlog", "rich"}
WITHOUT_A_RUN = WITHOUT_SERVERS | {"orchestrator.core.events", "orchestrator.core.lifecycle"}


@pytest.mark.parametrize(
    ("arguments", "needless"),
    [
        (["--help"], {*WITHOUT_A_RUN, "orchestrator.plan.file.schema", "yaml"}),
        (["validate", str(PLAN)], WITHOUT_A_RUN),
    ],
    ids=["help", "validate"],
)
def test_a_command_loads_what_it_needs(arguments: list[str], needless: set[str]) -> None:
    """As Python itself tells what is imported."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "orchestrator", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}

    assert {"orchestrator", "click"} <= loaded
    assert loaded & needless == set()
