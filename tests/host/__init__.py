"""Faults of the machine that the program runs on: disk, descriptors, clocks, terminal."""
