"""The bodies of messages: our own JSON, Slack's blocks, Teams' card.

Text that came from a server or a plan is shown as text everywhere: control characters are
escaped, and what the receiver would take for markup, links or mentions is not.

The generic body, version 1 (fields may be added, never removed)::

    {"v": 1, "id": ..., "event": "finished", "at": RFC 3339, "text": one sentence, "good": bool,
     "run": {"id", "plan", "mode", "reason", "version", "duration_s", "exit_code"},
     "wave": name or null, "totals": {"targets", "verified", ..., "left", "may_be_mounted"},
     "targets": [{"key", "server", "vm", "result", "mount", "message"}], "more_targets": int,
     "objectives": [{"scope", "kind", "target_s", "actual_s", "words"}], "more_objectives": int,
     "report": directory or null}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.app.notify.composing import Notice
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.text import counted, escape_markup, printable, timestamp
from orchestrator.plan.file.settings import HookKind, NotifyOn
from orchestrator.report.objective_values import Objective
from orchestrator.report.text import reached_of_wanted

VERSION = 1
NAMED = 20
"""Objectives that the generic body names."""

LINES = 10
"""Targets and objectives that a card for people names; the others are counted."""

LINE, TEXT = 200, 500
"""Characters of a line, and of the sentence, on such a card: receivers have limits, and Slack
counts what is escaped five times."""

_URGENT = {NotifyOn.HALTED: "HALTED", NotifyOn.LEFTOVER: "MOUNTS LEFT OPEN"}


def body(notice: Notice, kind: HookKind) -> bytes:
    """Return what is posted to a webhook of this kind, as UTF-8 JSON."""
    shape = {HookKind.GENERIC: as_values, HookKind.SLACK: _slack, HookKind.TEAMS: _teams}[kind]
    return json.dumps(shape(notice), ensure_ascii=False).encode(errors="backslashreplace")


def as_values(notice: Notice) -> dict[str, Any]:
    """Return the generic body's values."""
    return {
        "v": VERSION,
        "id": notice.id,
        "event": notice.event.value,
        "at": timestamp(notice.at),
        "text": printable(notice.text, 1000),
        "good": notice.good,
        "run": {
            "id": notice.run,
            "plan": printable(notice.plan),
            "mode": notice.mode,
            "reason": None if notice.reason is None else printable(notice.reason),
            "version": notice.version,
            "duration_s": notice.duration_s,
            "exit_code": notice.exit_code,
        },
        "wave": None if notice.wave is None else printable(notice.wave),
        "totals": dict(notice.totals),
        "targets": [_printable(_target(each)) for each in notice.targets],
        "more_targets": notice.more_targets,
        "objectives": [_printable(_missed(each)) for each in notice.objectives[:NAMED]],
        "more_objectives": max(0, len(notice.objectives) - NAMED),
        "report": None if notice.report is None else printable(notice.report, 1000),
    }


def _target(record: MountRecord) -> dict[str, Any]:
    planned = record.planned
    return {
        "key": planned.key,
        "server": planned.server,
        "vm": planned.vm,
        "result": record.result.value if record.result else None,
        "mount": record.mount_state.value,
        "message": record.message,
    }


def _missed(each: Objective) -> dict[str, Any]:
    values = {name: getattr(each, name) for name in ("scope", "kind", "target_s", "actual_s")}
    return {**values, "words": reached_of_wanted(each)}


def _printable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: printable(v) if isinstance(v, str) else v for name, v in row.items()}


# --- what people read ----------------------------------------------------------------------


def _title(notice: Notice) -> str:
    what = _URGENT.get(notice.event, notice.event.replace("_", " "))
    if notice.exit_code is not None and notice.event is NotifyOn.FINISHED:
        what = "finished well" if notice.good else f"finished, exit code {notice.exit_code}"
    return printable(f"Restore {notice.mode} {notice.plan}: {what}", 140)


def _details(notice: Notice) -> Iterator[str]:
    """Yield a line for each target and objective that is named, not safe to show as markup."""
    for target in notice.targets[:LINES]:
        why = f": {target.message}" if target.message else ""
        how = f"{target.result or 'open'}, mount {target.mount_state}{why}"
        yield printable(f"{target.planned.key}: {how}", LINE)
    more = notice.more_targets + max(0, len(notice.targets) - LINES)
    if more:
        yield f"and {counted(more, 'more target')}"
    for missed in notice.objectives[:LINES]:
        yield printable(f"{missed.scope} {missed.kind.upper()}: {reached_of_wanted(missed)}", LINE)
    if len(notice.objectives) > LINES:
        yield f"and {counted(len(notice.objectives) - LINES, 'more objective')}"


def _facts(notice: Notice) -> list[tuple[str, str]]:
    facts = [("Run", notice.run), ("Reason", notice.reason), ("Report", notice.report)]
    return [(name, printable(value, LINE)) for name, value in facts if value]


def _slack(notice: Notice) -> dict[str, Any]:
    """Return Slack's form: foreign text is in a code span, where nothing is markup."""
    sections = [printable(notice.text, TEXT), *_details(notice)]
    facts = [_mrkdwn(f"{name}: {_code(value)}") for name, value in _facts(notice)]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _title(notice), "emoji": False}}
    ]
    blocks += [{"type": "section", "text": _mrkdwn(_code(text))} for text in sections]
    blocks.append({"type": "context", "elements": facts})
    return {"text": escape_markup(_title(notice)), "mrkdwn": False, "blocks": blocks}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _code(text: str) -> str:
    """Return a code span; a text cannot leave it."""
    return f"`{escape_markup(text.replace('`', chr(0x2019)))}`"


def _teams(notice: Notice) -> dict[str, Any]:
    """Return an Adaptive Card in the envelope that Teams' webhooks take.

    All texts are text runs, which know no Markdown.
    """
    colour = "Good" if notice.good else "Attention"
    rows = [
        _run(_title(notice), weight="Bolder", size="Medium", color=colour),
        _run(printable(notice.text, TEXT)),
        *(_run(line, fontType="Monospace", size="Small") for line in _details(notice)),
        *(_run(f"{name}: {value}", isSubtle=True, size="Small") for name, value in _facts(notice)),
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": _title(notice),
        "body": rows,
    }
    return {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": card,
            }
        ],
    }


def _run(text: str, **look: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, **look}]}
