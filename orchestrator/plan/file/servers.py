"""The `servers` section: each Enterprise Manager's settings, checked against one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.core.model import BackupServerName, ServerName
from orchestrator.plan.file import scalars
from orchestrator.plan.file.access import (
    CaFileTrust,
    CommandSecret,
    FileSecret,
    FingerprintTrust,
    NoTrust,
    SecretReference,
    SystemTrust,
    Trust,
)
from orchestrator.plan.file.api_format import ApiFormat
from orchestrator.plan.file.document import Block, Text
from orchestrator.plan.file.named_files import NamedFiles
from orchestrator.plan.file.problems import Position, Problems
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.reading import check_name, quiet_section, read_section, unread_keys
from orchestrator.plan.file.schema import BackupServerFile, ServerFile, ServerLimitFile, TlsFile
from orchestrator.plan.file.settings import ServerSettings


class Servers(Struct, frozen=True, kw_only=True):
    """The servers that could be read, and every name that the plan declares."""

    settings: Mapping[ServerName, ServerSettings]
    names: tuple[ServerName, ...]

    @property
    def only(self) -> ServerName | None:
        """The server that is meant where none is named, if there is just one."""
        return self.names[0] if len(self.names) == 1 else None


def resolve_servers(node: object, problems: Problems, base: Path, named: NamedFiles) -> Servers:
    """Return the settings of every server under `node`; relative paths start at `base`."""
    if not isinstance(node, Block):
        read_section(ServerFile, node, problems, noun="'servers'")
        return Servers(settings={}, names=())
    if not node:
        problems.add(node.position, "'servers' names no server: at least one is needed")
    settings: dict[ServerName, ServerSettings] = {}
    addresses: dict[str, Text] = {}
    for name, entry in node.fields():
        check_name(name, problems)
        server = _server(ServerName(str(name)), entry, problems, base, named)
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
    name: ServerName, node: object, problems: Problems, base: Path, named: NamedFiles
) -> ServerSettings | None:
    file = read_section(ServerFile, node, problems, noun=f"server {shown(name)}")
    backup_servers: dict[BackupServerName, BackupServerFile] = {}
    if not isinstance(node, Block):
        return None
    backup_servers = _backup_servers(node.get("backup_servers"), problems)
    trust = _trust(node.get("tls"), problems, base)
    limits = quiet_section(ServerLimitFile, node.get("limits"), problems)
    if limits is not None and limits.count_others and "mounts" not in node["limits"]:
        problems.add(
            node["limits"].position,
            "'count_others' needs a limit that others can use up: write {mounts: 8, "
            "count_others: true}",
        )
    if file is None or trust is None:
        return None

    def followed(key: str, reference: SecretReference) -> SecretReference:
        require_followable(reference, node[key].position, problems, named)
        return absolute_reference(reference, base)

    return ServerSettings(
        name=name,
        **file.values("url", "api_version", "site", "stop_tasks"),
        username=file.username
        if isinstance(file.username, str)
        else followed("username", file.username),
        password=followed("password", file.password),
        trust=trust,
        api_format=(file.api.format if file.api else None) or ApiFormat.AUTO,
        mounts_limit=limits.mounts if limits else None,
        backup_server_mounts={name: each.mounts for name, each in backup_servers.items()},
        count_others=bool(limits and limits.count_others),
        backup_servers_count_others=tuple(
            name for name, each in backup_servers.items() if each.count_others
        ),
    )


def _backup_servers(node: object, problems: Problems) -> dict[BackupServerName, BackupServerFile]:
    limits: dict[BackupServerName, BackupServerFile] = {}
    if not isinstance(node, Block):
        read_section(BackupServerFile, node, problems, noun="'backup_servers'")
        return limits
    for name, entry in node.fields():
        file = read_section(BackupServerFile, entry, problems, noun=f"backup server {shown(name)}")
        other = next((each for each in limits if each.casefold() == str(name).casefold()), None)
        if other is not None and str(other) != str(name):
            problems.add(
                name.position, f"this is backup server {shown(other)} again, in another spelling"
            )
        if file is not None:
            limits[BackupServerName(str(name))] = file
    return limits


def _trust(node: object, problems: Problems, base: Path) -> Trust | None:
    """Return how the certificate is judged, or None after noting why that is not clear."""
    file = quiet_section(TlsFile, node, problems)
    if not isinstance(node, Block) or file is None:
        return SystemTrust()
    unread = unread_keys(file, node)
    ways = [way for way in ("ca_file", "fingerprint_sha256") if way in node]
    if file.insecure:
        ways.append("insecure")
    why = None
    if len(ways) > 1:
        why = f"{' and '.join(ways)} exclude each other: keep one"
    elif file.fingerprint_sha256 == []:
        why = "fingerprint_sha256 lists no fingerprint: name one, or remove 'tls'"
    elif not ways and file.insecure is None and not unread:
        why = (
            "name ca_file, fingerprint_sha256 or insecure; without 'tls' the system's "
            "authorities decide"
        )
    if why is not None:
        problems.add(node.position, why)
    if why is not None or unread:
        return None
    if file.ca_file is not None:
        return CaFileTrust(path=scalars.absolute_path(file.ca_file, base))
    if file.fingerprint_sha256 is not None:
        return FingerprintTrust(sha256=tuple(file.fingerprint_sha256))
    return NoTrust() if file.insecure else SystemTrust()


def require_followable(
    reference: SecretReference, position: Position, problems: Problems, named: NamedFiles
) -> None:
    """See that a reference can be followed wherever the plan is carried out."""
    path = None
    if isinstance(reference, FileSecret):
        path = reference.path
    elif isinstance(reference, CommandSecret) and "/" in reference.argv[0]:
        path = reference.argv[0]
    if named.plan_leaves and path is not None and not path.startswith("/"):
        problems.add(
            position,
            "this secret is read by a worker, perhaps on another machine, and nobody could say "
            "what its relative path is relative to: write a path from / on",
        )


def absolute_reference(reference: SecretReference, base: Path) -> SecretReference:
    """Return a reference whose file or program, if it names one, is found from anywhere.

    A program without a slash is looked for where the system looks for programs.
    """
    if isinstance(reference, FileSecret):
        return FileSecret(path=scalars.absolute_path(reference.path, base))
    if isinstance(reference, CommandSecret) and "/" in reference.argv[0]:
        return CommandSecret(
            argv=(scalars.absolute_path(reference.argv[0], base), *reference.argv[1:])
        )
    return reference
