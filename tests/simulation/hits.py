"""What the nemesis does, how often each kind must have struck, and the table that shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.simulation.troubles import PLAYED

KINDS: Mapping[str, str] = {
    "post_reset_before": "a mount POST is reset before it has an effect",
    "post_reset_after": "a mount POST is reset after its effect",
    "post_silent_before": "a mount POST is never answered, and has no effect",
    "post_silent_after": "a mount POST has its effect and is answered too late",
    "post_acted_later": "a mount POST is reset, and has its effect seconds later",
    "post_half_body": "half of a mount POST's answer arrives",
    "post_proxy_page": "a mount POST has its effect, a proxy answers 502",
    "post_page_200": "a mount POST is answered with a web page, and has no effect",
    "post_500_before": "a mount POST fails with 500 before its effect",
    "post_500_after": "a mount POST fails with 500 after its effect",
    "get_reset": "a read is reset",
    "get_silent": "a read is never answered",
    "get_half_body": "half of what was read arrives",
    "get_page": "a read is answered with a web page",
    "get_500": "a read fails with 500",
    "delete_reset_before": "an unmount is reset before its effect",
    "delete_reset_after": "an unmount is reset after its effect",
    "delete_silent": "an unmount is never answered, and has no effect",
    "delete_proxy_page": "an unmount has its effect, a proxy answers 502",
    "delete_500_before": "an unmount fails with 500 before its effect",
    "delete_500_after": "an unmount fails with 500 after its effect",
    "unmount_refused": "an unmount is refused with 403",
    "unmount_slow": "an unmount takes minutes",
    "unmount_ineffective": "an unmount is confirmed, and the mount is still listed",
    "busy": "503 without Retry-After",
    "busy_seconds": "503 with Retry-After in seconds",
    "busy_date": "503 with Retry-After as a date",
    "busy_absurd": "503 with an absurd Retry-After",
    "busy_page": "503 with a web page",
    "slow": "an answer takes long",
    "dripping": "an answer drips",
    "refused": "a connection is refused",
    "swallowed": "a connection is never made",
    "cut": "connections in use are cut",
    "flapping": "the link goes up and down, with connections in use",
    "session_expired": "the session idled out by the server's clock",
    "session_killed": "the session is ended by somebody else",
    "service_restart": "the service restarts: every session is gone",
    "passing_401": "one 401, and the session still lives",
    "service_stopped": "everything is answered with 404 and a web page: the service is stopped",
    "service_failing": "everything fails with 500 for a while",
    "session_denied": "every session is denied with 401 for a while, and lives",
    "logon_busy": "a logon is answered with 503",
    "logon_lost": "a logon's answer is lost",
    "logon_refused": "a logon is refused",
    "odd_state": "a task in a state nobody knows",
    "state_back": "a task that was further is shown as running",
    "no_result": "a task that has ended is shown without its result",
    "no_related": "a task that succeeded is shown without its link",
    "task_failed": "a mount fails at the server",
    "task_stuck": "a mount takes longer than its plan allows",
    "task_purged": "a finished task is forgotten before the run reads it again",
    "stranger": "somebody else mounts the same restore point",
    "another_point": "another restore point is tried",
    "older_point": "a target is good from an older restore point",
    "held": "a mount is held after its verdict",
    "machine_busy": "a machine is seen at work in a job or a restore",
    "other_system": "a guest is mounted as the other system, because nothing was readable",
    "stop_once": "a stop signal",
    "stop_twice": "a second stop signal",
}

MORE: Mapping[str, str] = {
    "post_denied_after": "a mount POST has its effect, a proxy answers 503, 502, 504, 429 or 408",
    "post_refused_after": "a mount POST has its effect, a proxy answers with a page of 4xx",
    "post_hollow_after": "a mount POST has its effect, and a 2xx or 3xx that names no task",
    "post_page_before": "a proxy's page to a mount POST that had no effect",
    "post_closed_after": "a mount POST has its effect, the connection closes in good order",
    "post_lied_about": "a mount POST has its effect, and the service itself says 503 or 429",
    "post_twice": "a mount POST arrives twice",
    "post_acted_late": "a mount POST is lost, and has its effect 20 to 200 s later",
    "post_held_back": "a mount POST is held back, and has its effect all the same",
    "delete_denied_after": "an unmount has its effect, a proxy answers 5xx, 429 or 408",
    "delete_refused_page": "an unmount is answered with a page of 4xx, with its effect or without",
    "delete_twice": "an unmount arrives twice",
    "delete_by_task": "an unmount is answered with a task that succeeds",
    "delete_task_fails": "an unmount is answered with a task that fails",
    "delete_task_endless": "an unmount is answered with a task that never ends",
    "get_404_page": "a read is answered with a page of 404",
    "get_hollow": "a read is answered with nothing, a redirect, or well-formed XHTML",
    "bad_task": "one task of a list cannot be read",
    "bad_mount": "one mount of a list cannot be read",
    "bad_point": "one restore point of a list cannot be read",
    "odd_declaration": "no encoding, a wrong one, or a byte order mark",
    "listing_slow": "the listing takes minutes",
    "listing_endless": "the listing never ends",
    "refused_after_logon": "every logon is good, and everything after it 401",
    "silent_at_first": "a server is silent from the start",
    "mood_headers": "a proxy re-cases header names",
    "mood_bodies": "a proxy sends chunks",
    "mood_urls": "a proxy bears no long address, or decodes slashes",
    "mood_missing_is_500": "an unmount of what is gone is a 500",
    "mood_unmount_task": "every unmount is a task",
    "mood_shows_mounts": "the mounts of strangers are listed",
    "json_12": "a server is spoken to in JSON as version 12 writes it",
    "json_13": "a server is spoken to in JSON as version 13 writes it",
    "frozen": "the process stands still for a while",
    "stop_early": "a stop signal before the first mount",
    "stopped": "a task is asked to stop",
}
"""The same, of `troubles`."""

STOPS: Mapping[str, str] = {
    "stop_ended": "a task is asked to stop, and ends",
    "stop_vanished": "a task is asked to stop, and is not known any more",
    "stop_refused": "a task is asked to stop, which is refused",
    "stop_goes_on": "a task is asked to stop, and goes on",
    "stop_late_mount": "a mount appears after its task was stopped",
}
"""What comes of "stopped"."""

STEERING: Mapping[str, str] = {
    "control_pause": "a run is paused",
    "control_continue": "a paused run goes on",
    "control_limits": "limits are changed",
    "control_skip": "a target is skipped",
    "control_retry": "a target that is not good is tried again",
    "control_approve": "somebody approves a wave",
    "control_reject": "somebody rejects a wave",
    "control_browse": "somebody looks into a held mount",
    "control_refused": "a request of `ctl` is refused",
    "gate_reached": "a wave waits for people",
    "gate_opened": "a wave starts that people have approved",
    "ramp": "a mount is asked for while a ramp holds others back",
    "interval": "a mount is asked for after a start interval",
    "no_time": "a target is not begun, for the run's deadline",
    "deadline_kept": "a deadline that nothing speaks against",
}
"""What people want of a run; see `steers`."""

EVERY: Mapping[str, str] = {**KINDS, **MORE, **STOPS, **STEERING}

LEAST = 0.07
"""How often every kind must have struck, per seed that was played: 70 times over `make test`."""

LEAST_OF_STOPS = LEAST / 2
"""The same for each that comes of a stop: more late tasks would leave too many doubts unsettled."""

LEAST_OF_STEERING = LEAST / 7
"""The same for each that people want: about a third of the stories have people."""

CERTAIN = 0.95
"""Share of the POSTs in doubt that must end certain: those with a living session and no stop.

A mount in the point's list that no task of the session accounts for, because the server forgot
the task or never showed it, may be a stranger's. It is named as unknown and never taken, so such
doubts are counted apart.
"""


def table(hits: Counter[str]) -> str:
    """Return how often everything struck, and how the POSTs in doubt ended."""
    rows = [f"{hits[kind]:>7}  {kind:<20} {what}" for kind, what in EVERY.items()]
    certain, unsure = hits["doubt_certain"], hits["doubt_uncertain"]
    doubts = max(1, certain + unsure)
    rows += [
        f"{certain + unsure:>7}  POSTs in doubt with a living session, "
        f"{certain / doubts:.2%} of them certain in the end",
        f"{hits['doubt_session_gone']:>7}  more whose session or server was gone",
        f"{hits['doubt_stopped']:>7}  more that were given up because somebody stopped the run",
        f"{hits['doubt_unaccounted']:>7}  more whose mount may be a stranger's: no task shows it",
        f"{hits['targets']:>7}  targets over {hits['seeds']} seeds, {hits['requests']} requests: "
        + ", ".join(f"{hits[f'result_{name}']} {name}" for name in RESULTS),
    ]
    return "\n".join(rows)


RESULTS = ("verified", "mounted", "failed", "unknown", "skipped", "cancelled")


def assert_enough(hits: Counter[str], more: frozenset[str] = PLAYED) -> None:
    """Every kind has struck often enough, and nearly every doubt was settled."""
    least = LEAST * hits["seeds"]
    rare = {kind: hits[kind] for kind in (*KINDS, *more) if hits[kind] < least}
    assert not rare, f"struck fewer than {least:.0f} times: {rare}"
    least = LEAST_OF_STOPS * hits["seeds"] if "stopped" in more else 0
    rare = {kind: hits[kind] for kind in STOPS if hits[kind] < least}
    assert not rare, f"came of a stop fewer than {least:.0f} times: {rare}"
    least = LEAST_OF_STEERING * hits["seeds"]
    rare = {kind: hits[kind] for kind in STEERING if hits[kind] < least}
    assert not rare, f"happened fewer than {least:.0f} times: {rare}"
    certain, unsure = hits["doubt_certain"], hits["doubt_uncertain"]
    assert certain >= CERTAIN * (certain + unsure), f"{unsure} of {certain + unsure} POSTs unsure"
