"""A database over TLS: only the server that the address names, and in time."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from orchestrator.core.errors import DatabaseAway
from orchestrator.database import store
from orchestrator.database.address import read_address
from orchestrator.database.examination import examine
from orchestrator.database.installation import connected, init
from orchestrator.database.private_server import OWNER, PrivateServer, private_server
from orchestrator.database.store import DatabaseStore
from orchestrator.simulator.certificates import Certificate, self_signed
from tests.database.test_private_server import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.process]


@pytest.fixture(scope="module")
def certificate() -> Iterator[Certificate]:
    """Make a certificate for loopback, whose key the server may read."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        made = self_signed(Path(directory))
        if os.geteuid() == 0:
            os.chown(made.key, pwd.getpwnam("nobody").pw_uid, -1)
        yield made


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of the server."""
    return free_port()


@pytest.fixture(scope="module")
def secured(certificate: Certificate, port: int) -> Iterator[PrivateServer]:
    """Start a server that speaks TLS on loopback."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "ssl": "on",
        "ssl_cert_file": str(certificate.certificate),
        "ssl_key_file": str(certificate.key),
    }
    with private_server(settings=settings) as server:
        yield server


@pytest.fixture
def url(secured: PrivateServer, port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an address that verifies, but for its authority; its password is in a variable."""
    monkeypatch.setenv("PGPASSWORD", secured.password)
    return f"postgresql://{OWNER}@localhost:{port}/postgres?sslmode=verify-full&sslrootcert="


async def test_the_server_that_is_named_is_used_over_tls(
    url: str, certificate: Certificate
) -> None:
    """From init to check."""
    address = read_address(f"{url}{certificate.certificate}")

    await init(address)

    (server, *_) = await examine(address)
    assert isinstance(server.value, dict)
    assert server.value["encrypted"] is True


async def test_a_server_of_another_authority_is_not_talked_to(url: str, tmp_path: Path) -> None:
    """Nothing is asked, nothing is sent."""
    other = self_signed(tmp_path)

    with pytest.raises(DatabaseAway, match="certificate verify failed"):
        await connected(read_address(f"{url}{other.certificate}"))


async def test_a_certificate_for_another_name_is_refused(
    url: str, certificate: Certificate
) -> None:
    """Also on this machine."""
    wrong = url.replace("@localhost", "@db.example.net") + f"{certificate.certificate}"

    with pytest.raises(DatabaseAway, match=r"db\.example\.net"):
        await connected(read_address(f"{wrong}&hostaddr=127.0.0.1"))


async def test_a_server_that_says_nothing_is_given_up() -> None:
    """As one behind a firewall."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        silent = f"postgresql://u@127.0.0.1:{port}/d?connect_timeout=2"

        with pytest.raises(DatabaseAway):
            await connected(read_address(silent))


async def test_many_servers_that_say_nothing_are_given_up_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has its own time to answer; all of them have no more than one alone."""
    monkeypatch.setattr(store, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hosts, ports = ",".join(["127.0.0.1"] * 4), ",".join([str(port)] * 4)
        address = read_address(f"postgresql:///d?host={hosts}&port={ports}&connect_timeout=3600")

        with pytest.raises(DatabaseAway, match="did not answer within"):
            await anyio.to_thread.run_sync(DatabaseStore(address).runs)
