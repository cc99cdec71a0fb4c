"""The plan of a run as it was submitted: from the bytes that are in the database."""

from __future__ import annotations

from pathlib import Path

from orchestrator.app.wiring import Plan
from orchestrator.core.sites import Submission
from orchestrator.plan.file.loading import load_plan_text


def loaded_plan(submission: Submission) -> Plan:
    """Return the plan that was submitted.

    Raises:
        PlanError: this version cannot read it.
    """
    started = submission.started
    return load_plan_text(submission.plan, Path(started.plan_path), overrides=started.overrides)
