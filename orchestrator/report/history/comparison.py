"""What changed between two runs: targets, results, checks, and how long everything took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from orchestrator.core.lifecycle import MountRecord, Phase
from orchestrator.core.run_state import RunState
from orchestrator.core.text import duration, printable, timestamp
from orchestrator.report.as_json import plain_values
from orchestrator.report.objectives import measured, measured_over
from orchestrator.report.summary import summarize
from orchestrator.report.values import CheckReport, RunReport, TargetReport

SHOWN = 20
"""Lines per section of the text; the rest is counted, and is in the JSON."""
Seconds = tuple[float | None, float | None, float | None]
"""Duration, RTO and RPO; None where it was not measured."""
WAITING = frozenset({Phase.QUEUED, Phase.BUSY, Phase.HELD})
"""Phases whose time depends on slots and people, not on the target."""


class ResultChange(Struct, frozen=True, kw_only=True):
    """A target whose result or mount is another one than before."""

    key: str
    before: str
    after: str
    message: str | None


class CheckChange(Struct, frozen=True, kw_only=True):
    """A check of a target that was in both runs; None where a run did not make it."""

    key: str
    name: str
    path: str
    expected: str
    before: bool | None
    after: bool | None
    observed: str


class Delta(Struct, frozen=True, kw_only=True):
    """Seconds of one kind before and after; None where nothing was measured.

    `scope` is `run` or a target's key; `kind` is `duration`, `rto` or `rpo`. The duration of a
    target leaves out what it waited for a slot or was held.
    """

    scope: str
    kind: str
    before: float | None
    after: float | None

    @property
    def by(self) -> float | None:
        """How many seconds more it is now, if it was measured in both runs."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


class Comparison(Struct, frozen=True, kw_only=True):
    """What changed from the run `before` to the run `after`."""

    before: RunReport
    after: RunReport
    new: tuple[TargetReport, ...]
    gone: tuple[TargetReport, ...]
    results: tuple[ResultChange, ...]
    checks: tuple[CheckChange, ...]
    run_deltas: tuple[Delta, ...]
    target_deltas: tuple[Delta, ...]


def compare(before: RunState, after: RunState) -> Comparison:
    """Return what changed; targets are the same if their keys are."""
    old_report, new_report = summarize(before), summarize(after)
    old = {target.key: target for target in old_report.targets}
    new = {target.key: target for target in new_report.targets}
    both = [(old[key], new[key]) for key in new if key in old]
    return Comparison(
        before=old_report.run,
        after=new_report.run,
        new=tuple(new[key] for key in new if key not in old),
        gone=tuple(old[key] for key in old if key not in new),
        results=tuple(
            ResultChange(
                key=now.key, before=_outcome(was), after=_outcome(now), message=now.message
            )
            for was, now in both
            if _outcome(was) != _outcome(now)
        ),
        checks=tuple(change for was, now in both for change in _checks(was, now)),
        run_deltas=_deltas(
            "run",
            (old_report.run.duration_s, *measured_over(before.records.values(), before)),
            (new_report.run.duration_s, *measured_over(after.records.values(), after)),
        ),
        target_deltas=tuple(
            delta
            for key, now in after.records.items()
            if (was := before.records.get(key)) is not None
            for delta in _deltas(
                key, (busy_s(was), *measured(was, before)), (busy_s(now), *measured(now, after))
            )
        ),
    )


def _outcome(target: TargetReport) -> str:
    """Return the result, and the mount's state where a person must look at it."""
    mount = target.mount.value
    return target.result.value + (f", {mount}" if mount in {"left", "unknown", "kept"} else "")


def _checks(was: TargetReport, now: TargetReport) -> Iterator[CheckChange]:
    old = {(each.name, each.path, each.expected): each for each in was.checks}
    new = {(each.name, each.path, each.expected): each for each in now.checks}
    for name, path, expected in dict.fromkeys([*new, *old]):
        before, after = old.get((name, path, expected)), new.get((name, path, expected))
        passed_before, passed_after = _passed(before), _passed(after)
        if passed_before != passed_after:
            seen = after or before
            yield CheckChange(
                key=now.key,
                name=name,
                path=path,
                expected=expected,
                before=passed_before,
                after=passed_after,
                observed=seen.observed if seen else "",
            )


def _passed(check: CheckReport | None) -> bool | None:
    """Return whether a check passed; None: it was not made, or could not be judged."""
    return None if check is None or check.undecided else check.passed


def _deltas(scope: str, old: Seconds, new: Seconds) -> tuple[Delta, ...]:
    return tuple(
        Delta(scope=scope, kind=kind, before=before, after=after)
        for kind, before, after in zip(("duration", "rto", "rpo"), old, new, strict=True)
    )


def busy_s(record: MountRecord) -> float | None:
    """Return how long a target was worked on, if it was proven: waiting does not count."""
    if record.proven is None:
        return None
    return sum(spent for phase, spent in record.phases_s.items() if phase not in WAITING)


# --- as JSON and as text ---------------------------------------------------------------------


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain JSON values."""
    return {
        "before": _run(comparison.before),
        "after": _run(comparison.after),
        "new": [{"key": each.key, "result": each.result.value} for each in comparison.new],
        "gone": [{"key": each.key, "result": each.result.value} for each in comparison.gone],
        "results": [plain_values(each) for each in comparison.results],
        "checks": [plain_values(each) for each in comparison.checks],
        "run": [_delta(each) for each in comparison.run_deltas],
        "targets": [_delta(each) for each in comparison.target_deltas],
    }


def _run(run: RunReport) -> dict[str, Any]:
    return {
        "id": run.id,
        "plan": run.plan,
        "plan_sha256": run.plan_sha256,
        "started_at": timestamp(run.started_at),
        "exit_code": run.exit_code,
    }


def _delta(delta: Delta) -> dict[str, Any]:
    seconds = {"before_s": delta.before, "after_s": delta.after, "by_s": delta.by}
    rounded = {name: None if s is None else round(s, 3) for name, s in seconds.items()}
    return {"scope": delta.scope, "kind": delta.kind, **rounded}


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the comparison for a terminal: what became worse is first in its section."""
    old, new = comparison.before, comparison.after
    lines = [f"From run {old.id} to run {new.id} of {printable(new.plan, 60)}:"]
    if old.plan != new.plan:
        lines.append(f"  the earlier run was of another plan: {printable(old.plan, 60)}")
    elif old.plan_sha256 != new.plan_sha256:
        lines.append("  the plan was changed in between")
    lines += [f"  {_delta_line(delta)}" for delta in comparison.run_deltas]
    good = {"verified", "mounted"}
    results = sorted(comparison.results, key=lambda each: each.after in good)
    lines += _section(
        "Results that changed:",
        [
            f"{printable(each.key)}: {each.before} -> {each.after}"
            + (f" ({printable(each.message, 120)})" if each.message else "")
            for each in results
        ],
    )
    worse_first = sorted(comparison.checks, key=lambda each: each.after is not False)
    lines += _section("Checks that changed:", [*map(_check, worse_first)])
    for title, targets in (("New targets:", comparison.new), ("Targets gone:", comparison.gone)):
        lines += _section(title, [f"{printable(t.key)}: {_outcome(t)}" for t in targets])
    slower = [d for d in comparison.target_deltas if d.kind == "duration" and d.by is not None]
    slower.sort(key=lambda delta: -abs(delta.by or 0.0))
    lines += _section(
        "Time needed, greatest difference first:",
        [_delta_line(delta) for delta in slower if abs(delta.by or 0.0) >= 1.0],
    )
    if not (comparison.results or comparison.checks or comparison.new or comparison.gone):
        lines.append("Same targets, same results, same checks.")
    return lines


def _check(change: CheckChange) -> str:
    words = {True: "passed", False: "FAILED", None: "not made"}
    return (
        f"{printable(change.key)}: {printable(change.name, 40)} {printable(change.path, 100)} "
        f"({printable(change.expected, 60)}): {words[change.before]} -> {words[change.after]}, "
        f"{printable(change.observed, 120)}"
    )


def _delta_line(delta: Delta) -> str:
    kind = delta.kind.upper() if delta.kind != "duration" else "duration"
    name = kind if delta.scope == "run" else printable(delta.scope)
    before, after = (
        "not measured" if value is None else duration(value)
        for value in (delta.before, delta.after)
    )
    by = delta.by
    difference = "" if by is None else f" ({'+' if by >= 0 else '-'}{duration(abs(by))})"
    return f"{name}: {before} -> {after}{difference}"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  and {len(lines) - SHOWN} more, see --json"] if len(lines) > SHOWN else []
    return [title, *(f"  {line}" for line in lines[:SHOWN]), *more]
