"""A rehearsal: simulated servers with the names, machines, jobs and checked files of a plan.

    plan ── planned ──▶ Drafts ── scenario: what goes wrong ──▶ Stock ── process ──▶ servers
    plan ── copying ──▶ a copy of the plan that leads to them

It shows how a plan reacts, never how the real servers are.
"""
