"""Parts of a plan: which of N runs (`--shard K/N`) takes which machine."""

from __future__ import annotations

from hashlib import sha256

from msgspec import Struct

from orchestrator.core.model import ServerName

MOST = 1000
"""The most parts that a plan can be divided into."""

FORM = "write K/N with K from 1 to N, such as 2/5"


class Part(Struct, frozen=True, kw_only=True):
    """One of `of` parts of a plan; the first is number 1.

    A machine belongs to exactly one part, which follows from its server and its name alone.
    So the other machines of the plan, its order and its waves change nothing, and all restore
    points of a machine are in one part.
    """

    number: int
    of: int

    def takes(self, server: ServerName, machine: str) -> bool:
        """Return whether a machine belongs to this part; upper and lower case are the same."""
        text = f"{server}\0{machine.casefold()}".encode("utf-8", errors="surrogatepass")
        return int.from_bytes(sha256(text).digest()[:8]) % self.of == self.number - 1

    def __str__(self) -> str:
        """Return it as `--shard` writes it."""
        return f"{self.number}/{self.of}"


def read_part(text: str) -> Part:
    """Return the part that `text` means.

    Raises:
        ValueError: it means none; the message has the right form.
    """
    number, slash, of = text.partition("/")
    if not slash or not all(each.isascii() and each.isdigit() for each in (number, of)):
        raise ValueError(f"{text!r} is no shard: {FORM}")
    if len(of) > 4 or int(of) > MOST:
        raise ValueError(f"{text!r} has too many shards, at most {MOST}: {FORM}")
    if len(number) > 4 or not 1 <= int(number) <= int(of):
        raise ValueError(f"there is no shard {text!r}: {FORM}")
    return Part(number=int(number), of=int(of))
