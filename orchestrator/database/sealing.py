"""Tokens of logon sessions, sealed before they are stored: the database cannot use what it holds.

A token is worth all mounts of its session. It is sealed with AES-256-GCM by a key that only the
workers of a site have, and bound to where it belongs: moved to another run, server, session or
epoch it does not open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct, json

from orchestrator.core.errors import KeyUnusable, TokenUnusable
from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.core.private_files import NotPrivate, read_private
from orchestrator.database.token_key import KEY_BYTES

if TYPE_CHECKING:  # its start costs every run, and only who stores tokens needs it
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES: Final = 12
"""Drawn anew for every token. Source: NIST SP 800-38D, 8.2.2: good for 2^32 tokens of one key."""

FORMAT: Final = b"\x01"
"""What a sealed token begins with; the nonce and the ciphertext with its tag follow."""


class Binding(Struct, frozen=True, kw_only=True):
    """Where a token belongs; it opens nowhere else. `epoch` is that of the worker that seals it."""

    run: RunId
    server: ServerName
    session: SessionId
    epoch: int

    @property
    def as_bytes(self) -> bytes:
        """All of it, in a form that no two of them share."""
        return json.encode(("token", self.run, self.server, self.session, self.epoch))


class Sealer:
    """Seals and opens tokens with a key that it never shows."""

    __slots__ = ("_cipher",)

    def __init__(self, cipher: AESGCM) -> None:
        """Keep the key for the life of this object."""
        self._cipher = cipher

    def seal(self, token: bytes, binding: Binding) -> bytes:
        """Return `token` as only this key opens it, and only with this binding."""
        nonce = os.urandom(NONCE_BYTES)
        return FORMAT + nonce + self._cipher.encrypt(nonce, token, binding.as_bytes)

    def open(self, sealed: bytes, binding: Binding) -> bytes:
        """Return the token.

        Raises:
            TokenUnusable: it was sealed by another key or for elsewhere, or has been changed;
                nobody can say which.
        """
        from cryptography.exceptions import InvalidTag

        head = len(FORMAT) + NONCE_BYTES
        nonce, ciphertext = sealed[len(FORMAT) : head], sealed[head:]
        try:
            if not sealed.startswith(FORMAT):
                raise InvalidTag
            return self._cipher.decrypt(nonce, ciphertext, binding.as_bytes)
        except (InvalidTag, ValueError):
            raise TokenUnusable(
                f"the token of session {binding.session} on {binding.server} does not open: "
                "another key sealed it, or it was changed"
            ) from None

    def __repr__(self) -> str:
        """Return what it is, and nothing of the key."""
        return "Sealer(…)"

    def __reduce__(self) -> str:
        """Refuse to be pickled."""
        raise TypeError("a key for tokens is not written anywhere")


def load_sealer(path: Path) -> Sealer:
    """Return the key in a file of exactly 32 bytes that only its owner may read.

    Raises:
        KeyUnusable: it is none, or others can read it.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        key = read_private(path, str(path), KEY_BYTES + 1)
    except NotPrivate as exc:
        raise KeyUnusable(str(exc)) from None
    except OSError as exc:
        raise KeyUnusable(f"{path} cannot be read: {exc.strerror}") from None
    if len(key) != KEY_BYTES:
        raise KeyUnusable(f"{path} is no key for tokens: such a file has exactly {KEY_BYTES} bytes")
    return Sealer(AESGCM(key))
