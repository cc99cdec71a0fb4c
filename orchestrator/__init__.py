"""bulk-restore: a YAML plan becomes mounts on several Enterprise Managers and one report.

The idea in a few lines::

    plan file ── plan.loading ──▶ RestorePlan
    per server ── em.session ──▶ logon session ── inventory ──▶ plan.expansion ──▶ MountRequests
    engine.run: waves ── engine.admission ──▶ slot ── engine.mounting:
        intent durable ▶ POST once ▶ engine.watcher: finished ▶ mount read ▶ verdict ▶ unmounted
    every step: engine.ledger ── legal by lifecycle.TRANSITIONS ▶ journal ▶ views
    fold of the journal ── report.summary ──▶ report.html, .json, junit.xml, … , exit code

Ordinary structured-concurrency code drives each mount from top to bottom, and everything
that happens to it is an event that a pure table must allow, the journal must hold, and only
then the rest may see.

Rooms, from the top; imports go down only, and `make check` proves it:

    cli          argv ▶ run ▶ exit code
    demo         a whole run against the simulator
    leftovers    after a dead run: releasing what it left mounted
    onlooking    beside a run, from another process: follows its journal and shows it
    conducting   a run from its lock to its reports; its resume
    readiness    before a run: whether it could start now; changes nothing
    looking      what a plan means now, without a run
    assembly     joins the parts: from a plan and a person's choices to what the engine is told
    attending    beside a run: its view, signals, the machine's sleep
    evidence     the records and a manifest beside the reports, signed; checking them offline
    history      several runs beside one another: comparing, trends, coverage, lists
    targeting    which targets a run takes, of a plan or a locked plan
    em           HTTP and XML: one Enterprise Manager behind the ports
    journal      SQLite: runs and events with a hash chain; replay
    notifying    who is told of a run: webhooks, a command at its end; speaks HTTP, as em does
    report       what the journal says, rendered
    progress     what a person sees meanwhile
    serving      the same as a page in a browser, and as metrics; read only
    shelving     files of guests on the local disk: safe names, .part then rename
    logs         structlog set-up, redaction
    programs     a user's own program that judges a guest, as a child process
    simulator    Enterprise Managers to test against; shares no parser with em
    engine       the run: admission, gate, pace, mounts, watcher, recovery, strays, ledger
    ports        what the engine needs from outside
    tally        counting along: what every view shows
    outlook      how long the rest may take
    runstate     the fold of a run's events: what is known of it
    search       which restore point of a target is tried next
    lifecycle    what may follow what
    plan         the file and its expansion
    checks       verdicts on what was read of a mounted guest
    events       facts
    policy       delays and limits
    model        the vocabulary
    proof        what a plan demands of a mounted guest, and what was found there
    errors       what may the caller do next

Read in this order: this page, model, lifecycle, engine/mounting, tests/scenarios.
"""
