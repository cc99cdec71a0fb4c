"""Which requests of `ctl` a run takes: the same rules where one is made and where it is done.

A sentence says why one is refused, and what the right form is; nothing is changed then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.core.controls import Control, LimitChange, Look, Verb, limit_change
from orchestrator.core.events import RunStarted
from orchestrator.core.lifecycle import FIRM_RESULTS, MountRecord, Phase
from orchestrator.core.model import MountKey
from orchestrator.core.text import printable

NAMED = 12
"""How many known names are listed beside an unknown one."""


def why_refused(
    control: Control, started: RunStarted, records: Collection[MountRecord]
) -> str | None:
    """Return why a run does not take a request, by its plan and its targets; None: it does."""
    match control.verb:
        case Verb.PAUSE | Verb.CONTINUE:
            why = _too_many(control, 0, control.verb)
        case Verb.LIMITS:
            why = _why_no_limits(control, started, records)
        case Verb.SKIP:
            why = _why_no_skip(control, records)
        case Verb.RETRY:
            why = _why_no_retry(control, records)
        case Verb.APPROVE:
            why = _why_no_answer(control, started)
        case Look.BROWSE | Look.GET:
            why = _why_no_look(control, records)
        case _:
            why = f"there is no request '{printable(control.verb)}': {_listed(Verb)}"
    if why is None and control.beyond_plan and control.verb != Verb.LIMITS:
        why = "--beyond-plan is for limits only"
    if why is None and control.reject and control.verb != Verb.APPROVE:
        why = "--reject is for approve only"
    return why


def _too_many(control: Control, count: int, form: str) -> str | None:
    if len(control.words) == count:
        return None
    if len(control.words) > count:
        return f"'{printable(control.words[count])}' is one word too many; the form is: {form}"
    return f"something is missing; the form is: {form}"


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    return ", ".join(map(printable, known[:NAMED])) + (", …" if len(known) > NAMED else "")


# --- limits ---------------------------------------------------------------------------------


def _why_no_limits(
    control: Control, started: RunStarted, records: Collection[MountRecord]
) -> str | None:
    if not control.words:
        return _too_many(control, 1, "limits run.mounts=10 hq.mounts=2 hq/vbr-01.mounts=1")
    for word in control.words:
        try:
            change = limit_change(word)
        except ValueError as exc:
            return str(exc)
        why = _unknown(change, started, records) or _above(change, control, started)
        if why is not None:
            return f"'{printable(word)}': {why}"
    return None


def _unknown(
    change: LimitChange, started: RunStarted, records: Collection[MountRecord]
) -> str | None:
    if change.server is None:
        return None
    facts = next((each for each in started.servers if each.name == change.server), None)
    if facts is None:
        known = _listed(each.name for each in started.servers)
        return f"the plan has no server '{printable(change.server)}'; its servers: {known}"
    if change.backup_server is None:
        return None
    known_there = {str(name) for name in facts.backup_server_limits}
    known_there |= {
        record.planned.backup_server
        for record in records
        if record.planned.server == change.server and record.planned.backup_server
    }
    if change.backup_server.casefold() in {name.casefold() for name in known_there}:
        return None
    return (
        f"no target and no limit of the plan is on a backup server "
        f"'{printable(change.backup_server)}' behind {printable(change.server)}; known there: "
        f"{_listed(known_there) or 'none yet'}"
    )


def _above(change: LimitChange, control: Control, started: RunStarted) -> str | None:
    planned = _planned_limit(change, started)
    if control.beyond_plan or planned is None or change.mounts <= planned:
        return None
    return f"the plan allows {planned}; add --beyond-plan to go above it"


def _planned_limit(change: LimitChange, started: RunStarted) -> int | None:
    if change.server is None:
        return started.mounts_limit
    facts = next(each for each in started.servers if each.name == change.server)
    if change.backup_server is None:
        return facts.mounts_limit
    folded = {name.casefold(): limit for name, limit in facts.backup_server_limits.items()}
    return folded.get(change.backup_server.casefold(), facts.default_backup_server_limit)


# --- skip -----------------------------------------------------------------------------------


def _why_no_skip(control: Control, records: Collection[MountRecord]) -> str | None:
    form = "skip KEY --reason TEXT"
    why = _too_many(control, 1, form)
    if why is not None:
        return why
    if not (control.reason or "").strip():
        return f"a skip needs a reason, which is in the report: {form}"
    key = MountKey(control.words[0])
    record = next((each for each in records if each.planned.key == key), None)
    if record is None:
        return _unknown_key(key, records)
    return why_not_skipped(record)


def why_not_skipped(record: MountRecord) -> str | None:
    """Return why a target is not skipped: it is too late for that; None: it still waits."""
    key = printable(record.planned.key)
    if record.is_final:
        return f"{key} has its result already: {record.result}"
    if record.phase is not Phase.QUEUED or record.ever_submitted:
        phase = record.phase.words
        return (
            f"{key} was submitted already (now {phase}): only a target that was never submitted "
            "is skipped"
        )
    return None


def _why_no_retry(control: Control, records: Collection[MountRecord]) -> str | None:
    why = _too_many(control, 1, "retry KEY")
    if why is not None:
        return why
    key = MountKey(control.words[0])
    record = next((each for each in records if each.planned.key == key), None)
    if record is None:
        return _unknown_key(key, records)
    if not record.is_final:
        return f"{printable(key)} has no result yet: it is {record.phase.words}"
    if record.result in FIRM_RESULTS:
        return f"{printable(key)} is {record.result}: there is nothing to try again"
    if record.may_be_open:
        return f"a mount of {printable(key)} may still be open: it is not mounted a second time"
    if record.planned.point is None:
        return f"{printable(key)} has no restore point that could be mounted"
    return None


def _why_no_answer(control: Control, started: RunStarted) -> str | None:
    form = "approve WAVE [--reject] --reason TEXT"
    why = _too_many(control, 1, form)
    if why is not None:
        return why
    wave, gated = control.words[0], [gate.before for gate in started.gates]
    if wave not in {each.name for each in started.waves}:
        known = _listed(each.name for each in started.waves)
        return f"the plan has no wave '{printable(wave)}'; its waves: {known}"
    if wave not in gated:
        behind = f"gates are before: {_listed(gated)}" if gated else "the plan has no gates"
        return f"there is no gate before '{printable(wave)}'; {behind}"
    if not (control.reason or "").strip():
        return f"an answer needs a reason, which is in the report: {form}"
    return None


def _why_no_look(control: Control, records: Collection[MountRecord]) -> str | None:
    if control.verb == Look.GET or len(control.words) != 1:  # of a listing the path may be missing
        why = _too_many(control, 2, f"{control.verb} KEY PATH")
        if why is not None:
            return why
    key = MountKey(control.words[0])
    record = next((each for each in records if each.planned.key == key), None)
    return _unknown_key(key, records) if record is None else why_not_seen(record)


def why_not_seen(record: MountRecord) -> str | None:
    """Return why nobody can look into a target's mount: it is not held; None: it is."""
    if record.phase is Phase.HELD:
        return None
    now = f"its result is {record.result}" if record.is_final else record.phase.value
    return (
        f"{printable(record.planned.key)} is not held ({now.replace('_', ' ')}): only a held mount "
        "can be looked into; mounts are held with: bulk-restore run PLAN --hold 1h, or "
        "cleanup: {keep_failed: 30m} in the plan"
    )


def _unknown_key(key: MountKey, records: Collection[MountRecord]) -> str:
    named = [each.planned for each in records if key in {each.planned.vm, each.planned.label}]
    if named:
        keys = _listed(each.key for each in named)
        return f"'{printable(key)}' is not a key; the keys of that machine: {keys}"
    return (
        f"no target of the run has the key '{printable(key)}'; see them with: bulk-restore list RUN"
    )
