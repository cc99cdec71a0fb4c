"""Short tables that are made from one declaration each."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from inspect import getdoc

from msgspec.structs import fields

from orchestrator.cli import COMMANDS
from orchestrator.core.events import MountKept, ServerPaced
from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.model import AttemptPolicy, PhaseTimeouts, ServerName
from orchestrator.plan.file.os_choice import OPEN_OS
from orchestrator.plan.file.scalars import OS_CHOICES
from orchestrator.plan.file.settings import (
    Cleanup,
    Entry,
    PointPolicy,
    RestorePlan,
    RunLimits,
    ServerSettings,
    Wave,
)
from orchestrator.simulator.behaviour import Behaviour, allowed
from orchestrator.simulator.faults import KINDS
from orchestrator.views.web.metrics import Gauge, page_metrics
from orchestrator.views.web.metrics import metrics as text_of
from orchestrator.views.web.page_state import PageState
from tests.documents.markdown import code, table
from tests.views.story import (
    STALL,
    accepted,
    finished,
    key,
    planned,
    started,
    submitted,
    tell,
    verified,
    wave,
)
from tests.views.web.exposition import Metric, read


def exit_codes() -> str:
    """Return the table of exit codes."""
    return table(("code", "meaning"), [(int(each), each.about) for each in ExitCode])


def list_of_commands() -> str:
    """Return every command with its line in `--help`."""
    rows = [(code(name), about.rstrip(".")) for name, (_module, about) in COMMANDS.items()]
    return table(("command", "what it does"), rows)


def metrics() -> str:
    """Return every metric of a run that goes on, of one that has ended, and of the page."""
    held = verified("b", 3)[:-3]
    going_on = [
        started("hq"),
        *(planned(name) for name in "abcd"),
        wave(0),
        *verified("a", 1),
        submitted("c", 1),
        accepted("c", 2),
        ServerPaced(at=2, server=ServerName("hq"), allowed=2),
        *held,
        MountKept(at=8, key=key("b"), reason="hold", until=900),
    ]
    found: dict[str, Metric] = {}
    for name in "efghijkl":
        going_on += [planned(name), *verified(name, 10)]
    pages = list(page_metrics(1, 1))
    for story, extra, stall in (
        (going_on, pages, None),
        (going_on, pages, STALL),
        ([started("hq"), finished(20)], list[Gauge](), None),
    ):
        page_state = PageState()
        tell(page_state, *story)
        page_state.stall(stall)
        for name, metric in read(text_of(page_state, extra)).items():
            found.setdefault(name, metric)
    rows = [
        (code(name), ", ".join(map(code, _labels(metric))), metric.about)
        for name, metric in found.items()
    ]
    return table(("metric", "labels beside `plan`", "meaning"), rows)


def _labels(metric: Metric) -> list[str]:
    labels = next(iter(metric.samples))
    return [name for name, _value in labels if name != "plan"]


def faults() -> str:
    """Return the faults that `simulate --faults` knows."""
    return table(("kind", "what happens"), [(code(kind), what) for kind, what in KINDS.items()])


def behaviour() -> str:
    """Return the knobs that `simulate --behaviour` knows, and their values."""
    default = Behaviour()
    rows = [
        (code(each.name), code(_knob(getattr(default, each.name))), allowed(each.name))
        for each in dataclasses.fields(Behaviour)
    ]
    return table(("knob", "default", "values"), rows)


def _knob(value: object) -> str:
    """Return a value as it is written on the command line."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def python_api() -> str:
    """Return every exported name with the first line of what it says of itself."""
    package = import_module("orchestrator")
    names: list[str] = getattr(package, "__all__", [])
    rows = [
        (code(name), (getdoc(getattr(package, name)) or "").partition("\n\n")[0]) for name in names
    ]
    return table(("name", "what it is"), rows)


def plan_defaults() -> str:
    """Return what holds where a plan says nothing, from the values that a plan becomes."""
    times, tries, limits = PhaseTimeouts(), AttemptPolicy(), RunLimits()
    entry = {each.name: each.default for each in fields(Entry)}
    wave = {each.name: each.default for each in fields(Wave)}
    plan = {each.name: each.default for each in fields(RestorePlan)}
    server = {each.name: each.default for each in fields(ServerSettings)}
    rows = [
        ("mode", plan["mode"]),
        ("os", next(word for word, os in OS_CHOICES.items() if os == OPEN_OS)),
        ("source", entry["source"]),
        ("point", f"{{policy: {PointPolicy().policy}}}"),
        ("timeouts", _durations(mount=times.mount, checks=times.checks, unmount=times.unmount)),
        (
            "retries",
            f"{{attempts: {tries.attempts}, "
            + _durations(delay=tries.delay, max_delay=tries.max_delay).removeprefix("{"),
        ),
        ("limits.mounts", limits.mounts),
        ("limits.mounts_per_vm", limits.mounts_per_vm),
        ("limits.failures", limits.failures),
        ("limits.deadline", limits.deadline),
        ("limits.outage", _duration(limits.outage)),
        ("limits.start_interval", limits.start_interval),
        ("limits.ramp", limits.ramp),
        ("servers.NAME.limits.mounts", server["mounts_limit"]),
        ("servers.NAME.backup_servers.NAME.mounts", server["default_backup_server_mounts"]),
        ("servers.NAME.stop_tasks", server["stop_tasks"]),
        ("waves.on_error", wave["on_error"]),
        ("cleanup.unmount", Cleanup().unmount),
        ("cleanup.keep_failed", Cleanup().keep_failed),
    ]
    shown = [(code(key), "none" if value is None else code(str(value))) for key, value in rows]
    return table(("key", "default"), shown)


def _durations(**seconds: float) -> str:
    return "{" + ", ".join(f"{name}: {_duration(each)}" for name, each in seconds.items()) + "}"


def _duration(seconds: float) -> str:
    """Return a duration as a plan writes it."""
    return f"{seconds / 60:g}m" if seconds >= 60 else f"{seconds:g}s"
