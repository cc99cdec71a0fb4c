"""`forecast`: how long a plan will take, from what earlier runs measured. Mounts nothing.

asking     the targets of a plan or locked plan, what earlier runs say, and the forecast
overheads  what the newest run of the plan took beside its mounts
what_if    other limits than the plan's, by name
text, as_json, page   the answer for a terminal, a program and a browser
"""
