"""The readiness check: whether a plan could run now. Changes nothing.

    per server, all at once:  service root ▶ one logon ▶ reads ▶ logoff  =  Sight
    Sights + plan             servers   trust, logon, role, clock, inventory, limits
    plan expanded over them   targets   point, age, objective, helper host
    this machine              here      other runs, journal, disk, expected duration
    every answer is a Finding: ok, warning, problem, or not visible

Not visible is an answer of its own: what the role or the API does not show is never "ok".
"""
