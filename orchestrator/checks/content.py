"""Verdicts on the bytes of one file, read as they arrive and kept no longer than needed."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Iterator

from orchestrator.checks.outcomes import (
    SHOWN_TEXT,
    CheckSetSubject,
    Unreadable,
    made,
    not_judged,
    unread,
)
from orchestrator.core import text
from orchestrator.core.expressions import ExpressionRefused, SearchTooLong, compiled
from orchestrator.core.proof import CheckOutcome, PathCheck
from orchestrator.core.text import printable

TEXT_LIMIT = 1024 * 1024
"""Bytes at the beginning of a file that are searched."""
AT_ONCE = 4_000_000
"""Steps of a search that take a few milliseconds at most, even if every one is needed."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Content:
    """One file's bytes: fed piece by piece, then asked. Feeding never fails.

    Whatever several checks look for in the file is found in one pass. Text is UTF-8 unless
    a byte order mark says UTF-16; what is not text matches nothing.
    """

    def __init__(self, checks: Iterable[PathCheck] = (), *, keep: int = 0) -> None:
        """`checks` are all that will be judged by it; the first `keep` bytes stay at hand."""
        checks = tuple(checks)
        magics = (len(check.magic) // 2 for check in checks if check.magic)
        patterns = [check for check in checks if check.matches]
        self.size = 0
        self._digest = hashlib.sha256()
        self._keep = max([keep, *magics, *([TEXT_LIMIT] if patterns else [])])
        self._head = bytearray()
        self._texts = _Texts({check.contains for check in checks if check.contains})

    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""
        self.size += len(chunk)
        self._digest.update(chunk)
        if len(self._head) < self._keep:
            self._head += chunk[: self._keep - len(self._head)]
        self._texts.feed(chunk)

    def close(self) -> None:
        """Take note that this was all of it."""
        self._texts.close()

    @property
    def sha256(self) -> str:
        """The digest of all bytes, in lower case hex."""
        return self._digest.hexdigest()

    def begins(self, length: int) -> bytes:
        """Return the first bytes, as many as there are."""
        return bytes(self._head[:length])

    def contains(self, text: str) -> bool:
        """Tell whether the file contains a text that was looked for."""
        return text in self._texts.found

    def first_lines(self, limit: int) -> str:
        """Return the text of the first `limit` bytes, at most `TEXT_LIMIT`."""
        head = bytes(self._head[: min(limit, TEXT_LIMIT)])
        encoding, skip = encoding_of(head)
        return head[skip:].decode(encoding, errors=_errors(encoding))


def encoding_of(head: bytes) -> tuple[str, int]:
    """Return the encoding that the first bytes announce, and the length of their mark."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding, len(mark)
    return "utf-8", 0


def _errors(encoding: str) -> str:
    """Return how undecodable bytes are read: so that no text of a plan is equal to them."""
    return "surrogateescape" if encoding == "utf-8" else "replace"


class _Texts:
    """Finds texts in a stream, also across two pieces."""

    def __init__(self, wanted: set[str]) -> None:
        self.found: set[str] = set()
        self._missing = wanted
        self._longest = max((len(text) for text in wanted), default=0)
        self._begin = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._tail = ""

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        if not self._missing:
            return
        if self._decoder is None:
            chunk = self._begin + chunk
            if len(chunk) < len(codecs.BOM_UTF8) and not final:
                self._begin = chunk
                return
            encoding, skip = encoding_of(chunk)
            self._decoder = codecs.getincrementaldecoder(encoding)(errors=_errors(encoding))
            chunk = chunk[skip:]
        text = self._tail + self._decoder.decode(chunk, final)
        seen = {wanted for wanted in self._missing if wanted in text}
        self.found |= seen
        self._missing = self._missing - seen
        self._tail = text[-(self._longest - 1) :] if self._longest > 1 else ""

    def close(self) -> None:
        self.feed(b"", final=True)


# --- verdicts ---------------------------------------------------------------------------------


def judge_content(
    check: PathCheck, content: Content | Unreadable, about: CheckSetSubject
) -> list[CheckOutcome]:
    """Return one outcome for each assertion about the content of a file."""
    if isinstance(content, Content) and content.size > check.max_download:
        content = too_large(content.size, check)
    if isinstance(content, Unreadable):
        return [unread(about, check.path, each, content) for each in _expectations(check)]
    return list(_judged(check, content, about))


def takes_long(check: PathCheck, content: Content | Unreadable) -> bool:
    """Tell whether judging a file may take so long that nothing else should wait for it."""
    if isinstance(content, Unreadable) or not check.matches:
        return False
    try:
        size = min(content.size, check.max_download, TEXT_LIMIT)
        return compiled(check.matches).steps(size) > AT_ONCE
    except ExpressionRefused:
        return False


def too_large(size: int, check: PathCheck) -> Unreadable:
    """Return why a file of `size` bytes is not downloaded for `check`."""
    limit = text.plan_size(check.max_download)
    return Unreadable(f"{text.exact_size(size)}, more than the max_download of {limit}")


def _expectations(check: PathCheck) -> list[str]:
    asserted = (
        ("sha256", check.sha256 and check.sha256.lower()),
        ("magic", check.magic and check.magic.lower()),
        ("contains", check.contains and _quoted(check.contains)),
        ("matches", check.matches and _quoted(check.matches)),
    )
    return [f"{word} {shown}" for word, shown in asserted if shown]


def _judged(check: PathCheck, content: Content, about: CheckSetSubject) -> Iterator[CheckOutcome]:
    expected = iter(_expectations(check))
    if check.sha256:
        good = content.sha256 == check.sha256.lower()
        yield made(about, check.path, next(expected), content.sha256, passed=good)
    if check.magic:
        begins = content.begins(len(check.magic) // 2)
        shown = begins.hex() or "the file is empty"
        good = begins.hex() == check.magic.lower()
        yield made(about, check.path, next(expected), shown, passed=good)
    if check.contains:
        good = content.contains(check.contains)
        shown = f"{'found' if good else 'not found'} in {text.size(content.size)}"
        yield made(about, check.path, next(expected), shown, passed=good)
    if check.matches:
        yield _matched(check, check.matches, next(expected), content, about)


def _matched(
    check: PathCheck, pattern: str, expected: str, content: Content, about: CheckSetSubject
) -> CheckOutcome:
    limit = min(TEXT_LIMIT, check.max_download)
    try:
        line = compiled(pattern).line_in(content.first_lines(limit))
    except ExpressionRefused as exc:
        return not_judged(about, check.path, expected, f"the pattern {exc}")
    except SearchTooLong as exc:
        return not_judged(about, check.path, expected, str(exc))
    if line is not None:
        return made(about, check.path, expected, f"line {line}", passed=True)
    where = text.size(content.size)
    if content.size > limit:
        where = f"the first {text.size(limit)} of {where}"
    return made(about, check.path, expected, f"no line matches in {where}", passed=False)


def _quoted(text: str) -> str:
    return f"'{printable(text, SHOWN_TEXT)}'"
