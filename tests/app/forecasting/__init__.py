"""Tests of `forecast`: other limits, what earlier runs took, and what is printed."""
