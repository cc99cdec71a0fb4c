"""Locked plans: an expansion frozen to a file, which `run` executes exactly.

The file holds everything but secrets (they stay references): settings, waves, and each target
with its restore point. Its hash guards against accidents and casual edits; it is no
signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from msgspec import Struct, ValidationError, convert, to_builtins
from msgspec.structs import replace

from orchestrator.core.kept import brief, read
from orchestrator.core.model import (
    MountKey,
    MountRequest,
    RestorePoint,
    UnresolvedTarget,
    same_fields,
)
from orchestrator.core.text import moment, printable_json
from orchestrator.plan.choose.expansion import Expansion
from orchestrator.plan.file.loading import (
    NO_OVERRIDES,
    LoadedPlan,
    load_plan_text,
    looks_locked,
    refusal,
)
from orchestrator.plan.file.named_files import ON_DISK, NamedFiles, read_bytes
from orchestrator.plan.file.problems import Position
from orchestrator.plan.file.settings import RestorePlan

FORMAT = "bulk-restore-locked-plan"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Files of version 1 know no seed and no other restore points than the chosen ones."""
MAX_LOCKED_BYTES = 256 * 1024 * 1024


class _Body(Struct, frozen=True, kw_only=True):
    """What the hash of a locked plan covers."""

    version: str
    created_at: datetime
    source: str
    source_sha256: str
    inventory_sha256: dict[str, str]
    plan: RestorePlan
    requests: tuple[MountRequest, ...]
    unresolved: tuple[UnresolvedTarget, ...]
    seed: int = 0


class LockedPlan(_Body, frozen=True, kw_only=True):
    """A plan with its targets fixed. `plan.waves` have no entries: the targets say it all.

    `source` and `source_sha256` name the plan file it was made from, `sha256` is the hash of
    this locked plan itself, `version` the program that wrote it, `seed` what chance was drawn
    by (0 where nothing was left to it).
    """

    path: Path
    sha256: str

    def why_gone(self, point: RestorePoint) -> str:
        """Return what to say of a locked point that its server does not list any more."""
        return (
            f"the locked restore point of {moment(point.created_at)} has gone: the server does not "
            f"list it any more (the plan was locked at {moment(self.created_at)}); lock it again"
        )


def lock(
    loaded: LoadedPlan, expansion: Expansion, *, created_at: datetime, version: str, seed: int = 0
) -> bytes:
    """Return the locked plan of an expansion, as the bytes of its file.

    `seed` is what the expansion was drawn by.

    Raises:
        ValueError: a server was not asked, or the inventory breaks what the plan expects.
    """
    if expansion.pending:
        missing = ", ".join(sorted({entry.server for entry in expansion.pending}))
        raise ValueError(f"not every server was asked: {missing}")
    if expansion.broken:
        raise ValueError(expansion.broken[0])
    waves = tuple(replace(wave, entries=()) for wave in loaded.plan.waves)
    body = {
        "version": version,
        "created_at": created_at.isoformat(),
        "source": loaded.path.name,
        "source_sha256": loaded.sha256,
        "inventory_sha256": dict(loaded.inventory_sha256),
        "plan": to_builtins(replace(loaded.plan, waves=waves)),
        "requests": to_builtins(brief(expansion.requests)),
        "unresolved": to_builtins(brief(expansion.unresolved)),
        "seed": seed,
    }
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "sha256": _hash(body),
        "locked": body,
    }
    return printable_json(json.dumps(document, ensure_ascii=False, indent=1)).encode() + b"\n"


def _hash(body: object) -> str:
    """Return the hash of the content, whatever the spacing and order of the file."""
    canonical = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode("utf-8", errors="surrogatepass")).hexdigest()


def load_any(
    path: Path, *, overrides: Mapping[str, str] = NO_OVERRIDES, only_servers: bool = False
) -> LoadedPlan | LockedPlan:
    """Return the plan or locked plan in the file at `path`, whichever it is.

    With `only_servers` a plan has no targets, and the files that they name are not read.

    Raises:
        PlanError: it is neither; or a locked plan was changed, or shall be changed by
            `overrides`.
    """
    data = content_of(path)
    return load_any_text(data, path, overrides=overrides, only_servers=only_servers)


def content_of(path: Path) -> bytes:
    """Return the bytes of a plan or locked plan.

    Raises:
        PlanError: there is no such file, or it is too large for either.
    """
    try:
        return read_bytes(path, limit=MAX_LOCKED_BYTES)
    except ValueError as exc:
        raise refusal(path, f"no plan: {exc}") from None


def load_any_text(
    data: bytes,
    path: Path,
    *,
    overrides: Mapping[str, str] = NO_OVERRIDES,
    only_servers: bool = False,
    named: NamedFiles = ON_DISK,
) -> LoadedPlan | LockedPlan:
    """Return the plan or locked plan that `data` holds, as if it had been read from `path`.

    `named` reads the files that a plan names; see `load_any`.
    """
    if not looks_locked(data):
        return load_plan_text(
            data, path, overrides=overrides, only_servers=only_servers, named=named
        )
    if overrides:
        raise refusal(path, "--set and --vars cannot change a locked plan: lock it again")
    return load_locked(data, path)


def load_locked(data: bytes, path: Path) -> LockedPlan:
    """Return the locked plan that `data` holds.

    Raises:
        PlanError: it is damaged, was changed, or was written in another format.
    """
    anew = "make a new one with 'bulk-restore plan PLAN -o FILE'"
    document = _json(data, path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise refusal(path, f"this is not a locked plan: {anew}")
    if document.get("format_version") not in READABLE_VERSIONS:
        raise refusal(path, f"written in a format this program cannot read: {anew}")
    body = document.get("locked")
    digest = _hash(body)
    if document.get("sha256") != digest:
        raise refusal(path, f"this locked plan was changed after it was made: {anew}")
    try:
        read_body = convert(body, _Body, dec_hook=read)
    except ValidationError:
        raise refusal(path, f"written by another version of this program: {anew}") from None
    return same_fields(LockedPlan, read_body, path=path, sha256=digest)


def _json(data: bytes, path: Path) -> object:
    try:
        return json.loads(data)
    except json.JSONDecodeError as exc:
        at = Position(exc.lineno, exc.colno)
        raise refusal(path, f"damaged: {exc.msg}", at) from None
    except (ValueError, RecursionError):  # not UTF-8, a number without end, nested without end
        raise refusal(path, "damaged: this is no JSON text") from None


def differences(locked: LockedPlan, expansion: Expansion) -> tuple[str, ...]:
    """Return one line for each target that is new, gone or has other restore points.

    Ordered by key; empty if running the plan now would mount what was locked.
    """
    before: dict[MountKey, MountRequest] = {request.key: request for request in locked.requests}
    after = {request.key: request for request in expansion.requests}
    reasons = {target.key: target.reason for target in expansion.unresolved}
    lines = []
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            lines.append(f"- {key}: {reasons.get(key, 'no longer selected')}")
        elif key not in before:
            lines.append(f"+ {key}: point of {moment(after[key].point.created_at)}")
        elif before[key].point.id != after[key].point.id:
            old, new = (moment(side[key].point.created_at) for side in (before, after))
            lines.append(f"~ {key}: point of {old} became the point of {new}")
        elif before[key].search != after[key].search:
            old, new = (str(len(side[key].search.candidates)) for side in (before, after))
            lines.append(f"~ {key}: other points to try: {old} became {new}")
    return tuple(lines)
