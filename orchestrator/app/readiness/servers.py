"""What the answers of a server mean for the plan: one finding per item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from orchestrator.app.readiness.asking import LoggedOn, ServerAnswers
from orchestrator.app.readiness.at_work import server_activity
from orchestrator.app.readiness.findings import Finding, Scope, Subject
from orchestrator.core.errors import (
    AccessDenied,
    CertificateRefused,
    CredentialError,
    LogonRefused,
    NotFound,
    OrchestratorError,
)
from orchestrator.core.model import RestorePoint
from orchestrator.core.policy import FUTURE_SLACK, clock_correction
from orchestrator.core.text import counted, duration
from orchestrator.em.facts import ServiceRoot
from orchestrator.journal import holds
from orchestrator.plan.choose.guards import unknown_limits
from orchestrator.plan.choose.inventory import Listing
from orchestrator.plan.file.settings import ServerSettings

CLOCK_OFF_S = 60.0
"""A server's clock may differ by so much without a warning."""

EXPIRES_SOON = timedelta(days=14)

STALE_S = 86_400.0
"""If nothing newer than this is listed, the data collection may have stopped."""

NOTHING_WANTED = "not applicable: the plan asks for nothing on this server"

COLLECTION = "Enterprise Manager collects every 15 minutes by default"


def server_findings(
    sight: ServerAnswers, settings: ServerSettings, now: datetime, held: Mapping[str, int]
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
    yield from server_activity(about, sight, now, counts_others=bool(settings.counting_others))
    if isinstance(sight.logon, LoggedOn) and not sight.sources:
        yield from (about.ok(item, NOTHING_WANTED) for item in ("inventory", "inventory_age"))
        yield _backup_servers(about, sight)
        yield about.ok("limits", NOTHING_WANTED)
    else:
        yield _inventory(about, sight)
        yield _inventory_age(about, sight, now)
        yield _backup_servers(about, sight)
        yield _limits(about, sight, settings)


def _reachable(about: Subject, sight: ServerAnswers, settings: ServerSettings) -> Finding:
    root = sight.root
    if root is None:
        return about.problem(
            "reachable", f"{settings.url} gave no answer in {duration(sight.patience)}"
        )
    if isinstance(root, CertificateRefused):
        return about.ok("reachable", f"{settings.url} answers, and is not trusted")
    if isinstance(root, OrchestratorError) and sight.logon is None:
        return about.problem("reachable", str(root))
    if sight.out_of_patience:
        return about.problem(
            "reachable", f"{settings.url} did not answer everything in {duration(sight.patience)}"
        )
    if sight.broke_off is not None:
        return about.problem("reachable", f"{settings.url} broke off: {sight.broke_off}")
    return about.ok("reachable", settings.url)


def _trust(
    about: Subject, sight: ServerAnswers, settings: ServerSettings, now: datetime
) -> Finding:
    kind, root = settings.trust.kind, sight.root
    if isinstance(root, CertificateRefused):
        return about.problem("trust", str(root))
    if isinstance(sight.logon, CertificateRefused):
        return about.problem("trust", str(sight.logon))
    if sight.certificate is None:
        return about.not_visible("trust", f"{kind}: no certificate was seen")
    sha256, expires = sight.certificate
    detail = f"{kind}: certificate {sha256}"
    if expires is not None:
        detail += f", valid until {expires:%Y-%m-%d}"
    if kind == "insecure":
        return about.warning("trust", f"{detail}; the server's identity is not checked")
    if expires is not None and expires < now:
        return about.warning("trust", f"{detail}: it has expired")
    if expires is not None and expires < now + EXPIRES_SOON:
        return about.warning("trust", f"{detail}: it expires soon")
    return about.ok("trust", detail)


def _api_version(about: Subject, sight: ServerAnswers, settings: ServerSettings) -> Finding:
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


def _logon(about: Subject, sight: ServerAnswers) -> Iterator[Finding]:
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
        if isinstance(logon, LoggedOn):
            yield about.ok("logon", f"as {logon.user}")
        elif isinstance(logon, AccessDenied):
            yield about.ok("logon", "accepted")
        else:
            once = "refused, and tried once only: " if isinstance(logon, LogonRefused) else ""
            yield about.problem("logon", f"{once}{logon}")


def _clock(about: Subject, sight: ServerAnswers) -> Finding:
    offset = sight.clock_offset_s
    if offset is None:
        return about.not_visible(
            "clock", sight.why_not(sight.root, "the server did not send its time")
        )
    way = "ahead of" if offset > 0 else "behind"
    if abs(offset) > CLOCK_OFF_S:
        return about.warning(
            "clock",
            f"the server's clock is {duration(abs(offset))} {way} this machine's: "
            "ages of restore points are corrected by as much",
        )
    return about.ok("clock", f"{offset:+.1f} s")


def _role(about: Subject, sight: ServerAnswers) -> Iterator[Finding]:
    """Yield whether the account may mount, for each family of the plan."""
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


def _sessions(about: Subject, sight: ServerAnswers) -> Finding:
    sessions, logon = sight.sessions, sight.logon
    if isinstance(sessions, OrchestratorError | None) or not isinstance(logon, LoggedOn):
        return about.not_visible("sessions", sight.why_not(sessions))
    others = [each for each in sessions if each.id != logon.session and each.is_of(logon.user)]
    if not others:
        return about.ok("sessions", f"no other session of {logon.user} is open")
    return about.ok(
        "sessions",
        f"{counted(len(others), 'other session')} of {logon.user} open, perhaps another "
        "program's; never touched",
    )


def _open_mounts(about: Subject, settings: ServerSettings, held: Mapping[str, int]) -> Finding:
    """Mounts of other sessions: not listed as such; the journal shows our own runs'."""
    if not held:
        return about.not_visible(
            "open_mounts",
            "the API lists a mount only in the logon session that made it; those of others may "
            "show among the open restores",
        )
    runs = ", ".join(holds(run, count) for run, count in held.items())
    limit = "" if settings.mounts_limit is None else f" beside the plan's {settings.mounts_limit}"
    return about.warning("open_mounts", f"{runs} there now, and they count{limit}")


def _inventory(about: Subject, sight: ServerAnswers) -> Finding:
    if isinstance(sight.points, OrchestratorError):
        return about.problem("inventory", f"restore points cannot be read: {sight.points}")
    if sight.points is None:
        return about.not_visible("inventory", sight.why_not(sight.logon))
    detail = f"{counted(len(sight.listed), 'restore point')} of the plan's"
    if sight.points.unread is not None:
        return about.warning("inventory", f"{detail}; {sight.points.unread}")
    return about.ok("inventory", detail)


def _inventory_age(about: Subject, sight: ServerAnswers, now: datetime) -> Finding:
    """Return how old the newest listed point of all is, on the server's own clock."""
    points = [point for point in sight.newest.values() if isinstance(point, RestorePoint)]
    if not points:
        refused = [each for each in sight.newest.values() if isinstance(each, OrchestratorError)]
        why = sight.why_not(refused[0] if refused else None, "no restore point is listed at all")
        return about.not_visible("inventory_age", why)
    newest = max(points, key=lambda point: point.created_at)
    age = (now - newest.created_at).total_seconds() + clock_correction(sight.clock_offset_s)
    if age < -FUTURE_SLACK:
        return about.warning(
            "inventory_age",
            f"the newest listed restore point ({newest.name}) is from the future: made in "
            f"{duration(-age)} by the server's own clock",
        )
    detail = f"the newest listed restore point ({newest.name}) is {duration(max(0.0, age))} old"
    if age > STALE_S:
        return about.warning("inventory_age", f"{detail}: is data still collected? {COLLECTION}")
    return about.ok("inventory_age", f"{detail}; {COLLECTION}")


def _backup_servers(about: Subject, sight: ServerAnswers) -> Finding:
    servers = sight.backup_servers
    if servers is None or isinstance(servers, OrchestratorError):
        return about.not_visible("backup_servers", sight.why_not(servers))
    names = ", ".join(f"{each.name} {each.version or ''}".rstrip() for each in servers[:10])
    more = f" and {len(servers) - 10} more" if len(servers) > 10 else ""
    return about.ok(
        "backup_servers", f"{names}{more}; the API does not show when each was last collected"
    )


def _limits(about: Subject, sight: ServerAnswers, settings: ServerSettings) -> Finding:
    """Compare the backup servers that the plan limits with those there are."""
    if not sight.listed:
        return about.not_visible("limits", sight.why_not(sight.logon, _why_none(sight)))
    if isinstance(sight.points, Listing):
        limited = settings.backup_server_mounts
        unknown = list(unknown_limits(settings.name, limited, sight.points))
        if unknown:
            return about.problem("limits", "; ".join(unknown))
    carrying = sorted({point.backup_server for point in sight.listed})
    each = ", ".join(f"{name}: {settings.mounts_on(name)}" for name in carrying[:10])
    total = "no limit" if settings.mounts_limit is None else str(settings.mounts_limit)
    return about.ok("limits", f"mounts at once: {total} in all; {each}")


def _why_none(sight: ServerAnswers) -> str:
    """Return why a server that was asked shows none of the plan's restore points."""
    if isinstance(sight.points, OrchestratorError):
        return "the plan's restore points cannot be read"
    if isinstance(sight.points, Listing) and sight.points.refused:
        return "the server refused to list restore points that the plan asks for"
    if any(isinstance(point, RestorePoint) for point in sight.newest.values()):
        return "the server lists none of the restore points that the plan asks for"
    return "no restore point to see"
