"""Verdicts on the content of a guest."""
