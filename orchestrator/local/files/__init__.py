"""Write a guest's files to this machine's disk so that they can do no harm.

A guest may be hostile: its names are made safe (`naming`), its directories are entered only
below the place that the plan names and never through a link that somebody else could have
planted (`descent`), and a file appears under its name only when all of it is on the disk
(`store`): until then it is `NAME.part`.
"""
