"""The whole page, in the order in which a reader needs it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report.as_html import concurrency, sections, targets, timeline
from orchestrator.report.as_html.markup import anchor, section, shown
from orchestrator.report.as_html.style import POLICY, SHEET
from orchestrator.report.summary import Report

LINKED = (
    "Needs a person",
    "Objectives",
    "Timeline",
    "Not good",
    "Warnings",
    "Servers",
    "All targets",
    "Not proven",
    "Evidence",
)
"""Sections that a reader may want to go to at once."""

SIZE = 1_800_000
"""Characters of a page of 5,000 targets: more would be slow to open."""

LEAST_ROOM = 200_000
"""Characters for what is known of single targets, however large the rest is."""


def render(report: Report) -> str:
    """Return report.html: what needs a person, objectives, pictures, details, evidence."""
    first = "".join(
        (
            sections.to_do(report),
            sections.run_facts(report),
            sections.objectives(report),
            section("Timeline", timeline.gantt(report)),
            section("Open mounts over time", concurrency.over_time(report)),
        )
    )
    second = "".join(
        (
            sections.warnings(report),
            sections.waves(report),
            sections.phases(report),
            sections.servers(report),
            targets.everything(report),
        )
    )
    last = sections.evidence(report)
    room = max(SIZE - len(first) - len(second) - len(last), LEAST_ROOM)
    not_good = targets.not_good(report, room * 3 // 4)
    good = targets.good(report, max(room - len(not_good), LEAST_ROOM // 4))
    parts = (first, not_good, second, good, last)
    title = f"{shown(report.run.plan)} {shown(report.run.id)}"
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><title>{title}</title>'
        f"<style>{SHEET}</style></head>\n"
        f"<body>\n{sections.heading(report)}{_links(parts)}"
    )
    return "".join((head, *parts, "</body></html>\n"))


def _links(parts: Sequence[str]) -> str:
    """Return links to those sections that the page has."""
    links = (
        f'<a href="#{anchor(title)}">{title}</a>'
        for title in LINKED
        if any(f'<section id="{anchor(title)}">' in part for part in parts)
    )
    return f"<nav>{''.join(links)}</nav>\n"
