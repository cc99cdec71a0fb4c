"""One mount from its request to its proven end, and what to do where its outcome is unknown."""
