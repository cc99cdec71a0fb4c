"""Secret references: the only form in which a plan may speak of a password.

Nothing here ever quotes what it was given: a mistyped reference may hold the secret itself.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from orchestrator.plan.file.access import (
    CommandSecret,
    CredentialSecret,
    EnvironmentSecret,
    FileSecret,
    KeyringSecret,
    SecretReference,
)
from orchestrator.plan.file.scalars import line, single
from orchestrator.plan.file.section import JsonSchema, NoReference, ReadBy

FORMS = (
    "{env: NAME}, {file: PATH}, {credential: NAME}, {command: [PROGRAM, ARGUMENT]} "
    "or {keyring: SERVICE/USER}"
)

_variable_name = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$", re.ASCII)
_credential_name = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.@-]*$", re.ASCII)


def secret_reference(value: object) -> SecretReference:
    """Return the reference that `value` writes.

    Raises:
        NoReference: it is a literal, or no reference that can be followed.
    """
    if not isinstance(value, dict):
        raise NoReference(f"do not write a secret into the plan: refer to it with {FORMS}")
    if len(value) != 1:
        raise NoReference(f"a secret reference has exactly one key: {FORMS}")
    ((kind, given),) = value.items()
    if any("${" in text for text in (given if isinstance(given, list) else [given])):
        raise NoReference("variables are not replaced inside a secret reference: write it out")
    try:
        return _read(str(kind), given)
    except ValueError:
        raise NoReference(
            _ADVICE.get(str(kind), f"this is no secret reference: write {FORMS}")
        ) from None


_ADVICE = {
    "env": "write {env: NAME}, the name of an environment variable: letters, digits and '_'",
    "file": "write {file: PATH}, a file that only its owner may read",
    "credential": "write {credential: NAME}, the name of a systemd credential",
    "command": "write {command: [PROGRAM, ARGUMENT]}, a list: no shell is involved",
    "keyring": "write {keyring: SERVICE/USER}",
}


def _read(kind: str, given: Any) -> SecretReference:
    if kind == "command":
        if not isinstance(given, list) or not given:
            raise ValueError
        argv = tuple(str(single(part)) for part in given)
        line(argv[0])
        return CommandSecret(argv=argv)
    text = line(single(given))
    if kind == "env" and _variable_name.match(text):
        return EnvironmentSecret(name=text)
    if kind == "file" and not text.startswith("~"):
        return FileSecret(path=text)
    if kind == "credential" and _credential_name.match(text):
        return CredentialSecret(name=text)
    service, slash, user = text.rpartition("/")
    if kind == "keyring" and slash and service and user:
        return KeyringSecret(service=service, user=user)
    raise ValueError


def account(value: object) -> str | SecretReference:
    """Return a user name: a text, or a reference like a password's."""
    return line(value) if isinstance(value, str) else secret_reference(value)


def _text(description: str, **rule: Any) -> dict[str, Any]:
    return {"type": "string", **rule, "description": description}


_REFERENCE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {
        "env": _text("Name of an environment variable.", pattern=_variable_name.pattern),
        "file": _text("Path of a regular file that only its owner may read.", minLength=1),
        "credential": _text(
            "Name of a systemd credential of the service.", pattern=_credential_name.pattern
        ),
        "command": {
            "type": "array",
            "minItems": 1,
            "items": {"type": ["string", "number"]},
            "description": "Program and arguments, started without a shell; prints the secret.",
        },
        "keyring": _text(
            "SERVICE/USER in the system's keyring (optional extra).", pattern="^.+/.+$"
        ),
    },
}

Secret = Annotated[SecretReference, ReadBy(secret_reference), JsonSchema(_REFERENCE_SCHEMA)]
Account = Annotated[
    str | SecretReference,
    ReadBy(account),
    JsonSchema({"anyOf": [{"type": "string"}, _REFERENCE_SCHEMA]}),
]
