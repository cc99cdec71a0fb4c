"""What a person (or a pipeline) sees while a run goes on.

Views are observers: they are told of every event after it was recorded and can change
nothing. Progress goes to stderr; only `--json` events go to stdout.
"""

from orchestrator.progress.choice import Show, choose_view
from orchestrator.progress.json_events import JsonEvents, events_json_schema
from orchestrator.progress.lines import LineView
from orchestrator.progress.live import LiveView
from orchestrator.progress.view import QuietView, View

__all__ = [
    "JsonEvents",
    "LineView",
    "LiveView",
    "QuietView",
    "Show",
    "View",
    "choose_view",
    "events_json_schema",
]
