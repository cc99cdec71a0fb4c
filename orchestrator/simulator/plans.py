"""A plan that fits a simulation: the file a newcomer starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from orchestrator.simulator.certificates import Certificate
from orchestrator.simulator.inventory import Machine
from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE, Settings

SERVER_MOUNTS = 24
RUN_MOUNTS = 60
BACKUP_SERVER_MOUNTS = 8


class ServedManagers(Protocol):
    """Simulated servers that run somewhere."""

    @property
    def settings(self) -> Sequence[Settings]:
        """What each server was started with."""

    @property
    def urls(self) -> Mapping[str, str]:
        """Address of each server by name."""

    @property
    def certificate(self) -> Certificate:
        """The certificate of all of them."""


def plan_for(
    simulation: ServedManagers,
    *,
    targets: int,
    name: str = "simulated-drill",
    server_mounts: int = SERVER_MOUNTS,
    run_mounts: int = RUN_MOUNTS,
    backup_server_mounts: int = BACKUP_SERVER_MOUNTS,
    sites: bool = False,
) -> str:
    """Return the YAML of a plan that mounts `targets` machines over all servers.

    With `sites` each server is of a site of its own, which is called as it is.

    Three waves: a few directory servers first, then the larger part, then the rest.
    """
    lines = [
        "# Made for the simulated servers that run now; their ports change with every start.",
        "version: 1",
        f"name: {name}",
        "description: A drill over simulated Enterprise Managers",
        "servers:",
    ]
    for settings in simulation.settings:
        inventory = settings.inventory()
        lines += [
            f"  {settings.name}:",
            f"    url: {simulation.urls[settings.name]}",
            f"    username: {ACCOUNT}",
            f"    password: {{env: {PASSWORD_VARIABLE}}}",
            f"    tls: {{fingerprint_sha256: ['{simulation.certificate.fingerprint_sha256}']}}",
            f"    limits: {{mounts: {server_mounts}}}",
            *([f"    site: {settings.name}"] if sites else []),
            "    backup_servers:",
        ]
        names = dict.fromkeys(machine.backup_server.name for machine in inventory.machines)
        lines += [f"      {backup}: {{mounts: {backup_server_mounts}}}" for backup in names]
    lines += [f"limits: {{mounts: {run_mounts}}}", "waves:"]
    chosen = _chosen(simulation, targets)
    first = max(1, targets // 20)
    second = max(first + 1, targets * 3 // 4)
    waves = (
        ("directory", None, chosen[:first]),
        ("applications", "directory", chosen[first:second]),
        ("rest", "applications", chosen[second:]),
    )
    for wave, after, machines in waves:
        if machines:
            lines += [f"  - name: {wave}"]
            lines += [f"    after: [{after}]"] if after else []
            lines += ["    targets:"]
            lines += [_target(server, machine) for server, machine in machines]
    return "\n".join(lines) + "\n"


def _chosen(simulation: ServedManagers, targets: int) -> list[tuple[str, Machine]]:
    """Return the machines in turn from each server, so that all of them are used."""
    per_server: list[Sequence[tuple[str, Machine]]] = [
        [(settings.name, machine) for machine in settings.inventory().machines]
        for settings in simulation.settings
    ]
    most = max(len(machines) for machines in per_server)
    turns = [
        machines[turn] for turn in range(most) for machines in per_server if turn < len(machines)
    ]
    return turns[:targets]


def _target(server: str, machine: Machine) -> str:
    name = json.dumps(machine.name, ensure_ascii=False)
    linux = ", os: linux" if machine.os == "Linux" else ""
    return f"      - {{vm: {name}, server: {server}{linux}}}"
