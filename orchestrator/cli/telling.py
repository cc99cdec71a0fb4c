"""What a worker says on stderr of what it serves: a line for each shard that comes or goes."""

from __future__ import annotations

import click

from orchestrator.app.sites.onlooker import Onlooker
from orchestrator.core.sites import CONDUCTOR, Lease
from orchestrator.core.text import counted, inert


class Teller(Onlooker):
    """Says what a worker does."""

    def __init__(self, serves: str) -> None:
        """`serves` is said once the worker has entered."""
        self._serves = serves

    def entered(self) -> None:
        """Say what it serves."""
        _say(self._serves)

    def taken(self, lease: Lease) -> None:
        """Say which shard was taken."""
        _say(f"{_name(lease)} taken")

    def finished(self, lease: Lease) -> None:
        """Say which shard is done."""
        _say(f"{_name(lease)} finished")

    def left(self, lease: Lease, mounted: int) -> None:
        """Say which shard was given back, and what is mounted there."""
        what = "" if lease.server == CONDUCTOR else f", {_left_open(mounted)}"
        _say(f"{_name(lease)} left to the next worker{what}")

    def handed_over(self, mounted: int) -> None:
        """Say that it ends, and what is mounted."""
        _say(f"handed over: {_left_open(mounted)}")


def _name(lease: Lease) -> str:
    server = "conductor" if lease.server == CONDUCTOR else lease.server
    return f"run {lease.run}: {server}"


def _left_open(mounted: int) -> str:
    if not mounted:
        return "nothing is known to be mounted here"
    return f"{counted(mounted, 'mount')} left open for the next worker"


def _say(text: str) -> None:
    click.echo(inert(text), err=True)
