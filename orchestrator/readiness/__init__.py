"""Whether a plan could be run now, asked without changing anything.

    per server, all at once:  service root ▶ one logon ▶ reads ▶ logoff  =  Sight
    Sights + plan             servers   trust, logon, role, clock, inventory, limits
    plan expanded over them   targets   point, age, objective, helper host
    this machine              here      other runs, journal, disk, expected duration
    every answer is a Finding: ok, warning, problem, or not visible

Not visible is an answer of its own: what the role or the API does not show is never "ok".
"""

from orchestrator.readiness.as_json import readiness_json, readiness_json_schema
from orchestrator.readiness.checking import PATIENCE, check
from orchestrator.readiness.findings import Finding, Readiness, Scope, Status
from orchestrator.readiness.text import text

__all__ = [
    "PATIENCE",
    "Finding",
    "Readiness",
    "Scope",
    "Status",
    "check",
    "readiness_json",
    "readiness_json_schema",
    "text",
]
