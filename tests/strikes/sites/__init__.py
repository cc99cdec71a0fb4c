"""Strikes against a run over several machines: real workers over a real PostgreSQL.

`make strikes-sites` kills, freezes and cuts off workers, and stops their database, at hundreds of
random instants; `make test` a few times.
"""
