"""Secrets, found where the plan says and no earlier than the logon needs them.

A value lives in a local variable of the logon and nowhere else. Messages name the
reference, never the value.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from subprocess import DEVNULL

import anyio

from orchestrator.errors import CredentialError
from orchestrator.plan.settings import (
    CommandSecret,
    CredentialSecret,
    EnvironmentSecret,
    FileSecret,
    KeyringSecret,
    SecretReference,
)

COMMAND_TIMEOUT = 30.0
MAX_BYTES = 64 * 1024


async def resolve(
    reference: str | SecretReference, *, withheld: frozenset[str] = frozenset()
) -> str:
    """Return the secret that `reference` names; a plain text is its own value.

    A program that is started for it does not see the environment variables `withheld`.

    Raises:
        CredentialError: it is missing, empty, unreadable, or readable by others.
    """
    match reference:
        case str():
            return reference
        case EnvironmentSecret(name=name):
            found = os.environ.get(name)
            if not found:
                raise CredentialError(f"the environment variable {name} is not set, or empty")
            return found
        case FileSecret(path=path):
            return _from_file(Path(path), str(reference))
        case CredentialSecret(name=name):
            directory = os.environ.get("CREDENTIALS_DIRECTORY")
            if not directory:
                raise CredentialError(f"{reference}: this process was given no credentials")
            return _from_file(Path(directory) / name, str(reference), owner_only=False)
        case CommandSecret(argv=argv):
            return await _from_command(argv, str(reference), withheld)
        case KeyringSecret(service=service, user=user):
            return _from_keyring(service, user, str(reference))


def _from_file(path: Path, shown: str, *, owner_only: bool = True) -> str:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise CredentialError(f"{shown} is not a regular file")
            if owner_only and facts.st_mode & 0o077:
                raise CredentialError(
                    f"{shown} can be read by others than its owner; run: chmod 600 {path}"
                )
            content = file.read(MAX_BYTES + 1)
    except OSError as exc:
        raise CredentialError(f"{shown} cannot be read: {exc.strerror}") from None
    return _text(content, shown)


def _without_waiting(path: str, flags: int) -> int:
    """Open `path`; a named pipe that nobody writes to would hold up the whole program."""
    return os.open(path, flags | os.O_NONBLOCK)


async def _from_command(argv: tuple[str, ...], shown: str, withheld: frozenset[str]) -> str:
    """Run the program without a shell; what it prints is the secret, its errors are its own."""
    environment = {name: value for name, value in os.environ.items() if name not in withheld}
    try:
        with anyio.fail_after(COMMAND_TIMEOUT):
            done = await anyio.run_process(
                list(argv), check=False, stdin=DEVNULL, stderr=DEVNULL, env=environment
            )
    except TimeoutError:
        raise CredentialError(f"{shown} did not end within {COMMAND_TIMEOUT:g} s") from None
    except OSError as exc:
        raise CredentialError(f"{shown} cannot be started: {exc.strerror}") from None
    if done.returncode != 0:
        raise CredentialError(f"{shown} ended with exit code {done.returncode}")
    return _text(done.stdout, shown)


def _from_keyring(service: str, user: str, shown: str) -> str:
    try:
        import keyring  # the optional extra
    except ImportError:
        raise CredentialError(
            f"{shown} needs the optional package: pip install 'bulk-restore-orchestrator[keyring]'"
        ) from None
    try:
        found = keyring.get_password(service, user)
    except Exception as exc:  # noqa: BLE001 - every keyring has errors of its own
        raise CredentialError(f"{shown} cannot be read: {type(exc).__name__}") from None
    if not found:
        raise CredentialError(f"{shown} is not in the keyring")
    return str(found)


def _text(content: bytes, shown: str) -> str:
    """Return the secret without its line end; one line of UTF-8 is what it must be."""
    if len(content) > MAX_BYTES:
        raise CredentialError(f"{shown} is larger than any secret")
    try:
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CredentialError(f"{shown} is not UTF-8 text") from None
    if not text or "\n" in text or "\x00" in text:
        raise CredentialError(f"{shown} is empty or has more than one line")
    return text
