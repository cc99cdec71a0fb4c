"""What a person asks of a living run with `ctl` or `browse`: the request, and its answer."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from orchestrator.core.model import BackupServerName, ServerName
from orchestrator.core.text import printable


class Verb(StrEnum):
    """What `ctl` can ask for."""

    PAUSE = "pause"
    CONTINUE = "continue"
    LIMITS = "limits"
    SKIP = "skip"
    APPROVE = "approve"
    RETRY = "retry"


class Look(StrEnum):
    """What `browse` asks for: to see a held guest's files. It changes nothing about the run."""

    BROWSE = "browse"
    GET = "get"


LOOKS = frozenset(Look)
"""The verbs that steer nothing."""


class Control(Struct, frozen=True, kw_only=True):
    """One request to a living run. `id` is its own; `words` are what the verb is about."""

    id: str
    verb: str
    words: tuple[str, ...] = ()
    user: str = ""
    host: str = ""
    reason: str | None = None
    beyond_plan: bool = False
    """Whether limits may be set above those of the plan."""
    reject: bool = False
    """Whether an answer to a gate is no."""

    @property
    def who(self) -> str:
        """The person, and the machine that the request came from."""
        return f"{self.user or 'somebody'} on {self.host or 'an unknown machine'}"


class SeenEntry(Struct, frozen=True, kw_only=True):
    """A file or directory of a held guest. `size` in bytes, None where it is not told."""

    name: str
    is_directory: bool
    size: int | None = None
    modified_at: datetime | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """What came of a request. `refused` says why nothing was changed; None: it is done.

    `entries` answer `browse`. `size` in bytes and `sha256` in hex are of the file that `get`
    asked for; its bytes lie beside the answer. `is_not_saved`: the guest's file can be read, and
    the run's machine cannot keep it.
    """

    id: str
    refused: str | None = None
    entries: tuple[SeenEntry, ...] = ()
    size: int | None = None
    sha256: str | None = None
    is_not_saved: bool = False


class LimitChange(Struct, frozen=True, kw_only=True):
    """A new limit of open mounts: of the run, of a server, or of a backup server behind it."""

    mounts: int
    server: ServerName | None = None
    backup_server: BackupServerName | None = None


LIMIT_FORM = "run.mounts=10, hq.mounts=2 or hq/vbr-01.mounts=1"
"""How limits are written, by example."""

RUN = "run"
"""What the limit of the whole run is called."""


def limit_change(word: str) -> LimitChange:
    """Return the change that `NAME.mounts=N` asks for.

    Raises:
        ValueError: it is not of that form; the text says what is, and names no terminal codes.
    """
    name, sign, number = word.rpartition("=")
    scope, dot, unit = name.rpartition(".")
    if not (sign and dot and scope) or unit != "mounts":
        raise ValueError(f"'{printable(word)}' is not a limit: write {LIMIT_FORM}")
    if not (number.isascii() and number.isdigit() and len(number) <= 6 and int(number) > 0):
        raise ValueError(
            f"'{printable(word)}': the number of mounts is 1 or more (to begin none: pause), as in "
            f"{LIMIT_FORM}"
        )
    if scope == RUN:
        return LimitChange(mounts=int(number))
    server, slash, backup = scope.partition("/")
    if not server or (slash and not backup):
        raise ValueError(f"'{printable(word)}' is not a limit: write {LIMIT_FORM}")
    return LimitChange(
        mounts=int(number),
        server=ServerName(server),
        backup_server=BackupServerName(backup) if slash else None,
    )


def control_words(control: Control) -> str:
    """Return a request in words, without who made it: `limits run.mounts=4: less load`."""
    said = [control.verb, *control.words]
    said += ["--beyond-plan"] if control.beyond_plan else []
    said += ["--reject"] if control.reject else []
    return " ".join(said) + (f": {control.reason}" if control.reason else "")
