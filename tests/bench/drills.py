"""The drills that are measured: their shape, their plan, and the best they could take."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.core.model import MountRequest
from orchestrator.engine.limits import Limits
from orchestrator.simulator.inventory import Point
from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE
from orchestrator.simulator.truth import MountFate
from tests.bench.schedule import greedy_makespan


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Servers, machines and limits of each; `seconds` of a mount, None is realistic.

    `api_format` is what the plan says of it. Several `waves` follow each other, each with a part
    of the machines.
    """

    servers: int = 3
    machines: int = 200
    backup_servers: int = 4
    run: int | None = None
    server: int = 12
    backup_server: int = 4
    seconds: tuple[float, float] | None = None
    api_format: str = "auto"
    waves: int = 1
    pace: str = ""
    """More limits of the run, as a plan has them: start interval and ramp."""

    @property
    def names(self) -> list[str]:
        """The servers' names."""
        return [f"em{number}" for number in range(self.servers)]

    @property
    def duration(self) -> Callable[[Point, random.Random], float] | None:
        """What gives the seconds of a mount; None: realistic ones."""
        seconds = self.seconds
        return None if seconds is None else lambda _point, rng: rng.uniform(*seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server of a drill: where it is, how it is trusted, its machines as (name, os)."""

    url: str
    tls: str = ""
    machines: Sequence[tuple[str, str]] = field(default_factory=tuple)


def plan_text(shape: Shape, servers: Mapping[str, Server]) -> str:
    """Return a plan over every machine, in no order, with the shape's limits."""
    lines = ["version: 1", "name: bench", "servers:"]
    targets = []
    for name, server in servers.items():
        lines += [
            f"  {name}:",
            f"    url: {server.url}",
            f"    username: {ACCOUNT}",
            f"    password: {{env: {PASSWORD_VARIABLE}}}",
            f"    api: {{format: {shape.api_format}}}",
            f"    limits: {{mounts: {shape.server}}}",
            *([f"    tls: {server.tls}"] if server.tls else []),
            "    backup_servers:",
        ]
        backups = range(1, shape.backup_servers + 1)
        lines += [f"      vbr-{name}-{n:02}: {{mounts: {shape.backup_server}}}" for n in backups]
        targets += [
            f"  - {{vm: '{vm}', server: {name}, os: {os.lower()}}}" for vm, os in server.machines
        ]
    limits = [f"mounts: {shape.run}"] if shape.run is not None else []
    limits += [shape.pace] if shape.pace else []
    if limits:
        lines += [f"limits: {{{', '.join(limits)}}}"]
    random.Random(7).shuffle(targets)
    lines += ["defaults: {timeouts: {mount: 3h}}"]
    return "\n".join([*lines, *_waves(targets, shape.waves), ""])


def _waves(targets: Sequence[str], count: int) -> list[str]:
    """Return targets as a list, or in waves that follow each other."""
    if count == 1:
        return ["targets:", *targets]
    lines = ["waves:"]
    for number in range(count):
        after = f", after: [w{number - 1}]" if number else ""
        own = ", ".join(target.strip().removeprefix("- ") for target in targets[number::count])
        lines.append(f"  - {{name: w{number}{after}, targets: [{own}]}}")
    return lines


def greedy(
    requests: Sequence[MountRequest],
    limits: Limits,
    fates: Iterable[MountFate],
    answer_s: float = 0.0,
) -> float:
    """Return the makespan of a perfect schedule with the durations that really were."""
    took = {(each.server, each.vm): (each.finished_at or 0) - each.requested_at for each in fates}

    def truth(request: MountRequest) -> float:
        return took[request.server, request.vm]

    return greedy_makespan(requests, limits, truth, lambda request: 0.0, answer_s)
