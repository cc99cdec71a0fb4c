"""What a run waits for that only people can do: a pause, and the gates of its waves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from orchestrator.core.controls import Verb
from orchestrator.core.events import ApprovalAwaited, ControlApplied
from orchestrator.core.model import WaveName
from orchestrator.core.text import counted, printable


class Awaited(NamedTuple):
    """One thing that people are awaited for, and the command that does it."""

    short: str
    words: str
    command: str


class HeldUp:
    """Whether a person has paused the run, and which waves wait for people."""

    def __init__(self) -> None:
        """Before the first event."""
        self.gates: dict[WaveName, ApprovalAwaited] = {}
        self.paused_at: float | None = None
        """Since when it is paused, on the run's clock; None: it is not."""

    def steer(self, event: ControlApplied) -> None:
        """Take note of what a person has asked."""
        if event.verb == Verb.CONTINUE:
            self.paused_at = None
        elif event.verb == Verb.PAUSE and self.paused_at is None:
            self.paused_at = event.at

    def awaited(self, run: str, now: float, told: Callable[[float], str]) -> list[Awaited]:
        """Return what people must do; `told` gives the time of day of a second of the run.

        A gate whose time is over waits no more: the run does what the plan says then.
        """
        control = f"bulk-restore ctl {run}"
        found = []
        if self.paused_at is not None:
            since = f"PAUSED since {told(self.paused_at)}"
            found.append(Awaited("PAUSED", since, f"{control} continue"))
        for gate in self.gates.values():
            if gate.until > now:
                wave = printable(gate.wave)
                until = f"{counted(gate.approvals, 'approval')} until {told(gate.until)}"
                found.append(
                    Awaited(
                        f"WAITS for approval of wave {wave}",
                        f"wave {wave} WAITS for {until}",
                        f"{control} approve {wave} --reason TEXT",
                    )
                )
        return found
