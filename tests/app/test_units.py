"""`units`: what systemd itself thinks of the service and the timer that are printed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.app.units import exec_word, unit_word
from orchestrator.cli import command

NAME = "bulk-restore-payments-tier-1"
PLAN = """version: 1
name: Payments tier 1
every: {every}
servers:
  hq: {{url: 'https://hq.example.net:9398', username: u, password: {{credential: em-hq}}}}
  dr: {{url: 'https://dr.example.net:9398', username: {{env: EM_USER}}, password: {{file: /x/y}}}}
targets: [{{vm: dc01, server: hq, download: [{{path: 'C:\\a', to: '/srv/out put/'}}]}}]
"""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze"
)


def printed(plan: Path, *more: str) -> Result:
    """Call the command; its program is one that is there."""
    program = shutil.which("true") or "/bin/true"
    return CliRunner().invoke(command, ["units", str(plan), "--program", program, *more])


def written(directory: Path, every: str = "90d", *more: str) -> tuple[Path, Path]:
    """Return the service and the timer of a plan."""
    plan = directory / "plan.yaml"
    plan.write_text(PLAN.format(every=every))
    done = printed(plan, "-o", str(directory / "units"), *more)
    assert done.exit_code == 0, done.output
    return directory / "units" / f"{NAME}.service", directory / "units" / f"{NAME}.timer"


@needs_systemd
@pytest.mark.parametrize("more", [[], ["--user", "drill"]], ids=["dynamic user", "user"])
def test_systemd_accepts_the_units(tmp_path: Path, more: list[str]) -> None:
    """Without a word, and rates what the service may do at most 2.0."""
    units = written(tmp_path, "90d", *more)

    verified = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", units[0]],
        capture_output=True,
        text=True,
        check=False,
    )

    said = [line for line in verified.stderr.splitlines() if NAME in line]
    assert (verified.returncode, said) == (0, [])
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", rated.stdout)
    assert found is not None, rated.stderr
    assert float(found[1]) <= 2.0


@needs_systemd
@pytest.mark.parametrize("every", ["10m", "5h", "1d", "7d", "366d"])
def test_the_timer_looks_as_often_as_the_plan_needs(tmp_path: Path, every: str) -> None:
    """Twice within `every`, or more often, but a day apart at most; the calendar is one."""
    _, timer = written(tmp_path, every)
    calendar = dict(re.findall(r"^(\w+)=(.*)$", timer.read_text(), re.MULTILINE))

    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=3", calendar["OnCalendar"]],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0
    assert calendar["Persistent"] == "yes"
    assert calendar["RandomizedDelaySec"]


def test_each_kind_of_secret_is_given_or_told(tmp_path: Path) -> None:
    """Only a credential of systemd needs nothing more."""
    service, _ = written(tmp_path)
    lines = service.read_text().splitlines()

    assert "LoadCredential=em-hq:/etc/credstore/em-hq" in lines
    assert any(line.startswith("# NOT SET: the environment variable EM_USER") for line in lines)
    assert any(line.startswith("# The account must own the file /x/y") for line in lines)
    assert 'ReadWritePaths="-/srv/out put"' in lines


def test_the_service_runs_the_plan_if_it_is_due(tmp_path: Path) -> None:
    """Condition, run and clean-up have the same program, journal and variables."""
    service, _ = written(tmp_path, "90d", "--user", "drill")
    text = service.read_text()

    plan = tmp_path / "plan.yaml"
    program = shutil.which("true")
    assert f"ExecCondition={program} due --condition --ahead 12h --state %S/{NAME} {plan}\n" in text
    assert f"ExecStart={program} run --yes --state %S/{NAME} {plan}\n" in text
    assert f"ExecStopPost=-{program} unmount last --wait 10m --state %S/{NAME}\n" in text
    assert "User=drill\n" in text
    assert "DynamicUser" not in text


def test_a_plan_that_cannot_be_timed_is_refused(tmp_path: Path) -> None:
    """Without `every`, or with files that are written into guests."""
    plan = tmp_path / "plan.yaml"
    for text, words in (
        (PLAN.format(every="90d").replace("every: 90d\n", ""), "add 'every: 90d'"),
        ("mode: recovery\n" + PLAN.format(every="90d"), "a timer runs drills only"),
    ):
        plan.write_text(text)
        done = printed(plan, "-o", str(tmp_path / "units"))
        assert done.exit_code == 2
        assert words in done.output
        assert not (tmp_path / "units").exists()


@needs_systemd
def test_hostile_names_are_one_line_and_no_setting(tmp_path: Path) -> None:
    """A plan's name and path begin no line, and no specifier of theirs is replaced."""
    place = tmp_path / "a%h $HOME \"q\" 'x' \\ ü\nUser=root"
    place.mkdir()
    plan = place / "plan.yaml"
    plan.write_text(
        PLAN.format(every="1d").replace("name: Payments tier 1", "name: 'p%n $X User=root \\'"),
        encoding="utf-8",
    )

    done = printed(plan, "-o", str(tmp_path / "units"))

    assert done.exit_code == 0, done.output
    (service,) = (tmp_path / "units").glob("*.service")
    text = service.read_text()
    assert not any(line.startswith("User=") for line in text.splitlines())
    assert "a%%h $$HOME" in text
    assert "%n" not in text.replace("%%n", "")
    verified = subprocess.run(
        ["systemd-analyze", "verify", service], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr


def test_words_are_quoted_where_they_must_be() -> None:
    """Plain ones stay as they are, so that a person can read them."""
    assert unit_word("/srv/plans/a.yaml") == "/srv/plans/a.yaml"
    assert unit_word("50%") == '"50%%"'
    assert unit_word('a "b" \\ ü\n') == '"a \\x22b\\x22 \\x5c ü\\x0a"'
    assert exec_word("$HOME") == '"$$HOME"'
    assert unit_word("") == '""'
