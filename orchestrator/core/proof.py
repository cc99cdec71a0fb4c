"""What a plan demands of a mounted guest, and what was found there: values without behaviour.

A check set has a name and some checks; each assertion of a check becomes one outcome with
what was expected and what was observed. Guest paths are as the plan writes them. Sizes are
bytes, durations seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import ClassVar, Self

from msgspec import Struct, convert

CONTENT_LIMIT = 1024 * 1024
"""Bytes of a file that are downloaded to look at its content, where the plan says nothing."""


class PathCheck(Struct, frozen=True, kw_only=True):
    """One file or directory must exist, and be what the other fields say where they say it.

    `modified_within` is measured back from the restore point's creation. `sha256` is 64 lower
    case hex digits, `magic` the bytes the file must begin with, in hex; both, `contains` and
    `matches` (a regular expression) need its content: a file larger than `max_download` bytes
    is not downloaded, and the check fails and says so.
    """

    path: str
    min_size: int | None = None
    max_size: int | None = None
    modified_within: float | None = None
    owner: str | None = None
    sha256: str | None = None
    contains: str | None = None
    matches: str | None = None
    magic: str | None = None
    max_download: int = CONTENT_LIMIT
    kind: ClassVar[str] = "path"

    @property
    def needs_content(self) -> bool:
        """True if the file must be downloaded to judge it."""
        return any((self.sha256, self.contains, self.matches, self.magic))


class DirCheck(Struct, frozen=True, kw_only=True):
    """The entries of one directory, counted by name.

    `glob` chooses the entries that `min_count` and `max_count` count and of which the newest
    must be `modified_within`; `absent` are patterns that no entry may match.
    """

    dir: str
    glob: str = "*"
    min_count: int | None = None
    max_count: int | None = None
    modified_within: float | None = None
    absent: tuple[str, ...] = ()
    kind: ClassVar[str] = "dir"


class BaselineCheck(Struct, frozen=True, kw_only=True):
    """Number and total size of a directory's files, compared with the last verified run.

    Tolerances are fractions of the earlier number; without an earlier run there is nothing
    to compare, and the outcome says so.
    """

    baseline: str
    count: float = 0.1
    size: float = 0.1
    kind: ClassVar[str] = "baseline"


class ExecCheck(Struct, frozen=True, kw_only=True):
    """A program of the user's own judges the guest: exit code 0 is good, 1 bad, 2 a warning."""

    argv: tuple[str, ...]
    timeout: float = 300.0
    kind: ClassVar[str] = "exec"


Check = PathCheck | DirCheck | BaselineCheck | ExecCheck
"""Each kind has a field of its own that must be there, which tells them apart in a journal.

The guest path that a check looks at is in the field called like its kind; a program chooses.
"""


class CheckSets(dict[str, tuple[Check, ...]]):
    """The plan's checks by the name of their set."""

    @classmethod
    def read(cls, sets: Mapping[str, Iterable[Mapping[str, object]]]) -> Self:
        """Return the sets that a journal or a locked plan holds.

        Raises:
            ValidationError: a field does not fit its check.
        """
        return cls({name: tuple(map(_check, checks)) for name, checks in sets.items()})


def _check(fields: Mapping[str, object]) -> Check:
    kinds: tuple[type[Check], ...] = (PathCheck, DirCheck, BaselineCheck)
    return convert(fields, next((kind for kind in kinds if kind.kind in fields), ExecCheck))


class Measured(Struct, frozen=True, kw_only=True):
    """What a baseline compares: the files of a directory and their bytes in all."""

    files: int
    bytes: int


class Ended(Struct, frozen=True, kw_only=True):
    """How a program ended. `code` is None where it did not end by itself; `why` says then why.

    `message` is the last that it told; `complaint` the last line of its standard error.
    """

    code: int | None = None
    why: str = ""
    message: str = ""
    complaint: str = ""


class CheckOutcome(Struct, frozen=True, kw_only=True):
    """One assertion: what was expected, what was observed, and whether that is good.

    `name` is the check set's. A `warning` passes and is shown. A check that could not be
    made has not passed, and `observed` says why. Is it `undecided`, nothing speaks against the
    guest either: what the check looks at cannot be named on this mount.
    """

    name: str
    path: str
    expected: str
    observed: str
    passed: bool
    warning: bool = False
    measured: Measured | None = None
    undecided: bool = False

    @property
    def failed(self) -> bool:
        """True if it speaks against the guest."""
        return not self.passed and not self.undecided


class Download(Struct, frozen=True, kw_only=True):
    """Files to copy out of the mounted guest, or (`to` is None) back into the original one.

    `path` is a file, or a directory of which the files that match `glob` are meant, not those
    below it. `to` is an absolute path: a directory where it ends in `/` or exists. `max_size`
    bytes and `max_files` bound all files together. Existing files stay unless `overwrite`.
    """

    path: str
    to: str | None
    glob: str | None = None
    max_size: int = 1024**3
    max_files: int = 1000
    overwrite: bool = False

    @property
    def writes_into_guest(self) -> bool:
        """True if the files go to the original guest: recovery mode only."""
        return self.to is None


class Fate(StrEnum):
    """What became of one file that was to be copied."""

    SAVED = "saved"
    RESTORED = "restored"
    """Written into the original guest by the server."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """The order to write it into the guest was sent and its answer lost."""


class DownloadOutcome(Struct, frozen=True, kw_only=True):
    """One file: where it came from and went to, its bytes and SHA-256, or why it did not."""

    path: str
    to: str | None
    fate: Fate
    size: int | None = None
    sha256: str | None = None
    message: str | None = None
