"""The limits that the runs of one state directory share: real files, real processes."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.errors import JournalError
from orchestrator.core.model import MountRequest, RunId, ServerName
from orchestrator.core.policy import SESSION_IDLE_LIMIT
from orchestrator.journal import Claims, State
from orchestrator.journal.claims import LOOK_AGAIN_S
from tests.bench.schedule import request as requested
from tests.journal.sample import BEGAN

URL = "https://em-hq.example.net:9398"

RIVAL = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from orchestrator.journal import State
from tests.journal.test_claims import request
state, run, limit = State(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
with state.plan_lock(run, run), state.claims(
    run, run, {"hq": "https://em-hq.example.net:9398"}, lambda: datetime.now(UTC)
) as claims:
    print("ready", flush=True)
    sys.stdin.readline()
    mine, rounds = [], 0
    while rounds < 400:
        rounds += 1
        claim = claims.claim(request("vm"), lambda: claims.on_server("hq") + len(mine) < limit)
        if claim is not None:
            mine.append(claim)
            assert claims.on_server("hq") + len(mine) <= limit, "the last slot was taken twice"
        if len(mine) > 1 or (mine and rounds % 3 == 0):
            claims.release(mine.pop())
    print("done", flush=True)
    sys.stdin.readline()
"""


class Clock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@contextmanager
def taking_part(
    state: State,
    run: str,
    clock: Clock,
    urls: Mapping[str, str] | None = None,
    *,
    lives: bool = True,
) -> Iterator[Claims]:
    """Take part as `run`, whose plan has the same name, with a living process or without."""
    addresses = {ServerName(name): url for name, url in (urls or {"hq": URL}).items()}
    with ExitStack() as stack:
        if lives:
            stack.enter_context(state.plan_lock(run, RunId(run)))
        yield stack.enter_context(state.claims(RunId(run), run, addresses, clock))


def request(vm: str, *, server: str = "hq", backup_server: str = "vbr1") -> MountRequest:
    """Return a request for one machine."""
    return requested(1, server, backup_server, vm=vm)


def always() -> bool:
    """Fit."""
    return True


def test_what_one_run_has_open_counts_for_the_other(state: State) -> None:
    """By server, backup server and machine, whatever the plans call the server or its case."""
    clock = Clock()
    with (
        taking_part(state, "first", clock) as first,
        taking_part(state, "second", clock, {"main": "HTTPS://EM-HQ.example.net.:9398/"}) as second,
    ):
        one = request("VM1", server="hq", backup_server="VBR1")
        assert first.claim(one, always)
        claim = first.claim(request("vm2", server="hq", backup_server="vbr1"), always)
        assert claim is not None

        assert second.look()
        main = ServerName("main")
        assert second.on_server(main) == 2
        assert second.behind(main, request("x", backup_server="vbr1").backup_server) == 2
        assert second.of_machine(main, one.backup_server, "vm1") == 1
        assert first.on_server(ServerName("hq")) == 0

        first.release(claim)
        assert second.look()
        assert second.on_server(main) == 1
        assert not second.look()


ALIAS = "https://backup.example.net:9398"


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ({"10.0.0.5:9398"}, {"10.0.0.5:9398"}, True),
        ({"10.0.0.5:9398"}, {"[fd00::5]:9398", "10.0.0.5:9398"}, True),
        ({"10.0.0.5:9398"}, {"10.0.0.5:19398"}, False),
        ({"10.0.0.5:9398"}, {"10.0.0.6:9398"}, False),
        (set(), set(), False),
    ],
)
def test_servers_that_answer_at_one_place_are_the_same(
    here: set[str], there: set[str], same: bool, state: State
) -> None:
    """Short name, full name, alias or address: where it answers is recorded at each logon."""
    clock, hq, main = Clock(), ServerName("hq"), ServerName("main")
    one = request("vm1", backup_server="vbr1")
    with (
        taking_part(state, "first", clock) as first,
        taking_part(state, "second", clock, {"main": ALIAS}) as second,
    ):
        state.save_sessions(RunId("first"), {"hq": [session("first", URL)]})
        state.save_sessions(RunId("second"), {"main": [session("second", ALIAS)]})
        first.meet(hq, frozenset(here))
        first.claim(one, always)
        second.meet(main, frozenset(there))

        assert second.on_server(main) == same
        assert second.behind(main, one.backup_server) == same
        assert second.of_machine(main, one.backup_server, "vm1") == same
        assert ("first" in second.sharing_sessions(main)) == same
        assert "second" in second.sharing_sessions(main)
        assert ("second" in first.sharing_sessions(hq)) == same
        assert state.identities().is_at(("first", URL), ALIAS, frozenset(there)) == same


def test_a_resumed_run_is_known_by_where_its_earlier_process_found_the_server(
    state: State,
) -> None:
    """Before it logs on again, and for the mounts that a dead process has left."""
    clock, main = Clock(), ServerName("main")
    place = frozenset({"10.0.0.5:9398"})
    with taking_part(state, "run", clock) as process:
        process.meet(ServerName("hq"), place)
        process.claim(request("vm1"), always)
    with taking_part(state, "other", clock, {"main": ALIAS}) as other:
        other.meet(main, place)
        assert other.on_server(main) == 1
        with taking_part(state, "run", clock) as again:
            again.forget_earlier()
            again.occupy(request("vm1"))
            other.look()
            assert other.on_server(main) == 1


def test_a_run_that_is_long_gone_shares_nothing(state: State) -> None:
    """Its session is not ours to leave out of what the report says of others."""
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "dead", clock, lives=False) as dead:
        dead.claim(request("vm1"), always)
    state.save_sessions(RunId("dead"), {"hq": [session("dead", URL)]})
    with taking_part(state, "second", clock) as second:
        assert "dead" in second.sharing_sessions(hq)
        clock.now += timedelta(seconds=SESSION_IDLE_LIMIT)
        assert "dead" not in second.sharing_sessions(hq)
    with taking_part(state, "third", clock):
        assert rows(state, "runs") == 1


def test_a_file_of_an_earlier_version_is_read_and_used(state: State) -> None:
    """It does not hold where servers answer; their addresses count as before."""
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "first", clock) as first:
        first.claim(request("vm1"), always)
        with closing(sqlite3.connect(state.directory / "mounts.sqlite")) as db:
            db.execute("DROP TABLE endpoints")
        place = frozenset({"10.0.0.5:9398"})
        assert state.identities().is_at(("first", URL), URL, place)
        assert not state.identities().is_at(("first", URL), ALIAS, place)
        with taking_part(state, "second", clock) as second:
            second.meet(hq, place)
            assert second.on_server(hq) == 1


def session(name: str, url: str) -> dict[str, str]:
    """Return the facts of a kept session."""
    return {"session": name, "token": "t", "url": url}


def test_who_waits_is_told_for_whom(state: State) -> None:
    """For the machine in the words of `check`, else for what fills the limit."""
    clock = Clock()
    with taking_part(state, "first", clock) as first, taking_part(state, "second", clock) as second:
        first.claim(request("vm1", backup_server="vbr1"), always)
        second.look()

        assert second.why_waiting(request("VM1", backup_server="vbr1")) == (
            "run first has not done with this machine yet"
        )
        assert second.why_waiting(request("vm2", backup_server="vbr1")) == (
            "run first holds 1 mount there, 1 of them behind vbr1"
        )
        assert second.why_waiting(request("vm2", backup_server="vbr2")) == (
            "run first holds 1 mount there"
        )


def test_a_run_that_is_gone_counts_until_its_session_must_be_forgotten(state: State) -> None:
    """Its mounts may be open; then nobody waits for it any more, and nothing of it is kept."""
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "dead", clock) as dead:
        dead.claim(request("vm1", backup_server="vbr1"), always)
    with taking_part(state, "second", clock) as second:
        assert second.on_server(hq) == 1
        assert second.why_waiting(request("vm2", backup_server="vbr1")) == (
            "run dead holds 1 mount there, 1 of them behind vbr1 (it has ended, and they may be "
            "open until 06:15:00 UTC; release them: bulk-restore unmount dead)"
        )

        clock.now += timedelta(seconds=SESSION_IDLE_LIMIT - 1)
        second.look()
        assert second.on_server(hq) == 1
        clock.now += timedelta(seconds=1)
        assert second.look()
        assert second.on_server(hq) == 0
    with taking_part(state, "third", clock):
        assert rows(state, "claims") == 0


def test_a_run_that_lives_again_counts_though_it_has_written_nothing(state: State) -> None:
    """Its claims cannot be written, as on a full disk; whether it lives is looked at anyway."""
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "dead", clock, lives=False) as dead:
        dead.claim(request("vm1"), always)
    with taking_part(state, "second", clock) as second:
        assert second.on_server(hq) == 1
        with state.plan_lock("dead", RunId("dead")):
            clock.now += timedelta(seconds=SESSION_IDLE_LIMIT)
            second.look()
            assert second.on_server(hq) == 1
        second.look()
        assert second.on_server(hq) == 0


def test_a_run_that_has_ended_is_not_looked_for_each_second(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs two files each time, and what it has left counts for a quarter of an hour."""
    asked, is_alive = Counter[str](), State.is_alive

    def counted(self: State, plan: str, run: RunId) -> bool:
        asked[run] += 1
        return is_alive(self, plan, run)

    monkeypatch.setattr(State, "is_alive", counted)
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "dead", clock, lives=False) as dead:
        dead.claim(request("vm1"), always)
    with taking_part(state, "lives", clock) as lives, taking_part(state, "here", clock) as here:
        lives.claim(request("vm2"), always)
        here.look()
        asked.clear()
        for _ in range(9):
            clock.now += timedelta(seconds=1)
            here.look()
        assert (asked["dead"], asked["lives"]) == (0, 9)
        clock.now += timedelta(seconds=LOOK_AGAIN_S)
        here.look()
        assert (asked["dead"], asked["lives"]) == (1, 10)
        assert here.on_server(hq) == 2


def test_a_living_run_counts_however_long_it_was_frozen(state: State) -> None:
    """A stopped process holds its plan's lock; that it was not seen says nothing."""
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "frozen", clock) as frozen:
        frozen.claim(request("vm1"), always)
        clock.now += timedelta(hours=3)
        with taking_part(state, "second", clock) as second:
            assert second.on_server(hq) == 1


def test_a_resumed_run_claims_what_is_open_anew(state: State) -> None:
    """What its earlier process had open counts for the others all the time, and once only."""
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "run", clock) as process:
        process.claim(request("vm1"), always)
        process.claim(request("vm2"), always)
    with taking_part(state, "other", clock) as other, taking_part(state, "run", clock) as again:
        assert again.on_server(hq) == 0
        again.occupy(request("vm1"))
        other.look()
        assert other.on_server(hq) == 3
        again.forget_earlier()
        other.look()
        assert other.on_server(hq) == 1


def test_a_resumed_run_learns_when_its_earlier_process_was_last_alive(state: State) -> None:
    """Until then that process may have used its session."""
    clock = Clock()
    with taking_part(state, "run", clock) as process:
        assert process.earlier_seen_at is None
        process.claim(request("vm1"), always)
        clock.now += timedelta(seconds=60)
        process.look()
    last = clock.now
    clock.now += timedelta(hours=1)
    with taking_part(state, "run", clock) as again:
        assert again.earlier_seen_at == last


def test_nothing_stays_of_a_run_that_released_everything(state: State) -> None:
    """The next run has nobody to wait for."""
    clock = Clock()
    with taking_part(state, "run", clock) as claims:
        claims.meet(ServerName("hq"), frozenset({"10.0.0.5:9398"}))
        claim = claims.claim(request("vm1"), always)
        assert claim is not None
        claims.release(claim)

    assert rows(state, "claims") == rows(state, "runs") == rows(state, "endpoints") == 0


def test_while_somebody_else_writes_nothing_is_claimed_and_nothing_is_lost(state: State) -> None:
    """A claim that cannot be made now is none; what was given back is, with the next look."""
    clock = Clock()
    with taking_part(state, "run", clock) as claims, taking_part(state, "other", clock) as other:
        claim = claims.claim(request("vm1"), always)
        assert claim is not None
        with closing(
            sqlite3.connect(state.directory / "mounts.sqlite", isolation_level=None)
        ) as db:
            db.execute("BEGIN IMMEDIATE")
            assert claims.claim(request("vm2"), always) is None
            assert claims.is_unsure
            claims.release(claim)
            db.execute("ROLLBACK")

        claims.look()
        other.look()
        assert not claims.is_unsure
        assert other.on_server(ServerName("hq")) == 0


def test_a_file_that_is_none_of_ours_is_named(state: State) -> None:
    """Before anything is sent."""
    state.directory.mkdir()
    (state.directory / "mounts.sqlite").write_bytes(b"no database at all, but long enough" * 9)

    with pytest.raises(JournalError, match=r"mounts\.sqlite"), taking_part(state, "run", Clock()):
        pytest.fail("it was opened")


def test_a_claim_sees_what_another_run_has_claimed_since_the_last_look(state: State) -> None:
    """It looks in its own transaction, whenever another process has written."""
    clock, hq = Clock(), ServerName("hq")
    with taking_part(state, "run", clock) as claims, taking_part(state, "other", clock) as other:

        def one_fits() -> bool:
            return claims.on_server(hq) < 1

        for number in range(3):
            taken = other.claim(request(f"other{number}"), always)
            assert taken is not None
            assert claims.claim(request("vm1"), one_fits) is None
            other.release(taken)
            mine = claims.claim(request("vm1"), one_fits)
            assert mine is not None
            claims.release(mine)


@pytest.mark.process
def test_two_processes_never_both_take_the_last_slot(state: State, tmp_path: Path) -> None:
    """Three processes snatch at three slots as fast as they can; then one is killed."""
    root = Path(__file__).parents[2]
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, str(state.directory), f"run{number}", "3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for number in range(3)
    ]
    try:
        for rival in rivals:
            assert _line(rival) == "ready"
        for rival in rivals:
            _go_on(rival)
        for rival in rivals:
            assert _line(rival) == "done"
        rivals[0].send_signal(signal.SIGKILL)
        rivals[0].wait()
        held = rows(state, "claims")
        assert 0 < held <= 3
        for rival in rivals[1:]:
            _go_on(rival)
            assert rival.wait(30) == 0
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def rows(state: State, table: str) -> int:
    """Return how many rows a table of the claims has."""
    with closing(sqlite3.connect(state.directory / "mounts.sqlite")) as db:
        found: Any = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found[0])
