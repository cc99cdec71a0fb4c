"""Who watches a worker learns from it what it serves."""

from __future__ import annotations

from orchestrator.core.sites import Lease


class Onlooker:
    """Is told what a worker does, in its event loop; this one says nothing of it."""

    def entered(self) -> None:
        """The database knows the worker: it serves from now on."""

    def taken(self, lease: Lease) -> None:
        """It has begun to serve a shard."""

    def finished(self, lease: Lease) -> None:
        """Nothing of a shard is left to do."""

    def left(self, lease: Lease, mounted: int) -> None:
        """It has given a shard back, with so many mounts that may be open."""

    def handed_over(self, mounted: int) -> None:
        """It was asked to end and serves nothing more; so many mounts may be open in all."""
