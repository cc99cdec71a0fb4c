"""The sample documents, and how the tests read them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from orchestrator.em.elements import Reading

T = TypeVar("T")

SAMPLES = Path(__file__).with_name("samples")
NAMESPACE = "http://www.veeam.com/ent/v1.0"
POINT = "a3d81f04-7c92-4e5b-8d60-1b2f9c6e7a35"
OLDER = "f7b20c6e-9a14-4d83-b5c7-60e8d13a2f9b"
BACKUP_POINT = "c60e92d7-18ab-4f35-a7d4-5e3b90f1c268"
AGENT_POINT = "47be0d9c-5f21-4a86-b3e8-c1d6f09a7254"
MOUNT = f"/api/vmReplicaPoints/{POINT}/mounts/1"


def sample(name: str) -> bytes:
    """Return the document `name`, without `.xml`."""
    return (SAMPLES / f"{name}.xml").read_bytes()


def document(body: str, root: str = "Task", attributes: str = "") -> bytes:
    """Return `body` inside a root element in the server's namespace."""
    return f'<{root} {attributes} xmlns="{NAMESPACE}">{body}</{root}>'.encode()


def read(reading: Reading[T], data: bytes, size: int = 1 << 20) -> T:
    """Feed `data` in pieces of `size` bytes and return the value."""
    for start in range(0, len(data), size):
        reading.feed(data[start : start + size])
    return reading.close()
