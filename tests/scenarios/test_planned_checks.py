"""Checks as a plan writes them, on guests as the simulator has them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.simulator.files import GuestFile
from orchestrator.simulator.inventory import Inventory
from tests.scenarios.drill import Site, drill
from tests.virtual.guests import encrypted_from

pytestmark = pytest.mark.anyio

BUILD = b"4f2c1d\n"
PLAN = r"""
checks:
  windows:
    - {path: 'C:\Windows\System32\config\SYSTEM', min_size: 1MiB, modified_within: 6h}
    - {path: 'E:\Data\build.txt', sha256: DIGEST, owner: 'lab\build'}
    - {path: 'E:\Data\build.txt', matches: '^[0-9a-f]{6}$', contains: 4f2c, magic: 34663263}
    - {dir: 'E:\Data', glob: '*.mdf', min_count: 250, max_count: 250, modified_within: 1d}
    - {dir: 'E:\Data', absent: ['*.locked', '*RECOVER*']}
    - {baseline: 'E:\Data'}
  linux:
    - {path: /etc/nginx/nginx.conf, min_size: 1KiB}
    - {dir: /var/log, glob: 'syslog.*', min_count: 120}
targets:
  - {vm: hq-app0000, checks: [windows]}
  - {vm: hq-sql0001, checks: [windows]}
  - {vm: hq-file0003, os: linux, checks: [linux]}
""".replace("DIGEST", hashlib.sha256(BUILD).hexdigest())


def prepared(inventory: Inventory) -> None:
    """Give every guest a build id, and let the newest point of one be encrypted."""
    for machine in inventory.machines:
        if machine.os == "Windows":
            machine.files["E:/Data/build.txt"] = GuestFile(content=BUILD, owner="LAB\\build")
    struck = inventory.machine("hq-sql0001")
    encrypted_from(struck, max(point.created_at for point in struck.points))


async def test_a_good_guest_is_verified_and_an_encrypted_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the plan asks for is what is judged, in the words of the plan."""
    site = Site(machines=4, change=prepared)

    done = await drill(tmp_path, monkeypatch, [site], PLAN)

    assert done.results() == {
        "hq-app0000": "verified",
        "hq-sql0001": "failed",
        "hq-file0003": "verified",
    }
    found = {each["expected"]: each for each in done.target("hq-sql0001")["checks"]}
    assert found["absent *.locked, *RECOVER*"]["observed"].startswith("252 of 252 entries: ")
    assert not found["min_count 250 of *.mdf"]["passed"]
    assert len(done.target("hq-app0000")["checks"]) == 12
