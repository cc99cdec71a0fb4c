"""From the bytes of a plan file to a plan, with every problem at its line and column."""
