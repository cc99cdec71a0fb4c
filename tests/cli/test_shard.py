"""`--shard K/N` on the command line: what is wrong with it is said before anything happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import command
from tests.plan.builders import HEAD


def called(directory: Path, verb: str, *more: str, body: str = "targets: [{vm: dc01}]\n") -> Result:
    """Call a command with a plan and a state directory of its own."""
    plan = directory / "plan.yaml"
    plan.write_text(HEAD + body)
    arguments = [verb, str(plan), *more, "--state", str(directory / "state")]
    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize("verb", ["run", "plan", "check"])
@pytest.mark.parametrize("text", ["6/5", "0/2", "two"])
def test_a_shard_that_is_none_is_refused(tmp_path: Path, verb: str, text: str) -> None:
    """Exit code 2 with the option and the right form; nothing is made."""
    result = called(tmp_path, verb, "--shard", text)

    assert result.exit_code == 2
    assert "--shard" in result.output
    assert "write K/N with K from 1 to N, such as 2/5" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]


def test_a_plan_that_draws_needs_a_seed(tmp_path: Path) -> None:
    """Each shard would draw a sample of its own."""
    body = "targets: [{match: '*', sample: {count: 2}}]\n"

    result = called(tmp_path, "run", "--yes", "--shard", "1/2", body=body)

    assert result.exit_code == 2
    assert "give all shards the same --seed" in result.output
    assert not (tmp_path / "state").exists()


def test_a_shard_is_not_locked_alone(tmp_path: Path) -> None:
    """Reports of shards belong together only if all had the same file."""
    lock = tmp_path / "plan.lock.json"

    result = called(tmp_path, "plan", "--shard", "1/2", "-o", str(lock))

    assert result.exit_code == 2
    assert "lock the whole plan" in result.output
    assert not lock.exists()


def test_a_database_divides_a_run_itself(tmp_path: Path) -> None:
    """Its workers share one run, so there is nothing to choose."""
    plan = tmp_path / "plan.yaml"
    plan.write_text(HEAD + "targets: [{vm: dc01}]\n")
    address = "postgresql://u@localhost/d?sslmode=verify-full"

    result = CliRunner().invoke(
        command, ["run", str(plan), "--yes", "--shard", "1/2", "--state", address]
    )

    assert result.exit_code == 2
    assert "--shard is for a state directory" in result.output
