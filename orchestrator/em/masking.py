"""Secrets are masked in every body before it is read: a server may repeat them.

What is hidden: the session token, the session's GUID (a public client makes its token of it),
the password, and the credentials as they were sent. They are found as they are, and where XML,
JSON or an address escape some of their characters; also in UTF-16, and across pieces.
Source: reference 2.2, traps 4 and 42.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html.entities import codepoint2name
from typing import Final, Generic, TypeVar

from orchestrator.em.elements import NAMESPACE, Reading
from orchestrator.em.families import FAMILIES
from orchestrator.em.links import GUID

T = TypeVar("T")

MASK: Final = b"***"
SHORTEST: Final = 4
"""Characters; masking anything shorter would tell more of it than it hides."""
WEAK: Final = 8
"""Characters below which a secret is masked only where it is a whole word."""
PROTOCOL: Final = " ".join(
    (
        NAMESPACE,
        "http://www.w3.org/2001/XMLSchema http://www.w3.org/2001/XMLSchema-instance",
        "encoding standalone version Error Message StatusCode EnterpriseManager LogonSession",
        "SessionId UserName SupportedVersions QueryResult Entities Resources PagingInfo PagesCount",
        "PageNum PageSize Tasks TaskId State Operation Result Success Running OperationFinished",
        "Finished MountRestorePoint FileRestoreFromMountPoint CreationTimeUTC VmDisplayName VmName",
        "Algorithm PointType Snapshot Increment BackupServers BackupServerReference",
        "ReplicaReference Related Create Delete Download Alternate FileSystemEntries",
        "FileSystemEntry Directories DirectoryEntry FileEntry FSRoots ModifiedDateUTC Owner",
        "Links Href Type Refs DirectoryEntries FileEntries FirstChanceExceptionMessage StackTrace",
        "Status true false null",
        "actions action listAll listFiles listDirs restore sessionMngr logonSessions query",
        *(f"{family.path} {family.entity}Mounts Up{family.entity}" for family in FAMILIES.values()),
    )
).casefold()
"""What the protocol itself is made of: a secret that is a part of it cannot be masked."""

_WORD: Final = re.compile("[A-Za-z0-9]+")


class Masks:
    """The secrets of one session, and how they are found in a body."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        """Secrets shorter than `SHORTEST` are not hidden."""
        wanted = sorted({each for each in secrets if len(each) >= SHORTEST}, key=len, reverse=True)
        self._cores = [core for each in wanted for core in _cores(each)]
        """The longest word of each secret, and all its words in lower case."""
        self._narrow = [(core, words) for core, words in self._cores if b"\x00" not in core]
        self._always = any(not _WORD.search(each) for each in wanted)
        self._wanted = wanted
        self._made: dict[bool, re.Pattern[bytes]] = {}
        self.longest = max((_longest(each) for each in wanted), default=0)
        """Bytes that the longest spelling of a secret takes."""

    def __bool__(self) -> bool:
        """True if there is anything to hide."""
        return self.longest > 0

    def apply(self, body: bytes) -> bytes:
        """Return `body` with every secret masked."""
        return self.ready(body, 0, final=True)[0] if self._may_hold(body) else body

    def ready(self, body: bytes, begin: int, *, final: bool) -> tuple[bytes, int]:
        """Return `body` from `begin` on, masked as far as it can be, and where that ends.

        Before the end of everything its last bytes are left: a secret may begin in them.
        """
        end = len(body) if final else max(begin, len(body) - self.longest + 1)
        if not self._may_hold(body):
            return body[begin:end], end
        parts, at = [], begin
        is_wide = b"\x00" in body  # as every secret in UTF-16 has it
        for found in self._patterns(wide=is_wide).finditer(body, begin):
            if found.start() >= end:
                break
            parts += [body[at : found.start()], _mask_for(found)]
            at = found.end()
        end = max(end, at)
        return b"".join([*parts, body[at:end]]), end

    def _patterns(self, *, wide: bool) -> re.Pattern[bytes]:
        """Return a pattern of every secret, also in UTF-16; made when first needed."""
        if wide not in self._made:
            widths = (False, True) if wide else (False,)
            forms = [(_pattern(each, wide=form), form) for each in self._wanted for form in widths]
            self._made[wide] = re.compile(
                b"|".join(b"(%s)" % form if is_wide else form for form, is_wide in forms),
                re.IGNORECASE,
            )
        return self._made[wide]

    def _may_hold(self, body: bytes) -> bool:
        """Return quickly whether a secret could be in `body`; nearly no body has one."""
        if self._always:
            return True
        find = body.find  # in every answer; `in` would raise and catch an error inside
        for core, words in self._narrow if find(b"\x00") < 0 else self._cores:
            if find(core) >= 0:  # one word may be another's as well: of a GUID that ends alike
                lower = body.lower()
                if all(word in lower for word in words):
                    return True
        return False


def bodies_may_hide(secret: str) -> bool:
    """Return whether a secret can be masked in answers that are read, not only in errors."""
    return secret.casefold() not in PROTOCOL


class AnswerMasks:
    """The secrets of one transport, as its bodies and its errors are rid of them."""

    def __init__(self, secrets: Iterable[str], asked_for: Iterable[str] = ()) -> None:
        """`asked_for` are left in what lists logon sessions."""
        self.in_errors = Masks({*secrets, *asked_for})
        here = {secret for secret in secrets if bodies_may_hide(secret)}
        self._in_bodies = Masks({*here, *asked_for})
        self._in_sessions = Masks(here)

    def of(self, *, shows_sessions: bool) -> Masks:
        """Return what is hidden in an answer that is read."""
        return self._in_sessions if shows_sessions else self._in_bodies


class Masked(Generic[T]):
    """A reading that never sees a secret; implements `Reading`."""

    def __init__(self, reading: Reading[T], masks: Masks) -> None:
        """`reading` gets the masked body."""
        self._reading = reading
        self._masks = masks
        self._rest = b""
        self._begin = 0
        """Where in `_rest` begins what was not handed over; the byte before it is kept."""

    def feed(self, chunk: bytes) -> None:
        """Take some bytes; the last few are kept back until more come, or the end."""
        self._hand_over(self._rest + chunk, final=False)

    def close(self) -> T:
        """Return the result of the reading."""
        self._hand_over(self._rest, final=True)
        return self._reading.close()

    def whole(self, body: bytes) -> T:
        """Take the whole body: nothing is kept back, and the reading sees it once."""
        return self._reading.whole(self._masks.apply(body))

    def _hand_over(self, body: bytes, *, final: bool) -> None:
        ready, end = self._masks.ready(body, self._begin, final=final)
        if ready:
            self._reading.feed(ready)
        kept = max(0, end - 1)
        self._rest, self._begin = body[kept:], end - kept


def _mask_for(found: re.Match[bytes]) -> bytes:
    """Return the mask, of an odd number of bytes in UTF-16, where the secret is odd as well."""
    return b"\x00".join(bytes([char]) for char in MASK) if found.lastindex else MASK


def _cores(secret: str) -> Iterable[tuple[bytes, Sequence[bytes]]]:
    """Yield the bytes that every spelling of the secret holds: no escape touches a word.

    They are the longest word as it is, and all words in lower case.
    """
    words = _WORD.findall(secret)
    core = max(words, key=len, default="")
    either = GUID.fullmatch(secret) is not None  # a server may write its capitals as it likes
    for text in {core, *((core.lower(), core.upper()) if either else ())} if core else ():
        yield text.encode(), [word.lower().encode() for word in words]
        yield _wide(text), [_wide(word.lower()) for word in words]


def _wide(word: str) -> bytes:
    """Return a word of ASCII as it is in UTF-16, without its outer zero."""
    return word.encode("utf-16-le")[:-1]


def _pattern(secret: str, *, wide: bool) -> bytes:
    """Return a pattern of every spelling of `secret`; `wide`: in UTF-16, without its outer zero."""
    whole = _joined((_spellings(char, wide=wide) for char in secret), wide=wide)
    if len(secret) < WEAK and not wide:
        return rb"(?<![A-Za-z0-9])" + whole + rb"(?![A-Za-z0-9])"
    return whole


def _joined(parts: Iterable[bytes], *, wide: bool) -> bytes:
    return (rb"\x00" if wide else b"").join(parts)


@lru_cache(maxsize=1024)
def _spellings(char: str, *, wide: bool) -> bytes:
    """Return a pattern of one character of a secret, as it is or escaped."""
    if char.isascii() and char.isalnum():
        return char.encode()
    plain = char.encode("latin-1" if wide and ord(char) < 256 else "utf-8")
    spelled = [plain, *_escapes(char)]
    if wide:
        found = [b"\\x00".join(re.escape(bytes([byte])) for byte in each) for each in spelled]
    else:
        found = [re.escape(each) for each in spelled]
    return b"(?:" + b"|".join(found) + b")"


@lru_cache(maxsize=1024)
def _escapes(char: str) -> tuple[bytes, ...]:
    """Return how XML, JSON and an address write one character, in any case of its letters."""
    code = ord(char)
    percent = "".join(f"%{byte:02x}" for byte in char.encode())
    units = char.encode("utf-16-be")
    unicode = "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
    forms = [f"&#{code};", f"&#x{code:x};", percent, unicode, f"\\{char}"]
    if code in codepoint2name:
        forms.append(f"&{codepoint2name[code]};")
    return tuple(form.encode() for form in (*forms, "&apos;" if char == "'" else forms[0]))


def _longest(secret: str) -> int:
    """Return the bytes of the longest spelling, which is one in UTF-16."""
    return 2 * sum(map(_length, secret)) + 1


@lru_cache(maxsize=1024)
def _length(char: str) -> int:
    """Return the bytes of the longest spelling of one character, but in UTF-16."""
    if char.isascii() and char.isalnum():
        return 1
    return max(len(each) for each in _escapes(char))
