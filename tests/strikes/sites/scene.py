"""The scene of one strike: a database, simulated servers, and workers of one site."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, LiteralString

from orchestrator.database.private_server import PrivateServer
from orchestrator.simulator.process import Settings
from tests.cli.sites.site import Site
from tests.database.owner import Owner
from tests.database.proxy import Proxy, beside, proxied
from tests.database.template import database_of
from tests.processes import PASSWORD, Servers, kill, served
from tests.strikes.sites.witness import Witness

NAMES = ("hq", "dr")
TARGETS = 24
MOUNT_S = (2.0, 5.0)
"""How long a mount takes."""
SECOND_OF_THREE = "  - name: rest\n    after: [applications]\n    targets:\n"
"""Where the plan's third wave begins; without it, its targets are of the second."""

LOOK_S = 0.02
OVERDUE_S = 120.0
"""What takes longer to come hangs."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, and its own path to the database if it has one."""

    process: subprocess.Popen[str]
    path: Proxy | None

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid


@dataclass(slots=True)
class Scene:
    """Where a strike takes place."""

    site: Site
    server: PrivateServer
    url: str
    """Address of the database for its owner."""
    servers: Servers
    witness: Witness
    exits: ExitStack

    def work(self, of_site: str = "default", *, own_path: bool = False) -> Worker:
        """Start a worker, perhaps on a path of its own; return once it has entered."""
        known = self.one("SELECT count(*) FROM worker")
        site, path = self.site, None
        if own_path:
            site, path = self._beside()
        log = self.site.directory / f"worker-{known}.log"
        arguments = ["--site", of_site, "--token-key", str(site.key), "-v"]
        with log.open("w") as stderr:
            process = site.start("work", *arguments, stdout=subprocess.DEVNULL, stderr=stderr)
        self.exits.callback(_end, process)
        self.witness.pids.append(process.pid)
        with Owner(self.url) as owner:
            for _ in until_overdue("a worker that enters"):
                if owner.one("SELECT count(*) FROM worker") > known:
                    break
        return Worker(process, path)

    def _beside(self) -> tuple[Site, Proxy]:
        directory = Path(self.exits.enter_context(TemporaryDirectory(prefix="b-r-", dir="/tmp")))
        assert self.site.address is not None
        listening = proxied(self.server, directory, self.site.address)
        entered = self.servers.portal.wrap_async_context_manager(listening)
        proxy, _ = self.exits.enter_context(entered)
        address = beside(self.server, directory, self.site.address)
        return replace(self.site, address=address), proxy

    def submit(self) -> subprocess.Popen[str]:
        """Submit the run; return the command that follows it."""
        plan = self.servers.plan(self.site.directory, targets=TARGETS)
        text = plan.read_text()
        assert SECOND_OF_THREE in text
        plan.write_text(text.replace(SECOND_OF_THREE, ""))
        following = self.site.start("submit", plan, "--wait", stderr=subprocess.DEVNULL)
        self.exits.callback(_end, following)
        return following

    def rows(self, question: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        """Return what the database's owner finds."""
        with Owner(self.url) as owner:
            return owner.rows(question, *values)

    def one(self, question: LiteralString) -> Any:
        """Return the only value."""
        ((found,),) = self.rows(question)
        return found


def _end(process: subprocess.Popen[str]) -> None:
    """End a process that a strike which went wrong has left."""
    if process.poll() is None:
        kill(process)


def until_overdue(what: str) -> Iterator[None]:
    """Yield again and again; raise when `what` has not come for too long."""
    end = time.monotonic() + OVERDUE_S
    while time.monotonic() < end:
        yield
        time.sleep(LOOK_S)
    raise AssertionError(f"{what} was waited for in vain")


@contextmanager
def scene(server: PrivateServer, name: str, dice: random.Random) -> Iterator[Scene]:
    """Make a database called `name`, and one or two servers."""
    settings = [
        Settings(
            name=each,
            seed=dice.randrange(1 << 30),
            machines=60,
            awkward=False,
            password=PASSWORD,
            duration_range=MOUNT_S,
        )
        for each in NAMES[: dice.randint(1, len(NAMES))]
    ]
    witness = Witness()
    with (
        TemporaryDirectory(prefix="bulk-restore-strike-") as directory,
        database_of(server, name),
        served(settings, face=witness.face) as running,
        ExitStack() as exits,
    ):
        site = Site(Path(directory), address=server.url(name, "drill"))
        site.key.touch(0o600)
        site.key.write_bytes(os.urandom(32))
        yield Scene(site, server, server.url(name), running, witness, exits)
