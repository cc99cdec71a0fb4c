"""How a test submits, works and looks, over a database."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.core.errors import DatabaseAway, RunNotFound
from orchestrator.core.lifecycle import Phase
from orchestrator.database.address import read_address
from orchestrator.database.store import DatabaseStore
from tests.processes import PATIENCE_S, Place, Servers

LOOK_S = 0.2


@dataclass(slots=True)
class Site(Place):
    """A place whose runs are in a database; see `Place`."""

    @property
    def key(self) -> Path:
        """The key for tokens."""
        return self.directory / "token.key"

    def plan(self, running: Servers, targets: int = 12, **sites: str) -> Path:
        """Write a plan whose waves do not wait for one another; `sites` are those of servers."""
        path = running.plan(self.directory, targets=targets)
        lines = [line for line in path.read_text().splitlines() if "after:" not in line]
        for name, site in sites.items():
            lines.insert(lines.index(f"  {name}:") + 1, f"    site: {site}")
        path.write_text("\n".join(lines) + "\n")
        return path

    def submit(self, plan: Path, *more: str) -> str:
        """Submit a run, and return its id."""
        done = self.call("submit", plan, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0]

    def work(
        self,
        *more: str,
        site: str = "default",
        with_key: bool = True,
        stderr: int = subprocess.DEVNULL,
    ) -> Any:
        """Start a worker."""
        key = ["--token-key", str(self.key)] if with_key else []
        return self.start("work", "--site", site, *key, *more, stderr=stderr)

    def status(self, run: str = "last") -> dict[str, Any]:
        """Return what `status --json` shows."""
        found: dict[str, Any] = json.loads(self.call("status", run, "--json").stdout)
        return found

    def shards(self, run: str = "last") -> Mapping[str, Mapping[str, Any]]:
        """Return what `status --json` shows of each server."""
        return {each["server"]: each for each in self.status(run)["shards"]}


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that must come; a look that takes long is made less often."""
    gives_up_at = (began := time.monotonic()) + PATIENCE_S
    while not is_so():
        now = time.monotonic()
        assert now < gives_up_at, "it did not come"
        time.sleep(max(LOOK_S, 2 * (now - began)))
        began = time.monotonic()


def until_running(site: Site, mounts: int) -> None:
    """Wait until so many mounts are under way: none is only about to be asked for.

    Whoever dies in between leaves a doubt, of which nobody can be sure for minutes. It is read
    here as `status` reads it: a process for each look takes more than the workers do.
    """
    assert site.address is not None
    with closing(DatabaseStore(read_address(site.address))) as store:
        until(lambda: _running(store) >= mounts)


def _running(store: DatabaseStore) -> int:
    """Return how many mounts of the last run are under way; 0 while nobody can say."""
    try:
        records = store.replay(store.find("last")).records.values()
    except (DatabaseAway, RunNotFound):
        return 0
    return sum(each.phase is Phase.RUNNING for each in records)


MOST = 10
"""Mounts that a run of such a plan may have open."""


def require_clean(running: Servers, mounts: int) -> None:
    """Check that each point was mounted once, and that nothing is left."""
    found = running.truth().mounts
    assert len(found) == mounts
    assert len({each.point for each in found}) == mounts
    assert all(each.closed_at is not None for each in found)
