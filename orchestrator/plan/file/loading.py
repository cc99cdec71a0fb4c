"""Loading a plan: every problem in one pass, or a plan that holds.

Nothing is sent and nothing is resolved that belongs to logon: secrets stay references.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from orchestrator.core.errors import PlanError
from orchestrator.core.text import size
from orchestrator.plan.file.document import MAX_BYTES, NotReadable, read_document
from orchestrator.plan.file.left_out import LeftOut
from orchestrator.plan.file.named_files import ON_DISK, NamedFiles, read_bytes
from orchestrator.plan.file.problems import START, Position, Problem, Problems, SourceText
from orchestrator.plan.file.resolving import resolve
from orchestrator.plan.file.settings import RestorePlan
from orchestrator.plan.file.variables import substitute, used_with_default

NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})
SERVER_KEYS = frozenset({"version", "name", "variables", "servers", "limits"})
"""What is read of a plan whose targets do not matter."""


class LoadedPlan(Struct, frozen=True, kw_only=True):
    """A valid plan and the file it came from.

    `sha256` is the hash of the plan file's bytes, `inventory_sha256` that of every file named
    by a `from_file`, by the name messages use. `doubts` are warnings of probable mistakes.
    """

    plan: RestorePlan
    path: Path
    sha256: str
    inventory_sha256: Mapping[str, str]
    doubts: tuple[Problem, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    """Machines of these files that the plan excludes; those of servers are in the expansion."""


def load_plan(path: Path, *, overrides: Mapping[str, str] = NO_OVERRIDES) -> LoadedPlan:
    """Return the plan in the file at `path`; `overrides` are variables from the command line.

    Raises:
        PlanError: the file cannot be read, or is no valid plan; it holds every problem.
    """
    try:
        data = read_bytes(path)
    except ValueError as exc:
        raise refusal(path, f"no plan: {exc}") from None
    if looks_locked(data):
        raise refusal(path, "not a plan, but a locked plan; name the plan that it was made from")
    return load_plan_text(data, path, overrides=overrides)


def looks_locked(data: bytes) -> bool:
    """Tell whether a file says of itself that it is a locked plan."""
    return _LOCKED.match(data) is not None


def load_plan_text(
    data: bytes,
    path: Path,
    *,
    overrides: Mapping[str, str] = NO_OVERRIDES,
    only_servers: bool = False,
    named: NamedFiles = ON_DISK,
) -> LoadedPlan:
    """Return the plan that `data` holds, as if it had been read from `path`.

    Relative paths in the plan start at the directory of `path`; `named` reads them. With
    `only_servers` its targets, and the files that they name, are not looked at: the plan has none.

    Raises:
        PlanError: it is no valid plan; the error holds every problem, in order.
    """
    problems = Problems(SourceText(str(path), data))
    if len(data) > MAX_BYTES:
        raise refusal(path, f"no plan: it is larger than {size(MAX_BYTES)}")
    with _collector_paused():
        try:
            tree = read_document(data, problems)
        except NotReadable:
            raise PlanError(problems.sorted()) from None
        with_default: frozenset[str] = frozenset()
        if only_servers:
            with_default = used_with_default(tree)
            for key in tree.keys() - SERVER_KEYS:
                del tree[key]
        substitute(tree, overrides, problems, with_default=with_default)
        resolved = resolve(
            tree,
            problems,
            base=path.parent.absolute(),
            shown_base=path.parent,
            named=named,
            only_servers=only_servers,
        )
    if resolved.plan is None or problems:
        raise PlanError(problems.sorted())
    return LoadedPlan(
        plan=resolved.plan,
        path=path,
        sha256=sha256(data).hexdigest(),
        inventory_sha256=resolved.files,
        doubts=problems.doubts(),
        left_out=resolved.left_out,
    )


_LOCKED = re.compile(rb'\s*\{\s*"format"\s*:\s*"bulk-restore-locked-plan"')


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from searching a tree that only grows.

    Without this it takes a quarter of the time of a plan with 50,000 targets.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def refusal(path: Path, message: str, position: Position = START) -> PlanError:
    """Return the error for a file that cannot be used as a whole."""
    return PlanError((Problem(file=str(path), position=position, message=message),))
