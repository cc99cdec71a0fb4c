"""How long a run may take: its mounts passed through the real scheduler, without a clock."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from msgspec import Struct

from orchestrator.core.model import MountRequest
from orchestrator.core.ports.journal import Durations
from orchestrator.engine.forecast.play import play
from orchestrator.engine.limits import Limits
from orchestrator.plan.file.settings import Wave


class ExpectedDuration(Struct, frozen=True, kw_only=True):
    """`seconds` is None where no target was ever mounted; `unknown` of `targets` were not."""

    seconds: float | None
    unknown: int
    targets: int


def expected_duration(
    requests: Sequence[MountRequest], waves: Sequence[Wave], limits: Limits, durations: Durations
) -> ExpectedDuration:
    """Return how long the run takes if every mount takes as long as it usually does.

    Machines without a history count as the median of the others. Nothing fails, nothing is
    slowed down by load, and servers answer at once: hardly ever shorter, often longer.
    """
    known = {each.key: durations.expected(each.server, each.vm) for each in requests}
    history = [seconds for seconds in known.values() if seconds is not None]
    unknown = len(known) - len(history)
    if not history:
        return ExpectedDuration(seconds=None, unknown=unknown, targets=len(known))
    usual = median(history)

    def seconds_of(request: MountRequest) -> float:
        seconds = known[request.key]
        return usual if seconds is None else seconds

    played = play(requests, waves, limits, seconds_of)
    return ExpectedDuration(seconds=played.end, unknown=unknown, targets=len(known))
