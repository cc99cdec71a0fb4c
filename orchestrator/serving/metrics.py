"""The run as metrics, in Prometheus' text format 0.0.4.

Names of servers and plans may be anything: labels are printable and escaped, and two that
look the same afterwards are counted together, for a sample must not stand there twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.lifecycle import Phase
from orchestrator.model import Result, printable
from orchestrator.outlook import Rest
from orchestrator.serving.board import STATES, Board

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL = 200
"""Characters of a label."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric with its samples, by their labels."""

    name: str
    about: str
    samples: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def add(self, value: float, **labels: str) -> Gauge:
        """Add a sample, to the one with the same labels if there is one."""
        shown = tuple((name, printable(text, LABEL)) for name, text in labels.items())
        self.samples[shown] = self.samples.get(shown, 0.0) + value
        return self

    def lines(self) -> Iterator[str]:
        """Yield help, type and samples; nothing without a sample."""
        if not self.samples:
            return
        name = f"bulk_restore_{self.name}"
        yield f"# HELP {name} {_escaped(self.about)}"
        yield f"# TYPE {name} gauge"
        for labels, value in self.samples.items():
            inner = ",".join(f'{label}="{_escaped(text, quote=True)}"' for label, text in labels)
            yield f"{name}{f'{{{inner}}}' if inner else ''} {_number(value)}"


def metrics(board: Board, more: Iterable[Gauge] = ()) -> str:
    """Return everything worth watching of a run; `more` comes last."""
    gauges = [*_run(board), *_targets(board), *_servers(board), *more]
    return "".join(f"{line}\n" for gauge in gauges for line in gauge.lines())


def _run(board: Board) -> Iterator[Gauge]:
    started = board.tally.started
    if started is None:
        return
    yield Gauge("run_info", "The run that the other metrics are about.").add(
        1, run=started.run, plan=started.plan, mode=started.mode, version=started.version
    )
    yield Gauge("run_start_time_seconds", "When the run began, in seconds since 1970.").add(
        started.started_at.timestamp()
    )
    yield Gauge("run_elapsed_seconds", "Seconds on the run's own clock.").add(board.elapsed_s)
    states = Gauge("run_state", "1 for the state that the run is in.")
    for state in STATES:
        states.add(board.state == state, state=state)
    yield states
    if board.finished is not None:
        yield Gauge("run_exit_code", "How the run ended; 0 is good.").add(board.finished.exit_code)
    if board.state in {"running", "ending"}:
        yield from _rest(board.tally.rest())


def _rest(rest: Rest) -> Iterator[Gauge]:
    """Yield how long the rest may take, as far as that can be known."""
    if rest.about is not None:
        yield Gauge("run_remaining_seconds", "Expected seconds to the end.").add(rest.about)
    ends = Gauge("run_remaining_seconds_range", "Seconds to the end, at least and at most.")
    for bound, seconds in (("low", rest.low), ("high", rest.high)):
        if seconds is not None:
            ends.add(seconds, bound=bound)
    yield ends


def _targets(board: Board) -> Iterator[Gauge]:
    tally = board.tally
    yield Gauge("targets", "Targets of the run.").add(tally.targets)
    results = Gauge("targets_concluded", "Targets that have this result.")
    for result in Result:
        results.add(tally.results[result], result=result.value)
    yield results
    held = Gauge("targets_held", "Targets without a result yet, held open after this verdict.")
    verdicts = tally.held_verdicts
    for verdict in Result:
        held.add(verdicts[verdict], verdict=verdict.value)
    yield held
    yield Gauge("mounts_left", "Mounts of concluded targets that are, or may be, open.").add(
        len(tally.left)
    )
    phases = Gauge("targets_in_phase", "Targets that are in this phase now.")
    for phase in Phase:
        phases.add(tally.phases[phase], phase=phase.value)
    yield phases
    oldest = min((record.since for record in tally.under_way()), default=None)
    if oldest is not None and board.finished is None:
        yield Gauge(
            "oldest_phase_seconds",
            "Seconds that the slowest mount is in its phase; not of held ones.",
        ).add(max(0.0, tally.now - oldest))


def _servers(board: Board) -> Iterator[Gauge]:
    tally = board.tally
    used = Gauge("server_mounts_open", "Mounts that are, or may be, open or under way.")
    limit = Gauge("server_mounts_limit", "Mounts that the plan allows to be open at once.")
    allowed = Gauge("server_mounts_allowed", "Mounts that may be open at once for now.")
    targets = Gauge("server_targets", "Targets behind this Enterprise Manager.")
    done = Gauge("server_targets_concluded", "Targets behind it that have their result.")
    usable = Gauge("server_usable", "0 while targets wait for the server, or it was given up.")
    for facts in board.servers():
        name = facts.name
        used.add(tally.held[name], server=name)
        if facts.mounts_limit is not None:
            limit.add(facts.mounts_limit, server=name)
        now = tally.allowed_on(facts)
        if now is not None:
            allowed.add(now, server=name)
        targets.add(tally.by_server[name], server=name)
        done.add(tally.done_by_server[name], server=name)
        usable.add(board.gate(name) == "open", server=name)
    yield from (used, limit, allowed, targets, done, usable)


def counted(values: Mapping[str, tuple[str, float]]) -> Iterator[Gauge]:
    """Yield a gauge without labels for each {name: (what it is, value)}."""
    for name, (about, value) in values.items():
        yield Gauge(name, about).add(value)


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    """Return a value as the format wants it, whole numbers without a point."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
