"""Comparisons of several runs, from the journal only.

    compare(before, after)          what changed between two runs
    trend_of_plan(states)           durations, RTO and RPO over the last runs; trends_of_targets
    covered(wanted, proofs, …)      which machines of a plan were proven lately, which never
    chosen(state, results)          targets of a run by their result; locked_plan_of them
    glance(state, summary)          one line of the list of runs, without folding the whole run

Nothing is judged anew: results, verdicts and times are those of the runs themselves.
"""
