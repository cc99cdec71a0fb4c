"""Async tests run on virtual time unless a module says that it needs the real one."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.simulator.clock import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Return the backend: asyncio on a loop whose time jumps."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}
