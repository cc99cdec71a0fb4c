"""Making the checks of a target on its mounted guest: each assertion becomes an event."""

from __future__ import annotations

from orchestrator.engine.guest import Guest


async def examine(guest: Guest) -> None:
    """Make every check that the target asks for, and record each outcome.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    _ = guest
