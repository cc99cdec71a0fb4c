"""Notifications: webhooks during a run and at its end, and a command after it.

    notifier = Notifier(plan.notifications, state, resolve)   # an observer of the run
    async with notifier.delivering(note):                     # posts beside it, never in its way
        ...the run...
        await notifier.finish(ending)                         # its end; waits a bounded time
    why = await tell_command(argv, notice, ...)               # --on-finish

No receiver can disturb the run: queues and requests are bounded, and a failure is given to `note`
and changes nothing else. An address is a secret. It is
resolved here, lives in one local variable, and is never named: messages say "notification 2
(slack)". Besides `em`, this is the only client of HTTP.
"""
