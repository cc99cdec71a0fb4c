"""`report --merge`: one report of a plan whose parts were run apart (`run --shard K/N`).

`reading` has what is in the directories, and refuses what cannot belong together; `joining` makes
one report of it.
"""
