"""Where a living run finds what people ask of it, and answers them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from orchestrator.core.controls import Answer, Control


class Controls(Protocol):
    """The requests to one run, in the order in which they were made."""

    def take(self) -> Iterator[Control]:
        """Yield what is asked for; each request is taken from its place first, so it comes once."""

    def answer(self, answer: Answer) -> None:
        """Tell who asked. Never raises: what is done is in the journal."""

    def is_awaited(self, control: str) -> bool:
        """Return whether whoever asked still waits for the answer to what takes its time."""

    def content_path(self, control: str) -> str:
        """Return the absolute path at which a file that is asked for is put beside its answer."""

    def drop(self, control: str) -> None:
        """Remove all that is there of a request that nobody waits for any more. Never raises."""
