"""What goes wrong in a rehearsal: a YAML list, read with the places of its mistakes.

    - {vm: sql01, newest_bad: 2}          its two newest points fail their check
    - {vm: 'web-*', fails: 1}             the next mount of each fails; or: always
    - {vm: dc01, busy: 5m}                its job is at work for 5 minutes from the first logon on
    - {server: dr, role: Portal User}     the account's role; what it sees of jobs follows from it
    - {server: dr, dead: true}            nothing answers there
    - {server: hq, faults: [{kind: drop_after, method: POST, path: '/mounts$', count: 1}]}

Without `server`, a line holds for all servers that have such a machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, get_type_hints

from msgspec import Struct, field

from orchestrator.core.errors import PlanError
from orchestrator.plan.file import scalars as kinds
from orchestrator.plan.file.document import Block, Items, NotReadable, Text, read_list
from orchestrator.plan.file.named_files import read_bytes
from orchestrator.plan.file.problems import START, Problem, Problems, SourceText, did_you_mean
from orchestrator.plan.file.quantities import count, shown
from orchestrator.plan.file.reading import keys_among, read_section
from orchestrator.plan.file.section import Section, needed, optional
from orchestrator.simulator.faults import KINDS, Fault, FaultScript
from orchestrator.simulator.manager import ROLES_THAT_SEE_POINTS
from orchestrator.simulator.process import ROLE
from orchestrator.simulator.rehearsal.planned import RehearsedServer
from orchestrator.simulator.rehearsal.stock import StockMachine

ROLES = (*sorted(ROLES_THAT_SEE_POINTS), "Restore Operator")
ALWAYS = "always"
FAILED = "Failed to mount restore point: the mount service did not answer."
DAMAGED = "Failed to mount restore point: the restore point is damaged."
WORDS = "a scenario is a list: one '- {vm: NAME, newest_bad: 1}' or the like for each mishap"


def _times(text: str) -> int | None:
    """Return how often a mount fails; None: always."""
    if text == ALWAYS:
        return None
    try:
        return count(text, least=1)
    except ValueError:
        raise ValueError(f"{shown(text)} is neither a number from 1 nor 'always'") from None


def _role(text: str) -> str:
    return kinds.word(text, {each: each for each in ROLES}, "roles")


class MachineEffect(Section):
    """What goes wrong with the machines of a name."""

    vm: kinds.Line = needed("A machine's name, or a glob.")
    server: kinds.Line | None = optional("Only on this server.")
    newest_bad: kinds.Mounts | None = optional("So many of the newest points are damaged.")
    fails: Any = optional("So many mounts fail, or 'always'.")
    busy: kinds.PositiveDuration | None = optional("How long its job is at work.")


class ServerEffect(Section):
    """What goes wrong with a server."""

    server: kinds.Line | None = optional("Only this server.")
    role: Any = optional("The role of the account.")
    dead: kinds.Truth | None = optional("true: nothing answers.")
    faults: Any = optional("Faults, as in a file of --faults.")


EFFECTS = {
    "vm": ("newest_bad", "fails", "busy"),
    "server": ("role", "dead", "faults"),
}


class ServerMishaps(Struct, kw_only=True):
    """What goes wrong with one server as a whole."""

    role: str = ROLE
    dead: bool = False
    faults: list[dict[str, Any]] = field(default_factory=list)


def apply_scenario(path: Path, servers: Sequence[RehearsedServer]) -> Mapping[str, ServerMishaps]:
    """Let go wrong what the scenario in a file says; returns what does with whole servers.

    Raises:
        PlanError: the file cannot be read or is no scenario for these servers; it holds every
            problem, and nothing is to be started.
    """
    try:
        data = read_bytes(path)
    except ValueError as exc:
        words = f"no scenario: {exc}"
        raise PlanError((Problem(file=str(path), position=START, message=words),)) from None
    problems = Problems(SourceText(str(path), data))
    mishaps: dict[str, ServerMishaps] = {each.name: ServerMishaps() for each in servers}
    try:
        for node in read_list(data, problems, WORDS):
            _Line(node, problems, servers, mishaps).apply()
    except NotReadable:
        pass
    if problems:
        raise PlanError(problems.sorted())
    return mishaps


class _Line:
    """One item of a scenario."""

    def __init__(
        self,
        node: object,
        problems: Problems,
        servers: Sequence[RehearsedServer],
        mishaps: Mapping[str, ServerMishaps],
    ) -> None:
        self._node, self._problems = node, problems
        self._servers, self._mishaps = servers, mishaps

    def apply(self) -> None:
        node = self._node
        model: type[Section] = MachineEffect
        if isinstance(node, Block) and "vm" not in node:
            model = ServerEffect
            machine_keys = [key for key, _ in node.fields() if key in EFFECTS["vm"]]
            for key in machine_keys:
                self._problems.add(key.position, f"'{key}' goes with 'vm': say which machine")
            if machine_keys:
                return
        before = len(self._problems)
        section = read_section(model, node, self._problems, noun="a mishap")
        if section is None or not isinstance(node, Block) or len(self._problems) > before:
            return
        keys = EFFECTS["vm" if model is MachineEffect else "server"]
        if not set(keys) & node.keys():
            self._problems.add(node.position, f"nothing goes wrong here: add {', '.join(keys)}")
            return
        servers = self._meant(node)
        if isinstance(section, MachineEffect):
            self._machines(section, node, servers)
        elif isinstance(section, ServerEffect):
            for server in servers:
                self._server(section, node, self._mishaps[server.name])

    def _meant(self, node: Block) -> Sequence[RehearsedServer]:
        name = node.get("server")
        if name is None:
            return self._servers
        servers = [each for each in self._servers if each.name == name]
        if not servers:
            advice = did_you_mean(name, (each.name for each in self._servers), noun="servers")
            self._problems.add(name.position, f"there is no server {shown(name)}: {advice}")
        return servers

    # --- machines --------------------------------------------------------------------------

    def _machines(
        self, effect: MachineEffect, node: Block, servers: Sequence[RehearsedServer]
    ) -> None:
        machines = [
            (server, machine)
            for server in servers
            for machine in server.stock.machines
            if fnmatchcase(machine.name.casefold(), effect.vm.casefold())
        ]
        if servers and not machines:
            names = [machine.name for server in servers for machine in server.stock.machines]
            advice = did_you_mean(effect.vm, names, noun="machines")
            self._problems.add(
                node["vm"].position, f"no machine is called {shown(effect.vm)}: {advice}"
            )
        times = self._read(node, "fails", _times) if "fails" in node else 0
        for server, machine in machines:
            if effect.newest_bad is not None:
                _damage(machine, effect.newest_bad, server.checked.get(machine.name.casefold()))
            if times is None:
                for point in machine.points:
                    point.fails = FAILED
            else:
                machine.mounts_to_fail += times
            machine.busy_s = max(machine.busy_s, effect.busy or 0.0)

    def _read(self, node: Block, key: str, read: Any) -> Any:
        """Return what a key says; 0 where that is a problem, which is noted."""
        try:
            return read(kinds.single(node[key]))
        except ValueError as exc:
            self._problems.add_new(node[key].position, str(exc))
            return 0

    # --- servers ---------------------------------------------------------------------------

    def _server(self, effect: ServerEffect, node: Block, mishaps: ServerMishaps) -> None:
        mishaps.dead = mishaps.dead or bool(effect.dead)
        if "role" in node:
            mishaps.role = self._read(node, "role", _role) or ROLE
        if "faults" in node:
            mishaps.faults += self._faults(node["faults"])

    def _faults(self, node: object) -> list[dict[str, Any]]:
        if not isinstance(node, Items):
            if isinstance(node, Text | Block):
                self._problems.add_new(node.position, "'faults' is a list of {kind: ...}")
            return []
        rows = []
        for item in node:
            keys = (
                keys_among(("kind",), item, self._problems, "") if isinstance(item, Block) else ()
            )
            if not keys:
                self._problems.add_new(item.position, "a fault is a mapping with a 'kind'")
                continue
            row = self._fault(item)
            if row is not None:
                rows.append(row)
        return rows

    def _fault(self, item: Block) -> dict[str, Any] | None:
        types = get_type_hints(Fault)
        known = [each.name for each in fields(Fault) if each.name not in {"seen", "struck"}]
        row: dict[str, Any] = {}
        before = len(self._problems)
        for key, value in item.fields():
            if key not in known:
                advice = did_you_mean(key, known, noun="keys here")
                self._problems.add_new(key.position, f"unknown key {shown(key)}: {advice}")
                continue
            try:
                row[str(key)] = _typed(kinds.single(value), types[key])
            except ValueError:
                self._problems.add_new(value.position, f"{key}: {shown(str(value))} is no number")
        if len(self._problems) > before:
            return None
        if row.get("kind") not in KINDS:
            advice = did_you_mean(item["kind"], KINDS, noun="kinds of faults")
            words = f"there is no fault {shown(str(item['kind']))}: {advice}"
            self._problems.add_new(item["kind"].position, words)
            return None
        try:
            FaultScript.from_json([row])
        except (ValueError, re.error) as exc:
            self._problems.add_new(item.position, str(exc))
            return None
        return row


def _typed(text: str, kind: object) -> object:
    if kind is float:
        return float(text)
    if kind in {int, int | None}:
        return int(text)
    return str(text)


def _damage(machine: StockMachine, newest: int, checked: Sequence[str] | None) -> None:
    """Spoil the newest points that the plan may choose: a checked file is missing there.

    Where no check names a file, mounting such a point fails.
    """
    fitting = sorted(
        (point for point in machine.points if point.fits),
        key=lambda point: point.created_at,
        reverse=True,
    )
    for point in fitting[:newest]:
        if checked:
            point.missing = list(dict.fromkeys([*point.missing, checked[0]]))
        else:
            point.fails = DAMAGED
