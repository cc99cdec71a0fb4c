"""What a rehearsed server has: written by the parent process, an inventory in the child."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, convert, field

from orchestrator.simulator.files import FOLDER, GuestFile
from orchestrator.simulator.inventory import BackupServer, Inventory, Machine, Point


class StockFile(Struct, frozen=True, kw_only=True):
    """A file, or (`size` None) a directory; last changed `age_s` before its restore point."""

    size: int | None = 0
    content: bytes | None = None
    magic: bytes = b""
    owner: str | None = None
    age_s: float | None = None

    def at(self, created_at: datetime) -> GuestFile:
        """Return the file as a restore point of that time has it."""
        if self.size is None:
            return FOLDER
        changed = None if self.age_s is None else created_at - timedelta(seconds=self.age_s)
        return GuestFile(
            size=self.size,
            content=self.content,
            magic=self.magic,
            steady=True,
            owner=self.owner,
            modified_at=changed,
        )


class StockPoint(Struct, kw_only=True):
    """One restore point. `fits`: the plan may choose it. `missing` are paths that it lacks."""

    id: str
    created_at: datetime
    family: str
    fits: bool = True
    fails: str | None = None
    missing: list[str] = field(default_factory=list)


class StockMachine(Struct, kw_only=True):
    """One machine. `cleared` directories hold nothing but `files`.

    Its first `mounts_to_fail` mounts fail; its job is at work for `busy_s` seconds from the first
    logon on.
    """

    name: str
    backup_server: str
    job: str
    os: str
    mount_s: float
    roots: tuple[str, ...] | None = None
    cleared: list[str] = field(default_factory=list)
    files: dict[str, StockFile] = field(default_factory=dict)
    points: list[StockPoint] = field(default_factory=list)
    mounts_to_fail: int = 0
    busy_s: float = 0.0


class Stock(Struct, kw_only=True):
    """All machines of one server, whose guests' clocks are `guests_ahead_s` before its own."""

    machines: list[StockMachine] = field(default_factory=list)
    guests_ahead_s: float = 0.0


def inventory_of(server: str, values: Mapping[str, Any]) -> Inventory:
    """Return the inventory that the plain values of a `Stock` describe; ids follow from names."""
    stock = convert(values, Stock)
    backup_servers: dict[str, BackupServer] = {}
    machines: list[Machine] = []
    for each in stock.machines:
        behind = backup_servers.setdefault(
            each.backup_server,
            BackupServer(
                stable_id(server, "backup server", each.backup_server), each.backup_server
            ),
        )
        machine = Machine(
            name=each.name,
            backup_server=behind,
            job=each.job,
            job_id=stable_id(server, "job", each.job),
            os=each.os,
            mount_s=each.mount_s,
            roots=each.roots,
            files=dict.fromkeys(each.cleared),
            mounts_to_fail=each.mounts_to_fail,
            busy_s=each.busy_s,
        )
        machine.points = [
            _point(point, machine, each, stock.guests_ahead_s) for point in each.points
        ]
        machines.append(machine)
    return Inventory(machines)


def _point(point: StockPoint, machine: Machine, stock: StockMachine, ahead_s: float) -> Point:
    guest_time = point.created_at + timedelta(seconds=ahead_s)
    changes: dict[str, GuestFile | None] = {
        path: file.at(guest_time) for path, file in stock.files.items()
    }
    return Point(
        point.id,
        machine,
        point.created_at,
        point.family,
        fails=point.fails,
        changes=changes | dict.fromkeys(point.missing),
    )


def stable_id(*names: str) -> str:
    """Return a GUID that follows from names alone: the same in every rehearsal."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(names)))
