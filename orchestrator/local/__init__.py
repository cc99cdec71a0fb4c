"""Files and programs of this machine: saved files of guests, the programs of a user."""
