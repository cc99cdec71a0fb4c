"""Whether this process may still send something to a server, or another one has taken it over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol


class Fence(Protocol):
    """What stops requests to one Enterprise Manager that several workers may serve, one at a time.

    Whoever holds the server's lease is the only one that may change anything there. Everything but
    `until_sure` is quick and synchronous, and belongs to the event loop of the requests.
    """

    @property
    def sure(self) -> bool:
        """True while no other worker can hold the lease: what changes something may be sent."""

    @property
    def lost(self) -> bool:
        """True for ever once another worker holds it: nothing more is sent, not even a read.

        A logoff would end the session that its successor now uses, with all the mounts in it.
        """

    @property
    def reads_pass(self) -> bool:
        """True if reads may be sent while it is not sure: they keep sessions alive.

        False where no other worker could take a session up: it must be forgotten by the server in
        time, for its mounts count until then.
        """

    async def until_sure(self) -> None:
        """Return when something that changes the server may be sent.

        Raises:
            Fenced: it never may again.
        """

    def when_lost(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` once, as soon as the lease is lost; return what takes that back.

        It is called in the event loop, at once if the lease is lost already, and must not raise.
        """


class NoFence:
    """The fence of a process that shares its servers with nobody: always sure, never lost."""

    sure: Final = True
    lost: Final = False
    reads_pass: Final = True

    async def until_sure(self) -> None:
        """Return at once."""

    def when_lost(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call nobody."""
        _ = tell
        return _nothing


def _nothing() -> None:
    """Take nothing back."""


NO_FENCE: Final = NoFence()
