"""What is answered to the request that a task stops, and what is seen of the task after it."""

from __future__ import annotations

from enum import StrEnum


class StopSeen(StrEnum):
    """What was answered to the request that a task stops, or seen of the task after it."""

    ACCEPTED = "accepted"
    """The answer: taken. That says nothing of the mount."""
    REFUSED = "refused"
    """The answer: nothing was done, in the service's own words."""
    NOT_SENT = "not_sent"
    """The request did not leave; it is not sent later either."""
    LOST = "lost"
    """No answer, or none that can be believed: the request may have been carried out."""
    ENDED = "ended"
    """The task has ended by its own words."""
    VANISHED = "vanished"
    """The session does not know the task any more."""
    GOES_ON = "goes_on"
    """The task still runs, or is still shown in a state that is not its end."""


STOP_ANSWERS = frozenset({StopSeen.ACCEPTED, StopSeen.REFUSED, StopSeen.NOT_SENT, StopSeen.LOST})
"""Those of them that are about the request; the others are about the task."""
