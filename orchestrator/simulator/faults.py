"""Scripted, seeded misbehaviour: which requests, how often, and what goes wrong.

A script is a list of JSON objects, so that `simulate --faults FILE` can read one::

    [{"kind": "drop_after", "method": "POST", "path": "/mounts$", "skip": 3, "count": 1},
     {"kind": "html_503", "from_s": 60, "until_s": 120}]
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KINDS = {
    "drop_before": "close the connection before acting",
    "drop_after": "act, then close the connection without an answer",
    "delay": "wait `seconds` before acting",
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
    "act_later": "drop the connection, and act `seconds` later all the same",
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
}
DISGUISES = frozenset(
    {
        *("odd_state", "state_back", "no_result", "no_related", "task_fails", "task_vanishes"),
        *("page_repeats", "bare_next", "foreign_hrefs", "evil_hrefs", "elsewhere"),
        "both_entries",
    }
)
"""Kinds that only change how one answer looks, or what comes of its task."""
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
    """One rule. Matches `method` and the regular expressions `path` and `query`, within the
    time window.

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
    seen: int = field(default=0)
    struck: int = field(default=0)

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist."""
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; one of {', '.join(KINDS)}")


class FaultScript:
    """Decides, request by request, what goes wrong."""

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        """The same faults, seed and requests give the same misbehaviour."""
        self.faults = list(faults)
        self._rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]], *, seed: int = 0) -> FaultScript:
        """Return the script of a JSON list."""
        return cls([Fault(**row) for row in rows], seed=seed)

    def strike(self, method: str, path: str, now: float, query: str = "") -> Fault | None:
        """Return the fault that this request meets, if any."""
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
