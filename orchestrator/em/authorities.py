"""The certificates of a `ca_file`, in whatever form a person was handed it: PEM, DER, PKCS #7."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64

_PEM = re.compile(
    rb"-----BEGIN (?:X509 )?CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END (?:X509 )?CERTIFICATE-----"
)
_BUNDLE = re.compile(
    rb"-----BEGIN (?:PKCS7|PKCS #7 SIGNED DATA|CMS)-----([A-Za-z0-9+/=\s]+)-----END"
)
_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def certificates_in(content: bytes) -> list[bytes]:
    """Return the certificates in a file, each as DER; at least one.

    Raises:
        ValueError: there are none; it says what the file seems to be instead.
    """
    if content.startswith(_UTF_16):  # as some programs of Windows write text
        content = content.decode("utf-16", errors="replace").encode("utf-8", errors="replace")
    found = [_decoded(each) for each in _PEM.findall(content)]
    for bundle in _BUNDLE.findall(content):
        found += _bundled(_decoded(bundle))
    if not found and content.startswith(b"\x30"):
        found = [content] if _is_certificate(content) else _bundled(content)
    if found:
        return found
    if _PRIVATE.search(content):
        raise ValueError("it holds a private key and no certificate")
    raise ValueError("it holds no certificate that can be read; PEM, DER and PKCS #7 are")


def _decoded(text: bytes) -> bytes:
    try:
        return b64decode(text)
    except NotBase64:
        raise ValueError("a certificate in it is damaged") from None


def _is_certificate(content: bytes) -> bool:
    from cryptography import x509  # its start costs every run, and few have such a file

    try:
        x509.load_der_x509_certificate(content)
    except ValueError:
        return False
    return True


def _bundled(content: bytes) -> list[bytes]:
    """Return the certificates of a PKCS #7 bundle."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    try:
        found = pkcs7.load_der_pkcs7_certificates(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(
            "it is no certificate and no PKCS #7 bundle of some (of a PKCS #12 file, export the "
            "certificate alone)"
        ) from None
    return [each.public_bytes(Encoding.DER) for each in found]
