"""Bugs that the suite must catch: one patch each, planted into a copy, never shipped.

A patch begins with what it breaks, in words, and names the tests that catch it
(`Caught-by:`, a pytest id per line).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NEEDED = ("orchestrator", "tests", "plans", "pyproject.toml", "README.md", "docs", "Makefile")
CAUGHT_BY = "Caught-by: "


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug. `caught_by`: pytest ids."""

    name: str
    about: str
    caught_by: tuple[str, ...]
    patch: Path


def mutants() -> Sequence[Mutant]:
    """Return all mutants, by name."""
    return [_mutant(path) for path in sorted(HERE.glob("*.patch"))]


def _mutant(patch: Path) -> Mutant:
    head = patch.read_text(encoding="utf-8").split("\ndiff --git", 1)[0].splitlines()
    caught_by = tuple(line.removeprefix(CAUGHT_BY) for line in head if line.startswith(CAUGHT_BY))
    return Mutant(patch.stem, head[0], caught_by, patch)


@contextmanager
def copied() -> Iterator[Path]:
    """Yield a directory with a copy of program and tests, gone afterwards."""
    with TemporaryDirectory(prefix="bulk-restore-mutant-") as directory:
        ignored = shutil.ignore_patterns("__pycache__")
        for name in NEEDED:
            source, target = ROOT / name, Path(directory) / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=ignored)
            else:
                shutil.copy2(source, target)
        yield Path(directory)


def plant(mutant: Mutant, directory: Path, *, only_try: bool = False) -> str:
    """Apply the mutant's patch to a copy; return why it does not apply, or nothing."""
    done = subprocess.run(
        ["git", "apply", *(["--check"] if only_try else []), str(mutant.patch)],
        cwd=directory,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(directory.parent)},
        text=True,
        capture_output=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def tested(directory: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy until the first one fails: exit code 1, or 0 if all pass."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", *tests],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        text=True,
        capture_output=True,
        check=False,
    )
