"""Where the files and programs of secret references are found: beside the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan.file.access import CommandSecret
from orchestrator.plan.file.loading import load_plan_text

PLAN = """version: 1
name: secrets
servers:
  hq: {url: "https://hq.example.net:9398", username: a, password: {command: [%s, ./argument]}}
targets:
  - {vm: a, server: hq}
"""


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("./ask", "/plans/night/ask"),
        ("bin/ask", "/plans/night/bin/ask"),
        ("../ask", "/plans/ask"),
        ("/usr/bin/ask", "/usr/bin/ask"),
        ("ask", "ask"),
    ],
)
def test_a_program_with_a_path_starts_beside_the_plan(program: str, found: str) -> None:
    """As a file does; a bare name is looked for as the system does, and arguments stay."""
    plan = load_plan_text((PLAN % program).encode(), Path("/plans/night/plan.yaml")).plan

    (server,) = plan.servers.values()

    assert server.password == CommandSecret(argv=(found, "./argument"))
