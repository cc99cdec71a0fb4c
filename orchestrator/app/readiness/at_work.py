"""What a server shows of jobs and restores at work, and what that means for the plan's targets.

What is shown is as old as the last data collection. So what is not shown is never "ok": it may be
there all the same. Source: reference 15.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from orchestrator.app.readiness.asking import ServerAnswers
from orchestrator.app.readiness.findings import Finding, Scope, Subject
from orchestrator.core.activity import COLLECTED_WITHIN_S, Activity, ActivityKind
from orchestrator.core.errors import OrchestratorError
from orchestrator.core.model import MountRequest, ServerName
from orchestrator.core.text import counted, duration, moment

NOTHING_SEEN = f"nothing seen (data up to {duration(COLLECTED_WITHIN_S)} old)"
LONG_OPEN = timedelta(days=1)
"""A file-level restore that is open for longer may be forgotten. Source: reference 15.5."""
NAMED = 5


def server_activity(
    about: Subject, sight: ServerAnswers, now: datetime, *, counts_others: bool
) -> Iterator[Finding]:
    """Yield what is seen at work on a server, or why nothing is.

    `counts_others`: a limit there counts the restores of other people.
    """
    for item, shown in (("jobs_at_work", sight.replications), ("restores_open", sight.restores)):
        if shown is None or isinstance(shown, OrchestratorError):
            yield about.not_visible(item, sight.why_not(shown))
        elif not shown:
            yield about.not_visible(item, NOTHING_SEEN)
        else:
            machines = [each.vm for each in shown]
            more = f" and {len(machines) - NAMED} more" if len(machines) > NAMED else ""
            noun = "machine" if item == "jobs_at_work" else "restore"
            yield about.ok(
                item,
                f"seen: {counted(len(shown), noun)}: {', '.join(machines[:NAMED])}{more}",
            )
    if counts_others and isinstance(sight.restores, OrchestratorError):
        yield about.warning(
            "count_others",
            "has no effect: the server shows no restores, so those of other people use up no "
            f"limit: {sight.why_not(sight.restores)}",
        )
    forgotten = [each for each in _restores(sight) if _is_long_open(each, sight.clock(now))]
    if forgotten:
        first = min(forgotten, key=lambda each: each.began_at)
        yield about.warning(
            "restores_long_open",
            f"{counted(len(forgotten), 'file-level restore')} open for more than a day, the first "
            f"{first.name} on {first.backup_server}: perhaps forgotten",
        )


def target_activity(
    requests: Sequence[MountRequest], sights: Mapping[ServerName, ServerAnswers]
) -> Iterator[Finding]:
    """Yield, for each target whose machine is seen at work, in what and since when."""
    shown: dict[tuple[str, str, str], Activity] = {}
    for name, sight in sights.items():
        for each in (*_replications(sight), *_restores(sight)):
            shown[name, each.backup_server.casefold(), each.vm.casefold()] = each
    for request in requests:
        place = request.server, request.backup_server.casefold(), request.vm.casefold()
        if place in shown:
            each = shown[place]
            yield Subject(Scope.TARGET, request.key, request.critical).warning(
                "at_work",
                f"seen: {each.words} works on {each.vm} since {moment(each.began_at)}; "
                f"conflict: {request.conflict}",
            )


def _replications(sight: ServerAnswers) -> Sequence[Activity]:
    return () if not isinstance(sight.replications, Sequence) else sight.replications


def _restores(sight: ServerAnswers) -> Sequence[Activity]:
    return () if not isinstance(sight.restores, Sequence) else sight.restores


def _is_long_open(activity: Activity, now: datetime) -> bool:
    is_of_files = activity.kind is ActivityKind.FILE_RESTORE
    return is_of_files and now - activity.began_at > LONG_OPEN
