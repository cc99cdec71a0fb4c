"""The engine: one run, from the first logon to the last unmount.

    async with task group:                      run, in waves
        one site per server: logon, keep-alive, watcher, gate
        for each admitted request:              admission
            intent durable, POST, accepted      mounting
            await watcher.finished(task)        watcher
            mount read, verdict, unmounted      mounting
        everything through the ledger           ledger

Nothing here knows HTTP, XML or SQLite: only the Protocols of `ports`.
"""
