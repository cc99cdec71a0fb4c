"""What a server's sight means for the plan: one answer per item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from orchestrator.em.facts import ServiceRoot
from orchestrator.errors import (
    AccessDenied,
    CertificateRefused,
    CredentialError,
    LogonRefused,
    NotFound,
    OrchestratorError,
)
from orchestrator.model import RestorePoint, counted
from orchestrator.plan.inventory import Listing
from orchestrator.plan.settings import ServerSettings
from orchestrator.readiness.asking import LoggedOn, Sight
from orchestrator.readiness.findings import Finding, Scope, Subject
from orchestrator.report.text import duration

CLOCK_OFF_S = 60.0
"""A server's clock may differ by so much before a person is told."""

EXPIRES_SOON = timedelta(days=14)

STALE_S = 86_400.0
"""If nothing newer than this is listed, the data collection may have stopped."""

NOTHING_WANTED = "not applicable: the plan asks for nothing on this server"

COLLECTION = "Enterprise Manager collects every 15 minutes by default"


def server_findings(
    sight: Sight, settings: ServerSettings, now: datetime, held: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield the answers about one server; `now` is this machine's time.

    `held` are the mounts that other living runs of this machine hold there, by run.
    """
    about = Subject(Scope.SERVER, sight.server)
    yield _reachable(about, sight, settings)
    yield _trust(about, sight, settings, now)
    yield _api_version(about, sight, settings)
    yield from _logon(about, sight)
    yield _clock(about, sight)
    yield from _role(about, sight)
    yield _sessions(about, sight)
    yield _open_mounts(about, settings, held)
    if _is_on(sight.logon) and not sight.sources:
        yield from (about.ok(item, NOTHING_WANTED) for item in ("inventory", "inventory_age"))
        yield _backup_servers(about, sight)
        yield about.ok("limits", NOTHING_WANTED)
    else:
        yield _inventory(about, sight)
        yield _inventory_age(about, sight, now)
        yield _backup_servers(about, sight)
        yield _limits(about, sight, settings)


def _reachable(about: Subject, sight: Sight, settings: ServerSettings) -> Finding:
    root = sight.root
    if root is None:
        return about.problem("reachable", f"{settings.url} gave no answer in {sight.patience:g} s")
    if isinstance(root, CertificateRefused):
        return about.ok("reachable", f"{settings.url} answers, and is not trusted")
    if isinstance(root, OrchestratorError) and sight.logon is None:
        return about.problem("reachable", str(root))
    if sight.out_of_patience:
        return about.problem(
            "reachable", f"{settings.url} did not answer everything in {sight.patience:g} s"
        )
    if sight.broke_off is not None:
        return about.problem("reachable", f"{settings.url} broke off: {sight.broke_off}")
    return about.ok("reachable", settings.url)


def _trust(about: Subject, sight: Sight, settings: ServerSettings, now: datetime) -> Finding:
    kind, root = settings.trust.kind, sight.root
    if isinstance(root, CertificateRefused):
        return about.problem("trust", str(root))
    if isinstance(sight.logon, CertificateRefused):
        return about.problem("trust", str(sight.logon))
    if not isinstance(root, ServiceRoot) or root.certificate_sha256 is None:
        return about.not_visible("trust", f"{kind}: no certificate was seen")
    shown = f"{kind}: certificate {root.certificate_sha256}"
    expires = root.certificate_expires
    if expires is not None:
        shown += f", valid until {expires:%Y-%m-%d}"
    if kind == "insecure":
        return about.warning("trust", f"{shown}; nobody checks that this is your server")
    if expires is not None and expires < now:
        return about.warning("trust", f"{shown}: it has expired")
    if expires is not None and expires < now + EXPIRES_SOON:
        return about.warning("trust", f"{shown}: it expires soon")
    return about.ok("trust", shown)


def _api_version(about: Subject, sight: Sight, settings: ServerSettings) -> Finding:
    if not isinstance(sight.root, ServiceRoot):
        return about.not_visible("api_version", sight.why_not(sight.root))
    offered = sight.root.versions
    if not offered:
        return about.not_visible("api_version", "the server names none")
    names = ", ".join(offered)
    if settings.api_version not in {"latest", *offered}:
        return about.problem(
            "api_version", f"the plan asks for {settings.api_version}, the server offers {names}"
        )
    return about.ok("api_version", f"{settings.api_version} of {names}")


def _logon(about: Subject, sight: Sight) -> Iterator[Finding]:
    logon = sight.logon
    if logon is None:
        if isinstance(sight.secret, OrchestratorError):
            yield about.problem("secret", str(sight.secret))
        elif sight.secret is None:
            yield about.not_visible("secret", sight.why_not(None))
        else:
            yield about.ok("secret", "found")
        yield about.not_visible("logon", sight.why_not(None))
    elif isinstance(logon, CredentialError):
        yield about.problem("secret", str(logon))
        yield about.not_visible("logon", "not tried: a secret is missing")
    else:
        yield about.ok("secret", "found")
        yield _logon_with_secret(about, logon)


def _logon_with_secret(about: Subject, logon: LoggedOn | OrchestratorError) -> Finding:
    if isinstance(logon, LoggedOn):
        return about.ok("logon", f"as {logon.user}")
    if isinstance(logon, AccessDenied):
        return about.ok("logon", "accepted")
    if isinstance(logon, LogonRefused):
        return about.problem("logon", f"refused, and tried once only: {logon}")
    return about.problem("logon", str(logon))


def _clock(about: Subject, sight: Sight) -> Finding:
    offset = sight.clock_offset_s
    if offset is None:
        return about.not_visible("clock", sight.why_not(sight.root, "the server told no time"))
    way = "ahead of" if offset > 0 else "behind"
    if abs(offset) > CLOCK_OFF_S:
        return about.warning(
            "clock",
            f"the server's clock is {duration(abs(offset))} {way} this machine's: "
            "ages of restore points are off by as much",
        )
    return about.ok("clock", f"{offset:+.1f} s")


def _role(about: Subject, sight: Sight) -> Iterator[Finding]:
    """Tell whether the account may mount, family by family of the plan."""
    if isinstance(sight.logon, AccessDenied):
        yield about.problem("role", str(sight.logon))
        return
    if not isinstance(sight.logon, LoggedOn):
        yield about.not_visible("role", sight.why_not(sight.logon))
        return
    for source in sight.sources:
        item = "role" if len(sight.sources) == 1 else f"role_{source}"
        if source not in sight.mounting:
            yield about.not_visible(item, f"{source}: no restore point is listed to try it on")
            continue
        match sight.mounting[source]:
            case None:
                yield about.ok(item, f"{source}: may mount")
            case AccessDenied():
                yield about.problem(
                    item,
                    f"{source}: the account sees restore points and may not mount them; "
                    "File Restore Operator is enough",
                )
            case NotFound():
                yield about.not_visible(
                    item, f"{source}: the server has no list of mounts to show before a mount"
                )
            case OrchestratorError() as exc:
                yield about.not_visible(item, f"{source}: {exc}")


def _sessions(about: Subject, sight: Sight) -> Finding:
    found = sight.sessions
    if found is None or isinstance(found, OrchestratorError) or not _is_on(sight.logon):
        return about.not_visible("sessions", sight.why_not(found))
    mine = sight.logon
    assert isinstance(mine, LoggedOn)  # noqa: S101 - as _is_on says
    others = [
        each
        for each in found
        if each.id != mine.session and each.user.casefold() == mine.user.casefold()
    ]
    if not others:
        return about.ok("sessions", f"no other session of {mine.user} is open")
    return about.ok(
        "sessions",
        f"{counted(len(others), 'other session')} of {mine.user} open, perhaps another "
        "program's; never touched",
    )


def _open_mounts(about: Subject, settings: ServerSettings, held: Mapping[str, int]) -> Finding:
    """What other sessions hold the server does not tell; our own runs, the journal does."""
    if not held:
        return about.not_visible(
            "open_mounts", "mounts of other logon sessions cannot be seen through the API"
        )
    runs = ", ".join(f"run {run} holds {counted(count, 'mount')}" for run, count in held.items())
    limit = "" if settings.mounts_limit is None else f" beside the plan's {settings.mounts_limit}"
    return about.warning("open_mounts", f"{runs} there now, and they count{limit}")


def _is_on(logon: object) -> bool:
    return isinstance(logon, LoggedOn)


def _inventory(about: Subject, sight: Sight) -> Finding:
    if isinstance(sight.points, OrchestratorError):
        return about.problem("inventory", f"restore points cannot be read: {sight.points}")
    if sight.points is None:
        return about.not_visible("inventory", sight.why_not(sight.logon))
    return about.ok("inventory", f"{counted(len(sight.listed), 'restore point')} of the plan's")


def _inventory_age(about: Subject, sight: Sight, now: datetime) -> Finding:
    """Say how old the newest listed point of all is, on the server's own clock."""
    found = [point for point in sight.newest.values() if isinstance(point, RestorePoint)]
    if not found:
        refused = [each for each in sight.newest.values() if isinstance(each, OrchestratorError)]
        why = sight.why_not(refused[0] if refused else None, "no restore point is listed at all")
        return about.not_visible("inventory_age", why)
    newest = max(found, key=lambda point: point.created_at)
    age = (now - newest.created_at).total_seconds() + (sight.clock_offset_s or 0.0)
    told = f"the newest listed restore point ({newest.name}) is {duration(max(0.0, age))} old"
    if age > STALE_S:
        return about.warning("inventory_age", f"{told}: is data still collected? {COLLECTION}")
    return about.ok("inventory_age", f"{told}; {COLLECTION}")


def _backup_servers(about: Subject, sight: Sight) -> Finding:
    found = sight.backup_servers
    if found is None or isinstance(found, OrchestratorError):
        return about.not_visible("backup_servers", sight.why_not(found))
    shown = ", ".join(f"{each.name} {each.version or ''}".rstrip() for each in found[:10])
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return about.ok("backup_servers", f"{shown}{more}; when each was last collected is not told")


def _limits(about: Subject, sight: Sight, settings: ServerSettings) -> Finding:
    """Compare the backup servers that the plan limits with those there are."""
    if not sight.listed:
        return about.not_visible("limits", sight.why_not(sight.logon, _why_none(sight)))
    known = {point.backup_server for point in sight.listed}
    if sight.backup_servers is not None and not isinstance(sight.backup_servers, OrchestratorError):
        known |= {each.name for each in sight.backup_servers}
    unknown = sorted(set(settings.backup_server_mounts) - known)
    if unknown:
        return about.warning(
            "limits",
            f"the plan limits {', '.join(unknown)}, which carries none of its targets; "
            f"there is {', '.join(sorted(known))}",
        )
    carrying = sorted({point.backup_server for point in sight.listed})
    each = ", ".join(f"{name}: {settings.mounts_on(name)}" for name in carrying[:10])
    total = "no limit" if settings.mounts_limit is None else str(settings.mounts_limit)
    return about.ok("limits", f"mounts at once: {total} in all; {each}")


def _why_none(sight: Sight) -> str:
    """Say why a server that was asked shows none of the plan's restore points."""
    if isinstance(sight.points, OrchestratorError):
        return "the plan's restore points cannot be read"
    if isinstance(sight.points, Listing) and sight.points.refused:
        return "the server refused to list restore points that the plan asks for"
    if any(isinstance(point, RestorePoint) for point in sight.newest.values()):
        return "the server lists none of the restore points that the plan asks for"
    return "no restore point to see"
