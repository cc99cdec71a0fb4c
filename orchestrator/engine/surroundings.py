"""What a shard of a run is given from outside the engine."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec import Struct

from orchestrator.core.earlier_runs.systems import NO_SYSTEMS
from orchestrator.core.ports.controls import Controls
from orchestrator.core.ports.journal import Baselines, Durations, OtherRuns, Systems
from orchestrator.core.ports.local import FileStore, Offload, Programs


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a shard uses beside its servers."""

    rng: random.Random
    durations: Durations
    per_mount: Callable[[], float] = lambda: 0.0
    """Returns the seconds from a slot to the accepted task, as an earlier run measured them."""
    baselines: Baselines | None
    """None where no check compares with an earlier run."""
    systems: Systems = NO_SYSTEMS
    programs: Programs
    aside: Offload
    file_store: FileStore
    others: OtherRuns
    """The runs whose mounts count in this one's limits, too."""
    end_of_holds_requested: Callable[[], bool]
    """Returns whether `unmount` asked for it since the last call."""
    controls: Controls | None = None
    """Where people ask something of the run; None: nobody can."""
