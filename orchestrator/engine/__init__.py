"""The engine: one run, from the first logon to the last unmount.

    async with task group:                      run, in waves
        one server connection per server:       logon, keep-alive, watcher, circuit breaker
        one more for each session that an earlier process left: only to finish it
        for each admitted request:              scheduler
            intent durable, POST, accepted      mount.submit
            await watcher.finished(task)        watcher
            mount read, verdict, unmounted      mount.drive
        everything through the ledger           ledger

Nothing here knows HTTP, XML or SQLite: only the Protocols of `ports`.
"""
