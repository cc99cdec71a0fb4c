"""What else happens on the backup servers, as a server is asked for it; nothing is changed.

Source: reference 15.1 and 15.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from urllib.parse import quote

from orchestrator.core.activity import Activity
from orchestrator.core.errors import Unreadable
from orchestrator.core.model import ServerName
from orchestrator.em.requests import SessionRequests
from orchestrator.em.wire import Codec


class Activities:
    """The part of `ports.GuestSession` that is about other people's restores and about jobs."""

    server: ServerName
    _requests: SessionRequests
    _codec: Codec

    async def restores(self, *, since: datetime | None = None) -> Sequence[Activity]:
        """Read the restores that are not over, and all that began at `since` or later.

        An old server may ignore the filter, so it is applied once more here.

        Raises:
            AccessDenied: not to this role.
            Unreadable: a row could not be read, so that it is not known what it is.
        """
        condition = "State!=Stopped"
        if since is not None:
            condition += f',CreationTime>="{_filtered(since)}"'
        found = await self._activities("RestoreSession", condition)
        return [
            each
            for each in found
            if not each.is_over or (since is not None and each.began_at >= since)
        ]

    async def replications(self) -> Sequence[Activity]:
        """Read the machines that replication jobs work on, or will in a run that has begun.

        Raises:
            AccessDenied: not to this role; a File Restore Operator may not. Source: reference 2.7.
            Unreadable: a row could not be read, so that it is not known what it is.
        """
        found = await self._activities("ReplicaTaskSession", "State!=Completed")
        return [each for each in found if not each.is_over]

    async def _activities(self, entity: str, condition: str) -> list[Activity]:
        """Read every page of one query; pages are no snapshot, so each session counts once."""
        base = (
            f"/api/query?type={entity}&format=Entities&sortDesc=CreationTime"
            f"&filter={quote(condition, safe='')}"
        )
        found: dict[str, Activity] = {}
        reading = partial(self._codec.activities, entity)
        async for page in self._requests.pages(base, reading, "sessions"):
            if page.set_aside:
                raise Unreadable(f"{self.server}: {page.set_aside[0]}", server=self.server)
            for each in page.rows:
                found.setdefault(each.id, each)
        return list(found.values())


def _filtered(at: datetime) -> str:
    """Return a time as a filter names it. Source: reference 3.2."""
    return f"{at:%Y-%m-%dT%H:%M:%S}"
