"""One file or directory of a simulated guest, and the bytes it is made of.

Content is given, or made on the spot from a seed: a file of any size costs no memory, and the
same file of the same restore point has the same bytes every time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

PIECE = 64 * 1024
NEVER = datetime(1753, 1, 1, tzinfo=UTC)
"""The server's "no value" for a time. Source: reference 1.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """A file, or (`size` None) a directory.

    Without `content` its bytes are made from path and restore point (from the path alone if
    `steady`) and begin with `magic`. `modified_at` None is a little before the restore point;
    NEVER is no time. A directory that is not `readable` answers 500; a file that is not, or
    that is `locked`, cannot be staged, and one with `fails` fails with that message. `shown`
    is the name that the server gives it in listings, where that is not its own.
    """

    size: int | None = 0
    content: bytes | None = None
    magic: bytes = b""
    steady: bool = False
    owner: str | None = None
    modified_at: datetime | None = None
    readable: bool = True
    locked: bool = False
    fails: str | None = None
    shown: str | None = None

    def __post_init__(self) -> None:
        """Given content has its own size."""
        if self.content is not None:
            object.__setattr__(self, "size", len(self.content))

    @property
    def is_directory(self) -> bool:
        """True for a directory."""
        return self.size is None

    @property
    def failure(self) -> str | None:
        """The server's message if the file cannot be staged. The texts are ours."""
        if self.locked:
            return "The process cannot access the file: it is being used by another process."
        return self.fails if self.readable else "Access to the path is denied."

    def pieces(self, seed: str) -> Iterator[bytes]:
        """Yield the file's bytes in pieces of at most 64 KiB."""
        if self.content is not None:
            for start in range(0, len(self.content), PIECE):
                yield self.content[start : start + PIECE]
            return
        left = self.size or 0
        if not left:
            return
        noise = random.Random(seed).randbytes(PIECE)  # noqa: S311 - a simulation, not a secret
        for number in range(-(-left // PIECE)):
            head = number.to_bytes(8, "big") if number else self.magic
            yield (head + noise[len(head) :])[:left]
            left -= PIECE


FOLDER = GuestFile(size=None)
