"""The token of a logon session, which is never shown. Source: reference 2.2 and 2.3."""

from __future__ import annotations

from typing import NoReturn

from msgspec import Struct

from orchestrator.core.model import SessionId, session_id


class Token:
    """The secret of a logon session: its token, or the GUID of which some clients make one."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Keep `value`."""
        self._value = value

    def __repr__(self) -> str:
        """Never the value."""
        return "Token(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        """It is never pickled."""
        raise TypeError("what opens a session is not pickled")

    def reveal(self) -> str:
        """Return it, for a request and for where tokens are kept only."""
        return self._value


class KeptSession(Struct, frozen=True, kw_only=True):
    """What opens a session again that an earlier process opened."""

    guid: Token
    token: Token

    @property
    def id(self) -> SessionId:
        """The name of the session everywhere else."""
        return session_id(self.guid.reveal())
