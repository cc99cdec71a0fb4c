"""The declared Python API: complete, late, and enough to embed the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import orchestrator
from orchestrator.app import api
from orchestrator.app.demo import settings_for
from orchestrator.simulator.process import PASSWORD_VARIABLE
from tests.processes import PASSWORD, served

EXAMPLE = Path(__file__).parents[1] / "docs" / "reference" / "embedding.py"


def test_the_package_exports_what_the_api_declares() -> None:
    """There is one list, and the API has all of it."""
    names = orchestrator.__all__
    assert all(getattr(orchestrator, name) is getattr(api, name) for name in names)


def test_another_name_is_none_of_the_package() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'run_plan'"):
        orchestrator.run_plan  # noqa: B018


def test_the_import_loads_nothing() -> None:
    """`--help` imports the package too."""
    code = "import sys, orchestrator; sys.exit('aiohttp' in sys.modules or 'anyio' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.process
def test_the_example_of_the_documents_runs_a_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It checks, mounts, and prints a result for each target; its exit code is the run's."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    chosen = settings_for(1, machines=20, password=PASSWORD, duration_range=(0.1, 0.3))
    with served(chosen, apart=True) as servers:
        plan = servers.plan(tmp_path, targets=3)

        ended = subprocess.run(
            [sys.executable, EXAMPLE, plan, tmp_path],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert ended.returncode == 0, ended.stderr
    assert [line.split()[1:] for line in ended.stdout.splitlines()] == [["mounted", "released"]] * 3
    assert (tmp_path / "report" / "report.html").exists()


def test_a_plan_with_mistakes_names_each(tmp_path: Path) -> None:
    """The example prints them and ends with 2."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("version: 1\nname: x\n", encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, EXAMPLE, plan, tmp_path], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "plan.yaml:1:1" in ended.stderr


def test_the_documents_show_the_example_as_it_is() -> None:
    """Word for word."""
    page = (EXAMPLE.parent / "python-api.md").read_text(encoding="utf-8")

    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in page
