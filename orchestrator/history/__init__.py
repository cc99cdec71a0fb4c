"""Several runs beside one another, from the journal alone.

    compare(before, after)          what changed between two runs
    trend_of_plan(states)           durations, RTO and RPO over the last runs; trends_of_targets
    covered(wanted, proofs, …)      which machines of a plan were proven lately, which never
    chosen(state, results)          targets of a run by their result; locked_plan_of them
    glance(state, summary)          one line of the list of runs, without folding the whole run

Nothing is judged anew: results, verdicts and times are those of the runs themselves.
"""

from orchestrator.history.comparing import compare, comparison_lines, comparison_values
from orchestrator.history.coverage import Wanted, covered, proofs_of, wanted_by
from orchestrator.history.coverage_told import coverage_lines, coverage_values
from orchestrator.history.glancing import Glance, glance
from orchestrator.history.narrowing import chosen, locked_plan_of
from orchestrator.history.trends import (
    trend_lines,
    trend_of_plan,
    trend_values,
    trends_of_targets,
)

__all__ = [
    "Glance",
    "Wanted",
    "chosen",
    "compare",
    "comparison_lines",
    "comparison_values",
    "coverage_lines",
    "coverage_values",
    "covered",
    "glance",
    "locked_plan_of",
    "proofs_of",
    "trend_lines",
    "trend_of_plan",
    "trend_values",
    "trends_of_targets",
    "wanted_by",
]
