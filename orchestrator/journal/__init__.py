"""The journal: runs and their events in SQLite, hash-chained, durable before effects.

    state = State(directory)
    async with state.open_run(started) as journal:   # implements ports.Journal
        journal.append(event); await journal.durable()
    state.replay(run)                                 # as ports.Store: the fold of the live run

One writer with group commit; any number of readers, also from other processes during a run.
The directory and everything in it belongs to its owner alone.
"""

from orchestrator.journal.claims import Claims, holds, in_work
from orchestrator.journal.state import State
from orchestrator.journal.writing import RunJournal

__all__ = ["Claims", "RunJournal", "State", "holds", "in_work"]
