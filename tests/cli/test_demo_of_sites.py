"""`demo --sites --kill`: real workers over a real PostgreSQL, one of which is killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process


def test_the_busiest_worker_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    """Everything is mounted once, nothing is left, and the report says who took over."""
    command = [sys.executable, "-m", "orchestrator", "demo", "--sites", "3", "--kill"]
    command += ["--targets", "60", "--directory", str(tmp_path), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Worker \d+ was killed; others served all that it had", done.stdout)
    assert "60 mounts made, 0 still open" in done.stdout
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["totals"]["mounted"] == 60
    assert sum(shard["takeovers"] for shard in report["run"]["shards"]) >= 1
    verified = [
        sys.executable,
        "-m",
        "orchestrator",
        "report",
        "--verify",
        str(tmp_path / "report"),
    ]
    assert subprocess.run(verified, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("arguments", [["--kill"], ["--kill", "--sites", "1"]])
def test_somebody_must_be_there_to_take_over(arguments: list[str]) -> None:
    """Refused before anything is started."""
    command = [sys.executable, "-m", "orchestrator", "demo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "--kill needs --sites 2 or more" in done.stderr
