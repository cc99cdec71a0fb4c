"""Progress of a run, for people and pipelines.

Views are observers: they are told of every event after it was recorded and can change
nothing. Progress goes to stderr; only `--json` events go to stdout.
"""
