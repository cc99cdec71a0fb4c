"""The mounted guest of one attempt: reading its files, each directory only once."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.engine.attempt import Attempt
from orchestrator.model import Mount


@dataclass(slots=True)
class Guest:
    """A mount whose roots were read, and what has been read of it since."""

    attempt: Attempt
    mount: Mount
