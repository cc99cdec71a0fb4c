"""Real processes struck by real signals at random instants, against real servers.

`make strikes` kills and stops hundreds of runs; `make test` a few of them.
"""
