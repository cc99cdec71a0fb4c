"""Tests of the forecast: plays, what binds, and what several plays say."""
