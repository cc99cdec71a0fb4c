"""The text of a first plan. The same waves and servers give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from orchestrator.core.model import Source
from orchestrator.core.text import counted, printable
from orchestrator.plan.choose.first_waves import FirstTarget, FirstWave, FirstWaves
from orchestrator.plan.file.access import (
    CaFileTrust,
    FingerprintTrust,
    NoTrust,
    SecretReference,
    Trust,
)
from orchestrator.plan.file.quoting import quoted
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import DEFAULT_BACKUP_SERVER_MOUNTS, ServerSettings

SHOWN_LEFT_OUT = 20

_HEAD = """\
# A first plan, made from what the servers list: one wave for each job.
# Read it before you run it. Where a comment begins with "Decide", a choice is yours.
version: 1
name: drill  # Decide: what reports and the journal call it."""

_BEFORE_WAVES = """\
# Decide: what holds for the whole run.
# limits: {mounts: 40, failures: 20%, deadline: 6h}
# objectives: {rto: 4h, rpo: 24h}
# Decide: what must be true of every machine, and how old its restore point may be. Without checks a
# run proves that a machine's files can be mounted and read, and nothing about their content.
# checks: {windows: [{path: 'C:\\Windows\\System32\\ntdll.dll'}], linux: [{path: /etc/passwd}]}
# defaults: {checks: [windows, linux], point: {max_age: 48h}}
# The inventory does not say which system a guest has: it is found out when it is mounted.
# Decide: the order. All waves start at once until one names those that it waits for, as in
# `after: [OTHER-WAVE]`. `critical: true` ends the run if a target of the wave fails.
# `expect` holds what was counted. A run whose selector matches more or fewer machines mounts
# nothing. Decide: how far it may differ, where machines come and go.
waves:"""


class FirstServer(Struct, frozen=True, kw_only=True):
    """One server of a first plan, with the paths as the plan shall hold them."""

    settings: ServerSettings
    password: SecretReference
    trust: Trust


def first_plan(servers: Sequence[FirstServer], waves: FirstWaves) -> str:
    """Return the plan file's text."""
    return "\n".join(_lines(servers, waves)) + "\n"


def _lines(servers: Sequence[FirstServer], found: FirstWaves) -> Iterator[str]:
    yield _HEAD
    yield "servers:"
    for server in servers:
        yield from _server(server, found)
    yield from _left_out(found.left_out)
    yield _BEFORE_WAVES
    for wave in found.waves:
        yield from _wave(wave, names_server=len(servers) > 1)


def _left_out(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"# Left out: {counted(len(lines), 'machine')}."
        yield from (f"#   {printable(line)}" for line in lines[:SHOWN_LEFT_OUT])
    if len(lines) > SHOWN_LEFT_OUT:
        yield f"#   and {len(lines) - SHOWN_LEFT_OUT} more"


def _server(server: FirstServer, found: FirstWaves) -> Iterator[str]:
    settings = server.settings
    yield f"  {quoted(settings.name)}:"
    yield f"    url: {quoted(settings.url)}"
    yield f"    username: {quoted(str(settings.username))}"
    yield f"    password: {_reference(server.password)}"
    yield from _tls(server.trust)
    yield "    # Decide: open mounts at once, on the whole server and on each backup server."
    yield "    # limits: {mounts: 24}"
    behind = found.backup_servers.get(settings.name, ())
    if behind:
        yield "    backup_servers:"
        for name in behind:
            key = quoted(name, variables=False)
            yield f"      {key}: {{mounts: {DEFAULT_BACKUP_SERVER_MOUNTS}}}"


def _reference(reference: SecretReference) -> str:
    kind, _, value = str(reference)[1:-1].partition(": ")
    return f"{{{kind}: {quoted(value, variables=False)}}}"


def _tls(trust: Trust) -> Iterator[str]:
    match trust:
        case CaFileTrust(path=path):
            yield f"    tls: {{ca_file: {quoted(path)}}}"
        case FingerprintTrust(sha256=pins):
            yield f"    tls: {{fingerprint_sha256: [{', '.join(map(quoted, pins))}]}}"
        case NoTrust():
            yield "    # Decide: ca_file or fingerprint_sha256. Now any certificate will do."
            yield "    tls: {insecure: true}"


def _wave(wave: FirstWave, *, names_server: bool) -> Iterator[str]:
    yield f"  # {_about(wave)}"
    yield f"  - name: {quoted(wave.name)}"
    if names_server:
        yield f"    server: {quoted(wave.server)}"
    if wave.source is not Source.REPLICA:
        yield f"    source: {wave.source.value}"
    yield "    targets:"
    for target in wave.targets:
        yield from _target(target)


def _about(wave: FirstWave) -> str:
    machines = counted(wave.machines, "machine")
    if not wave.job:
        return f"{machines} whose restore points name no job."
    return f"Job {printable(wave.job)}: {machines}."


def _target(target: FirstTarget) -> Iterator[str]:
    fields = [f"{target.kind.value}: {quoted(target.value)}"]
    if target.backup_server is not None:
        fields.append(f"backup_server: {quoted(target.backup_server)}")
    if target.exclude:
        fields.append(f"exclude: [{', '.join(map(quoted, target.exclude))}]")
    if target.kind is not SelectorKind.VM:
        fields.append(f"expect: {{min: {target.machines}, max: {target.machines}}}")
    for number, text in enumerate(fields):
        yield f"      {'-' if number == 0 else ' '} {text}"
