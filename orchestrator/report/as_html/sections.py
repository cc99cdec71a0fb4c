"""Everything of the page but the targets and the pictures."""

from __future__ import annotations

from statistics import median, quantiles

from orchestrator.core.exit_codes import ExitCode
from orchestrator.core.left_open import out_of_reach_words
from orchestrator.core.model import Result
from orchestrator.core.text import counted, duration
from orchestrator.report.as_html.markup import (
    ABSENT,
    cards,
    facts,
    local_and_utc,
    more,
    only_on_paper,
    section,
    shown,
    utc,
)
from orchestrator.report.exit_codes import end_words
from orchestrator.report.foreseen import forecast_in_words
from orchestrator.report.gates import gate_words
from orchestrator.report.objective_values import Objective
from orchestrator.report.shards import served_by, shard_name
from orchestrator.report.text import asked_by_people, words, written, written_words
from orchestrator.report.under_way import shown_totals, state_words
from orchestrator.report.values import PHASES, ForecastReport, Report, TargetReport

NAMED = 500
"""Targets that are named as needing a person; the rest is counted."""

PRINTED = 200
"""Those of them that paper names."""

WARNED = 100
"""Warnings that are shown; those about the whole run come first."""

LATE = 20
"""Objectives of single targets that are shown: those missed by most."""

KINDS = {
    Result.VERIFIED: "good",
    Result.MOUNTED: "good",
    Result.FAILED: "bad",
    Result.UNKNOWN: "doubt",
}
"""How a result is coloured; the others are not."""


def kind_of(target: TargetReport) -> str:
    """Return how a target's result is coloured."""
    return "bad" if target.unchecked else KINDS.get(target.result, "")


def needs_a_person(target: TargetReport) -> bool:
    """Return whether a person must look: the result is unknown, or the mount may be open."""
    is_unknown = target.result is Result.UNKNOWN and target.phase is None
    return is_unknown or target.may_be_open


def concern(target: TargetReport) -> str:
    """Return the colour of what is wrong with a target, or nothing if it is good."""
    if needs_a_person(target):
        return "doubt"
    return "" if target.is_good else kind_of(target)


def heading(report: Report) -> str:
    """Return title, answer and totals."""
    run = report.run
    code = run.exit_code
    kind, word = "doubt", "Not ended"
    if code is not None:
        kind = "good" if code == 0 else "doubt" if code == ExitCode.IN_DOUBT else "bad"
        word = {"good": "Good", "doubt": "In doubt", "bad": "Not good"}[kind]
    unended = "the run is still running" if run.goes_on else "the run has not ended, or was killed"
    why = unended if code is None else end_words(code, run.reasons)
    notes = [
        f"{shown('; '.join(run.reasons), 2000)}." if run.reasons else "",
        f"NARROWED {shown(run.narrowed)}" if run.narrowed else "",
        f"{state_words(run).capitalize()}." if state_words(run) else "",
        "Resumed by a later process." if run.resumed_from else "",
    ]
    tiles = "".join(
        f"<li{_tile(name, count)}><b>{count}</b>{words(name)}</li>"
        for name, count in shown_totals(report).items()
        if count or name in {"targets", "verified", "mounted", "failed", "unknown", "left"}
    )
    return (
        f"<h1>{shown(run.plan)}</h1>"
        f'<p class="soft">{shown(run.description, 2000) if run.description else ""}</p>'
        f'<div class="answer {kind}"><b>{word}</b> · exit code {ABSENT if code is None else code}: '
        f"{shown(why)}{''.join(f'<p>{note}</p>' for note in notes if note)}</div>"
        f'<ul class="tiles">{tiles}</ul>'
    )


def _tile(name: str, count: int) -> str:
    doubtful = name in {"unknown", "left", "may_be_mounted"}
    kind = "bad" if name == "failed" else "doubt" if doubtful else ""
    return f' class="{kind}"' if kind and count else ""


def run_facts(report: Report) -> str:
    """Return who ran what, when and why."""
    run = report.run
    rows = [
        ("Run", f"<code>{shown(run.id)}</code>"),
        ("Reason", shown(run.reason)),
        ("Mode", shown(run.mode)),
        ("Run by", f"{shown(run.user)} on {shown(run.host)}"),
        ("Began", local_and_utc(run.started_at, run.utc_offset_s)),
        ("Ended", local_and_utc(run.finished_at, run.utc_offset_s)),
        ("Took", duration(run.duration_s)),
        *(("Waits", shown(gate_words(each))) for each in run.waits_for),
        *_forecast(run.forecast),
        ("Plan file", f"<code>{shown(run.plan_path)}</code>"),
    ]
    return section("The run", facts(rows))


def _forecast(forecast: ForecastReport | None) -> list[tuple[str, str]]:
    return [] if forecast is None else [("Forecast", shown(forecast_in_words(forecast)))]


def to_do(report: Report) -> str:
    """Return what needs a person, first of all."""
    targets = [target for target in report.targets if needs_a_person(target)]
    if not targets and not report.strays and not report.unread:
        return ""
    strays = (
        (
            "<b>a mount of no target</b>",
            ABSENT,
            '<b class="doubt">left</b>',
            shown(stray.server),
            shown(stray.point_id),
            f"{shown(stray.mount_href or stray.task_id)}: {shown(stray.message)}",
        )
        for stray in report.strays[:NAMED]
    )
    unread = (
        (
            "<b>mounts of no target</b>",
            ABSENT,
            '<b class="doubt">unknown</b>',
            shown(each.server),
            ABSENT,
            shown(each.message, 500),
        )
        for each in report.unread
    )
    rows = (
        (
            f"<b>{shown(each.key)}</b>",
            each.result.value,
            f'<b class="doubt">{each.mount.value}</b>',
            f"{shown(each.vm)} on {shown(each.backup_server)} behind {shown(each.server)}",
            shown(each.point.name if each.point else None),
            shown(each.message),
        )
        for each in targets[:NAMED]
    )
    rest = more(len(targets) - NAMED, ", see report.csv")
    if len(targets) > PRINTED:
        rest += only_on_paper(f"Paper names {PRINTED} of {len(targets)}; all are in report.csv.")
    runs = [each.run for each in report.run.merged if each.may_be_open] or [report.run.id]
    commands = ", ".join(f"<code>bulk-restore unmount {shown(each)}</code>" for each in runs)
    how = (
        "<p>Within 15 minutes of the last request, "
        f"{commands} may still release what is open. "
        "Later: in the Veeam Backup &amp; Replication console of the backup server, find the "
        "running file-level restore session of the restore point and stop it.</p>"
        if report.strays or report.unread or any(each.may_be_open for each in targets)
        else ""
    )
    gone = report.run.out_of_reach
    how += f"<p>{shown(out_of_reach_words(gone), 500)}</p>" if gone else ""
    head = ("Target", "Result", "Mount", "Where", "Restore point", "Why")
    return section(
        "Needs a person",
        how,
        cards(head, (*strays, *unread, *rows), kind="todo", on_paper=PRINTED),
        rest,
    )


def written_files(report: Report) -> str:
    """Return which files were, or may have been, written into guests."""
    rows = [
        (f"<b>{shown(target.key)}</b>", f"<code>{shown(written_words(each), 600)}</code>")
        for target, each in written(report)
    ]
    inner = cards(("Target", "File"), rows[:NAMED], kind="written")
    return section("Written into guests", inner, more(len(rows) - NAMED))


def controls(report: Report) -> str:
    """Return what people asked of the living run."""
    rows = [
        (
            local_and_utc(each.at, report.run.utc_offset_s),
            f"{shown(each.user)} on {shown(each.host)}",
            f"<b>{shown(each.words, 600)}</b>",
        )
        for each in asked_by_people(report, NAMED)
    ]
    if not rows:
        return ""
    inner = cards(("When", "Who", "What"), rows[:NAMED], kind="narrow")
    return section("Asked by people", inner, more(len(rows) - NAMED))


def objectives(report: Report) -> str:
    """Return the objectives of run and waves, and those that single targets missed.

    Of single targets the worst come first. Those without a good result reached nothing that
    could be measured: they are counted, and shown with what went wrong.
    """
    missed = [
        each for target in report.targets for each in target.scoped_objectives() if not each.met
    ]
    late = sorted((each for each in missed if each.actual_s is not None), key=_spare)
    rows = [_objective(each) for each in (*report.objectives, *late[:LATE])]
    unmeasured = len(missed) - len(late)
    notes = [
        more(len(late) - LATE, " that single targets missed, see report.json"),
        f"<p>{counted(unmeasured, 'objective')} of single targets missed because they were not "
        "proven: there is nothing to measure.</p>"
        if unmeasured
        else "",
    ]
    if not rows and not missed:
        return section("Objectives", "<p>The plan names no objective that could be missed.</p>")
    head = ("Of", "Objective", "Wanted", "Reached", "Margin", "Verdict")
    return section("Objectives", cards(head, rows, kind="narrow"), *notes)


def _spare(each: Objective) -> float:
    return each.target_s - (each.actual_s or 0.0)


def _objective(each: Objective) -> tuple[str, ...]:
    reached = "not measured" if each.actual_s is None else duration(each.actual_s)
    margin = ABSENT
    if each.actual_s is not None:
        spare = _spare(each)
        margin = f"{'' if spare >= 0 else '&minus;'}{duration(abs(spare))}"
    met = '<b class="good">met</b>' if each.met else '<b class="bad">MISSED</b>'
    return shown(each.scope), each.kind.upper(), duration(each.target_s), reached, margin, met


def phases(report: Report) -> str:
    """Return where the time went: seconds per phase over all targets that were submitted."""
    ran = [target for target in report.targets if target.attempts]
    if not ran:
        return ""
    rows = []
    for name in PHASES:
        spent = sorted(target.phases_s[name] for target in ran)
        if spent[-1] == 0:
            continue
        late = quantiles(spent, n=20)[-1] if len(spent) > 1 else spent[0]
        cells = (sum(spent), median(spent), min(late, spent[-1]), spent[-1])
        rows.append((name, *(duration(value) for value in cells)))
    head = ("Phase", "All targets", "Median", "95 % within", "Longest")
    return section("Where the time went", cards(head, rows, kind="narrow"))


def waves(report: Report) -> str:
    """Return when each wave ran."""
    rows = (
        (shown(each.name), str(each.targets), utc(each.started_at), utc(each.finished_at))
        for each in report.waves
    )
    return section("Waves", cards(("Wave", "Targets", "Began", "Ended"), rows, kind="narrow"))


def servers(report: Report) -> str:
    """Return every Enterprise Manager: trust, certificate, clock, load."""
    rows = []
    for each in report.servers:
        limit = "" if each.mounts_limit is None else f" of {each.mounts_limit}"
        offset = ABSENT if each.clock_offset_s is None else f"{each.clock_offset_s:+.1f} s"
        insecure = each.tls == "insecure"
        trust = '<b class="bad">NOT CHECKED (insecure)</b>' if insecure else shown(each.tls)
        rows.append(
            (
                f"<b>{shown(each.name)}</b><br><code>{shown(each.url)}</code>",
                f"{trust}<br><code>{shown(each.certificate_sha256)}</code>",
                f"{shown(each.api_version)}<br>{shown(each.user)}",
                offset,
                ABSENT if each.peak_mounts is None else f"{each.peak_mounts}{limit}",
                f"{each.sessions} / {shown(each.requests)} / {shown(each.retries)}",
                shown(each.problem),
            )
        )
    head = (
        "Enterprise Manager",
        "Trust, certificate SHA-256",
        "API, account",
        "Clock",
        "Most mounts",
        "Logons / requests / repeated",
        "Problem",
    )
    return section("Servers", cards(head, rows, kind="servers"))


def workers(report: Report) -> str:
    """Return who served each server, in a run over several machines."""
    rows = [
        (
            f"<b>{shown(shard_name(each))}</b>",
            str(each.takeovers),
            shown(served_by(each), 600),
        )
        for each in report.run.shards
    ]
    inner = cards(("Server", "Takeovers", "Workers"), rows[:NAMED], kind="narrow")
    return section("Served by", inner, more(len(rows) - NAMED))


def merged(report: Report) -> str:
    """Return the runs whose reports were merged into this one."""
    rows = [
        (
            f"<b>{each.number}</b>",
            f"<code>{shown(each.run)}</code><br>{shown(each.host)}",
            "none yet" if each.exit_code is None else str(each.exit_code),
            str(each.targets),
            f"{each.evidence}<br><code>{shown(each.journal_head)}</code>",
        )
        for each in report.run.merged
    ]
    head = ("Shard", "Run, machine", "Exit code", "Targets", "Evidence, journal chain head")
    return section("Shards", cards(head, rows[:NAMED]), more(len(rows) - NAMED))


def warnings(report: Report) -> str:
    """Return what the run wants to be known."""
    lines = "".join(f"<li>{shown(line, 500)}</li>" for line in report.warnings[:WARNED])
    left_out = more(len(report.warnings) - WARNED)
    return section("Warnings", f"<ul>{lines}</ul>" if lines else "", left_out)


def evidence(report: Report) -> str:
    """Return what the report rests on, what it does not prove, and where it is signed."""
    run = report.run
    rows = [
        ("Plan SHA-256", f"<code>{shown(run.plan_sha256)}</code>"),
        ("Locked plan SHA-256", f"<code>{shown(run.locked_sha256)}</code>"),
        ("Journal chain head", f"<code>{shown(run.journal_head)}</code>"),
        ("Program", f"bulk-restore {shown(run.version)}"),
    ]
    not_proven = "".join(f"<li>{shown(line, 500)}</li>" for line in report.not_proven)
    return (
        section("Not proven", f"<ul>{not_proven}</ul>")
        + section("Evidence", facts(rows))
        + '<div class="sign"><p>Carried out by, date</p><p>Checked by, date</p>'
        "<p>Accepted by, date</p></div>"
    )
