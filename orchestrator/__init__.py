"""bulk-restore: a YAML plan becomes mounts on several Enterprise Managers and one report.

The idea in a few lines::

    plan file ── plan.file ──▶ RestorePlan
    per server ── em.session ──▶ logon session ── inventory ──▶ plan.choose ──▶ MountRequests
    engine.conductor: waves ── engine.shard: engine.scheduler ──▶ slot ── engine.mount.drive:
        intent durable ▶ POST once ▶ engine.watcher: finished ▶ mount read ▶ verdict ▶ unmounted
    every step: engine.ledger ── legal by core.lifecycle.TRANSITIONS ▶ journal ▶ views
    fold of the journal ── report.summary ──▶ report.html, .json, junit.xml, … , exit code

Ordinary structured-concurrency code drives each mount from top to bottom. Everything that happens
to a mount is an event: a pure table must allow it, the journal must hold it, and only then the
rest may see it.

Packages, from the top. Imports go down only, packages of one line do not import one another, and
`make check` proves it:

    cli          click commands: argv ▶ run ▶ exit code
    app          wiring, runner, preview, follow, signals, unmount, readiness, notify, demo, logs
    em           one Enterprise Manager over HTTP: transport, session, client, logon, links, codecs
    database     PostgreSQL: chains, leases, requests, sealed tokens of runs over several machines
    journal      SQLite: runs and events with a hash chain; limits that runs share; tokens
    local        this machine: saved files of guests, the programs of a user
    report       what the journal says: values, renderings, exit codes, evidence, history
    simulator    Enterprise Managers to test against; shares no parser with em
    views        what a person sees meanwhile: statistics, ETA, live view, lines, JSON, web page
    engine       the run: conductor, shard, scheduler, server connection, watcher, ledger
      mount        one mount: drive, submit, recover, find, hold, release, orphans, resume
      content      inside a mounted guest: checks, downloads, writing back
    log          lines of the log; structlog is imported with the first
    checks       verdicts on what was read of a mounted guest
    plan         file: bytes to plan; choose: plan and inventory to mount requests
    core         model, events, lifecycle, run state, records, reading, what earlier runs found out,
                 point search, policy, errors, text
      ports      what the engine and the commands need from outside, as Protocols

`__all__` and the fixture of `testing` are the declared Python API (docs/reference/python-api.md);
everything else is internal.

Read in this order: this page, core/model, core/lifecycle, engine/mount/drive, tests/scenarios.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.app.api import *  # noqa: F403 - more than the names of `__all__`

__all__ = [  # noqa: F405 - imported when first used
    "CannotResume",
    "ExitCode",
    "JournalError",
    "MountState",
    "Options",
    "OrchestratorError",
    "Outcome",
    "PlanError",
    "Readiness",
    "Report",
    "Result",
    "RunLocked",
    "RunNotFound",
    "check",
    "load_plan",
    "rehearse",
    "resume",
    "run",
]


def __getattr__(name: str) -> object:
    """Import the API when it is first used: `--help` must answer at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator.app import api

    return getattr(api, name)
