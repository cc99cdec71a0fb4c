"""More that goes wrong: proxies that answer for the service, late and repeated requests, bad rows.

A second set of troubles, drawn from dice of its own, so that every older seed keeps what it had.
Source: reference 11 (traps 41 to 73), 12 and 18.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from orchestrator.simulator.faults import Fault

POINT_MOUNTS, ONE_MOUNT = r"/mounts$", r"/mounts/\d+$"
READS, TASKS, LISTS = r"/(tasks|query|mounts|logonSessions)", r"/(tasks|query)", r"/(tasks|mounts)$"
CALM_S = 900.0
"""Virtual seconds after which nothing goes wrong any more."""

SESSION_READS = r"^(?!.*sessionMngr)"

PAGES = (
    {"status": 503},
    {"status": 503, "retry_after": "5"},
    {"status": 502},
    {"status": 504},
    {"status": 429, "retry_after": "30"},
    {"status": 408},
)
REFUSALS = ({"status": 404}, {"status": 400}, {"status": 403}, {"status": 414}, {"status": 405})
HOLLOW = (
    {"status": 204, "body": "empty"},
    {"status": 200, "body": "empty"},
    {"status": 302, "body": "empty"},
    {"status": 200, "body": "xhtml"},
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a kind of hit is played by: one of several settings of the simulator's faults."""

    kinds: tuple[str, ...]
    method: str = ""
    path: str = ""
    settings: Sequence[Mapping[str, Any]] = ({},)
    seconds: tuple[float, ...] = (5.0, 30.0, 100.0)
    count: tuple[int, ...] = (1, 2, 3, 4)
    weight: float = 1.0
    query: str = ""
    skip: tuple[int, ...] = (0, 0, 0, 0, 1, 2)


TROUBLES: Mapping[str, Trouble] = MappingProxyType(
    {
        "post_denied_after": Trouble(("answer_after",), "POST", POINT_MOUNTS, PAGES, weight=3.2),
        "post_refused_after": Trouble(
            ("answer_after",), "POST", POINT_MOUNTS, REFUSALS, weight=3.3
        ),
        "post_hollow_after": Trouble(("answer_after",), "POST", POINT_MOUNTS, HOLLOW, weight=3.8),
        "post_page_before": Trouble(
            ("answer",), "POST", POINT_MOUNTS, (*PAGES, *REFUSALS), weight=3.2
        ),
        "post_closed_after": Trouble(("close_after",), "POST", POINT_MOUNTS, weight=3.4),
        "post_lied_about": Trouble(
            ("answer_after",),
            "POST",
            POINT_MOUNTS,
            ({"status": 503, "body": "service"}, {"status": 429, "body": "service"}),
            weight=3.1,
        ),
        "post_twice": Trouble(
            ("twice",), "POST", POINT_MOUNTS, ({}, {}, {"status": 503}), weight=3.5
        ),
        "post_acted_late": Trouble(
            ("act_later",),
            "POST",
            POINT_MOUNTS,
            ({}, {}, {"status": 504}, {"status": 503, "retry_after": "5"}),
            seconds=(20.0, 60.0, 100.0, 170.0, 200.0),
            weight=3.4,
        ),
        "post_held_back": Trouble(
            ("held",), "POST", POINT_MOUNTS, seconds=(20.0, 60.0, 120.0), weight=3.6
        ),
        "delete_denied_after": Trouble(("answer_after",), "DELETE", ONE_MOUNT, PAGES, weight=3.7),
        "delete_refused_page": Trouble(
            ("answer", "answer_after"), "DELETE", ONE_MOUNT, REFUSALS, weight=3.8
        ),
        "delete_twice": Trouble(("twice",), "DELETE", ONE_MOUNT, ({}, {"status": 503}), weight=4.4),
        "delete_by_task": Trouble(("unmount_task",), "DELETE", ONE_MOUNT, weight=4.8),
        "delete_task_fails": Trouble(("unmount_task_fails",), "DELETE", ONE_MOUNT, weight=4.2),
        "delete_task_endless": Trouble(("unmount_task_endless",), "DELETE", ONE_MOUNT, weight=5.3),
        "get_404_page": Trouble(
            ("answer",),
            "GET",
            READS,
            ({"status": 404}, {"status": 404, "body": "http_sys"}),
            weight=1.1,
        ),
        "get_hollow": Trouble(("answer",), "GET", READS, HOLLOW, weight=1.1),
        "bad_task": Trouble(
            (
                *("row_without_id", "row_odd_state", "row_hollow_result", "row_odd_result"),
                *("row_nil", "row_bad_character"),
            ),
            "GET",
            TASKS,
            weight=1.8,
            skip=(0, 0, 2, 5),
        ),
        "bad_mount": Trouble(
            ("row_without_id",), "GET", r"/mounts$", weight=2.1, skip=(0, 0, 0, 1)
        ),
        "bad_point": Trouble(
            (
                *("row_without_id", "row_without_date", "row_far_date", "row_first_date"),
                *("row_bad_character", "row_nil"),
            ),
            "GET",
            "/query",
            weight=5.0,
            query="Point",
            skip=(0,),
        ),
        "odd_declaration": Trouble(
            ("no_encoding", "utf16_declared", "byte_order_mark"), "GET", READS, weight=1.2
        ),
        "listing_slow": Trouble(
            ("drip", "delay"),
            "GET",
            "/query",
            query="Point",
            skip=(0,),
            seconds=(30.0, 400.0),
            weight=3.1,
        ),
        "listing_endless": Trouble(
            ("endless_body", "endless_pages", "black_hole"),
            "GET",
            "/query",
            query="Point",
            skip=(0,),
            weight=2.4,
        ),
    }
)
"""Kind of hit: how it is played, once in a while."""

LASTING: Mapping[str, Fault] = MappingProxyType(
    {
        "refused_after_logon": Fault(kind="unauthorized", path=SESSION_READS),
        "silent_at_first": Fault(kind="black_hole"),
    }
)
"""Kind of hit: what every request of a server meets for a while."""

MOODS: Mapping[str, Sequence[tuple[str, Any]]] = MappingProxyType(
    {
        "mood_headers": (("header_names", "lower"), ("header_names", "title")),
        "mood_bodies": (("compresses", "asked"), ("chunks_answers", True)),
        "mood_urls": (("url_limit_bytes", 8192), ("encoded_slash", "decoded")),
        "mood_missing_is_500": (("missing_mount_is_500", True),),
        "mood_unmount_task": (("unmount_by", "task"),),
        "mood_shows_mounts": (("shows_others", "mounts"),),
    }
)
"""Kind of hit: a knob of a server and a value, for the whole story."""

FORMS: Mapping[str, Mapping[str, Sequence[Any]]] = MappingProxyType(
    {
        "json_12": {
            "json_empty_list": ("list", "null", "missing"),
            "json_escapes": (False, True),
        },
        "json_13": {
            "camel_case_json": (True,),
            "json_empty_list": ("list", "null", "no_wrapper"),
            "json_text_numbers": (False, True),
            "json_single_is_object": (False, True),
            "json_escapes": (False, True),
        },
    }
)
"""Kind of hit: a server that is spoken to in JSON for the whole story, and how it writes it."""
IN_JSON = 0.3
"""Share of the servers that are."""

ALL = frozenset({*TROUBLES, *LASTING, *MOODS, *FORMS, "frozen", "stop_early", "stopped"})

PLAYED = ALL
"""What the stories of `make test` play of all this."""


def one_more(rng: random.Random) -> tuple[str, Fault]:
    """Return a trouble and the fault that plays it."""
    hit = rng.choices(list(TROUBLES), [each.weight for each in TROUBLES.values()])[0]
    trouble = TROUBLES[hit]
    return hit, Fault(
        kind=rng.choice(trouble.kinds),
        method=trouble.method,
        path=trouble.path,
        query=trouble.query,
        skip=rng.choice(trouble.skip),
        count=rng.choice(trouble.count),
        probability=rng.choice([0.5, 1.0, 1.0]),
        until_s=CALM_S,
        seconds=rng.choice(trouble.seconds),
        **rng.choice(trouble.settings),
    )


def one_lasting(rng: random.Random) -> tuple[str, Fault]:
    """Return what lasts for a while at one server."""
    hit = rng.choice(list(LASTING))
    begin = 0.0 if hit == "silent_at_first" else rng.uniform(0.0, 150.0)
    until = begin + rng.choice([20.0, 60.0, 300.0])
    usual = LASTING[hit]
    return hit, Fault(kind=usual.kind, path=usual.path, from_s=begin, until_s=until)


def one_mood(rng: random.Random) -> tuple[str, str, Any]:
    """Return a kind of hit, a knob and its value."""
    hit = rng.choice(list(MOODS))
    return (hit, *rng.choice(MOODS[hit]))


def one_form(rng: random.Random) -> tuple[str, str, dict[str, Any]]:
    """Return a kind of hit, what the plan says of the format, and the server's knobs.

    Either the plan asks for JSON, or the server answers in it whatever it is asked for.
    """
    hit = rng.choice(list(FORMS))
    knobs = {name: rng.choice(values) for name, values in FORMS[hit].items()}
    if rng.random() < 0.5:
        return hit, "json", knobs
    return hit, "auto", {**knobs, "speaks": "json"}
