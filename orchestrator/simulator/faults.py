"""Scripted, seeded misbehaviour: which requests, how often, and what goes wrong.

A script is a list of JSON objects, so that `simulate --faults FILE` can read one::

    [{"kind": "drop_after", "method": "POST", "path": "/mounts$", "skip": 3, "count": 1},
     {"kind": "html_503", "from_s": 60, "until_s": 120}]

More that was seen, each a line of such a script::

    a proxy answers 503 to a POST that was taken
        {"kind": "answer_after", "method": "POST", "path": "/mounts$", "status": 503,
         "body": "page", "retry_after": "5"}
    a POST that is carried out 90 s after its connection broke
        {"kind": "act_later", "method": "POST", "path": "/mounts$", "seconds": 90}
    a proxy that sends a POST twice
        {"kind": "twice", "method": "POST", "path": "/mounts$"}
    a server that answers probes, never its listing
        {"kind": "black_hole", "path": "/query", "query": "Point"}
    401 to everything after a good logon
        {"kind": "unauthorized", "path": "^(?!.*sessionMngr)"}
    one restore point of a listing without a date
        {"kind": "row_without_date", "path": "/query", "row": "app0003"}

What holds for all of a server's answers is a knob of `behaviour`: `simulate --behaviour`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from orchestrator.simulator.pages import BODIES
from orchestrator.simulator.spoiling import DOCUMENT_SPOILS, ROW_SPOILS

KINDS = {
    "drop_before": "reset the connection before acting",
    "drop_after": "act, then reset the connection without an answer",
    "close_before": "close the connection in good order, without acting",
    "close_after": "act, then close the connection in good order, without an answer",
    "answer": "answer with `status` and `body` without acting",
    "answer_after": "act, then answer with `status` and `body`",
    "twice": "act twice, then answer as the second time, or with `status` and `body`",
    "delay": "wait `seconds` before acting; a client that leaves meanwhile has asked for nothing",
    "held": "wait `seconds`, then act, whether the client is still there or not",
    "reset_mid_body": "act, send half the answer, reset",
    "drip": "act, send the answer in ten pieces over `seconds`",
    "truncated": "act, send half the answer with a matching Content-Length",
    "close_mid_body": "act, send half of a file, close",
    "silent_mid_body": "act, send half of a file, say nothing for `seconds`, close",
    "too_long": "send more bytes of a file than Content-Length says",
    "grown": "send a file with more bytes than its listing says",
    "gzip": "send a file as if it were compressed, which nobody asked for",
    "html_503": "503 with a web page, as HTTP.sys does",
    "html_404": "404 with a web page, as HTTP.sys does while the service is stopped",
    "xml_503": "503 with an Error; `retry_after` is sent as it is",
    "error_500": "500 with an Error",
    "unauthorized": "401, as if the session were gone",
    "forget_session": "end the session, then 401",
    "restart": "end every session, then drop",
    "html_200": "200 with a web page, as on a wrong port",
    "black_hole": "never answer",
    "clock_jump": "put the server's clock `seconds` forward, then act",
    "forbidden": "403 without acting",
    "hollow_204": "204 without acting",
    "error_500_after": "act, then 500 with an Error",
    "proxy_page": "act, then 502 with a web page, as a proxy does that lost the server",
    "act_later": "drop the connection, or answer with `status` and `body`; act `seconds` later",
    "late": "act, then wait `seconds` before answering",
    "odd_state": "show unfinished tasks in a state nobody knows",
    "state_back": "show every task as Running, also one that was further",
    "no_result": "show tasks without their Result",
    "no_related": "show tasks without their Related link",
    "task_fails": "accept a restore or staging whose task will fail",
    "task_vanishes": "accept a restore or staging and forget its task",
    "page_repeats": "show the page of a directory before the one that was asked for",
    "bare_next": "show a directory whose paging links have lost their action",
    "foreign_hrefs": "show a directory whose entries' Hrefs name another host",
    "evil_hrefs": "show a directory whose entries' Hrefs fail the point over",
    "elsewhere": "show a directory whose entries are said to be in another one",
    "both_entries": "show one file as a directory and a file at once",
    "endless_body": "act, then send an answer that never ends, a blank every `seconds`",
    "endless_pages": "show a listing whose pages never end",
    "unmount_task": "accept an unmount with a task",
    "unmount_task_fails": "accept an unmount with a task that fails; the mount stays",
    "unmount_task_endless": "accept an unmount with a task that never ends; the mount stays",
    "row_without_id": "show one row of a list without its id",
    "row_without_date": "show one row without its date",
    "row_far_date": "show one row of the year 30828",
    "row_first_date": "show one row of the year 1",
    "row_bad_character": "show one row with a character reference that XML forbids",
    "row_odd_state": "show one task in a state nobody knows",
    "row_hollow_result": "show one task that has ended with an empty Result",
    "row_odd_result": "show one task that has ended with a Result of neither success nor failure",
    "row_nil": "show one row with a value that is nil",
    "no_encoding": "send an XML declaration without an encoding",
    "utf16_declared": "send UTF-8 whose XML declaration says utf-16",
    "byte_order_mark": "send a byte order mark before the XML",
}
UNMOUNT_TASKS = {
    "unmount_task": "task",
    "unmount_task_fails": "failing_task",
    "unmount_task_endless": "endless_task",
}
"""Kinds that answer one unmount by a task, and their value of the knob `unmount_by`."""
DISGUISES = frozenset(
    {
        *("odd_state", "state_back", "no_result", "no_related", "task_fails", "task_vanishes"),
        *("page_repeats", "bare_next", "foreign_hrefs", "evil_hrefs", "elsewhere"),
        *("both_entries", "endless_pages", *UNMOUNT_TASKS),
    }
)
"""Kinds that only change how one answer looks, or what comes of its task."""
SPOILS = frozenset({*ROW_SPOILS, *DOCUMENT_SPOILS})
"""Kinds that spoil the text of an answer that is right otherwise."""
FILE_KINDS = frozenset(
    {
        *("close_mid_body", "silent_mid_body", "too_long", "grown", "gzip", "task_fails"),
        *("task_vanishes", "page_repeats", "bare_next", "foreign_hrefs", "evil_hrefs"),
        *("elsewhere", "both_entries"),
    }
)
"""Kinds that only requests for the files of a guest meet."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """One rule. Matches `method` and the regular expressions `path` and `query`, in the window
    from `from_s` until before `until_s`: seconds since the server began to serve (see
    `HttpFace.served_s`). `seconds` counts from the request.

    The first `skip` matches pass, then it strikes with `probability`, at most `count` times.
    """

    kind: str
    method: str = ""
    path: str = ""
    query: str = ""
    skip: int = 0
    count: int | None = None
    probability: float = 1.0
    from_s: float = 0.0
    until_s: float = float("inf")
    seconds: float = 1.0
    retry_after: str | None = None
    status: int = 0
    """Of `answer`, `answer_after`, `twice` and `act_later`."""
    body: str = "page"
    """What comes with `status`; see `pages.BODIES`."""
    row: str = ""
    """Which row is spoiled: the first one in which this regular expression is found."""
    seen: int = field(default=0)
    struck: int = field(default=0)

    def __post_init__(self) -> None:
        """Refuse what does not exist."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; one of {', '.join(KINDS)}")
        if self.body not in BODIES:
            raise ValueError(f"unknown body {self.body!r}; one of {', '.join(BODIES)}")
        if self.kind in {"answer", "answer_after"} and not self.status:
            raise ValueError(f"{self.kind} needs a status")
        for pattern in (self.path, self.query, self.row):
            re.compile(pattern)


class FaultScript:
    """Decides, request by request, what goes wrong."""

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        """The same faults, seed and requests give the same misbehaviour."""
        self.faults = list(faults)
        self._rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]], *, seed: int = 0) -> FaultScript:
        """Return the script of a JSON list."""
        faults = []
        for number, row in enumerate(rows, start=1):
            known = {each.name for each in fields(Fault)} - {"seen", "struck"}
            if odd := ", ".join(map(repr, row.keys() - known)):
                raise ValueError(
                    f"fault {number} has no {odd}; there are {', '.join(sorted(known))}"
                )
            if "kind" not in row:
                raise ValueError(f"fault {number} has no 'kind'")
            faults.append(Fault(**row))
        return cls(faults, seed=seed)

    def strike(self, method: str, path: str, now: float, query: str = "") -> Fault | None:
        """Return the fault that this request meets, if any, `now` seconds after serving began."""
        for fault in self.faults:
            if self._matches(fault, method, path, now, query):
                fault.seen += 1
                spent = fault.count is not None and fault.struck >= fault.count
                if fault.seen > fault.skip and not spent and self._rng.random() < fault.probability:
                    fault.struck += 1
                    return fault
        return None

    def _matches(self, fault: Fault, method: str, path: str, now: float, query: str) -> bool:
        return (
            (not fault.method or fault.method == method)
            and fault.from_s <= now < fault.until_s
            and re.search(fault.path, path) is not None
            and re.search(fault.query, query, re.IGNORECASE) is not None
        )
