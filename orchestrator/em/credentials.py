"""Secrets, read where the plan's references lead, and not before the logon needs them.

A value lives in a local variable of the logon, and in what masks it in answers; nowhere else.
Messages name the reference, never the value.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from subprocess import DEVNULL

import anyio

from orchestrator.core.errors import CredentialError
from orchestrator.core.private_files import NotPrivate, read_private
from orchestrator.core.text import duration
from orchestrator.plan.file.access import (
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
            return _text(found, str(reference))
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
        content = read_private(path, shown, MAX_BYTES + 1, owner_only=owner_only)
    except NotPrivate as exc:
        raise CredentialError(str(exc)) from None
    except OSError as exc:
        raise CredentialError(f"{shown} cannot be read: {exc.strerror}") from None
    return _text(content, shown)


async def _from_command(argv: tuple[str, ...], shown: str, withheld: frozenset[str]) -> str:
    """Run the program without a shell; its output is the secret, its errors are not shown."""
    environment = {name: value for name, value in os.environ.items() if name not in withheld}
    try:
        with anyio.fail_after(COMMAND_TIMEOUT):
            done = await anyio.run_process(
                list(argv), check=False, stdin=DEVNULL, stderr=DEVNULL, env=environment
            )
    except TimeoutError:
        raise CredentialError(f"{shown} did not end within {duration(COMMAND_TIMEOUT)}") from None
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
    return _text(str(found), shown)


def _text(content: bytes | str, shown: str) -> str:
    """Return the secret without the one line end after it; it must be one line of UTF-8.

    What a person cannot see is refused: with it a logon fails, and accounts lock.
    """
    if len(content) > MAX_BYTES:
        raise CredentialError(f"{shown} is larger than any secret")
    try:
        given = content if isinstance(content, str) else content.decode("utf-8")
        given.encode("utf-8")  # an environment variable may hold any bytes
    except UnicodeError:
        raise CredentialError(f"{shown} is not UTF-8 text") from None
    text = given.removesuffix("\n").removesuffix("\r")
    if "\ufeff" in text:
        raise CredentialError(
            f"{shown} begins with a byte-order mark, or holds one: save it as UTF-8 without BOM"
        )
    if not text or "\n" in text or "\r" in text:
        raise CredentialError(f"{shown} is empty or has more than one line")
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise CredentialError(f"{shown} holds a control character")
    return text
