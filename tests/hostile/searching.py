"""Looking for a secret in whatever form it may have got somewhere."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr


def forms(secret: str) -> set[bytes]:
    """Return every form of a secret that a program might write by mistake."""
    raw = secret.encode()
    texts = {
        *(secret, secret[::-1], repr(secret)[1:-1], json.dumps(secret)[1:-1]),
        *(escape(secret), quoteattr(secret)[1:-1], quote(secret), quote(secret, safe="")),
        *(quote_plus(secret), raw.hex(), raw.hex().upper(), raw.hex(" "), repr(raw)[2:-1]),
        secret.encode("unicode_escape").decode("ascii"),
        *(each.rstrip("=") for each in map(bytes.decode, (b64encode(raw), urlsafe_b64encode(raw)))),
    }
    wide = {text.encode(codec) for text in texts for codec in ("utf-16-le", "utf-16-be")}
    return {text.encode() for text in texts} | wide | {raw[::-1], secret.encode("latin-1")}


def secrets_of(account: str, password: str, tokens: Iterable[str]) -> set[bytes]:
    """Return all forms of a password, of the header that carries it, and of session tokens."""
    assert password
    found = forms(password) | forms(f"{account}:{password}")
    found |= forms(b64encode(f"{account}:{password}".encode()).decode())
    for token in tokens:
        if token:
            found |= forms(token)
    return found


def holding(secrets: set[bytes], content: bytes) -> list[bytes]:
    """Return the forms that stand somewhere in some bytes."""
    return sorted(form for form in secrets if form in content)


def files_below(directory: Path) -> Iterator[Path]:
    """Yield every file but the one that may hold a token."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.name.startswith("sessions-"):
            yield path


def assert_nowhere(secrets: set[bytes], directory: Path, *said: str) -> None:
    """Check that no form of a secret stands in a file below the directory, or was said."""
    for path in files_below(directory):
        assert not holding(secrets, path.read_bytes()), path.name
    for text in said:
        assert not holding(secrets, text.encode(errors="surrogatepass")), text[:2000]
