"""The user's own Ed25519 key: signing evidence.json, and checking the signature.

The signature is the bare 64 bytes over the file's bytes, so that other programs can check it:
openssl pkeyutl -verify -pubin -inkey PUBLIC.pem -rawin -in evidence.json -sigfile evidence.sig
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.core.errors import KeyUnusable
from orchestrator.core.private_files import NotPrivate, read_private

if TYPE_CHECKING:  # it takes 7 MB, and only who signs or verifies needs it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_KEY_BYTES = 64 * 1024
MAKE_ONE = "make one with: openssl genpkey -algorithm ed25519 -out KEY.pem"


class Signer:
    """Signs with a private key that it never shows."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Keep the key for the life of this object."""
        self._key = key

    def __call__(self, data: bytes) -> bytes:
        """Return the signature of `data`: 64 bytes, always the same ones."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        """Return what it is, and nothing of the key."""
        return "Signer(…)"

    def __reduce__(self) -> str:
        """Refuse to be pickled."""
        raise TypeError("a private key is not written anywhere")


def load_signer(path: Path) -> Signer:
    """Return the private key in a PEM file that only its owner may read.

    Raises:
        KeyUnusable: it is none, or has a passphrase, or others can read it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(path, owner_only=True)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise KeyUnusable(
            f"{path} is protected by a passphrase, which is not supported: keep a key without one "
            "for signing, readable by its owner only"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"{path} is no private key in PEM form; {MAKE_ONE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} is a private key of another kind than Ed25519; {MAKE_ONE}")
    return Signer(key)


def load_public_key(path: Path) -> Callable[[bytes, bytes], bool]:
    """Return what tells whether a signature is over some data, by a PEM file's public key.

    Raises:
        KeyUnusable: it is none.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _content(path, owner_only=False)
    if b"PRIVATE KEY" in content:
        raise KeyUnusable(
            f"{path} is a private key; give the public one, which you get with: "
            "openssl pkey -in KEY.pem -pubout -out PUBLIC.pem"
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"{path} is no public key in PEM form") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(f"{path} is a public key of another kind than Ed25519")

    def made(signature: bytes, data: bytes) -> bool:
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return made


def _content(path: Path, *, owner_only: bool) -> bytes:
    try:
        return read_private(path, str(path), MAX_KEY_BYTES, owner_only=owner_only)
    except NotPrivate as exc:
        raise KeyUnusable(str(exc)) from None
    except OSError as exc:
        raise KeyUnusable(f"the key {path} cannot be read: {exc.strerror}") from None
