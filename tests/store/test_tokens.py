"""The tokens of a run's sessions, for the process that resumes or unmounts it."""

from __future__ import annotations

from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.core.ports.tokens import StoredSession
from orchestrator.core.token import KeptSession, Token
from tests.journal.sample import RUN
from tests.store.recorder import DirectoryRecorder

HQ, DR = ServerName("hq"), ServerName("dr")
OTHER = RunId("other")


def session(name: str, url: str = "https://hq:9398") -> StoredSession:
    """Return a session that was opened at an address."""
    opened_by = KeptSession(guid=Token(name), token=Token(f"token of {name}"))
    return StoredSession(opened_by=opened_by, url=url)


def found(directory: DirectoryRecorder, run: RunId = RUN) -> dict[str, list[tuple[str, str, str]]]:
    """Return what another process finds of a run: what opens each session, and where."""
    return {
        server: [
            (each.opened_by.guid.reveal(), each.opened_by.token.reveal(), each.url)
            for each in sessions
        ]
        for server, sessions in directory.tokens(run).usable().items()
    }


def test_the_sessions_of_a_run_are_found_by_another_process(directory: DirectoryRecorder) -> None:
    """The oldest first, each with the address to which its token may be sent; no other run's."""
    tokens = directory.tokens(RUN)
    tokens.keep(HQ, session("one"), ())
    tokens.keep(DR, session("two", "https://dr:9398"), ())
    tokens.keep(HQ, session("three", "https://hq.example.net"), ())

    assert found(directory) == {
        "hq": [
            ("one", "token of one", "https://hq:9398"),
            ("three", "token of three", "https://hq.example.net"),
        ],
        "dr": [("two", "token of two", "https://dr:9398")],
    }
    assert found(directory, OTHER) == {}


def test_a_process_that_comes_later_adds_to_what_is_kept(directory: DirectoryRecorder) -> None:
    """A second death loses neither session."""
    directory.tokens(RUN).keep(HQ, session("one"), ())
    directory.tokens(RUN).keep(HQ, session("two"), ())

    assert [guid for guid, _, _ in found(directory)["hq"]] == ["one", "two"]


def test_sessions_that_are_over_are_forgotten_with_the_next_one(
    directory: DirectoryRecorder,
) -> None:
    """Those of the same server only: what is over is known by server."""
    tokens = directory.tokens(RUN)
    tokens.keep(HQ, session("one"), ())
    tokens.keep(DR, session("one"), ())

    tokens.keep(HQ, session("two"), {SessionId("one")})

    assert [guid for guid, _, _ in found(directory)["hq"]] == ["two"]
    assert [guid for guid, _, _ in found(directory)["dr"]] == ["one"]


def test_a_run_that_needs_none_forgets_them_all(directory: DirectoryRecorder) -> None:
    """Repeatable, and no other run loses any."""
    directory.tokens(RUN).keep(HQ, session("one"), ())
    directory.tokens(OTHER).keep(HQ, session("two"), ())

    for _ in range(2):
        directory.tokens(RUN).forget()

    assert found(directory) == {}
    assert [guid for guid, _, _ in found(directory, OTHER)["hq"]] == ["two"]


def test_a_token_shows_in_no_text(directory: DirectoryRecorder) -> None:
    """Whoever logs what is kept logs no secret."""
    directory.tokens(RUN).keep(HQ, session("a guid"), ())

    (kept,) = directory.tokens(RUN).usable()[HQ]

    assert "a guid" not in f"{kept!r} {kept}"
    assert "token of" not in f"{kept!r} {kept}"
