"""The vocabulary and the rules: values, events, phases, ports. Pure: no event loop, no log."""
