"""The `servers` section: each Enterprise Manager's settings, checked against one another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model import BackupServerName, ServerName
from orchestrator.plan import scalars
from orchestrator.plan.document import Block, Text
from orchestrator.plan.problems import Problems
from orchestrator.plan.quantities import shown
from orchestrator.plan.reading import read_section
from orchestrator.plan.schema import BackupServerFile, ServerFile, TlsFile
from orchestrator.plan.settings import (
    CaFileTrust,
    FileSecret,
    FingerprintTrust,
    NoTrust,
    SecretReference,
    ServerSettings,
    SystemTrust,
    Trust,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The servers that could be read, and every name that the plan declares."""

    settings: Mapping[ServerName, ServerSettings]
    names: tuple[ServerName, ...]

    @property
    def only(self) -> ServerName | None:
        """The server that is meant where none is named, if there is just one."""
        return self.names[0] if len(self.names) == 1 else None


def resolve_servers(node: object, problems: Problems, base: Path) -> Servers:
    """Return the settings of every server under `node`; relative paths start at `base`."""
    if not isinstance(node, Block):
        if node is not None:
            read_section(ServerFile, node, problems, noun="'servers'")
        return Servers(settings={}, names=())
    settings: dict[ServerName, ServerSettings] = {}
    addresses: dict[str, Text] = {}
    for name, entry in node.fields():
        try:
            scalars.name(name)
        except ValueError as exc:
            if not problems.known_at(name.position):
                problems.add(name.position, str(exc))
        server = _server(ServerName(str(name)), entry, problems, base)
        if server is None:
            continue
        settings[server.name] = server
        first = addresses.setdefault(server.url, name)
        if first is not name:
            problems.add(
                entry["url"].position,
                f"this is the address of server {shown(first)} ({first.position}) too: "
                "one server has one name, or its limits would not hold",
            )
    return Servers(settings=settings, names=tuple(ServerName(str(name)) for name in node))


def _server(
    name: ServerName, node: object, problems: Problems, base: Path
) -> ServerSettings | None:
    file = read_section(ServerFile, node, problems, noun=f"server {shown(name)}")
    backup_servers: dict[BackupServerName, int] = {}
    if isinstance(node, Block):
        backup_servers = _backup_servers(node.get("backup_servers"), problems)
    if file is None or not isinstance(node, Block):
        return None
    try:
        trust = _trust(file.tls, base)
    except ValueError as exc:
        problems.add(node["tls"].position, str(exc))
        return None
    return ServerSettings(
        name=name,
        url=file.url,
        username=file.username
        if isinstance(file.username, str)
        else rooted_reference(file.username, base),
        password=rooted_reference(file.password, base),
        trust=trust,
        api_version=file.api_version or "latest",
        mounts_limit=file.limits.mounts if file.limits else None,
        backup_server_mounts=backup_servers,
    )


def _backup_servers(node: object, problems: Problems) -> dict[BackupServerName, int]:
    limits: dict[BackupServerName, int] = {}
    if node is None:
        return limits
    if not isinstance(node, Block):
        read_section(BackupServerFile, node, problems, noun="'backup_servers'")
        return limits
    for name, entry in node.fields():
        file = read_section(BackupServerFile, entry, problems, noun=f"backup server {shown(name)}")
        if file is not None:
            limits[BackupServerName(str(name))] = file.mounts
    return limits


def _trust(file: TlsFile | None, base: Path) -> Trust:
    """Return how the certificate is judged.

    Raises:
        ValueError: the section names no way, or several.
    """
    if file is None:
        return SystemTrust()
    ways = [way for way in ("ca_file", "fingerprint_sha256") if getattr(file, way) is not None]
    if file.insecure:
        ways.append("insecure")
    if len(ways) > 1:
        raise ValueError(f"{' and '.join(ways)} exclude each other: keep one")
    if file.ca_file is not None:
        return CaFileTrust(path=rooted(file.ca_file, base))
    if file.fingerprint_sha256 is not None:
        if not file.fingerprint_sha256:
            raise ValueError("fingerprint_sha256 lists no fingerprint: name one, or remove 'tls'")
        return FingerprintTrust(sha256=tuple(file.fingerprint_sha256))
    if file.insecure is None:
        raise ValueError(
            "name ca_file, fingerprint_sha256 or insecure; without 'tls' the system's "
            "authorities decide"
        )
    return NoTrust() if file.insecure else SystemTrust()


def rooted_reference(reference: SecretReference, base: Path) -> SecretReference:
    """Return a reference whose file, if it names one, is found from anywhere."""
    if isinstance(reference, FileSecret):
        return FileSecret(path=rooted(reference.path, base))
    return reference


def rooted(path: str, base: Path) -> str:
    """Return `path` as an absolute one; a relative path starts at `base`."""
    # Not Path.resolve(): a link is followed when the file is read, not when the plan is.
    return os.path.abspath(base / path)  # noqa: PTH100 - for the reason above
