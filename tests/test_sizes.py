"""Sizes: a module and a function are as long as a reader can keep in mind."""

from __future__ import annotations

import ast
from pathlib import Path

import orchestrator

ROOT = Path(orchestrator.__file__).parent
MODULE_LINES, FUNCTION_LINES = 450, 60


def too_large(path: Path) -> set[str]:
    """Return the module, if it has too many lines, and its functions that do."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    functions = {
        f"{name}: {node.name}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or node.lineno) - node.lineno >= FUNCTION_LINES
    }
    return functions | ({name} if text.count("\n") > MODULE_LINES else set())


def test_no_module_and_no_function_is_too_large() -> None:
    """A module has at most 450 lines, a function 60."""
    assert not {name for path in ROOT.rglob("*.py") for name in too_large(path)}
