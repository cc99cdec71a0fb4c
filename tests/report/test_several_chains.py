"""Reports of runs over several machines: the same in whatever order their chains are read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from orchestrator.core.events import (
    Event,
    HaltAsked,
    RunHalted,
    RunResumed,
    ServerGivenUp,
    ServerParked,
    ShardFinished,
)
from orchestrator.core.model import ServerName
from orchestrator.core.records import RUN_CHAIN, merged
from orchestrator.core.run_state import RunState, fold
from orchestrator.report import as_html, as_json, as_markdown
from orchestrator.report.as_json import report_json_schema
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from orchestrator.report.writing import RENDERINGS, rendered
from tests.report.builders import STARTED_AT, finished, life, started, values
from tests.report.several_chains import (
    SMALL,
    Chains,
    chains,
    interleavings,
    served,
    taken,
    whole,
)

HQ = ServerName("hq")


def shown(state: RunState) -> RunState:
    """Return a state without what only the conductor looks at."""
    for server in state.servers.values():
        server.is_planned = server.is_finished = False
        server.halt_asked = None
    return replace(state, accepted=set())


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_the_fold_does_not_depend_on_the_order_of_the_chains(data: st.DataObject) -> None:
    """Each chain in its own order, whatever stands between: the same state, the same reports."""
    run = data.draw(chains())
    one, other = fold(merged(run)), fold(data.draw(interleavings(run)))

    assert list(one.records) == list(other.records)
    assert summarize(one) == summarize(other)
    assert shown(one) == shown(other)


@given(chains())
@settings(deadline=None, max_examples=30)
def test_chain_after_chain_renders_the_same_bytes(run: Chains) -> None:
    """Also in every rendering, and from the last chain to the first."""
    first, *own = run[RUN_CHAIN]
    others = [event for name, events in run.items() if name != RUN_CHAIN for event in events]

    one = summarize(fold(merged(run)))
    other = summarize(fold([first, *reversed_chains(run), *own]))

    assert len(others) == len(reversed_chains(run))
    for name in RENDERINGS:
        assert [*rendered(name, one)] == [*rendered(name, other)], name


def reversed_chains(run: Chains) -> list[Event]:
    """Return the events of the servers' chains, the last chain first."""
    return [event for name in reversed([*run]) if name != RUN_CHAIN for event in run[name]]


def test_targets_are_in_the_order_of_the_plan() -> None:
    """By wave, then by server, then as they were planned there, whoever was first."""
    first = "directory"
    run: Chains = {
        RUN_CHAIN: [started(servers=("hq", "dr"))],
        "hq": served("hq", life("b", wave=first), life("a"), life("a", wave=first), at=9.0),
        "dr": served("dr", life("z", server="dr"), life("y", wave=first, server="dr")),
    }

    keys = [target.key for target in summarize(fold(merged(run))).targets]

    assert keys == [
        "directory/hq/b",
        "directory/hq/a",
        "directory/dr/y",
        "databases/hq/a",
        "databases/dr/z",
    ]


def test_the_report_names_who_served_each_server() -> None:
    """Worker, machine and times of each, and how often a server was taken over."""
    report = summarize(fold(merged(whole())))

    run = values(report)["run"]
    Draft202012Validator(report_json_schema()).validate(values(report))
    hq, dr = run["shards"]
    assert hq == {
        "server": "hq",
        "site": "east",
        "takeovers": 0,
        "workers": [
            {
                "worker": "ada",
                "host": "ada.example",
                "since": "2026-11-23T06:00:00.000Z",
                "until": "2026-11-23T06:00:55.000Z",
                "taken_over": None,
            }
        ],
    }
    assert (dr["server"], dr["takeovers"]) == ("dr", 1)
    assert [each["worker"] for each in dr["workers"]] == ["ada", "bert"]
    assert dr["workers"][0]["until"] == dr["workers"][1]["since"] == "2026-11-23T06:00:30.000Z"
    assert dr["workers"][1]["taken_over"] == "ada"


@pytest.mark.parametrize("render", [text, as_markdown.render, as_html.render])
def test_people_read_who_served_each_server(render: object) -> None:
    """In one line for each server; a run on one machine has none."""
    assert callable(render)
    alone = summarize(fold([started(), *life("sql01"), finished()]))

    said = render(summarize(fold(merged(whole()))))

    assert "Served by" in said
    assert "dr (site east)" in said.replace("\\", "")
    assert "which took it over from ada" in said
    assert "Served by" not in render(alone)
    assert "shards" not in json.loads(as_json.render(alone))["run"]


def test_many_takeovers_are_counted() -> None:
    """People read of the last workers, programs of all."""
    chain = [taken("hq", float(number), f"worker{number}", epoch=number) for number in range(1, 9)]
    report = summarize(fold([started(), *chain]))

    said = text(report)

    assert "4 earlier workers; worker5 on" in said
    assert "worker4" not in said
    assert len(values(report)["run"]["shards"][0]["workers"]) == 8
    assert values(report)["run"]["shards"][0]["workers"][-1]["until"] is None


def test_a_run_has_halted_when_its_own_chain_says_so() -> None:
    """A server's worker can only ask for it; whoever conducts finds that in the state."""
    asked = HaltAsked(at=5.0, server=HQ, reason="expect", detail="two machines are missing")

    waiting = fold([started(), taken("hq", 0.0), asked])
    halted = fold([started(), taken("hq", 0.0), RunHalted(at=6.0, reason="a", detail="b"), asked])
    over = fold([started(), taken("hq", 0.0), asked, finished()])

    assert (waiting.halted, waiting.broken_guard) == (None, None)
    assert waiting.servers[HQ].halt_asked == asked
    assert halted.halted is not None
    assert halted.halted.reason == "a"
    assert over.servers[HQ].halt_asked is None


def test_a_server_begins_anew_with_its_workers_only() -> None:
    """What one has found since is not over because the run's own chain says that it goes on."""
    before = [started(), taken("hq", 0.0), finished()]
    parked = ServerParked(at=66.0, server=HQ, reason="silent")
    given_up = ServerGivenUp(at=67.0, server=HQ, reason="dead", refused=False)
    early: list[Event] = [taken("hq", 65.0, "bert"), parked, given_up]
    resumed = RunResumed(at=70.0, resumed_at=STARTED_AT, version="1")

    one, other = fold([*before, *early, resumed]), fold([*before, resumed, *early])

    assert one.servers[HQ].given_up == given_up
    assert summarize(one) == summarize(other)
    assert summarize(one).servers[0].outages[0].end_s is None


def test_a_server_may_begin_and_end_before_its_run_is_resumed() -> None:
    """Whoever conducts the rest then does not wait for what has happened already."""
    before = [started(servers=("hq", "dr")), *SMALL["hq"], *SMALL["dr"], finished(exit_code=1)]
    early = [taken("hq", 65.0, "bert"), ShardFinished(at=66.0, server=HQ)]
    resumed = RunResumed(at=70.0, resumed_at=STARTED_AT, version="1")

    state = fold([*before, *early, resumed])

    assert [server.is_finished for server in state.servers.values()] == [True, False]
    assert not any(server.is_finished for server in fold(before).servers.values())
