"""How awkward a simulated server is. The defaults are as awkward as the real one may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

WORDS: Mapping[str, tuple[str, ...]] = {
    "related": ("documented", "other_family", "own_family", "absent"),
    "task_stop": ("vanished", "ended", "refused", "goes_on"),
    "download_link_case": ("lower", "lower_windows", "kept"),
    "plain_entries": ("replicas", "always", "never"),
    "shows_others": ("nothing", "mounts", "tasks"),
    "shows_activity": ("denied", "by_role", "all", "nothing"),
    "unmount_by": ("answer", "task", "failing_task", "endless_task"),
    "wrong_system": ("nothing", "unreadable"),
    "header_names": ("kept", "lower", "title"),
    "compresses": ("never", "asked", "always"),
    "encoded_slash": ("kept", "decoded", "refused"),
    "speaks": ("both", "xml", "json", "json_406"),
    "json_empty_list": ("list", "null", "no_wrapper", "missing"),
}
"""Knobs that take one of some words."""

TEXTS: Mapping[str, str] = {
    "href_host": "`localhost`, `request`, or the name of a host",
    "refused_name": "text that no filter may contain",
}
SHARES = frozenset({"operation_finished_share", "message_share"})
MORE_THAN_0 = frozenset({"idle_limit_s", "stage_bytes_per_s", "download_bytes_per_s"})
LARGEST = 10**12
"""No number is larger: it would be no time, size or count of anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Knobs of one server; times in seconds.

    href_host: "localhost", "request" (the host the client used), or any other host name.
    related: "documented" (replicas lead into the backups, the others to themselves),
        "other_family", "own_family", or "absent".
    related_answers: whether the other family's address of a mount works.
    operation_finished_share: share of mounts that pass through OperationFinished.
    operation_finished_s: how long they stay there.
    strict_media_types: Accept and Content-Type that differ are a 400 in JSON.
    empty_mounts_are_404: a point's list of mounts before the first one.
    paging_keeps_filter: whether First/Next/... links repeat the filter.
    filters_tasks: whether a task query obeys its filter.
    purge_finished_after: a finished task is forgotten after this; None is never.
    task_stop: what a DELETE of a running mount task does: the task has "vanished", or "ended" as
        one that failed; or it is "refused", or answered and the task "goes_on".
    cancel_leaves_mount: one that has vanished goes on unseen, and its mount appears in its time.
    stopped_mount_after_s: its mount, or that of one that has ended, appears so much later; None:
        as `cancel_leaves_mount` says, or none at all.
    backup_server_slots: mounts a backup server works on at once; the others queue.
    stage_s, stage_bytes_per_s: how long restoring or staging a file takes: so much, and its
        size over the rate (None is no limit). download_bytes_per_s: how fast a staged one comes.
    download_links: Download links of one staged file; all lead to it.
    download_link_case: "lower" (as documented), "lower_windows", or "kept".
    chunked_downloads: no Content-Length at a download.
    plain_entries: an address without `action` shows a directory as itself ("replicas", as
        documented), or "always"; otherwise as its listing.
    raw_hrefs: spaces, brackets and non-ASCII letters stand in Hrefs of files as they are.
    unmount_s: how long an unmount takes. latency_s: before every answer.
    idle_limit_s: a token dies after this without a request.
    collection_every_s: how often the inventory is collected. With 0 there is no collection:
        new points appear at once, and removed ones stay listed.
    quoted_cookie_is_refused: what a real one does with quotes is unknown.
    message_share: share of finished tasks that carry a Message.
    shows_others: what a session is shown of other sessions: "nothing", "mounts" or "tasks".
        What is shown is numbered over all sessions.
    shows_activity: what queries show of restore and replication sessions: "denied" (a 403 for
        every role), "by_role" (as the documented roles; so do the servers of a rehearsal), "all"
        (to every role), or "nothing" (they answer, and never list one).
    activity_delay_s: how long after it began, or ended, a session is shown so.
    shows_own_mounts: whether a mount made here appears among the restore sessions.
    unmount_by: "answer" (204), or a "task" that takes `unmount_s`, a "failing_task", which
        leaves the mount, or an "endless_task".
    missing_mount_is_500: an unmount of what is not mounted is a 500, not a 404.
    wrong_system: what a guest shows that is mounted as a system which it is not: "nothing", or a
        volume that is "unreadable".
    speaks: "both" (JSON where Accept names it), or only "xml" or "json", whatever Accept says;
        "json_406" refuses what else is asked for.
    camel_case_json: names as version 13 writes them.
    json_empty_list: what an empty list is: "list" (`[]`), "null", "no_wrapper" (the object around
        it is null), or "missing" (so is whatever else is null).
    json_text_numbers: numbers and booleans in quotes.
    json_single_is_object: a list of one is its only row.
    json_escapes: non-ASCII letters and `+ & < > '` are escaped.
    bears_mounts, bears_requests: with so many mounts open, a further mount is a 503; with so
        many requests in work, any further request is. None is no such bound.
    """

    href_host: str = "localhost"
    related: str = "documented"
    related_answers: bool = False
    operation_finished_share: float = 0.3
    operation_finished_s: float = 0.4
    strict_media_types: bool = True
    empty_mounts_are_404: bool = False
    paging_keeps_filter: bool = False
    filters_tasks: bool = True
    purge_finished_after: float | None = None
    task_stop: str = "vanished"
    cancel_leaves_mount: bool = True
    stopped_mount_after_s: float | None = None
    backup_server_slots: int = 64
    stage_s: float = 1.0
    stage_bytes_per_s: float | None = None
    download_bytes_per_s: float | None = None
    download_links: int = 1
    download_link_case: str = "lower"
    chunked_downloads: bool = False
    plain_entries: str = "replicas"
    raw_hrefs: bool = False
    unmount_s: float = 0.0
    latency_s: float = 0.0
    idle_limit_s: float = 900.0
    collection_every_s: float = 0.0
    quoted_cookie_is_refused: bool = True
    message_share: float = 0.8
    shows_others: str = "nothing"
    shows_activity: str = "denied"
    activity_delay_s: float = 0.0
    shows_own_mounts: bool = True
    unmount_by: str = "answer"
    missing_mount_is_500: bool = False
    wrong_system: str = "nothing"
    bears_mounts: int | None = None
    bears_requests: int | None = None
    header_names: str = "kept"
    compresses: str = "never"
    chunks_answers: bool = False
    encoded_slash: str = "kept"
    url_limit_bytes: int | None = None
    refused_name: str | None = None
    byte_order_mark: bool = False
    speaks: str = "both"
    camel_case_json: bool = False
    json_empty_list: str = "list"
    json_text_numbers: bool = False
    json_single_is_object: bool = False
    json_escapes: bool = False
    shuffle_attributes: bool = False
    delete_links_have_type: bool = False
    page_size_default: int = 100
    task_page_size_default: int = 15

    def __post_init__(self) -> None:
        """See that every knob has a value that it knows.

        Raises:
            ValueError: one has not; the words say which values it takes.
        """
        for each in fields(self):
            value = getattr(self, each.name)
            if not _is_allowed(each.name, str(each.type), value):
                raise ValueError(f"{each.name}={value}: it is one of these: {allowed(each.name)}")


KINDS: Mapping[str, str] = {each.name: str(each.type) for each in fields(Behaviour)}
"""The type of each knob, as it is written."""


def allowed(name: str) -> str:
    """Return which values a knob takes, for a person."""
    kind = KINDS[name]
    least = _least(name, kind)
    if name in WORDS:
        words = ", ".join(f"`{each}`" for each in WORDS[name])
    elif name in TEXTS:
        words = TEXTS[name]
    elif kind == "bool":
        words = "`true`, `false`"
    elif name in SHARES:
        words = "a number from 0 to 1"
    elif kind.startswith("int"):
        words = f"a whole number from {least}"
    else:
        words = "a number above 0" if name in MORE_THAN_0 else f"a number from {least}"
    return f"{words}, `none`" if kind.endswith("| None") else words


def read_knob(name: str, text: str) -> Any:
    """Return the value that a text on a command line means; what it is not stays text."""
    kind, plain = KINDS[name], text.strip().lower()
    if kind.endswith("| None") and plain in {"none", "null"}:
        return None
    if kind.startswith("str"):
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(plain, text)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_allowed(name: str, kind: str, value: object) -> bool:
    if value is None:
        return kind.endswith("| None")
    if kind.startswith("str"):
        return isinstance(value, str) and (bool(value) if name in TEXTS else value in WORDS[name])
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if not isinstance(value, int if kind.startswith("int") else int | float):
        return False
    most = 1 if name in SHARES else LARGEST
    return _least(name, kind) <= value <= most and (value > 0 or name not in MORE_THAN_0)


def _least(name: str, kind: str) -> int:
    return 1 if kind.startswith("int") else 0
