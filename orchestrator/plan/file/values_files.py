"""Files of values for a plan's variables, such as one for each site."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.core.errors import PlanError
from orchestrator.plan.file.document import NotReadable, read_document
from orchestrator.plan.file.named_files import read_bytes
from orchestrator.plan.file.problems import START, Problem, Problems, SourceText
from orchestrator.plan.file.variables import Overrides, is_variable

_WANTED = "write a mapping of variables to values, one 'name: value' a line"


def read_values(files: Iterable[Path]) -> Overrides:
    """Return the values in `files`; where several have a name, the last one counts.

    A value is taken as it is: no variable is replaced in it.

    Raises:
        PlanError: a file cannot be read, or holds something else; it has every problem.
    """
    found = Overrides()
    wrong: list[Problem] = []
    for path in files:
        try:
            data = read_bytes(path)
        except ValueError as exc:
            wrong.append(Problem(file=str(path), position=START, message=f"no values: {exc}"))
            continue
        source = SourceText(str(path), data)
        problems = Problems(source)
        with suppress(NotReadable):
            tree = read_document(data, problems, wanted=_WANTED, empty=f"it is empty: {_WANTED}")
            for name, value in tree.fields():
                if is_variable(name, value, problems):
                    found[str(name)] = str(value)
                    found.written[str(name)] = source, name.position
        wrong += problems.sorted()
    if wrong:
        raise PlanError(tuple(wrong))
    return found
