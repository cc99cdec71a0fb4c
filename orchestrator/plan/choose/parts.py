"""Which targets of a plan belong to one part of it (`--shard K/N`).

Every part expands the whole plan, so that guards judge all of it, and leaves out what belongs to
others. A target whose machine the plan names belongs to one part even where its server does not
answer. An entry whose machines nobody knows yet may have some of every part: its one target
belongs to all of them, so that no part is good without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.core.errors import PlanError
from orchestrator.core.model import MountRequest, ServerName, UnresolvedTarget
from orchestrator.core.parts import Part
from orchestrator.plan.choose.locked import LockedPlan
from orchestrator.plan.choose.matching import name_without_machine
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.plan.file.problems import START, Problem
from orchestrator.plan.file.selectors import SELECTORS
from orchestrator.plan.file.settings import Entry, RestorePlan, SampleOrder


class PartOfPlan:
    """Tells what belongs to a part; None: everything."""

    def __init__(self, part: Part | None, plan: RestorePlan) -> None:
        """Remember which entry is where."""
        self.part = part
        self._entries = {entry.place: entry for entry in plan.entries()} if part else {}

    def takes(self, target: MountRequest | UnresolvedTarget) -> bool:
        """Tell whether a target belongs to it."""
        if self.part is None:
            return True
        entry = self._entries[target.place]
        if is_of_one_name(entry):
            return self.part.takes(entry.server, entry.value)
        if isinstance(target, MountRequest):
            return self.part.takes(target.server, target.vm)
        is_unknown = target.label == name_without_machine(entry)
        return is_unknown or self.part.takes(target.server, target.label)

    def may_take(self, entry: Entry) -> bool:
        """Tell whether a target of an entry may belong to it, before its server has listed."""
        if self.part is None or not is_of_one_name(entry):
            return True
        return self.part.takes(entry.server, entry.value)

    def counts_on(self, entries: Iterable[Entry]) -> bool:
        """Tell whether a server's machines are counted for a guard that it judges too."""
        return self.part is not None and any(entry.expect is not None for entry in entries)


def is_of_one_name(entry: Entry) -> bool:
    """Return whether the plan names the machine, or the restore point, of an entry."""
    return not SELECTORS[entry.kind].several


def locked_part_takes(part: Part | None, target: MountRequest | UnresolvedTarget) -> bool:
    """Tell whether a target of a locked plan belongs to a part: the file is the same for all."""
    if part is None:
        return True
    machine = target.vm if isinstance(target, MountRequest) else target.label
    return part.takes(ServerName(target.server), machine)


def require_same_choice(
    source: LoadedPlan | LockedPlan, part: Part | None, seed: int | None
) -> None:
    """Check that every part chooses the same of the plan, however many processes there are.

    Raises:
        PlanError: chance or an earlier run decides, and differently in each.
    """
    if part is None or isinstance(source, LockedPlan):
        return
    if source.plan.samples_stalest:
        raise _refused(
            source.path,
            f"--shard {part}: a sample by `order: {SampleOrder.STALEST}` may be another one in "
            "every shard; lock the plan and run the shards of that: bulk-restore plan PLAN -o FILE",
        )
    if source.plan.draws and seed is None:
        raise _refused(
            source.path,
            f"--shard {part}: the plan draws by chance, each shard for itself; give all shards the "
            "same --seed, or run the shards of a locked plan",
        )


def _refused(path: Path, message: str) -> PlanError:
    return PlanError((Problem(file=str(path), position=START, message=message),))
