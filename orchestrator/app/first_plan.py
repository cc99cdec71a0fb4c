"""`init`: a first plan from what the servers list. Reads only, with one logon for each server."""

from __future__ import annotations

import random
from collections.abc import Sequence

import anyio
from msgspec import Struct, field

from orchestrator.app.preview import answered
from orchestrator.app.wiring import World
from orchestrator.core.errors import CertificateRefused, OrchestratorError
from orchestrator.core.model import BackupServerName, ServerName, Source
from orchestrator.core.text import printable
from orchestrator.em.askable import can_be_asked
from orchestrator.em.client import Client
from orchestrator.em.session import Session
from orchestrator.engine.inventory import gather_once
from orchestrator.plan.choose.first_plan import FirstServer, first_plan
from orchestrator.plan.choose.first_waves import (
    FirstWaves,
    ListedMachines,
    Wanted,
    first_waves,
    listed_machines,
)
from orchestrator.plan.choose.inventory import InventoryNeeds
from orchestrator.plan.file.access import EnvironmentSecret
from orchestrator.plan.file.naming import names_like
from orchestrator.plan.file.problems import did_you_mean
from orchestrator.plan.file.selectors import SelectorKind

_NO_POINT = "it lists no restore point, or not to this account"
_NONE_WANTED = "none of its machines is wanted"
EVERYTHING = BackupServerName("")
"""All points of a family, whichever backup server they are behind."""


class FirstPlan(Struct, frozen=True, kw_only=True):
    """A plan file's text, and what there is to say about it."""

    text: str
    waves: FirstWaves
    notes: Sequence[str] = ()


class NoFirstPlan(OrchestratorError):
    """No plan can be made; `lines` say why, one for each server or name."""

    def __init__(self, lines: Sequence[str], *, is_mistyped: bool) -> None:
        """`is_mistyped` is true where the command line names what no server lists."""
        super().__init__("\n".join(lines))
        self.is_mistyped = is_mistyped


class _Answers(Struct):
    """What was asked of the servers, and what went wrong."""

    listed: dict[ServerName, ListedMachines] = field(default_factory=dict)
    failed: dict[ServerName, str] = field(default_factory=dict)
    notes: dict[ServerName, str] = field(default_factory=dict)


async def make_first_plan(
    servers: Sequence[FirstServer],
    wanted: Wanted,
    *,
    source: Source | None = None,
    world: World | None = None,
) -> FirstPlan:
    """Ask all servers at once and return the plan. Changes nothing anywhere.

    Without `source` a server's replicas are taken, or its backups where it lists no replica.

    Raises:
        NoFirstPlan: a server cannot be asked, nothing is listed, or no name fits a glob.
    """
    world = world or World()
    answers = _Answers()
    async with anyio.create_task_group() as tasks:
        for server in servers:
            tasks.start_soon(_ask, server, source, world, answers)
    names = [server.settings.name for server in servers]
    if answers.failed:
        lines = [answers.failed[name] for name in names if name in answers.failed]
        raise NoFirstPlan(lines, is_mistyped=False)
    listed = [answers.listed[name] for name in names if answers.listed[name].machines]
    if not listed:
        lines = [f"{name}: {_NO_POINT}" for name in names]
        raise NoFirstPlan(lines, is_mistyped=False)
    unknown = _unknown(wanted, listed)
    if unknown:
        raise NoFirstPlan(unknown, is_mistyped=True)
    waves = first_waves(listed, wanted, _askable)
    in_plan = {wave.server for wave in waves.waves}
    if not in_plan:
        lines = ["no machine is left", *waves.left_out[:20]]
        raise NoFirstPlan(lines, is_mistyped=bool(wanted.jobs or wanted.machines))
    notes = [f"{name}: {answers.notes[name]}" for name in names if name in answers.notes]
    for name in names:
        if name not in in_plan:
            listed_any = bool(answers.listed[name].machines)
            notes.append(f"{name}: left out: {_NONE_WANTED if listed_any else _NO_POINT}")
    chosen = [server for server in servers if server.settings.name in in_plan]
    return FirstPlan(text=first_plan(chosen, waves), waves=waves, notes=notes)


async def _ask(server: FirstServer, source: Source | None, world: World, answers: _Answers) -> None:
    """Ask one server, and keep of its points only which machines there are."""
    settings = server.settings
    password = settings.password
    client = Client(
        settings,
        families=() if source is None else (source,),
        rng=random.Random(world.rng.random()),  # noqa: S311 - jitter, not a secret
        connector=world.connector,
        wall_clock=world.wall_clock,
        boot_clock=world.clock_with_suspension,
        withheld=frozenset([password.name] if isinstance(password, EnvironmentSecret) else []),
    )

    async def ask(session: Session) -> ListedMachines:
        refusals: list[str] = []
        for family in [source] if source is not None else [Source.REPLICA, Source.BACKUP]:
            needs = InventoryNeeds(listings={family: (EVERYTHING,)})
            listing = await gather_once(session, needs)
            refusals += listing.refused.values()
            if listing.unread is not None:
                answers.notes[settings.name] = listing.unread
            if listing.points:
                return listed_machines(settings.name, family, listing.points)
        if refusals:
            raise NoFirstPlan(refusals[:1], is_mistyped=False)
        return listed_machines(settings.name, source or Source.REPLICA, ())

    try:
        answers.listed[settings.name] = await answered(client, ask)
    except OrchestratorError as exc:
        words = str(exc)
        if isinstance(exc, CertificateRefused):
            words += "; here that is --ca-file or --fingerprint"
        named = words if words.startswith(settings.name) else f"{settings.name}: {words}"
        answers.failed[settings.name] = named


def _askable(source: Source, kind: SelectorKind, value: str) -> bool:
    return can_be_asked(source, value, of_job=kind is SelectorKind.JOB)


def _unknown(wanted: Wanted, listed: Sequence[ListedMachines]) -> list[str]:
    """Return a line for each glob that fits no name of any server, with the nearest name."""
    jobs = frozenset().union(*(each.jobs for each in listed))
    machines = frozenset().union(*(each.names for each in listed))
    lines = []
    for option, globs, names, noun in (
        ("--job", wanted.jobs, jobs, "jobs"),
        ("--match", wanted.machines, machines, "machines"),
    ):
        for glob in globs:
            if not names_like(glob, names):
                advice = did_you_mean(glob, sorted(names), noun=noun)
                lines.append(f"{option} {printable(glob)!r} fits no name: {printable(advice, 600)}")
    return lines
