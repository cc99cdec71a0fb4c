"""What earlier runs found is kept for a server's address, not for its name in a plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from orchestrator.core.earlier_runs.naming import Naming
from orchestrator.core.events import Event, RunStarted, ServerFacts, SessionOpened
from orchestrator.core.model import Result, RunId, ServerName, SessionId
from tests.journal.sample import BEGAN, mounted, started
from tests.store.recorder import Recorder
from tests.store.test_baselines import life as measured_life
from tests.store.test_proofs import life as proven_life

pytestmark = pytest.mark.anyio

HQ, MAIN = ServerName("hq"), ServerName("main")
HERE, THERE = "https://em-1.example.net:9398", "https://em-2.example.net:9398"
LATER = BEGAN + timedelta(days=365)


def run(name: str, url: str, *, alias: ServerName = HQ) -> RunStarted:
    """Return the beginning of a run whose plan calls the server at `url` so."""
    facts = ServerFacts(
        name=alias, url=url, tls="system", api_version="latest", backup_server_limits={}
    )
    return replace(started(name), servers=(facts,))


def opened(*, simulated: bool) -> SessionOpened:
    """Return a logon to the server called hq."""
    return SessionOpened(
        at=0.5,
        server=HQ,
        session=SessionId("s"),
        user="svc",
        api_version="v1_7",
        simulated=simulated,
    )


def history(seconds: float = 60.0) -> Sequence[Event]:
    """Return what leaves a duration, a proof and a baseline: of dc01, sql01 and web01."""
    return [
        *mounted("dc01", seconds=seconds),
        *proven_life("sql01", Result.VERIFIED),
        *measured_life("web01", ("p", 70, Result.VERIFIED), end=Result.VERIFIED, about="p"),
    ]


def known(recorder: Recorder, naming: Naming, server: ServerName = HQ) -> tuple[bool, bool, bool]:
    """Tell whether a duration, a proof and a baseline are known of a server."""
    return (
        recorder.store.durations(naming).expected(server, "dc01") is not None,
        recorder.store.proofs(before=LATER, naming=naming).last(server, "sql01", None) is not None,
        recorder.store.baselines(before=RunId("next"), naming=naming).measured(
            server, "web01", "D:\\"
        )
        is not None,
    )


async def test_a_server_that_was_renamed_in_the_plan_keeps_its_history(recorder: Recorder) -> None:
    """However the address is written; and its old name means nothing any more."""
    await recorder.record(history(), run("first", HERE))

    renamed = Naming(urls={MAIN: HERE.upper() + "/", HQ: THERE})

    assert known(recorder, renamed, MAIN) == (True, True, True)
    assert known(recorder, renamed, HQ) == (False, False, False)


async def test_two_plans_that_call_different_servers_alike_share_nothing(
    recorder: Recorder,
) -> None:
    """Each finds its own."""
    await recorder.record(history(60), run("first", HERE))
    await recorder.record(history(600), run("second", THERE))

    durations = [recorder.store.durations(Naming(urls={HQ: url})) for url in (HERE, THERE)]

    assert [each.expected(HQ, "dc01") for each in durations] == [60, 600]


async def test_a_journal_that_knows_no_address_is_read_by_names(recorder: Recorder) -> None:
    """An old one, or one asked by somebody who knows none."""
    await recorder.record(history())

    assert known(recorder, Naming()) == (True, True, True)


@pytest.mark.parametrize("now_known", [None, False])
async def test_what_was_found_on_a_simulated_server_says_nothing_of_a_real_one(
    recorder: Recorder, now_known: bool | None
) -> None:
    """Not even at the same address: neither duration nor proof nor baseline."""
    real = [event for event in history(60) if "web01" in str(event)]
    await recorder.record([opened(simulated=False), *mounted("x"), *real], run("real", HERE))
    await recorder.record(
        [
            opened(simulated=False),
            *proven_life("x", Result.VERIFIED),
        ],
        run("real too", HERE),
    )
    await recorder.record([opened(simulated=True), *history(1)], run("demo", HERE))

    naming = Naming(urls={HQ: HERE}, is_simulated=lambda server: now_known)

    assert known(recorder, naming)[:2] == (False, False)
    assert known(recorder, Naming(urls={HQ: HERE}, is_simulated=lambda server: True)) == (True,) * 3


async def test_a_demo_finds_what_earlier_demos_found(recorder: Recorder) -> None:
    """Where nothing real is known of the address."""
    await recorder.record([opened(simulated=True), *history()], run("demo", HERE))

    assert known(recorder, Naming(urls={HQ: HERE})) == (True, True, True)
    assert known(recorder, Naming(urls={HQ: HERE}, is_simulated=lambda server: False)) == (
        False,
        False,
        False,
    )
