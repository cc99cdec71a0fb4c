"""What must hold after every run, whatever went wrong: the report against the ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from orchestrator.engine.admission import Limits
from orchestrator.simulator.truth import GroundTruth

RESULTS = {"verified", "mounted", "failed", "unknown", "skipped", "cancelled"}
SAID_OPEN = {"left", "kept", "unknown"}


def assert_invariants(truth: GroundTruth, report: Mapping[str, Any], limits: Limits) -> None:
    """Compare what a run reported with what its servers really did."""
    targets = report["targets"]
    assert_one_result_each(report, targets)
    assert_success_is_true(truth, targets)
    assert_open_mounts_are_named(truth, targets)
    assert_limits_held(truth, limits)
    assert_one_mount_per_intent(truth, targets)
    assert_results_are_about_their_points(truth, targets)
    assert_nothing_is_silently_kept(report, targets)
    assert truth.dangerous == 0, "a failover or full restore was called"


def assert_one_result_each(report: Mapping[str, Any], targets: list[dict[str, Any]]) -> None:
    """Every target stands in the report once, with one result; the totals agree."""
    assert len({target["key"] for target in targets}) == len(targets)
    counts = Counter(target["result"] for target in targets)
    assert set(counts) <= RESULTS
    assert report["totals"]["targets"] == len(targets)
    assert {name: report["totals"][name] for name in RESULTS} == {
        name: counts[name] for name in RESULTS
    }
    assert report["totals"]["left"] == sum(target["mount"] == "left" for target in targets)


def assert_success_is_true(truth: GroundTruth, targets: list[dict[str, Any]]) -> None:
    """Nothing is called verified or mounted that the server did not finish."""
    finished = {
        (fate.server, fate.backup_server, fate.vm) for fate in truth.mounts if fate.succeeded
    }
    for target in targets:
        if target["result"] in {"verified", "mounted"}:
            assert (target["server"], target["backup_server"], target["vm"]) in finished


def assert_open_mounts_are_named(truth: GroundTruth, targets: list[dict[str, Any]]) -> None:
    """A mount that is open is one that the report says may be."""
    named = {
        (target["server"], target["backup_server"], target["vm"])
        for target in targets
        if target["mount"] in SAID_OPEN
    }
    for fate in truth.still_open():
        assert (fate.server, fate.backup_server, fate.vm) in named, f"silent leftover: {fate}"


def assert_limits_held(truth: GroundTruth, limits: Limits) -> None:
    """No limit was exceeded at any instant, counted at the servers."""
    for place, peak in truth.peaks.items():
        most = allowed(limits, place)
        assert most is None or peak <= most, f"{place}: {peak} open, {most} allowed"


def allowed(limits: Limits, place: str) -> int | None:
    """Return how many mounts may be open at a place of `GroundTruth.peaks`; None: any number."""
    kind, _, name = place.partition(":")
    if kind == "server":
        return {str(key): value for key, value in limits.servers.items()}.get(name)
    if kind == "backup":
        named = {f"{s}/{b}": value for (s, b), value in limits.backup_servers.items()}
        return named.get(name, limits.backup_server_default)
    if kind == "vm":
        return limits.per_vm
    assert kind == "total", place
    return limits.run


def assert_one_mount_per_intent(truth: GroundTruth, targets: list[dict[str, Any]]) -> None:
    """There are at most as many mounts of a point as attempts that may have made one.

    A mount that failed made nothing: of one whose POST a crash swallowed, nobody can know.
    """
    made = Counter(
        (fate.server, fate.point) for fate in truth.mounts if fate.succeeded is not False
    )
    intents = Counter(
        (target["server"], attempt["point_id"])
        for target in targets
        for attempt in target["attempts"]
        if attempt["outcome"] in {"success", "unknown"}
    )
    for place, count in made.items():
        assert count <= intents[place], f"{place}: {count} mounts, {intents[place]} intents"


def assert_results_are_about_their_points(
    truth: GroundTruth, targets: list[dict[str, Any]]
) -> None:
    """A good target names the very point that was mounted and judged; its RPO counts that one."""
    finished = {(fate.server, fate.point) for fate in truth.mounts if fate.succeeded}
    for target in targets:
        if target["result"] not in {"verified", "mounted"}:
            continue
        point = target["point"]
        judged = {
            attempt["point_id"]
            for attempt in target["attempts"]
            if attempt["verdict"] == target["result"]
        }
        assert point["id"] in judged, f"{target['key']}: {point['id']} was not proven"
        assert (target["server"], point["id"]) in finished
        rpo = target["objectives"].get("rpo")
        if rpo is not None and point["fallback_depth"]:
            assert abs(rpo["actual_s"] - point["age_s"]) < 1, f"{target['key']}: {rpo}"


def assert_nothing_is_silently_kept(
    report: Mapping[str, Any], targets: list[dict[str, Any]]
) -> None:
    """A run that has ended holds nothing; one that has not says until when, and how to end it."""
    for target in targets:
        if target["mount"] == "kept":
            assert report["run"]["exit_code"] is None, f"{target['key']} is kept by nobody"
            assert "bulk-restore unmount" in target["message"]
