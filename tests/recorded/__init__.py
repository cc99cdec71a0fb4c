"""Recorded runs: what was journaled, and every report of it."""
