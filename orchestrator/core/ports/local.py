"""What is on this machine: files that are saved, and programs of the user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from msgspec import Struct

from orchestrator.core.proof import Ended

T = TypeVar("T")


class SavedFile(Struct, frozen=True, kw_only=True):
    """A file that is on the disk. `was_there`: one with exactly these bytes was there before."""

    size: int
    sha256: str
    was_there: bool = False


class StoredFile(Protocol):
    """A file of a guest while it is written on this machine. Raises FileNotSaved only."""

    @property
    def path(self) -> str:
        """Where it will be."""

    @property
    def size(self) -> int:
        """Bytes taken so far."""

    def take(self, piece: bytes) -> None:
        """Write one more piece."""

    def restart(self) -> None:
        """Forget everything taken so far."""

    async def keep(self) -> SavedFile:
        """Bring it to the disk under its name; what is not kept vanishes."""


class FileStore(Protocol):
    """Where files of guests are saved on this machine."""

    def layout(
        self, to: str, names: Sequence[str], *, many: bool, tag: str = ""
    ) -> Mapping[str, str]:
        """Return for each guest file name a path of its own, safe and within `to`.

        `tag` becomes part of every name.
        """

    def remember(self, path: str, owner: str) -> None:
        """Note that an earlier process of the run saved a file of `owner` there."""

    def place(
        self, path: str, size: int | None, *, owner: str, overwrite: bool
    ) -> AbstractContextManager[StoredFile]:
        """Make room for a file of `size` bytes at `path`; it is empty, and named when kept.

        Raises (on entering):
            FileNotSaved: it cannot be, for a reason on this machine.
        """


Answering = Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]
"""Answers one request of a program: what it wants read, and what was read."""


class Offload(Protocol):
    """Does work that may take long where nothing else waits for it."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; it touches nothing that others change."""


async def on_the_spot(work: Callable[[], T]) -> T:
    """Do the work at once; whoever needs the loop meanwhile waits."""
    return work()


class Programs(Protocol):
    """Runs programs of the user's that judge a mounted guest."""

    async def run(
        self,
        argv: Sequence[str],
        briefing: Mapping[str, object],
        answer: Answering,
        *,
        timeout: float,
    ) -> Ended:
        """Run `argv`, tell it `briefing`, answer what it asks, and return how it ended.

        It does not outlive this call, however that ends. What `answer` raises is raised.
        """
