"""A pytest fixture for tests of plans: `pytest_plugins = ["orchestrator.testing"]`.

Nothing else of the program imports pytest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest

from orchestrator.app.api import Options, Outcome, rehearse


class Rehearse(Protocol):
    """What the fixture gives."""

    def __call__(
        self,
        plan: Path,
        *,
        scenario: Path | Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, str] = ...,
        at: datetime | None = None,
        options: Options | None = None,
    ) -> Outcome:
        """Run `plan` against simulated servers that have all it names.

        `scenario` is the path of a file, or what would be in it. For the rest see `rehearse`.

        Raises:
            PlanError: the plan or the scenario is not valid.
        """


@pytest.fixture(name="rehearse")
def rehearse_fixture(tmp_path: Path) -> Rehearse:
    """Return a function that rehearses a plan, each time in a directory of its own."""
    number = 0

    def call(
        plan: Path,
        *,
        scenario: Path | Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, str] | None = None,
        at: datetime | None = None,
        options: Options | None = None,
    ) -> Outcome:
        nonlocal number
        number += 1
        directory = tmp_path / f"rehearsal-{number}"
        if scenario is not None and not isinstance(scenario, Path):
            directory.mkdir(mode=0o700)
            lines, scenario = list(scenario), directory / "scenario.yaml"
            scenario.write_text(json.dumps(lines), encoding="utf-8")

        async def started() -> Outcome:
            return await rehearse(
                plan,
                directory,
                scenario=scenario,
                variables=variables or {},
                at=at,
                options=options,
            )

        return anyio.run(started)

    return call
