"""The run as metrics, in Prometheus' text format 0.0.4.

Names of servers and plans may be anything: labels are printable and escaped, and two that
look the same afterwards are counted together, for a sample must not stand there twice. Every
sample names its plan once it is known: the files of two plans in one directory would hold the
same series else, and node exporter drops the second without a word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TypeVar

from msgspec import Struct, field

from orchestrator.core.lifecycle import Phase
from orchestrator.core.model import Result
from orchestrator.core.text import escape_label, printable
from orchestrator.views.eta import TimeLeft
from orchestrator.views.web.page_state import STATES, PageState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAST_SUCCESS = "run_last_success_timestamp_seconds"
LABEL = 200
"""Characters of a label."""

K = TypeVar("K", bound=StrEnum)
Labels = tuple[tuple[str, str], ...]


class Gauge(Struct, frozen=True):
    """One metric with its samples, by their labels."""

    name: str
    about: str
    samples: dict[Labels, float] = field(default_factory=dict)

    def add(self, value: float, **labels: str) -> Gauge:
        """Add a sample, to the one with the same labels if there is one."""
        shown = tuple((name, printable(text, LABEL)) for name, text in labels.items())
        self.samples[shown] = self.samples.get(shown, 0.0) + value
        return self

    def lines(self, common: Labels = ()) -> Iterator[str]:
        """Yield help, type and samples, each with the `common` labels; nothing without a sample."""
        if not self.samples:
            return
        name = f"bulk_restore_{self.name}"
        yield f"# HELP {name} {escape_label(self.about, quote=False)}"
        yield f"# TYPE {name} gauge"
        for labels, value in self.samples.items():
            inner = ",".join(
                f'{label}="{escape_label(text)}"' for label, text in (*common, *labels)
            )
            yield f"{name}{f'{{{inner}}}' if inner else ''} {_number(value)}"


def metrics(page_state: PageState, more: Iterable[Gauge] = ()) -> str:
    """Return everything worth watching of a run; `more` comes last."""
    gauges = [*_run(page_state), *_targets(page_state), *_servers(page_state), *more]
    started = page_state.stats.started
    common = () if started is None else (("plan", printable(started.plan, LABEL)),)
    return "".join(f"{line}\n" for gauge in gauges for line in gauge.lines(common))


def last_success_in(text: str, plan: str) -> float | None:
    """Return this plan's last success from an earlier file, or None."""
    start = f'bulk_restore_{LAST_SUCCESS}{{plan="{escape_label(printable(plan, LABEL))}"}} '
    sample = next((line for line in text.splitlines() if line.startswith(start)), None)
    try:
        value = float(sample.removeprefix(start)) if sample is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _run(page_state: PageState) -> Iterator[Gauge]:
    started = page_state.stats.started
    if started is None:
        return
    yield Gauge("run_info", "The run that the other metrics are about.").add(
        1, run=started.run, mode=started.mode, version=started.version
    )
    yield Gauge("run_start_time_seconds", "When the run began, in seconds since 1970.").add(
        started.started_at.timestamp()
    )
    yield Gauge("run_elapsed_seconds", "Seconds on the run's own clock.").add(page_state.elapsed_s)
    states = Gauge("run_state", "1 for the state that the run is in.")
    for state in STATES:
        states.add(page_state.state == state, state=state)
    yield states
    if page_state.state == "stalled" and page_state.stats.stall is not None:
        about = "Since when nobody who works on the run moves, in seconds since 1970."
        since = page_state.stats.stall.since.timestamp()
        yield Gauge("run_stalled_since_timestamp_seconds", about).add(since)
    if page_state.last_success is not None:
        yield Gauge(
            LAST_SUCCESS,
            "When a run of the whole plan last ended with exit code 0, in seconds since 1970.",
        ).add(page_state.last_success)
    if page_state.finished is not None:
        yield Gauge("run_exit_code", "How the run ended; 0 is good.").add(
            page_state.finished.exit_code
        )
    if page_state.state in {"running", "ending"}:
        yield from _time_left_gauges(page_state.stats.time_left())


def _time_left_gauges(time_left: TimeLeft) -> Iterator[Gauge]:
    """Yield how long the rest may take, as far as that can be known."""
    if time_left.about is not None:
        yield Gauge("run_remaining_seconds", "Expected seconds to the end.").add(time_left.about)
    ends = Gauge("run_remaining_seconds_range", "Seconds to the end, at least and at most.")
    for bound, seconds in (("low", time_left.low), ("high", time_left.high)):
        if seconds is not None:
            ends.add(seconds, bound=bound)
    yield ends


def _targets(page_state: PageState) -> Iterator[Gauge]:
    stats = page_state.stats
    yield Gauge("targets", "Targets of the run.").add(stats.targets)
    yield _by(
        "result", stats.results, Result, "targets_concluded", "Targets that have this result."
    )
    about = "Targets without a result yet, held open after this verdict."
    yield _by("verdict", stats.held_verdicts, Result, "targets_held", about)
    about = (
        "Mounts that are, or may be, open: of concluded targets or none; of all once no process "
        "works on the run."
    )
    yield Gauge("mounts_left", about).add(stats.left_open.mounts)
    about = "Targets that are in this phase now."
    yield _by("phase", stats.phases, Phase, "targets_in_phase", about)
    oldest = min((record.since for record in stats.under_way()), default=None)
    if oldest is not None and page_state.finished is None:
        yield Gauge(
            "oldest_phase_seconds",
            "Seconds that the slowest mount is in its phase; not of held ones.",
        ).add(max(0.0, stats.now - oldest))


def _by(label: str, counts: Counter[K], kinds: type[K], name: str, about: str) -> Gauge:
    """Return a metric with a sample for each of the kinds, zero or not."""
    gauge = Gauge(name, about)
    for kind in kinds:
        gauge.add(counts[kind], **{label: kind.value})
    return gauge


def _servers(page_state: PageState) -> Iterator[Gauge]:
    stats = page_state.stats
    used = Gauge("server_mounts_open", "Mounts that are, or may be, open or under way.")
    limit = Gauge("server_mounts_limit", "Mounts that the plan allows to be open at once.")
    allowed = Gauge("server_mounts_allowed", "Mounts that may be open at once for now.")
    targets = Gauge("server_targets", "Targets behind this Enterprise Manager.")
    done = Gauge("server_targets_concluded", "Targets behind it that have their result.")
    usable = Gauge("server_usable", "0 while targets wait for the server, or it was given up.")
    unaudited = Gauge(
        "server_unaudited",
        "1 if mounts of no target may be open besides: a session was not read a last time.",
    )
    unread = stats.unaudited
    for facts in page_state.servers():
        name = facts.name
        used.add(stats.open_on(name), server=name)
        if facts.mounts_limit is not None:
            limit.add(facts.mounts_limit, server=name)
        now = stats.allowed_on(facts)
        if now is not None:
            allowed.add(now, server=name)
        targets.add(stats.by_server[name], server=name)
        done.add(stats.done_by_server[name], server=name)
        usable.add(page_state.server_state(name) == "open", server=name)
        unaudited.add(name in unread, server=name)
    yield from (used, limit, allowed, targets, done, usable, unaudited)


def page_metrics(listeners: int, connections: int) -> Iterator[Gauge]:
    """Yield the metrics of the page itself."""
    yield Gauge("web_listeners", "Pages that are open now.").add(listeners)
    yield Gauge("web_connections", "Connections that are open now.").add(connections)


def _number(value: float) -> str:
    """Return a value as the format wants it, whole numbers without a point."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
