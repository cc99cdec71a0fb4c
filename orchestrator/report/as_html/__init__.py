"""report.html: the report of a run for engineers and auditors.

One file, no script, nothing from outside, and a content-security policy that forbids both. What
needs a person comes first. Every text is escaped and shown with its control characters visible;
nothing that came from a server is ever markup. This module puts the parts together, `sections`
and `targets` make the tables, `timeline` and `concurrency` the pictures (with the scale and axis
of `drawing`), `style` the one style sheet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.report.as_html import concurrency, sections, targets, timeline
from orchestrator.report.as_html.markup import anchor, section, shown
from orchestrator.report.as_html.style import policy, sheet_of
from orchestrator.report.values import Report

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

LEAST_BUDGET = 200_000
"""Characters for what is known of single targets, however large the rest is."""


def render(report: Report) -> str:
    """Return report.html."""
    return "".join(pieces(report))


def pieces(report: Report) -> Iterator[str]:
    """Yield report.html: what needs a person, objectives, pictures, details, evidence."""
    first = "".join(
        (
            sections.to_do(report),
            sections.written_files(report),
            sections.run_facts(report),
            sections.objectives(report),
            section("Timeline", timeline.gantt(report)),
            section("Open mounts over time", concurrency.over_time(report)),
        )
    )
    second = "".join(
        (
            sections.controls(report),
            sections.warnings(report),
            sections.waves(report),
            sections.phases(report),
            sections.servers(report),
            sections.workers(report),
            sections.merged(report),
            targets.everything(report),
        )
    )
    last = sections.evidence(report)
    budget = max(SIZE - len(first) - len(second) - len(last), LEAST_BUDGET)
    not_good = targets.not_good(report, budget * 3 // 4)
    good = targets.good(report, max(budget - len(not_good), LEAST_BUDGET // 4))
    parts = (first, not_good, second, good, last)
    title = f"{shown(report.run.plan)} {shown(report.run.id)}"
    sheet = sheet_of(report.run.id)
    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(sheet)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="referrer" content="no-referrer"><title>{title}</title>'
        f"<style>{sheet}</style></head>\n"
        f"<body><main>\n{sections.heading(report)}{_links(parts)}"
    )
    yield from parts
    yield "</main></body></html>\n"


def _links(parts: Sequence[str]) -> str:
    """Return links to those sections that the page has."""
    links = (
        f'<a href="#{anchor(title)}">{title}</a>'
        for title in LINKED
        if any(f'<section id="{anchor(title)}">' in part for part in parts)
    )
    return f'<nav aria-label="Sections">{"".join(links)}</nav>\n'
