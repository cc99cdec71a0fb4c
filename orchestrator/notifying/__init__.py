"""Who is told of a run: webhooks while it goes on and at its end, and a command after it.

    notifier = Notifier(plan.notifications, state, resolve)   # an observer of the run
    async with notifier.delivering(note):                     # posts beside it, never in its way
        ...the run...
        await notifier.finish(ending)                         # its end; waits a bounded time
    why = await tell_command(argv, notice, ...)               # --on-finish

Nobody who is told can hurt: messages wait in bounded queues, every request is bounded, and
what goes wrong is given to `note` and changes nothing else. An address is a secret. It is
resolved here, lives in one local variable, and is never named: messages say "notification 2
(slack)". Besides `em`, this is the only room that speaks HTTP.
"""

from orchestrator.notifying.command import tell_command
from orchestrator.notifying.composing import Ending, composed_end
from orchestrator.notifying.notice import Missed, Notice
from orchestrator.notifying.notifier import Notifier
from orchestrator.notifying.shapes import as_json

__all__ = ["Ending", "Missed", "Notice", "Notifier", "as_json", "composed_end", "tell_command"]
