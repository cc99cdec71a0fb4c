"""Real TLS on the loopback interface: which certificate is taken, and what is sent before."""

from __future__ import annotations

import asyncio
import random
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.app.readiness.asking import look
from orchestrator.app.readiness.servers import server_findings
from orchestrator.core.errors import CertificateRefused, EnterpriseManagerError, RequestNotSent
from orchestrator.core.model import ServerName, Source
from orchestrator.em.client import Client
from orchestrator.em.tls import certificate_expires, ssl_argument
from orchestrator.em.transport import Transport
from orchestrator.em.wire import XmlCodec
from orchestrator.plan.choose.inventory import InventoryNeeds
from orchestrator.plan.file.access import (
    CaFileTrust,
    EnvironmentSecret,
    FingerprintTrust,
    NoTrust,
    SystemTrust,
    Trust,
)
from orchestrator.plan.file.settings import ServerSettings
from orchestrator.simulator.certificates import Certificate, self_signed
from tests.em.documents import POINT
from tests.em.rawserver import Prompt, RawServer, raw_server, reply

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
OTHER = "0" * 64


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets need real time."""
    return "asyncio"


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """A self-signed certificate, as a fresh Enterprise Manager has one."""
    return self_signed(tmp_path)


def context(certificate: Certificate) -> ssl.SSLContext:
    """Return the server's side of TLS."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate.certificate, certificate.key)
    return made


async def asked(server: RawServer, trust: Trust, host: str = "localhost") -> str | None:
    """Send one read and one mount POST; return the fingerprint that was seen."""
    transport = Transport(
        ServerName("hq"),
        f"https://{host}:{server.port}",
        trust,
        rng=Prompt(),
        media_type="application/xml",
    )
    transport.use_token("a-token")
    try:
        await transport.get("/api/tasks/task-12", CODEC.task)
        await transport.send(
            "POST", f"/api/vmReplicaPoints/{POINT}/mounts", CODEC.task, body=b"", mount_post=True
        )
        return transport.certificate_sha256
    finally:
        await transport.close()


@pytest.mark.parametrize("how", ["CA file", "pin", "second pin", "insecure"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_trusted_certificate_is_taken_and_reported(
    certificate: Certificate, how: str, host: str
) -> None:
    """Each explicit way to trust a server works, for reads and for mount POSTs."""
    pin = certificate.fingerprint_sha256
    trust: dict[str, Trust] = {
        "CA file": CaFileTrust(path=str(certificate.certificate)),
        "pin": FingerprintTrust(sha256=(pin,)),
        "second pin": FingerprintTrust(sha256=(OTHER, pin)),
        "insecure": NoTrust(),
    }
    async with raw_server(lambda n, r: reply(), tls=context(certificate)) as server:
        shown = await asked(server, trust[how], host)

    assert shown == pin
    assert [request.method for request in server.requests] == ["GET", "POST"]


async def test_a_certificate_that_is_not_pinned_is_refused_by_name(
    certificate: Certificate,
) -> None:
    """The message names the fingerprint that was shown, and not one byte of HTTP is sent."""
    async with raw_server(lambda n, r: reply(), tls=context(certificate)) as server:
        with pytest.raises(CertificateRefused, match=certificate.fingerprint_sha256):
            await asked(server, FingerprintTrust(sha256=(OTHER, "f" * 64)))

    assert server.bytes_received == 0


async def test_a_self_signed_certificate_is_refused_with_advice(certificate: Certificate) -> None:
    """System trust is the default, and the message says what to write in the plan."""
    async with raw_server(lambda n, r: reply(), tls=context(certificate)) as server:
        with pytest.raises(CertificateRefused, match="fingerprint_sha256") as refusal:
            await asked(server, SystemTrust())

    assert "ca_file" in str(refusal.value)
    assert "self-signed certificate" in str(refusal.value)
    assert server.bytes_received == 0


def test_the_system_is_asked_once_for_the_certificates_it_trusts() -> None:
    """Every session of a process shares one context that checks names and certificates."""
    first, second = (ssl_argument(SystemTrust(), server) for server in ("hq", "dr"))

    assert first is second
    assert isinstance(first, ssl.SSLContext)
    assert (first.check_hostname, first.verify_mode) == (True, ssl.CERT_REQUIRED)


async def test_a_certificate_of_another_authority_is_refused(
    certificate: Certificate, tmp_path: Path
) -> None:
    """A CA file trusts its own authority only."""
    (tmp_path / "other").mkdir()
    other = self_signed(tmp_path / "other")
    async with raw_server(lambda n, r: reply(), tls=context(certificate)) as server:
        with pytest.raises(CertificateRefused):
            await asked(server, CaFileTrust(path=str(other.certificate)))

    assert server.bytes_received == 0


async def test_a_certificate_for_another_name_is_refused(certificate: Certificate) -> None:
    """A CA file does not switch the check of the host name off."""
    tls = context(certificate)
    async with raw_server(lambda n, r: reply(), tls=tls, host="127.0.0.2") as server:
        with pytest.raises(CertificateRefused, match=r"127\.0\.0\.2"):
            await asked(server, CaFileTrust(path=str(certificate.certificate)), "127.0.0.2")

    assert server.bytes_received == 0


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None
) -> None:
    """A missing, empty or broken CA file is a refusal before any connection."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CertificateRefused, match=r"ca\.pem"):
        Transport(
            ServerName("hq"),
            "https://localhost:1",
            CaFileTrust(path=str(path)),
            rng=Prompt(),
            media_type="x",
        )


async def test_a_server_without_tls_gets_no_request() -> None:
    """https to a port that speaks plain HTTP sends nothing of ours."""
    received = b""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received += await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        received += await reader.read()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(RequestNotSent):
            await asked(RawServer(lambda n, r: reply(), port), NoTrust())

    assert b"a-token" not in received
    assert b"/api/" not in received


async def test_no_credentials_go_to_a_server_that_is_not_trusted(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logon ends before Authorization is sent, and the error does not hold it."""
    monkeypatch.setenv("TLS_TEST_PASSWORD", "pa55-of-the-test")
    async with raw_server(lambda n, r: reply(), tls=context(certificate)) as server:
        settings = ServerSettings(
            name=ServerName("hq"),
            url=f"https://localhost:{server.port}",
            username="LAB\\svc",
            password=EnvironmentSecret(name="TLS_TEST_PASSWORD"),
            trust=FingerprintTrust(sha256=(OTHER,)),
        )
        with pytest.raises(EnterpriseManagerError) as refusal:
            async with Client(settings, rng=random.Random(1)).logon():
                pass

    assert isinstance(refusal.value, CertificateRefused)
    assert "pa55" not in repr(refusal.value)
    assert server.bytes_received == 0


async def test_the_end_of_a_certificate_is_seen(certificate: Certificate) -> None:
    """A pin says nothing of it, so a person may want to know."""
    async with raw_server(lambda n, r: reply(), tls=context(certificate)) as server:
        transport = Transport(
            ServerName("hq"),
            f"https://localhost:{server.port}",
            FingerprintTrust(sha256=(certificate.fingerprint_sha256,)),
            rng=Prompt(),
            media_type="application/xml",
        )
        assert transport.certificate_expires is None
        await transport.get("/api/tasks/task-12", CODEC.task)
        await transport.close()

    assert transport.certificate_expires is not None
    left = transport.certificate_expires - datetime.now(UTC)
    assert timedelta(days=6) < left <= timedelta(days=7)


def test_what_is_no_certificate_has_no_end() -> None:
    """Whatever a server showed: an answer, and no exception of a library."""
    assert certificate_expires(b"\x30\x03\x02\x01\x01") is None


async def test_check_shows_the_certificate_of_a_service_that_is_not_ours(
    certificate: Certificate,
) -> None:
    """Who answered with foreign JSON is the first question; what it showed tells."""
    pin = certificate.fingerprint_sha256
    foreign = reply(body=b'{"hello": "world"}', headers={"Content-Type": "application/json"})
    async with raw_server(lambda n, r: foreign, tls=context(certificate)) as server:
        settings = ServerSettings(
            name=ServerName("hq"),
            url=f"https://localhost:{server.port}",
            username="LAB\\svc",
            password=EnvironmentSecret(name="TLS_TEST_PASSWORD"),
            trust=FingerprintTrust(sha256=(pin,)),
        )
        client = Client(settings, rng=random.Random(1))
        sight = await look(client, InventoryNeeds(), (Source.REPLICA,), patience=20)
        found = {each.item: each for each in server_findings(sight, settings, NOW, {})}

    assert found["reachable"].status.value == "problem"
    assert found["trust"].detail.startswith(f"fingerprint_sha256: certificate {pin}, valid until")
    assert all(request.method == "GET" for request in server.requests)


NOW = datetime.now(UTC)
