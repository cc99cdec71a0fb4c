"""Virtual time for tests: a loop whose clock jumps, and simulated servers on a network in memory.

clock      an event loop whose time jumps; a three-hour drill in seconds
network    an in-memory network for that loop, and how it breaks
sites      several simulated servers on it
"""
