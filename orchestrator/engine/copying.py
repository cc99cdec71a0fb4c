"""Copying files out of a mounted guest, or, where the plan insists, back into the original one."""

from __future__ import annotations

from orchestrator.engine.guest import Guest


async def copy_out(guest: Guest) -> None:
    """Copy every file that the target asks for, and record each outcome.

    Raises:
        SessionLost, ServerUnusable: nobody can say any more.
    """
    _ = guest
