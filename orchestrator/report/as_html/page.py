"""The whole page, in the order in which a reader needs it."""

from __future__ import annotations

from orchestrator.report.as_html import sections, targets, timeline
from orchestrator.report.as_html.markup import section, shown
from orchestrator.report.as_html.style import POLICY, SHEET
from orchestrator.report.summary import Report


def render(report: Report) -> str:
    """Return report.html: what needs a person, objectives, pictures, details, evidence."""
    body = "".join(
        (
            sections.heading(report),
            sections.to_do(report),
            sections.run_facts(report),
            sections.objectives(report),
            section("Timeline", timeline.gantt(report)),
            section("Open mounts over time", timeline.concurrency(report)),
            targets.not_good(report),
            sections.warnings(report),
            sections.waves(report),
            sections.phases(report),
            sections.servers(report),
            targets.everything(report),
            sections.evidence(report),
        )
    )
    title = f"{shown(report.run.plan)} {shown(report.run.id)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><title>{title}</title>'
        f"<style>{SHEET}</style></head>\n<body>\n{body}</body></html>\n"
    )
