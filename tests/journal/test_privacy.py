"""Tokens and everything else in the state directory: for its owner, in one place."""

from __future__ import annotations

import json
import os
import stat

import pytest

from orchestrator.core.model import RunId
from orchestrator.journal import State
from tests.journal.sample import RUN, mounted, started, written


@pytest.mark.anyio
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o022])
async def test_everything_belongs_to_its_owner_alone(state: State, umask: int) -> None:
    """Whatever the umask: directory 0700, every file in it 0600, while it is being written."""
    before = os.umask(umask)
    try:
        async with state.open_run(started(), inline=True) as journal:
            journal.append(started())
            await journal.durable()
            state.save_sessions(RUN, {"hq": [{"token": "t"}]})
            with state.plan_lock("drill", RUN):
                files = list(state.directory.iterdir())
                modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    finally:
        os.umask(before)

    assert stat.S_IMODE(state.directory.stat().st_mode) == 0o700
    assert {"journal.sqlite", "journal.sqlite-wal", f"sessions-{RUN}.json"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_a_directory_that_was_open_to_others_is_closed(state: State) -> None:
    """Tokens never lie where others may read, even if the directory was made by hand."""
    state.directory.mkdir(mode=0o777)
    state.directory.chmod(0o777)
    leaky = state.directory / f"sessions-{RUN}.new"
    leaky.touch(mode=0o666)
    leaky.chmod(0o666)

    state.save_sessions(RUN, {"hq": [{"token": "t"}]})

    assert stat.S_IMODE(state.directory.stat().st_mode) == 0o700
    (file,) = state.directory.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_sessions_are_kept_replaced_and_forgotten(state: State) -> None:
    """A later process finds the newest tokens of a run, until they are forgotten."""
    first = {"session": "s1", "token": "t1", "url": "https://hq:9398"}
    one = {"hq": [first]}
    two = {"hq": [first, {**first, "session": "s3"}], "dr": [{**first, "session": "s2"}]}

    state.save_sessions(RUN, one)
    state.save_sessions(RUN, two)
    kept, others = state.load_sessions(RUN), state.load_sessions(RunId("other"))
    state.forget_sessions(RUN)
    state.forget_sessions(RUN)

    assert (kept, others, state.load_sessions(RUN)) == (two, {}, {})
    assert list(state.directory.iterdir()) == []


def test_a_side_file_with_one_session_per_server_is_still_read(state: State) -> None:
    """Earlier versions kept only the newest session of a server, in no list."""
    facts = {"session": "s1", "token": "t1", "url": "https://hq:9398"}
    state.save_sessions(RUN, {})
    (file,) = state.directory.iterdir()
    file.write_text(json.dumps({"hq": facts, "dr": "?", "branch": [facts, 7]}))

    assert state.load_sessions(RUN) == {"hq": [facts], "branch": [facts]}
    assert len(state.kept_sessions()) == 1


def test_a_session_of_which_a_fact_is_missing_opens_nothing(state: State) -> None:
    """Without its address nobody knows where its token may be sent."""
    facts = {"session": "s1", "token": "t1", "url": "https://hq:9398"}
    for missing in facts:
        kept = {name: fact for name, fact in facts.items() if name != missing}
        state.save_sessions(RUN, {"hq": [kept]})

        assert state.tokens(RUN).usable() == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\udcff"])
def test_a_broken_side_file_is_no_sessions(state: State, content: str) -> None:
    """What cannot be read is not there: the mounts are then named for a person."""
    state.save_sessions(RUN, {})
    (file,) = state.directory.iterdir()
    file.write_bytes(content.encode(errors="surrogateescape"))

    assert state.load_sessions(RUN) == {}


@pytest.mark.anyio
async def test_tokens_are_never_in_the_journal(state: State) -> None:
    """The side file is the only place on disk that holds a token."""
    await written(state, mounted("dc01"))
    state.save_sessions(RUN, {"hq": [{"token": "very-secret-token"}]})

    holding = [
        path.name for path in state.directory.iterdir() if b"very-secret" in path.read_bytes()
    ]

    assert holding == [f"sessions-{RUN}.json"]
