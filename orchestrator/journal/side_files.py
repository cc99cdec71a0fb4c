"""Files beside the journal: session tokens of a run, and what its process is asked."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.core.errors import JournalError
from orchestrator.core.model import RunId, ServerName, SessionId, session_id
from orchestrator.core.ports.tokens import StoredSession
from orchestrator.core.token import KeptSession, Token
from orchestrator.journal.controls import ControlFiles
from orchestrator.journal.store import private_directory, private_file


class SideFiles:
    """The files of single runs in a state directory. Only their owner can read them."""

    directory: Path

    def tokens(self, run: RunId) -> SideFileTokens:
        """Return where the tokens of a run's sessions are kept."""
        return SideFileTokens(self, run)

    def save_sessions(
        self, run: RunId, sessions: Mapping[str, Sequence[Mapping[str, str]]]
    ) -> None:
        """Keep {server: [{session, token, url}]} where only the owner can read it.

        So that a later process can unmount what a dead run left. Never in the journal.
        """
        private_directory(self.directory)
        path = self._sessions_path(run)
        fresh = path.with_suffix(".new")
        private_file(fresh)
        fresh.write_text(json.dumps(sessions), encoding="utf-8")
        fresh.replace(path)

    def load_sessions(self, run: RunId) -> dict[str, list[dict[str, str]]]:
        """Return the sessions of `save_sessions`, as far as they can be read; the oldest first.

        Earlier versions kept one session per server, which was in no list.
        """
        try:
            found = json.loads(self._sessions_path(run).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        kept: dict[str, list[dict[str, str]]] = {}
        for server, sessions in found.items() if isinstance(found, dict) else ():
            each = sessions if isinstance(sessions, list) else [sessions]
            usable = [facts for facts in each if _is_session(facts)]
            if usable:
                kept[server] = usable
        return kept

    def kept_sessions(self) -> frozenset[str]:
        """Return the names of the logon sessions whose tokens are kept here, of all runs."""
        runs = (path.stem.removeprefix("sessions-") for path in self.directory.glob("sessions-*"))
        return frozenset(
            session for run in runs for session, _ in self.kept_sessions_of(RunId(run))
        )

    def kept_sessions_of(self, run: RunId) -> Iterator[tuple[str, str]]:
        """Yield the names of a run's kept sessions, and the addresses of their servers."""
        for sessions in self.load_sessions(run).values():
            for facts in sessions:
                yield session_id(facts.get("session", "")), facts.get("url", "")

    def forget_sessions(self, run: RunId) -> None:
        """Remove the side file: the run ended and logged off."""
        self._sessions_path(run).unlink(missing_ok=True)

    def ask_to_end_holds(self, run: RunId) -> None:
        """Ask the process of a run, by a file, to remove its held mounts.

        Raises:
            JournalError: the state directory does not take it.
        """
        private_directory(self.directory)
        path = self._request_path(run)
        try:
            private_file(path)
        except OSError as exc:
            raise JournalError(f"{path} cannot be written: {exc.strerror}") from exc

    def take_request(self, run: RunId) -> bool:
        """Return whether such a request is there, and remove it: it is answered once."""
        try:
            self._request_path(run).unlink()
        except OSError:
            return False
        return True

    def controls(self, run: RunId) -> ControlFiles:
        """Return where people ask something of a living run, and its process answers."""
        return ControlFiles(self.directory / f"ctl-{run}")

    def _request_path(self, run: RunId) -> Path:
        return self.directory / f"unmount-{run}.request"

    def _sessions_path(self, run: RunId) -> Path:
        return self.directory / f"sessions-{run}.json"


def _is_session(facts: object) -> bool:
    """Return whether a value of a side file may be the facts of a session."""
    return isinstance(facts, dict) and all(isinstance(fact, str) for fact in facts.values())


class SideFileTokens:
    """The tokens of one run, in its owner-only side file; implements `ports.tokens.Tokens`."""

    def __init__(self, files: SideFiles, run: RunId) -> None:
        """The file is read at once: a process is the only one that works on its run."""
        self._files, self._run = files, run
        self._known = files.load_sessions(run)

    def usable(self) -> dict[ServerName, list[StoredSession]]:
        """Return the sessions whose facts are all there; the oldest first."""
        usable: dict[ServerName, list[StoredSession]] = {}
        for server, sessions in self._known.items():
            for facts in sessions:
                if facts.keys() >= {"session", "token", "url"}:
                    opened_by = KeptSession(
                        guid=Token(facts["session"]), token=Token(facts["token"])
                    )
                    found = StoredSession(opened_by=opened_by, url=facts["url"])
                    usable.setdefault(ServerName(server), []).append(found)
        return usable

    def keep(self, server: ServerName, session: StoredSession, over: Container[SessionId]) -> None:
        """Write the file anew, with one more session and without those that are `over`.

        Raises:
            OSError, JournalError: it cannot be written.
        """
        known = self._known.get(server, [])
        known = [each for each in known if session_id(each.get("session", "")) not in over]
        new = {
            "session": session.opened_by.guid.reveal(),
            "token": session.opened_by.token.reveal(),
            "url": session.url,
        }
        self._known[server] = [*known, new]
        self._files.save_sessions(self._run, self._known)

    def forget(self) -> None:
        """Remove the file.

        Raises:
            OSError: it is still there.
        """
        self._files.forget_sessions(self._run)
