"""Convert the bytes of an answer, piece by piece, to UTF-8 for an XML parser.

What .NET serialisers and guests' file names put on the wire is not always XML: references to
characters that XML forbids, a declaration of UTF-16 over bytes of UTF-8, a byte order mark or
none, half surrogates. None of that makes an answer unreadable: a character that cannot be read
is U+FFFD, as anywhere else. In a CDATA section, which no serialiser seen writes, the same is
done to what only looks like such a reference.
Source: reference 18.2, traps 59 and 61.
"""

from __future__ import annotations

import codecs
import re

HEAD = 256
"""Bytes within which a declaration must end to count."""
LONGEST_REFERENCE = 32
"""Characters of a reference that is looked at; longer ones are left to the parser."""

_FORBIDDEN = bytes(code for code in range(32) if code not in b"\t\n\r")
_FORBIDDEN_BYTES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
_REFERENCE = re.compile(rb"&#(?:x([0-9a-fA-F]{1,28})|([0-9]{1,28}));")
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?\bencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_USUAL = b'<?xml version="1.0" encoding="utf-8"?>'
REPLACED = "\ufffd"
"""What stands for a character that cannot be read."""
_REPLACEMENT = REPLACED.encode()

_SINGLE_BYTE = frozenset({"iso8859-1", "cp1252", "ascii", "iso8859-15", "cp1250", "cp1251"})
"""Declared encodings that are believed, by Python's names; UTF-16 shows itself by its bytes."""


class Utf8:
    """The bytes of one document: fed as they come, returned as UTF-8 without a mark."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._head: bytes | None = b""
        self._rest = b""
        self._half = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        """None for UTF-8, which is only checked."""

    def feed(self, chunk: bytes, *, final: bool = False) -> bytes:
        """Return the text that can be decoded so far; with `final` all of it."""
        if self._head is not None:
            chunk = self._head + chunk
            if not final and not _is_whole(chunk):
                self._head = chunk
                return b""
            self._head = None
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            self._choose(chunk)
        return self._references(self._characters(chunk, final=final), final=final)

    def _choose(self, head: bytes) -> None:
        encoding = _encoding_of(head)
        if encoding != "utf-8":
            self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")

    def _characters(self, chunk: bytes, *, final: bool) -> bytes:
        if self._decoder is not None:
            chunk = self._decoder.decode(chunk, final).encode()
        elif self._half or not chunk.isascii():
            chunk = self._whole_characters(chunk, final=final)
        if not chunk.isascii() and b"\xef\xbf" in chunk:
            return _FORBIDDEN_BYTES.sub(_REPLACEMENT, chunk)
        if len(chunk.translate(None, _FORBIDDEN)) != len(chunk):
            return _FORBIDDEN_BYTES.sub(_REPLACEMENT, chunk)
        return chunk

    def _whole_characters(self, chunk: bytes, *, final: bool) -> bytes:
        """Return UTF-8 up to its last whole character; bytes that are none are replaced."""
        chunk = self._half + chunk
        try:
            _text, used = codecs.utf_8_decode(chunk, "strict", final)
        except UnicodeDecodeError:
            text, used = codecs.utf_8_decode(chunk, "replace", final)
            self._half = chunk[used:]
            return text.encode()
        self._half = chunk[used:]
        return chunk[:used]

    def _references(self, chunk: bytes, *, final: bool) -> bytes:
        """Replace references to characters that XML forbids; an incomplete one is kept."""
        if self._rest:
            chunk, self._rest = self._rest + chunk, b""
        if not final:
            start = chunk.rfind(b"&", -LONGEST_REFERENCE)
            if start >= 0 and b";" not in chunk[start:]:
                chunk, self._rest = chunk[:start], chunk[start:]
        return _REFERENCE.sub(_allowed, chunk) if b"&" in chunk else chunk


def as_utf8(document: bytes) -> bytes:
    """Return what `Utf8` makes of a whole document; nearly every one is that already."""
    if (
        document.startswith(_USUAL)
        and document.isascii()
        and b"&" not in document
        and len(document.translate(None, _FORBIDDEN)) == len(document)
    ):
        return document
    return Utf8().feed(document, final=True)


def _is_whole(head: bytes) -> bool:
    """Return whether enough has come to know the encoding."""
    return len(head) >= HEAD or b">" in head


def _encoding_of(head: bytes) -> str:
    """Return the encoding of a document by its first bytes; UTF-8 if they do not fit theirs."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(b"<\x00"):
        return "utf-16-le"
    if head.startswith(b"\x00<"):
        return "utf-16-be"
    if head.startswith(_USUAL):
        return "utf-8"
    declared = _DECLARED.match(head)
    try:
        name = codecs.lookup(declared[1].decode("ascii")).name if declared else ""
    except LookupError:
        name = ""
    return name if name in _SINGLE_BYTE else "utf-8"


def _allowed(found: re.Match[bytes]) -> bytes:
    code = int(found[1], 16) if found[1] else int(found[2])
    return found[0] if is_allowed(code) else _REPLACEMENT


def is_allowed(code: int) -> bool:
    """Return whether XML 1.0 has a character of this number."""
    return (
        0x20 <= code <= 0xD7FF
        or code in {0x9, 0xA, 0xD}
        or 0xE000 <= code <= 0xFFFD
        or 0x10000 <= code <= 0x10FFFF
    )
