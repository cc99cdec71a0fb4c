"""Real TLS servers and real certificates, also such as a person should not have."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
SIGNING = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""What a certificate may do that was made for an authority only."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, its key, and the file of both that a server loads."""

    certificate: x509.Certificate
    key: Key
    file: Path

    @property
    def pem(self) -> bytes:
        """The certificate as text."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate as bytes."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def sha256(self) -> str:
        """Its fingerprint."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def issued(
    directory: Path,
    name: str = "localhost",
    *,
    by: Issued | None = None,
    days: tuple[float, float] = (-1.0, 7.0),
    is_authority: bool = False,
    weak: bool = False,
    usage: x509.KeyUsage | None = None,
) -> Issued:
    """Return a certificate for `name`, valid for these days from now, self-signed or not."""
    key: Key = ec.generate_private_key(ec.SECP256R1())
    if weak:
        key = rsa.generate_private_key(65537, 1024)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    if is_authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    made = builder.sign(by.key if by is not None else key, hashes.SHA256())
    file = directory / f"{made.serial_number}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return Issued(made, key, file)


def server_side(certificate: Issued) -> ssl.SSLContext:
    """Return a server's context that would take whatever this machine can do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(certificate.file)
    return context


@contextmanager
def tls_server(context: ssl.SSLContext | None, answer: bytes = b"") -> Iterator[int]:
    """Serve on a free port, with alerts as OpenSSL's own servers send them; yield the port.

    Without a context, `answer` is said in plain text.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_serve, args=(listening, context, answer), daemon=True).start()
        yield listening.getsockname()[1]


def _serve(listening: socket.socket, context: ssl.SSLContext | None, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection, connection.dup() as raw:
            try:
                _talk(connection, context, answer)
            except OSError:
                _part(raw)


def _talk(connection: socket.socket, context: ssl.SSLContext | None, answer: bytes) -> None:
    spoken = context.wrap_socket(connection, server_side=True) if context else connection
    spoken.recv(4096)
    spoken.sendall(answer)
    spoken.close()


def _part(raw: socket.socket) -> None:
    """Close without a reset, which would overtake the alert."""
    try:
        raw.settimeout(0.5)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(4096):
            pass
    except OSError:
        pass
