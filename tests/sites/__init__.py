"""Runs over several machines, on virtual time."""
