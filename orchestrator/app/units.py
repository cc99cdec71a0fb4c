"""`units`: a systemd service and timer for a plan, with no more rights than a drill needs.

Sources: systemd.unit(5), systemd.service(5), systemd.exec(5), systemd.timer(5), systemd.time(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from orchestrator.core.text import duration, printable
from orchestrator.plan.file.access import (
    CommandSecret,
    CredentialSecret,
    EnvironmentSecret,
    FileSecret,
    KeyringSecret,
    SecretReference,
)
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.plan.file.settings import RestorePlan

NAME_LIMIT = 100
HOMES = ("/home", "/root", "/run/user")
PLAIN = re.compile(r"[A-Za-z0-9_./:@=,+-]+", re.ASCII)
"""Words that need no quotes in a unit."""


class Look(Struct, frozen=True, kw_only=True):
    """How often the timer looks whether the plan is due: a calendar, jitter, what counts as due.

    Half the time between two looks counts as due already, so that a run which began a little later
    than the last time does not wait for the next look but one.
    """

    least: float
    calendar: str
    jitter: str
    ahead: str


LOOKS = (
    Look(least=86400.0, calendar="*-*-* 02:00:00", jitter="1h", ahead="12h"),
    Look(least=3600.0, calendar="*-*-* *:00:00", jitter="5min", ahead="30m"),
    Look(least=0.0, calendar="*-*-* *:00/5:00", jitter="30s", ahead="150s"),
)
"""The first whose `least` is not above the plan's `every`, in seconds."""

HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
LimitCORE=0
UMask=0077
"""


def units_of(
    loaded: LoadedPlan, program: Path, *, user: str | None, overrides: Mapping[str, str]
) -> dict[str, str]:
    """Return the content of the service and of the timer by the names of their files.

    The plan must say how often it is to run. Nothing is read but the plan, and no secret.
    """
    name = f"bulk-restore-{_slug(loaded.plan.name)}"
    service = "\n".join(_service(loaded, program.absolute(), name, user, overrides))
    return {
        f"{name}.service": service + "\n",
        f"{name}.timer": "\n".join(_timer(loaded.plan)) + "\n",
    }


def _slug(name: str) -> str:
    """Return a plan's name as a part of a file's and of a unit's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.casefold())[:NAME_LIMIT].strip("-") or "plan"


def _service(
    loaded: LoadedPlan, program: Path, name: str, user: str | None, overrides: Mapping[str, str]
) -> Iterator[str]:
    plan, path = loaded.plan, loaded.path.absolute()
    homes = any(_is_below(each, HOMES) for each in (path, program))
    look = _look(plan)
    command = exec_word(str(program))
    state = f"--state %S/{name}"
    variables = "".join(f" --set {exec_word(f'{key}={value}')}" for key, value in overrides.items())
    yield "[Unit]"
    yield f"Description={_shown(f'Restore drill {plan.name}')}"
    yield "Wants=network-online.target"
    yield "After=network-online.target"
    yield ""
    yield "[Service]"
    yield "Type=oneshot"
    yield (
        f"ExecCondition={command} due --condition --ahead {look.ahead}{variables} {state} "
        f"{exec_word(str(path))}"
    )
    yield f"ExecStart={command} run --yes{variables} {state} {exec_word(str(path))}"
    yield "# What a run that was killed has left is released, if that is still possible."
    yield f"ExecStopPost=-{command} unmount last --wait 10m{variables} {state}"
    yield "KillMode=mixed"
    yield "TimeoutStopSec=30min"
    yield f"StateDirectory={name}"
    yield "StateDirectoryMode=0700"
    yield "# Reports: in reports/RUN below it."
    yield f"WorkingDirectory=%S/{name}"
    yield from _account(plan, user, path)
    yield f"ProtectHome={'read-only' if homes else 'yes'}"
    yield HARDENING.rstrip("\n")
    yield from _written(plan)
    yield from _secrets(plan)


def _timer(plan: RestorePlan) -> Iterator[str]:
    look = _look(plan)
    every = duration(plan.every or 0.0)
    yield "[Unit]"
    yield f"Description={_shown(f'Looks whether the restore drill {plan.name} is due')}"
    yield ""
    yield "[Timer]"
    yield f"# The plan says: every {every}. The service runs it only if it is due by its journal."
    yield f"OnCalendar={look.calendar}"
    yield f"RandomizedDelaySec={look.jitter}"
    yield "Persistent=yes"
    yield ""
    yield "[Install]"
    yield "WantedBy=timers.target"


def _look(plan: RestorePlan) -> Look:
    return next(each for each in LOOKS if (plan.every or 0.0) >= each.least)


def _account(plan: RestorePlan, user: str | None, path: Path) -> Iterator[str]:
    if user is not None:
        yield f"User={unit_word(user)}"
    else:
        yield "DynamicUser=yes"
    yield f"# This account must be able to read {_shown(str(path))} and the files that it names."


def _written(plan: RestorePlan) -> Iterator[str]:
    """Yield the directories into which the plan copies files: no other can be written."""
    places = dict.fromkeys(
        str(Path(each.to)) if each.to.endswith("/") else str(Path(each.to).parent)
        for entry in plan.entries()
        for each in entry.downloads
        if each.to is not None
    )
    if places:
        yield "# Downloads of the plan: these must exist, and the account must own them."
    for place in places:
        yield f"ReadWritePaths={unit_word('-' + place)}"


def _secrets(plan: RestorePlan) -> Iterator[str]:
    """Yield what gives the plan its secrets, or must be done for it."""
    for reference in dict.fromkeys(_references(plan)):
        match reference:
            case CredentialSecret(name=name):
                yield f"LoadCredential={name}:/etc/credstore/{name}"
            case EnvironmentSecret(name=name):
                yield (
                    f"# NOT SET: the environment variable {name}. Better write "
                    "{credential: NAME} into the plan."
                )
            case FileSecret(path=path):
                yield (
                    f"# The account must own the file {_shown(path)}, and nobody else may read it. "
                    "Better write {credential: NAME} into the plan."
                )
            case CommandSecret():
                yield (
                    f"# {_shown(str(reference))} is started for a secret, with the rights of this "
                    "service."
                )
            case KeyringSecret():
                yield f"# NOT AVAILABLE: {_shown(str(reference))}. A service has no keyring."


def _references(plan: RestorePlan) -> Iterable[SecretReference]:
    for server in plan.servers.values():
        for reference in (server.username, server.password):
            if not isinstance(reference, str):
                yield reference
    yield from (each.url for each in plan.notifications)


# --- words of a unit -----------------------------------------------------------------------------


def _is_below(path: Path, places: Iterable[str]) -> bool:
    return any(path.is_relative_to(place) for place in places)


def _shown(text: str) -> str:
    """Return text for a description or a comment: one line, and no specifier in it."""
    return printable(text, 200).replace("%", "%%").rstrip("\\")


def unit_word(text: str) -> str:
    """Return one word of a setting; nothing in it is a specifier, a quote or a line's end."""
    text = text.replace("%", "%%")
    if PLAIN.fullmatch(text):
        return text
    escaped = "".join(
        f"\\x{byte:02x}" if byte < 0x20 or byte == 0x7F or byte in b'"\\' else chr(byte)
        for byte in text.encode("utf-8", errors="surrogateescape")
    )
    return '"' + escaped.encode("latin-1").decode("utf-8", errors="surrogateescape") + '"'


def exec_word(text: str) -> str:
    """Return one argument of a command line, in which no variable is replaced either."""
    return unit_word(text.replace("$", "$$"))
