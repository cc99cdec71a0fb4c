"""Runs over several machines: the commands as real processes over a real PostgreSQL."""
