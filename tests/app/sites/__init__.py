"""Runs over several machines, as the program joins them."""
