"""What must hold after every run, whatever went wrong: the report against the ground truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from orchestrator.core.model import session_id
from orchestrator.engine.limits import Limits
from orchestrator.simulator.truth import GroundTruth

RESULTS = {"verified", "mounted", "failed", "unknown", "skipped", "cancelled"}
NEVER_BEGUN = {"skipped", "cancelled"}
LOST = "its answer was lost, and nothing came of it"
TURNED_AWAY = {"not_sent", "refused"}
SAID_OPEN = {"left", "kept", "unknown"}
SHOWN = 8
"""Characters of a session's name that the report shows."""
MOST_LOGONS, WITHIN_S = 6, 600.0
"""Logons to one server within so many seconds: accounts lock."""
READY_S = 120.0
"""A mount that was ready for longer has been shown to be, before its task was asked to stop."""


def assert_invariants(truth: GroundTruth, report: Mapping[str, Any], limits: Limits) -> None:
    """Compare what a run reported with what its servers really did."""
    assert_told(truth, report)
    assert_limits_held(truth, limits)
    assert_peaks_are_told(truth, report, limits)
    assert_one_mount_per_intent(truth, report["targets"])
    assert_never_begun_is_true(truth, report["targets"])


def assert_told(truth: GroundTruth, report: Mapping[str, Any]) -> None:
    """What must be so even where a failover has lost an intent for good: what is told is true."""
    targets = report["targets"]
    assert_one_result_each(report, targets)
    assert_success_is_true(truth, targets)
    assert_open_mounts_are_named(truth, report, targets)
    assert_results_are_about_their_points(truth, targets)
    assert_nothing_is_silently_kept(report, targets)
    assert_success_leaves_nothing(truth, report)
    assert_calls_are_harmless(truth)


def assert_one_result_each(report: Mapping[str, Any], targets: list[dict[str, Any]]) -> None:
    """Every target stands in the report once, with one result; the totals agree."""
    assert len({target["key"] for target in targets}) == len(targets)
    counts = Counter(target["result"] for target in targets)
    assert set(counts) <= RESULTS
    assert report["totals"]["targets"] == len(targets)
    assert {name: report["totals"][name] for name in RESULTS} == {
        name: counts[name] for name in RESULTS
    }
    left = sum(target["mount"] == "left" for target in targets)
    assert report["totals"]["left"] == left + len(report["strays"])


def assert_success_is_true(truth: GroundTruth, targets: list[dict[str, Any]]) -> None:
    """Nothing is called verified or mounted that the server did not finish."""
    finished = {
        (fate.server, fate.backup_server, fate.vm) for fate in truth.mounts if fate.succeeded
    }
    for target in targets:
        if target["result"] in {"verified", "mounted"}:
            assert (target["server"], target["backup_server"], target["vm"]) in finished


def assert_open_mounts_are_named(
    truth: GroundTruth, report: Mapping[str, Any], targets: list[dict[str, Any]]
) -> None:
    """A mount that is open is one that the report says may be: of a target, or of nobody."""
    named = {
        (target["server"], target["backup_server"], target["vm"])
        for target in targets
        if target["mount"] in SAID_OPEN
    }
    strays = {(stray["server"], stray["task_id"]) for stray in report["strays"]}
    borrowed = _tasks_of_unknown(targets)
    for fate in truth.still_open():
        if fate.is_excused and _is_unlooked(report, fate.server):
            continue
        if fate.is_beyond_knowledge and not fate.went_with_its_session:
            continue
        session = session_id(fate.session)[:SHOWN]
        if fate.is_excused and (fate.server, session, fate.task) in borrowed:
            continue
        if fate.late_s and fate.is_excused and fate.server in {server for server, _task in strays}:
            continue  # it acted after the last look; the session is kept, and the report says so
        if fate.is_excused and f"{fate.point}/mounts/{fate.number}" in str(report["strays"]):
            continue  # the report names it among several, one of which is a task's
        is_target = (fate.server, fate.backup_server, fate.vm) in named
        assert is_target or (fate.server, fate.task) in strays, f"silent leftover: {fate}"
    if strays:
        assert report["run"]["exit_code"] != 0, f"exit code 0, and {strays} may be open"


def _tasks_of_unknown(targets: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return server, session and task of the targets that nobody could see to their end.

    A running task names no restore point. One that a request made which nobody can foresee may
    be taken for another target's, whose answer was lost, until it ends. A run that is stopped
    before names it by its task, as that target's: no client could know more.
    """
    return {
        (target["server"], attempt["session"], attempt["task_id"])
        for target in targets
        for attempt in target["attempts"][-1:]
        if target["mount"] == "unknown" and attempt["adopted"]
    }


def _is_unlooked(report: Mapping[str, Any], server: str) -> bool:
    """Tell whether the report says that nobody could look for mounts of no target there."""
    said = rf"{re.escape(server)}: [^:]*session[^:]*: whether a mount of no target is open there"
    return re.search(said, str(report)) is not None and report["run"]["exit_code"] != 0


def assert_limits_held(truth: GroundTruth, limits: Limits) -> None:
    """No limit was exceeded at any instant, counted at the servers."""
    for place, peak in truth.peaks.items():
        most = allowed(limits, place)
        assert most is None or peak <= most, f"{place}: {peak} open, {most} allowed"


def assert_peaks_are_told(truth: GroundTruth, report: Mapping[str, Any], limits: Limits) -> None:
    """The report says of no server fewer mounts at a time than it had, nor more than allowed.

    Where a server mounted what no client can foresee, its number is another one.
    """
    if any(fate.is_excused or fate.late_s for fate in truth.mounts):
        return
    for server in report["servers"]:
        place, told = f"server:{server['name']}", server["peak_mounts"]
        most = allowed(limits, place)
        if told is not None:
            assert truth.peaks[place] <= told, f"{place}: {truth.peaks[place]} open, {told} told"
            assert most is None or told <= most, f"{place}: {told} told, {most} allowed"


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
    Those that no client can foresee count for no intent.
    """
    made = Counter(
        (fate.server, fate.point)
        for fate in truth.mounts
        if fate.succeeded is not False and not fate.is_excused
    )
    intents = Counter(
        (target["server"], attempt["point_id"])
        for target in targets
        for attempt in target["attempts"]
        if attempt["outcome"] in {"success", "unknown"}
    )
    for place, count in made.items():
        assert count <= intents[place], f"{place}: {count} mounts, {intents[place]} intents"


def assert_never_begun_is_true(truth: GroundTruth, targets: list[dict[str, Any]]) -> None:
    """A target that is called skipped or cancelled was taken by no server, whatever waited.

    Its attempts were not sent, or turned away; and the servers accepted no mount of a machine
    whose targets are all called so. What no client can foresee does not count. Of a request whose
    answer was lost, and of which nothing came, a mount may be in doubt again afterwards.
    """
    begun = set()
    excused = {(f.server, f.backup_server, f.vm) for f in truth.mounts if f.is_excused}
    for target in targets:
        machine = (target["server"], target["backup_server"], target["vm"])
        if target["result"] not in NEVER_BEGUN:
            begun.add(machine)
            continue
        is_late = any(LOST in (each["message"] or "") for each in target["attempts"])
        if machine not in excused and not is_late:
            assert target["mount"] == "none", (
                f"{target['key']}: {target['result']}, and {target['mount']}: {target['attempts']}"
            )
        for attempt in target["attempts"]:
            is_told = attempt["outcome"] in TURNED_AWAY and attempt["task_id"] is None
            assert is_told, f"{target['key']}: {target['result']}, with {attempt}"
    named = {(each["server"], each["backup_server"], each["vm"]) for each in targets}
    for fate in truth.mounts:
        machine = (fate.server, fate.backup_server, fate.vm)
        accepted = not fate.is_excused and machine in named and machine not in begun
        assert not accepted, f"accepted, and called never submitted: {fate}"


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


def assert_success_leaves_nothing(truth: GroundTruth, report: Mapping[str, Any]) -> None:
    """Exit code 0 says that nothing is open and nothing unknown."""
    if report["run"]["exit_code"] == 0:
        still = truth.still_open()
        left = [f for f in still if not f.is_beyond_knowledge or f.went_with_its_session]
        assert not left, f"exit code 0, and open: {left}"
        totals = report["totals"]
        assert (totals["left"], totals["unknown"]) == (0, 0), f"exit code 0, and {totals}"


def assert_stops_are_harmless(truth: GroundTruth) -> None:
    """A task is asked to stop at most once, and never one whose mount has long been ready."""
    asked = Counter(stop[:3] for stop in truth.stops)
    assert all(count == 1 for count in asked.values()), f"asked to stop again: {asked}"
    late = [stop for stop in truth.stops if stop[3] > READY_S]
    assert not late, f"asked to stop, though its mount was ready: {late}"


def assert_calls_are_harmless(truth: GroundTruth) -> None:
    """No failover, nothing of another session is removed, and no account is locked."""
    assert truth.dangerous == 0, "a failover or full restore was called"
    assert truth.foreign_deletes == 0, "what another session made was removed"
    assert_stops_are_harmless(truth)
    for server in {server for server, _at in truth.logon_attempts}:
        times = sorted(at for each, at in truth.logon_attempts if each == server)
        for first, last in zip(times, times[MOST_LOGONS:], strict=False):
            assert last - first >= WITHIN_S, f"{server}: more than {MOST_LOGONS} logons: {times}"
