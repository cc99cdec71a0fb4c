"""Events of the journal and the table of what may follow what."""

from __future__ import annotations

from inspect import getdoc

from msgspec.structs import fields

from orchestrator.core.events import EVENT_TYPES, Event, TargetEvent
from orchestrator.core.lifecycle import TRANSITIONS
from tests.documents.markdown import code, table


def events() -> str:
    """Return every event of the journal with its own fields."""
    shared = {each.name for kind in (Event, TargetEvent) for each in fields(kind)}
    rows = []
    for name, kind in EVENT_TYPES.items():
        own = ", ".join(code(each.name) for each in fields(kind) if each.name not in shared)
        about = (getdoc(kind) or "").partition("\n\n")[0]
        whose = "target" if issubclass(kind, TargetEvent) else "run"
        rows.append((code(name), whose, about, own))
    return table(("event", "of", "meaning", "fields"), rows)


def transitions() -> str:
    """Return the table of what may follow what."""
    rows = [
        (code(phase.value), code(event.__name__), code(after.value))
        for phase, row in TRANSITIONS.items()
        for event, after in row.items()
    ]
    return table(("phase", "event", "phase after it"), rows)
