"""Mistakes with TLS and ports: said in a person's words, and never waited for as an outage."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from msgspec.structs import replace

from orchestrator.core.errors import (
    AddressUnusable,
    CertificateRefused,
    EnterpriseManagerError,
    RequestNotSent,
    ResponseLost,
    ServiceBusy,
)
from orchestrator.core.model import ServerName
from orchestrator.em.client import Client
from orchestrator.em.tls import ssl_argument
from orchestrator.em.transport import Transport
from orchestrator.em.wire import XmlCodec
from orchestrator.engine.server_connection import REFUSAL
from orchestrator.plan.file.access import (
    CaFileTrust,
    EnvironmentSecret,
    FingerprintTrust,
    NoTrust,
    SystemTrust,
    Trust,
)
from orchestrator.plan.file.settings import ServerSettings
from tests.em.documents import NAMESPACE
from tests.em.rawserver import Prompt, Reply, raw_server, reply, transport_to
from tests.em.tlsservers import SIGNING, Issued, issued, server_side, tls_server

pytestmark = pytest.mark.anyio

CODEC = XmlCodec()
ROOT = f'<EnterpriseManager xmlns="{NAMESPACE}" />'.encode()


@pytest.fixture
def anyio_backend() -> str:
    """Real sockets need real time."""
    return "asyncio"


@pytest.fixture
def authority(tmp_path: Path) -> Issued:
    """A company's own authority."""
    return issued(tmp_path, "Company Root", is_authority=True)


def trusting(directory: Path, content: bytes, name: str = "ca.pem") -> CaFileTrust:
    """Return the trust in a CA file with this content."""
    (directory / name).write_bytes(content)
    return CaFileTrust(path=str(directory / name))


async def root(port: int, trust: Trust) -> None:
    """Ask for what needs no account."""
    transport = Transport(
        ServerName("hq"),
        f"https://localhost:{port}",
        trust,
        rng=Prompt(),
        media_type="application/xml",
    )
    try:
        await transport.send("GET", "/api/", CODEC.versions)
    finally:
        await transport.close()


async def refusal(context: ssl.SSLContext | None, trust: Trust, answer: bytes = b"") -> str:
    """Return the words of what no site of a run would wait for."""
    with tls_server(context, answer) as port, pytest.raises(REFUSAL) as refused:
        await root(port, trust)
    assert isinstance(refused.value, AddressUnusable)
    return str(refused.value)


# --- certificates ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words", "advice"),
    [
        (lambda d, ca: issued(d, by=ca, days=(-9, -1)), "has expired", "renew it"),
        (lambda d, ca: issued(d, by=ca, days=(2, 9)), "not yet valid", "compare the clocks"),
        (lambda d, ca: issued(d, "em.example.net", by=ca), "'localhost'", "`url`"),
        (lambda d, ca: issued(d, by=ca, weak=True), "key too weak", "2,048"),
        (lambda d, _: issued(d), "self-signed", "`ca_file`"),
    ],
    ids=["expired", "not yet valid", "another name", "weak", "unknown"],
)
async def test_a_certificate_is_refused_with_what_helps(
    tmp_path: Path,
    authority: Issued,
    make: Callable[[Path, Issued], Issued],
    words: str,
    advice: str,
) -> None:
    """Each mistake has its own remedy, and a pin is always one."""
    shown = make(tmp_path, authority)
    trust = trusting(tmp_path, authority.pem)

    said = await refusal(server_side(shown), trust)

    assert words in said
    assert advice in said
    assert "fingerprint_sha256" in said


async def test_a_certificate_that_is_made_for_an_authority_only_names_the_way_out(
    tmp_path: Path,
) -> None:
    """Trap 73: no version of Python takes it, whatever the CA file."""
    odd = issued(tmp_path, usage=SIGNING)

    said = await refusal(server_side(odd), trusting(tmp_path, odd.pem))

    assert "made for servers" in said
    assert "fingerprint_sha256" in said


GOOD: dict[str, Callable[[Path, Issued, Issued], Trust]] = {
    "PEM": lambda d, ca, _: trusting(d, ca.pem),
    "several, with words between": lambda d, ca, leaf: trusting(
        d, "Zertifikat für hq\r\n".encode() + leaf.pem.replace(b"\n", b"\r\n") + b"\n#\n" + ca.pem
    ),
    "UTF-16": lambda d, ca, _: trusting(d, ca.pem.decode().encode("utf-16")),
    "DER": lambda d, ca, _: trusting(d, ca.der, "ca.cer"),
    "PKCS #7": lambda d, ca, _: trusting(
        d, pkcs7.serialize_certificates([ca.certificate], Encoding.DER), "ca.p7b"
    ),
    "PKCS #7 as text": lambda d, ca, leaf: trusting(
        d,
        pkcs7.serialize_certificates([leaf.certificate, ca.certificate], Encoding.PEM),
        "ca.p7b",
    ),
    "the certificate itself": lambda d, _, leaf: trusting(d, leaf.pem),
    "the certificate itself, as DER": lambda d, _, leaf: trusting(d, leaf.der, "hq.cer"),
    "its pin": lambda _d, _c, leaf: FingerprintTrust(sha256=(leaf.sha256,)),
}


@pytest.mark.parametrize("how", GOOD)
async def test_a_ca_file_is_read_in_every_form_a_person_is_handed(
    tmp_path: Path, authority: Issued, how: str
) -> None:
    """An issued certificate is good as its own CA file, too."""
    leaf = issued(tmp_path, by=authority)
    answer = reply(200, ROOT).data

    with tls_server(server_side(leaf), answer) as port:
        await root(port, GOOD[how](tmp_path, authority, leaf))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "private key"),
        (b"\x30\x82\x01\x00 PKCS 12", "PKCS #12"),
        (b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n", "damaged"),
        (b"# no certificate\n", "PEM, DER and PKCS #7"),
    ],
)
def test_a_ca_file_that_holds_something_else_is_named_for_what_it_is(
    tmp_path: Path, content: bytes, words: str
) -> None:
    """Before any connection, with the file's name."""
    with pytest.raises(CertificateRefused, match=r"ca\.pem") as refused:
        ssl_argument(trusting(tmp_path, content), "hq")

    assert words in str(refused.value)


@pytest.mark.parametrize("how", ["system", "file"])
def test_certificates_are_judged_alike_on_every_version_of_python(
    tmp_path: Path, authority: Issued, how: str
) -> None:
    """Trap 73: the flags are set here, whatever a version sets by default."""
    trust = SystemTrust() if how == "system" else trusting(tmp_path, authority.pem)
    made = ssl_argument(trust, "hq")

    assert isinstance(made, ssl.SSLContext)
    assert made.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (made.check_hostname, made.verify_mode) == (True, ssl.CERT_REQUIRED)


# --- handshakes --------------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [NoTrust(), SystemTrust()], ids=["insecure", "system"])
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-Open\r\n"]
)
async def test_a_port_without_tls_is_not_waited_for(trust: Trust, answer: bytes) -> None:
    """Port 9399 speaks plain HTTP, and others something else."""
    said = await refusal(None, trust, answer)

    assert "does not speak TLS" in said
    assert "9398" in said


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
async def test_a_server_without_tls_1_2_is_not_waited_for(tmp_path: Path) -> None:
    """An old Windows offers 1.0 and 1.1 only."""
    context = server_side(issued(tmp_path))
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1

    assert "enable TLS 1.2" in await refusal(context, NoTrust())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_wants_a_client_certificate_is_not_waited_for(
    tmp_path: Path, authority: Issued, version: ssl.TLSVersion
) -> None:
    """With TLS 1.3 the handshake is over before the server says so."""
    context = server_side(issued(tmp_path))
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem.decode())

    assert "client certificate" in await refusal(context, NoTrust())


# --- ports -------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
ELSEWHERE: dict[str, Reply] = {
    "9419, no such path": reply(404, b'{"errorCode": "NotFound", "message": "no"}', JSON),
    "9419, empty": reply(404, b"", {"Server": "Kestrel"}),
    "9419, wants a version": reply(400, b'{"errorCode": "BadRequest", "message": "no"}', JSON),
    "9419, wrong method": reply(405, b""),
    "9443, a redirect": reply(302, b"", {"Location": "/login"}),
    "9443, a page": reply(200, b"<!DOCTYPE html><html><title>Veeam</title></html>"),
    "another API": reply(200, b"<?xml version='1.0'?><api xmlns='urn:else'/>"),
    "nginx wants a certificate": reply(
        400, b"<html><title>400 No required SSL certificate was sent</title></html>"
    ),
}


@pytest.mark.parametrize("what", ELSEWHERE)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_another_service_is_not_waited_for(method: str, what: str) -> None:
    """The first answer of a stranger is a mistake in the plan, and the message names the ports."""
    target, reading = {
        "GET": ("/api/", CODEC.versions),
        "POST": ("/api/sessionMngr/?v=latest", CODEC.logon),
    }[method]
    async with (
        raw_server(lambda n, r: ELSEWHERE[what]) as server,
        transport_to(server.port) as transport,
    ):
        transport.use_token(None)
        with pytest.raises(REFUSAL, match="9419") as refused:
            await transport.send(method, target, reading)

    assert isinstance(refused.value, AddressUnusable)
    assert "9398" in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(502, b"<html><title>Bad Gateway</title></html>"), ResponseLost),
        (reply(503, b'{"message": "no healthy upstream"}', JSON), ResponseLost),
        (reply(201, b"<LogonSession xml"), ResponseLost),
        (
            reply(503, b"<!doctype html><html></html>", {"Server": "Microsoft-HTTPAPI/2.0"}),
            ServiceBusy,
        ),
    ],
)
async def test_a_service_that_is_down_is_waited_for(
    answer: Reply, error: type[EnterpriseManagerError]
) -> None:
    """What a proxy or the system answers meanwhile is no mistake of anybody's."""
    async with raw_server(lambda n, r: answer) as server, transport_to(server.port) as transport:
        transport.use_token(None)
        with pytest.raises(error) as trouble:
            await transport.send("POST", "/api/sessionMngr/?v=latest", CODEC.logon, body=b"")

    assert not isinstance(trouble.value, REFUSAL)


async def test_a_server_that_was_met_before_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that restarts may answer with 404, or without TLS: then the plan was right."""
    monkeypatch.setenv("EM_TEST_PASSWORD", "pa55-of-the-test")
    settings = ServerSettings(
        name=ServerName("hq"),
        url="https://localhost:1",
        username="svc",
        password=EnvironmentSecret(name="EM_TEST_PASSWORD"),
        trust=NoTrust(),
    )
    client = Client(settings, rng=random.Random(1))
    own = f'<Error xmlns="{NAMESPACE}" Message="Busy." StatusCode="503" />'.encode()

    async def logon(context: ssl.SSLContext | None, answer: bytes) -> EnterpriseManagerError:
        with tls_server(context, answer) as port:
            monkeypatch.setattr(client, "_settings", _at(settings, port))
            with pytest.raises(EnterpriseManagerError) as trouble:
                async with client.logon():
                    pass
        return trouble.value

    tls = server_side(issued(tmp_path))
    assert isinstance(await logon(tls, reply(503, own).data), ServiceBusy)
    assert isinstance(await logon(tls, reply(404, b"404 page not found").data), ResponseLost)
    client.logons.answered(client.logons.sent())
    plain = await logon(None, b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert isinstance(plain, RequestNotSent)


def _at(settings: ServerSettings, port: int) -> ServerSettings:
    return replace(settings, url=f"https://localhost:{port}")
