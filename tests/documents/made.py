"""Parts of pages between `<!-- made: NAME -->` and `<!-- made: end -->`, and what makes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.documents import commands, journaled, places, schemas, tables

ROOT = Path(__file__).parents[2]
MARKED = re.compile(r"<!-- made: ([a-z-]+) -->\n.*?<!-- made: end -->", re.DOTALL)

PARTS: dict[str, Callable[[], str]] = {
    "exit-codes": tables.exit_codes,
    "commands": tables.list_of_commands,
    "command-line": commands.every_command,
    "plan-defaults": tables.plan_defaults,
    "plan-keys": schemas.plan_keys,
    "report-fields": schemas.report_fields,
    "check-fields": schemas.check_fields,
    "forecast-fields": schemas.forecast_fields,
    "event-fields": schemas.event_fields,
    "journal-events": journaled.events,
    "transitions": journaled.transitions,
    "metrics": tables.metrics,
    "faults": tables.faults,
    "behaviour": tables.behaviour,
    "python-api": tables.python_api,
    "life": places.life,
    "beside": places.beside,
    "packages": places.packages,
}


def pages() -> Iterator[Path]:
    """Yield README.md and every page of docs/."""
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def renewed(page: str) -> str:
    """Return a page with its made parts made anew."""

    def made(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- made: {name} -->\n\n{PARTS[name]().strip()}\n\n<!-- made: end -->"

    return MARKED.sub(made, page)
