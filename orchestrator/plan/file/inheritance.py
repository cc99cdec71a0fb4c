"""Settings that a target inherits from its wave, and a wave from `defaults`."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import fields, replace

from orchestrator.core.model import (
    AttemptPolicy,
    Conflict,
    OsKind,
    OsSource,
    PhaseTimeouts,
    ServerName,
    Source,
)
from orchestrator.core.text import plan_duration
from orchestrator.plan.file.check_sets import (
    NOTHING_ASKED,
    CheckSetNames,
    DeclaredSets,
    inherit_asked,
)
from orchestrator.plan.file.document import Block
from orchestrator.plan.file.os_choice import OsChoice
from orchestrator.plan.file.points import point_policy
from orchestrator.plan.file.problems import Problems, did_you_mean
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.reading import unread_keys
from orchestrator.plan.file.schema import OverridableFile
from orchestrator.plan.file.section import Section
from orchestrator.plan.file.servers import Servers
from orchestrator.plan.file.settings import Entry, PointPolicy

T = TypeVar("T")
_OF_ENTRIES: dict[str, Any] = {field.name: field.default for field in fields(Entry)}


class TargetDefaults(Struct, frozen=True, kw_only=True):
    """What holds for a target that says nothing itself. `server` is None where none is known."""

    server: ServerName | None = None
    os_kind: OsKind = _OF_ENTRIES["os_kind"]
    os_source: OsSource = _OF_ENTRIES["os_source"]
    volumes: tuple[tuple[str, str], ...] = ()
    source: Source = _OF_ENTRIES["source"]
    point: PointPolicy = _OF_ENTRIES["point"]
    timeouts: PhaseTimeouts = _OF_ENTRIES["timeouts"]
    retries: AttemptPolicy = _OF_ENTRIES["retries"]
    conflict: Conflict = _OF_ENTRIES["conflict"]
    asked: CheckSetNames = NOTHING_ASKED

    @property
    def os(self) -> OsChoice:
        """The system of its guests, as far as the plan says."""
        return OsChoice(self.os_kind, self.os_source)


def inherit(
    above: TargetDefaults,
    section: OverridableFile,
    node: Block,
    servers: Servers,
    declared: DeclaredSets,
    problems: Problems,
    *,
    one_point: bool = False,
) -> TargetDefaults:
    """Return `above` with what `section` says instead; wrong values go to `problems`.

    A point or a list of checks replaces the inherited one as a whole, timeouts, retries and drive
    letters are merged key by key. `one_point` says that a policy may name a single restore point
    here.
    """
    if not section.given & _OVERRIDABLE:
        return above
    server, point = above.server, above.point
    if section.server is not None:
        server = ServerName(section.server)
        if server not in servers.names:
            advice = did_you_mean(server, servers.names, noun="servers")
            problems.add(node["server"].position, f"there is no server {shown(server)}: {advice}")
    if section.point is not None:
        own = point_policy(section.point, node["point"], problems, one_point=one_point)
        point = own or point
    retries = merge(above.retries, section.retries)
    unread = unread_keys(section.retries, node.get("retries"))
    if retries.delay > retries.max_delay and not unread & {"delay", "max_delay"}:
        problems.add(
            node["retries"].position,
            f"delay ({plan_duration(retries.delay)}) is longer than "
            f"max_delay ({plan_duration(retries.max_delay)}): raise max_delay",
        )
        retries = above.retries
    conflict = section.conflict or above.conflict
    if conflict is not Conflict.WAIT and section.timeouts and section.timeouts.busy is not None:
        problems.add(
            node["timeouts"].position,
            f"'busy' is how long a target waits, and 'conflict' is {conflict} here: remove "
            "'busy', or write 'conflict: wait'",
        )
    os = section.os or above.os
    return TargetDefaults(
        server=server,
        os_kind=os.kind,
        os_source=os.source,
        volumes=_volumes(above.volumes, section, node, os, problems),
        source=section.source or above.source,
        point=point,
        timeouts=merge(above.timeouts, section.timeouts),
        retries=retries,
        conflict=conflict,
        asked=inherit_asked(above.asked, section, node, declared, problems),
    )


def _volumes(
    above: tuple[tuple[str, str], ...],
    section: OverridableFile,
    node: Block,
    os: OsChoice,
    problems: Problems,
) -> tuple[tuple[str, str], ...]:
    """Return the drive letters `above` with those of `section`; problems are noted."""
    if section.volumes is None:
        return above
    if os.fixed is OsKind.LINUX:
        problems.add(
            node.key("volumes").position,
            "'volumes' gives drive letters, and a Linux guest has none: leave it out",
        )
    own: dict[str, str] = {}
    for key, volume in node["volumes"].fields():
        letter = key.upper()
        if not re.fullmatch("[A-Z]", letter, re.ASCII):
            alone = f" alone: {key[0]}" if re.fullmatch("[A-Za-z]:", key) else ", such as C"
            problems.add(key.position, f"{shown(key)} is no drive letter: write the letter{alone}")
        elif letter in own:
            problems.add(key.position, f"the drive letter {letter} is there twice: keep one")
        elif str(volume) in own.values():
            first = next(other for other, name in own.items() if name == str(volume))
            problems.add(
                volume.position, f"{shown(volume)} is {first} already: a volume has one letter"
            )
        elif key in section.volumes:  # else its value was reported already
            own[letter] = section.volumes[key]
    return tuple(sorted({**dict(above), **own}.items()))


_OVERRIDABLE = frozenset(OverridableFile.keys)


def merge(above: T, section: Section | None) -> T:
    """Return the settings `above` with what `section` says instead."""
    if section is None:
        return above
    return replace(above, **section.values())  # type: ignore[type-var]  # each is a struct
