"""Whether the mounts of a session are accounted for, if it is lost before its closing audit.

A server may forget a session, or deny it for a while. What was mounted there by a request that
a proxy sent twice, or that the service carried out and refused, is nobody's then. It is known
that there is none only if all the session's tasks were read in one list after its last mount
request was answered, and each belonged to a target: by its answer, by its link, or because nothing
else can have begun it (`adopted`). Another session shows nothing of it.
Source: reference 2.4, 5.5 and 6.
"""

from __future__ import annotations

import math

from orchestrator.core.model import SessionId
from orchestrator.engine.adopted import is_any_unproven
from orchestrator.engine.connection import Connection
from orchestrator.engine.ledger import Ledger

ACCOUNT_AFTER = 30.0
"""Idle seconds after which a session's tasks are read, once, for the case that it is lost."""


def last_asked(ledger: Ledger, session: SessionId) -> float:
    """Return when a mount was last asked for in a session; minus infinity if none ever was."""
    return max(
        (
            attempt.submitted_at
            for record in ledger.records
            for attempt in record.attempts
            if attempt.session == session
        ),
        default=-math.inf,
    )


def owes_account(connection: Connection, ledger: Ledger) -> bool:
    """Return whether a list of the session's tasks would say more than what is known by now.

    Nothing may be asked for meanwhile, or in doubt: what comes of it is not shown yet.
    """
    if _is_asking(connection) or connection.watcher.in_flight:
        return False
    asked_at = last_asked(ledger, connection.session.id)
    return asked_at > -math.inf and asked_at >= connection.read_at


async def take_account(connection: Connection, ledger: Ledger) -> None:
    """Read all tasks of a session, in one request, and note whether each is a target's.

    Of those that the list does not prove to be, each is read alone.

    Raises:
        EnterpriseManagerError: as for any request.
    """
    began, asking = ledger.now(), _is_asking(connection)
    tasks = await connection.session.tasks()
    if asking:
        return
    unread = connection.session.unread_tasks
    nobodys = any(connection.is_nobodys(task) for task in tasks)
    unproven = await is_any_unproven(ledger, connection.session, tasks)
    connection.read_at = began
    connection.accounted = not (unread or nobodys or unproven)


def is_accounted(connection: Connection, ledger: Ledger) -> bool:
    """Return whether it is known, without asking, that nothing is open in a session."""
    session = connection.session.id
    if may_hold(ledger, session) or connection.strays:
        return False
    if connection.audited:
        return True
    return connection.accounted and last_asked(ledger, session) < connection.read_at


def may_hold(ledger: Ledger, session: SessionId) -> bool:
    """Return whether a target may have a mount open in a session, from its request on."""
    return any(
        record.may_be_open
        for record in ledger.records
        if record.attempts and record.attempts[-1].session == session
    )


def _is_asking(connection: Connection) -> bool:
    return connection.posting.locked() or bool(connection.doubts)
