"""Plans that must be refused: each file's first lines say exactly where and why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.core.errors import PlanError
from orchestrator.plan.file.loading import load_plan
from orchestrator.plan.file.problems import MASK, Problem

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
_expected = re.compile(r"^# (\d+):(\d+): (.+)$")


def expected_problems(path: Path) -> list[tuple[int, int, str]]:
    """Return the problems that the head of a broken plan announces."""
    found = []
    for line in path.read_text().splitlines():
        match = _expected.match(line)
        if match is None:
            break
        found.append((int(match[1]), int(match[2]), match[3]))
    return found


def problems_of(path: Path) -> list[Problem]:
    """Return the problems that loading finds."""
    with pytest.raises(PlanError) as caught:
        load_plan(path)
    return [problem for problem in caught.value.problems if isinstance(problem, Problem)]


def test_there_are_enough_broken_plans() -> None:
    """The collection does not shrink unnoticed."""
    assert len(BROKEN) >= 100


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_plan_names_every_problem_and_its_place(path: Path) -> None:
    """One pass gives all problems, each at its exact line and column, and no other."""
    problems = problems_of(path)

    found = [(p.position.line, p.position.column, p.message) for p in problems]
    assert found == expected_problems(path)
    assert {problem.file for problem in problems} == {str(path)}


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_problem_shows_its_line_with_a_caret_and_never_a_secret(path: Path) -> None:
    """The line below a message is the file's own up to what is masked; the caret points at it."""
    lines = path.read_text().splitlines()

    for problem in problems_of(path):
        head, shown, caret = str(problem).split("\n")
        assert head == f"{path}:{problem.position}: {problem.message}"
        assert caret.index("^") == min(4 + problem.position.column - 1, len(shown))
        assert shown[4:].split(MASK)[0] in lines[problem.position.line - 1].replace("\t", " ")
        assert "hunter2" not in str(problem)


def test_the_secrets_in_the_broken_plans_are_really_there() -> None:
    """The test above looks for something: several broken plans hold the password."""
    assert sum("hunter2" in path.read_text() for path in BROKEN) >= 8
