"""How a server is reached: references to secrets, and how its certificate is judged."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict


class _Kind(Struct, frozen=True, tag_field="kind"):
    """A value of one kind of several."""

    @property
    def kind(self) -> str:
        """Which kind it is, as the plan and reports call it."""
        return str(self.__struct_config__.tag)


class _Reference(_Kind, frozen=True):
    def __str__(self) -> str:
        """Return the reference as the plan writes it."""
        return f"{{{self.kind}: {'/'.join(asdict(self).values())}}}"


class EnvironmentSecret(_Reference, frozen=True, kw_only=True, tag="env"):
    """The value of an environment variable: `{env: NAME}`."""

    name: str


class FileSecret(_Reference, frozen=True, kw_only=True, tag="file"):
    """The content of a regular file that only its owner may read: `{file: PATH}`."""

    path: str


class CredentialSecret(_Reference, frozen=True, kw_only=True, tag="credential"):
    """A systemd credential of this service: `{credential: NAME}`."""

    name: str


class CommandSecret(_Reference, frozen=True, kw_only=True, tag="command"):
    """What a program prints, started without a shell: `{command: [PROGRAM, ARGUMENT...]}`."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        """Return the reference with the program's name only: arguments may be private."""
        return f"{{command: [{self.argv[0]}, ...]}}"


class KeyringSecret(_Reference, frozen=True, kw_only=True, tag="keyring"):
    """An entry of the desktop or system keyring: `{keyring: SERVICE/USER}`."""

    service: str
    user: str


SecretReference = EnvironmentSecret | FileSecret | CredentialSecret | CommandSecret | KeyringSecret
"""Where a secret is to be found. Never the secret itself."""


class SystemTrust(_Kind, frozen=True, kw_only=True, tag="system"):
    """The certificate must be signed by an authority this system trusts."""


class CaFileTrust(_Kind, frozen=True, kw_only=True, tag="ca_file"):
    """The certificate must be signed by an authority in this file."""

    path: str

    def read(self) -> bytes:
        """Return the content of the file.

        Raises:
            OSError: it cannot be read.
        """
        return Path(self.path).read_bytes()


class CarriedCaFileTrust(CaFileTrust, frozen=True, kw_only=True, tag="ca_file"):
    """The same, with the file's content: on this machine there need be no such file."""

    content: bytes

    def read(self) -> bytes:
        """Return the content."""
        return self.content


class FingerprintTrust(_Kind, frozen=True, kw_only=True, tag="fingerprint_sha256"):
    """The certificate must be one of these: SHA-256, 64 lower-case hex digits each."""

    sha256: tuple[str, ...]


class NoTrust(_Kind, frozen=True, kw_only=True, tag="insecure"):
    """Any certificate is taken, because the plan says `insecure: true`; reports say so too."""


Trust = SystemTrust | CaFileTrust | FingerprintTrust | NoTrust
"""How a server's certificate is judged; `kind` is the word reports use."""
