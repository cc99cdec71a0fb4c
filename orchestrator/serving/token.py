"""The token that opens the page: random, or a person's own."""

from __future__ import annotations

import re
import secrets

SHORTEST = 20
_USABLE = re.compile(r"[A-Za-z0-9._~-]+")
"""Characters that stand unchanged in a link and in a header."""


def fresh_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(24)


def own_token(text: str) -> str:
    """Return a person's own token, as its file holds it.

    Raises:
        ValueError: it is too short to be safe, or cannot stand in a link. Says nothing of it.
    """
    token = text.strip()
    if len(token) < SHORTEST:
        raise ValueError(f"a token has {SHORTEST} characters or more")
    if _USABLE.fullmatch(token) is None:
        raise ValueError("a token consists of letters, digits and . _ ~ -")
    return token
