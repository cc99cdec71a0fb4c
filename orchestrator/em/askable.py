"""Whether a server may be asked for something by its name, before anything is sent."""

from __future__ import annotations

from urllib.parse import quote

from orchestrator.core.errors import ForbiddenAction
from orchestrator.core.model import Source
from orchestrator.em.families import FAMILIES
from orchestrator.em.links import guard
from orchestrator.em.session import fits, quoted


def can_be_asked(source: Source, name: str, *, of_job: bool) -> bool:
    """Return whether points can be asked for by the `name` of a machine, or of a job.

    Not where the query knows no such field, is too long, or could be taken for one that acts.
    """
    family = FAMILIES[source]
    name_field = family.job_field if of_job else family.machine_field
    condition = f"{name_field}=={quoted(name)}"
    if name_field is None or not fits(condition):
        return False
    try:
        guard("GET", f"/api/query?type={family.entity}&filter={quote(condition, safe='')}")
    except ForbiddenAction:
        return False
    return True
