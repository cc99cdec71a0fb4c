"""Plans and inventories for the tests of this directory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestrator.core.model import (
    BackupServerName,
    RestorePoint,
    RestorePointId,
    ServerName,
    Source,
)
from orchestrator.plan.choose.expansion import Expansion, expand
from orchestrator.plan.choose.inventory import Inventory
from orchestrator.plan.file.loading import LoadedPlan, load_plan_text

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HQ = ServerName("hq")
DR = ServerName("dr")

HEAD = """version: 1
name: test
servers:
  hq: {url: 'https://hq.example.net:9398', username: u, password: {env: P}}
"""
DR_LINE = "  dr: {url: 'https://dr.example.net:9398', username: u, password: {env: P}}\n"


def load(
    body: str,
    *,
    two_servers: bool = False,
    base: Path = Path(),
    sets: Mapping[str, str] | None = None,
) -> LoadedPlan:
    """Return the plan of one server (or two) with `body` below it."""
    text = HEAD + (DR_LINE if two_servers else "") + body
    return load_plan_text(text.encode(), base / "plan.yaml", overrides=sets or {})


def point(
    vm: str,
    *,
    hours: float = 1,
    behind: str = "vbr-01",
    job: str = "",
    number: int | None = None,
    source: Source = Source.REPLICA,
) -> RestorePoint:
    """Return a restore point of `vm` that is `hours` old; its id follows from all of that."""
    seed = hash_of(f"{vm}/{behind}/{job}/{source}/{hours}") if number is None else number
    created = NOW - timedelta(hours=hours)
    return RestorePoint(
        id=RestorePointId(f"{seed:08x}-0000-4000-8000-000000000000"),
        name=f"{vm}@{created:%Y-%m-%d %H:%M:%S}",
        vm=vm,
        created_at=created,
        source=source,
        backup_server=BackupServerName(behind),
        job=job,
    )


def hash_of(text: str) -> int:
    """Return a number for a text that is the same in every process."""
    value = 5381
    for character in text:
        value = (value * 33 + ord(character)) % 2**32
    return value


def expanded(body: str, *points: RestorePoint, two_servers: bool = False) -> Expansion:
    """Return the expansion of a plan on server hq that listed `points`."""
    plan = load(body, two_servers=two_servers).plan
    return expand(plan, {HQ: Inventory(points)}, now=NOW)
