"""How a run may go: its targets passed through the real scheduler, without a clock.

play      one run in which each mount takes a given time, from event to event
binding   which limits the end of such a run waited for
history   how long mounts take, from what earlier runs measured
outlook   several plays of a run, and what they say of its end, waves and objectives
recorded  what a run records of its own forecast
"""
