"""Chance and staleness: which machines a sample takes, which point `random` means.

Nothing here is drawn in an order: every candidate has a lot of its own that follows from the
seed, the entry and the candidate's name, and the smallest lots win. So a server that answers
late, a resume and a second run with the same seed choose the same, and a new machine changes
no more than it must.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeVar

from msgspec import Struct

from orchestrator.core.model import BackupServerName, ServerName
from orchestrator.core.ports.journal import Proofs, Systems
from orchestrator.plan.file.settings import Entry, RestorePlan, Sample, SampleOrder

T = TypeVar("T")
NEVER = datetime.min.replace(tzinfo=UTC)

LARGEST_SEED = 1_000_000_000
"""Seeds are drawn below this, so that each can be repeated with --seed or written in a plan."""


class Draw(Struct, frozen=True, kw_only=True):
    """What choices among equals rest on: the run's seed and what earlier runs have shown.

    Without `proofs` nothing was ever proven, without `systems` the system of no machine is known.
    `sampling` is False where the targets are named already, as when failed ones are retried: a
    new sample might not have them.
    """

    seed: int = 0
    proofs: Proofs | None = None
    systems: Systems | None = None
    sampling: bool = True


def seed_of(plan: RestorePlan, chosen: int | None, rng: random.Random) -> int:
    """Return the seed of a run: the one chosen, else drawn where the plan leaves a choice to it.

    0 where nothing depends on it.
    """
    if not plan.draws:
        return 0
    return chosen if chosen is not None else rng.randrange(1, LARGEST_SEED)


def lot(seed: int, *parts: str) -> bytes:
    """Return the lot of what `parts` name: as good as random, always the same."""
    text = "\0".join((str(seed), *parts))
    return sha256(text.encode("utf-8", errors="surrogatepass")).digest()


class SampleTaken(Struct, frozen=True, kw_only=True):
    """What a sample took of `of` machines, and how, in words."""

    chosen: int
    of: int
    how: str


def draw_sample(
    machines: Sequence[T],
    sample: Sample,
    draw: Draw,
    *,
    place: str,
    name: Callable[[T], tuple[ServerName, str, BackupServerName | None]],
) -> tuple[list[T], SampleTaken]:
    """Return the machines that a sample takes, in the order they were in.

    `place` tells one sample of the plan from the others; `name` tells what a machine is
    called.
    """
    seed = draw.seed if sample.seed is None else sample.seed

    def random_first(machine: T) -> bytes:
        server, vm, behind = name(machine)
        return lot(seed, place, server, vm, behind or "")

    def stalest_first(machine: T) -> tuple[datetime, str, str]:
        server, vm, behind = name(machine)
        proven = draw.proofs.last(server, vm, behind) if draw.proofs is not None else None
        return proven or NEVER, vm, behind or ""

    if sample.order is SampleOrder.STALEST:
        ranked = sorted(machines, key=stalest_first)
        how = "stalest first"
    else:
        ranked = sorted(machines, key=random_first)
        how = f"random, seed {seed}"
    chosen = {id(machine) for machine in ranked[: sample.count]}
    taken = [machine for machine in machines if id(machine) in chosen]
    return taken, SampleTaken(chosen=len(taken), of=len(machines), how=how)


def entry_place(entry: Entry) -> str:
    """Return what tells an entry from the others of its plan, for its lots.

    Not its line in the plan: a comment above it must not change what is drawn.
    """
    names = (entry.wave, entry.server, entry.source, entry.kind, entry.value)
    return "\0".join((*names, entry.backup_server or ""))


def rows_left_out(plan: RestorePlan, draw: Draw) -> tuple[frozenset[int], tuple[str, ...]]:
    """Return the `id()`s of the entries that a sample over a file's rows leaves out, and notes.

    A file's rows are known before any server is asked, and all of them take part.
    """
    groups: dict[int, list[Entry]] = {}
    for entry in plan.entries() if draw.sampling else ():
        if entry.of_file and entry.sample is not None:
            groups.setdefault(id(entry.sample), []).append(entry)
    left_out: set[int] = set()
    notes = []
    for rows in groups.values():
        sample = rows[0].sample
        if sample is not None:
            chosen, taken = draw_sample(
                rows,
                sample,
                draw,
                place=f"{rows[0].wave}\0{sample.subject}",
                name=lambda row: (row.server, row.value, row.backup_server),
            )
            left_out.update({id(row) for row in rows} - {id(row) for row in chosen})
            notes.append(sample_note(sample, taken))
    return frozenset(left_out), tuple(notes)


def sample_note(sample: Sample, taken: SampleTaken) -> str:
    """Return a sentence about what a sample took."""
    return (
        f"{sample.place}: {sample.subject}: a sample of {taken.chosen} of {taken.of} machines "
        f"({taken.how})"
    )
