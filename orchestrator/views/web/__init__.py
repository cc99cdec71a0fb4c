"""A run as a web page and as metrics. Read only; a slow reader never delays the run.

Each event changes a `PageState` at once, in microseconds. At most two snapshots a second are made
of it, and the newest goes to every subscriber without waiting for one: a subscriber that does not
read misses snapshots, and in the end its connection. The page is one document, one script and one
style sheet, all from here; `access` decides who may read them, `connection_limits` how many and
for how long. A failure in here is reported once and changes no result.
"""
