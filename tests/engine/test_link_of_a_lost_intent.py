"""The mount of a task whose link names a point that by the records nobody requested."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.core.errors import NotFound, RequestRefused
from orchestrator.core.model import Href, MountLink, RestorePointId
from orchestrator.engine.mount.recover import mount_named_by

pytestmark = pytest.mark.anyio

LINK = MountLink(href=Href("/api/backup/p/mounts/1"), point=RestorePointId("p"), number="1")


async def found(answers: dict[str, Exception]) -> Href | None:
    """Look for the mount; each family answers with its error, or shows it."""

    async def mount(address: str) -> None:
        error = answers.get(address.split("/")[2])
        if error is not None:
            raise error

    async def persistently(_: object, ask: Any) -> None:
        await ask()

    session = SimpleNamespace(
        mount=mount,
        mount_href=lambda point, source, number: Href(f"/api/{source}/{point}/mounts/{number}"),
    )
    connection: Any = SimpleNamespace(session=session)
    server: Any = SimpleNamespace(persistently=persistently)
    return await mount_named_by(connection, server, LINK)


async def test_it_is_looked_for_in_every_family() -> None:
    """Whatever the family of the link itself answers."""
    assert await found({}) == LINK.href
    for wrong in (NotFound("404"), RequestRefused("500")):
        assert await found({"backup": wrong}) not in {None, LINK.href}


async def test_what_the_server_does_not_say_is_not_called_absent() -> None:
    """Only a server that has it nowhere has said that it is gone."""
    gone: dict[str, Exception] = {name: NotFound("404") for name in ("backup", "replica", "agent")}
    assert await found(gone) is None
    with pytest.raises(RequestRefused, match="500"):
        await found({**gone, "replica": RequestRefused("500")})
