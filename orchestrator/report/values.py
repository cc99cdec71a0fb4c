"""What every rendering reads, and what report.json is: the types of it, field by field.

`PublishedReport` and what it holds are report.json: names, order, types and descriptions of its
fields, from which `as_json` makes the file and its schema. A field that is added here is in both.
`Report` adds what only the other renderings show.

A value never keeps a report from being written, so minimums, patterns and words that only some
fields may have are for the schema: they are not checked when the file is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from orchestrator.core.causes import FailureCause
from orchestrator.core.lifecycle import FIRM_RESULTS, Phase, Span
from orchestrator.core.model import MountState, OsSource, Result, Source
from orchestrator.core.proof import Fate
from orchestrator.report.described import SHA256, V2, V3, Count, Moment, counts, doc, one_of
from orchestrator.report.objective_values import Objective, TargetObjectives
from orchestrator.report.part_values import GateReport, MergedPart, PartReport
from orchestrator.report.server_values import ServerReport, StrayReport, UnreadReport

SCHEMA_VERSION: Literal[1] = 1
PHASES = (
    "queued",
    "busy",
    "submitting",
    "running",
    "collecting",
    "verifying",
    "held",
    "unmounting",
)
UNDER_WAY = tuple(each.value for each in Phase if each is not Phase.DONE)
STOP_WORDS = ("accepted", "refused", "not_sent", "lost", None)
STOP_SEEN = ("ended", "vanished", "goes_on", None)
OUTCOMES = ("success", "failed", "refused", "not_sent", "unknown")


class PointReport(Struct, frozen=True, kw_only=True):
    """The restore point that the result is about."""

    id: Annotated[str, doc("identifier on its server")]
    name: Annotated[str, doc("name on its server")]
    created_at: Annotated[Moment, doc("when it was made")]
    age_s: Annotated[float, doc("seconds from its creation to the start of the run")]
    policy: Annotated[str, doc("why this point was chosen, in words")]
    fallback_depth: Annotated[Count, doc("newer points that were passed over")]


class MeasuredReport(Struct, frozen=True, kw_only=True):
    """What a baseline compares with later runs."""

    files: Annotated[Count, doc("files of the directory")]
    bytes: Annotated[Count, doc("their size together")]


class CheckReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One assertion of a check."""

    name: Annotated[str, doc("check set of the plan")]
    path: Annotated[str, doc("path in the guest")]
    expected: Annotated[str, doc("what the plan demands")]
    observed: Annotated[str, doc("what was read, or why nothing could be read")]
    passed: Annotated[bool, doc("false too if the check could not be made or judged")]
    warning: Annotated[bool, doc("it passed, and needs attention; absent: false")] = False
    measured: Annotated[MeasuredReport | UnsetType, doc("absent: not a baseline")] = UNSET
    undecided: Annotated[
        bool,
        doc("it could not be judged: nothing speaks against the guest; absent: false", since=V3),
    ] = False


class CopyReport(Struct, frozen=True, kw_only=True):
    """One file that was copied out of the guest or written back into it."""

    path: Annotated[str, doc("path in the guest")]
    to: Annotated[str | None, doc("path on this machine; null: the original guest")]
    fate: Annotated[Fate, doc("what became of it")]
    size: Annotated[int | None, doc("bytes")]
    sha256: Annotated[str | None, doc("SHA-256 of its content")]
    message: Annotated[str | None, doc("why it was not copied, or why that is in doubt")]


class SessionsReport(Struct, frozen=True, kw_only=True):
    """What a server showed of restores and replications on one machine."""

    seen_at: Annotated[
        Moment, doc("when it showed them: they are as old as its last data collection")
    ]
    shown: Annotated[tuple[str, ...], doc("in words; none shown does not mean that none ran")]


class WaitReport(
    Struct, frozen=True, kw_only=True, rename={"activity": "for", "start": "from", "end": "to"}
):
    """One time that a target waited for its machine, which was at work in a job or a restore."""

    activity: Annotated[str, doc("what worked on the machine, as the server names it")]
    start: Annotated[Moment, doc("when the wait began")]
    end: Annotated[Moment | None, doc("when it was over; null: the run ended first")]
    seen_at: Annotated[
        Moment, doc("when the server showed it: what it shows is as old as its last collection")
    ]
    is_free: Annotated[bool, doc("the server was seen to show it no more")]


class TaskStopReport(Struct, frozen=True, kw_only=True):
    """That a task was asked to stop."""

    asked_at: Annotated[Moment, doc("when it was asked, or was about to be")]
    answer: Annotated[
        str | None,
        one_of("what was answered; null: it is not known whether it was asked", STOP_WORDS),
    ]
    seen: Annotated[
        str | None, one_of("what was seen of the task last; null: it was not read", STOP_SEEN)
    ]
    message: Annotated[str | None, doc("the server's words, or the cause")]


class AttemptReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt to mount a restore point."""

    point_id: Annotated[str, doc("restore point that was to be mounted")]
    session: Annotated[str, doc("short hash of the logon session")]
    task_id: Annotated[str | None, doc("task of the server")]
    submitted_at: Annotated[Moment, doc("when the request was made")]
    accepted_at: Annotated[Moment | None, doc("when the server's task was known")]
    finished_at: Annotated[Moment | None, doc("when the task had ended")]
    outcome: Annotated[str, one_of("how it ended", OUTCOMES)]
    adopted: Annotated[bool, doc("the answer was lost, and the task was identified later")]
    message: Annotated[str | None, doc("the server's words, or the cause")]
    os: Annotated[
        str | UnsetType,
        one_of(
            "as which system it was mounted; absent: as the plan says",
            ("windows", "linux"),
            since=V3,
        ),
    ] = UNSET
    verdict: Annotated[Result | None, doc("null: no verdict was reached")]
    failed_checks: Annotated[tuple[CheckReport, ...], doc("the checks that did not pass")]
    stop: Annotated[
        TaskStopReport | UnsetType,
        doc("the task was asked to stop; absent: it was not", since=V3),
    ] = UNSET


class PublishedTarget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target: its result, its mount, and how it got there."""

    key: Annotated[str, doc("identifies the target in every run of the plan")]
    wave: Annotated[str, doc("wave of the plan")]
    server: Annotated[str, doc("server of the plan")]
    backup_server: Annotated[str | None, doc("backup server of the restore point")]
    vm: Annotated[str, doc("name of the machine")]
    label: Annotated[str, doc("name in the plan")]
    os: Annotated[str, one_of("family of the guest's system", ("windows", "linux"))]
    os_known: Annotated[
        str,
        one_of(
            "how that is known; absent: the plan says it",
            tuple(each.value for each in OsSource),
            since=V3,
        ),
    ] = OsSource.PLAN.value
    source: Annotated[str, one_of("kind of restore point", tuple(each.value for each in Source))]
    critical: Annotated[bool, doc("its failure halts the run")]
    result: Annotated[Result, doc("its one result")]
    mount: Annotated[MountState, doc("what became of its mount")]
    phase: Annotated[
        str | None,
        one_of(
            "where it is in a run that goes on: `result` is not its last one; absent: it is",
            (*UNDER_WAY, None),
            since=V3,
        ),
    ] = None
    message: Annotated[str | None, doc("the cause, in words")]
    volumes: Annotated[tuple[str, ...], doc("roots of the mounted guest")]
    mount_href: Annotated[str | None, doc("the mount on its server")]
    point: Annotated[PointReport | None, doc("the restore point that the result is about")]
    attempts: Annotated[tuple[AttemptReport, ...], doc("every attempt, in order")]
    phases_s: Annotated[
        Mapping[str, float], counts("seconds in each phase", PHASES, {"busy", "held"}, "number")
    ]
    checks: Annotated[tuple[CheckReport, ...], doc("those of the attempt of the result")]
    downloads: Annotated[tuple[CopyReport, ...], doc("those of the attempt of the result")]
    written: Annotated[
        tuple[CopyReport, ...],
        doc("what any attempt wrote, or was to write, into the original guest; absent: nothing"),
    ] = ()
    cause: Annotated[
        FailureCause | None,
        doc("the kind of the failure; absent: it is none, or it was never its turn"),
    ] = None
    hint: Annotated[str | None, doc("what to do about it; absent: as cause")] = None
    sessions: Annotated[
        SessionsReport | None,
        doc("what ran on the machine of a failure; absent: not a failure, or not visible"),
    ] = None
    waits: Annotated[
        tuple[WaitReport, ...], doc("when it waited for a machine at work; absent: never")
    ] = ()
    objectives: Annotated[TargetObjectives, doc("those that the plan has for it")]


class TargetReport(PublishedTarget, frozen=True, kw_only=True):
    """A target with what report.json does not have."""

    unchecked: bool
    """It was only mounted, and the run requires checks: not good."""
    spans: tuple[Span, ...]
    verdict_s: float | None
    took_s: float
    """From its first submission to its verdict, or to its end without one; 0: never submitted."""

    @property
    def may_be_open(self) -> bool:
        """Whether its mount is open, or may be, and nobody works on it who removes it."""
        return self.phase is None and self.mount in {
            MountState.LEFT,
            MountState.UNKNOWN,
            MountState.KEPT,
        }

    @property
    def is_good(self) -> bool:
        """Whether its result is one of those that a run is for."""
        return self.result in FIRM_RESULTS and not self.unchecked

    def scoped_objectives(self) -> tuple[Objective, ...]:
        """Return its objectives as a run's are."""
        return tuple(
            Objective(scope=self.key, kind=kind, **msgspec.structs.asdict(reached))
            for kind, reached in msgspec.structs.asdict(self.objectives).items()
            if reached is not UNSET
        )


class WaveReport(Struct, frozen=True, kw_only=True):
    """One wave; null where it did not start or end."""

    name: Annotated[str, doc("name in the plan")]
    started_at: Annotated[Moment | None, doc("when it started")]
    finished_at: Annotated[Moment | None, doc("when its last target had its result")]
    targets: Annotated[Count, doc("targets of it in this run")]


class ForecastReport(Struct, frozen=True, kw_only=True):
    """How long the run was expected to take when its first wave began, and how long it took."""

    makespan_s: Annotated[float, doc("seconds expected, from the start of the run")]
    low_s: Annotated[float, doc("the least that was expected")]
    high_s: Annotated[float, doc("the most that was expected")]
    actual_s: Annotated[
        float | None,
        doc(
            "seconds that it took; null: it was stopped, halted, resumed or steered, "
            "waited for an approval, or has not ended"
        ),
    ]
    targets: Annotated[Count, doc("targets with a restore point")]
    without_history: Annotated[
        Count, doc("of these, targets whose machine no earlier run had mounted: 120 s each")
    ]


class StopReport(Struct, frozen=True, kw_only=True):
    """When the run was asked to stop, or halted itself."""

    at_s: Annotated[float, doc("second of the run")]
    why: Annotated[str, doc("the cause")]


class ControlReport(Struct, frozen=True, kw_only=True):
    """What a person asked of the living run with `ctl` or `browse`, and was done."""

    at: Annotated[Moment, doc("when it was recorded")]
    user: Annotated[str, doc("who asked")]
    host: Annotated[str, doc("machine that it was asked from")]
    verb: Annotated[
        str, doc("what was asked: pause, continue, limits, skip, retry, approve, browse, get")
    ]
    words: Annotated[str, doc("the whole request, in words")]
    reason: Annotated[str | None, doc("the person's words; null: none were given")]


class WorkerReport(Struct, frozen=True, kw_only=True):
    """A worker that served a server of a run over several machines."""

    worker: Annotated[str, doc("identifies the process")]
    host: Annotated[str, doc("machine that it ran on")]
    since: Annotated[Moment, doc("when it took the server")]
    until: Annotated[
        Moment | None,
        doc("when the next one took it, or nothing was left to do; null: neither happened"),
    ]
    taken_over: Annotated[
        str | None,
        doc("worker that had it and was heard of no more; null: it was free"),
    ]


class ShardReport(Struct, frozen=True, kw_only=True):
    """Who served a server of a run over several machines."""

    server: Annotated[str, doc("server of the plan")]
    site: Annotated[str | None, doc("its site; null: not known")]
    takeovers: Annotated[
        Count, doc("how often it was taken over from a worker that was heard of no more")
    ]
    workers: Annotated[tuple[WorkerReport, ...], doc("the workers that served it, in order")]


class PublishedRun(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The run itself."""

    id: Annotated[str, doc("identifies the run in the journal")]
    plan: Annotated[str, doc("name of the plan")]
    plan_path: Annotated[str, doc("file of the plan")]
    plan_sha256: Annotated[str, doc("SHA-256 of the plan file", **SHA256)]
    locked_sha256: Annotated[str | None, doc("SHA-256 of the locked plan; null: none was used")]
    description: Annotated[str | None, doc("the plan's own")]
    mode: Annotated[str, one_of("whether files may be written back", ("drill", "recovery"))]
    reason: Annotated[str | None, doc("why it was run")]
    version: Annotated[str, doc("version of bulk-restore")]
    user: Annotated[str, doc("user who started it")]
    host: Annotated[str, doc("machine that it ran on")]
    started_at: Annotated[Moment, doc("when it started")]
    finished_at: Annotated[Moment | None, doc("null: it has not ended")]
    duration_s: Annotated[float, doc("seconds")]
    exit_code: Annotated[int | None, doc("null: it has not ended")]
    stops: Annotated[tuple[StopReport, ...], doc("requests to stop, and its own halt", since=V2)]
    halted: Annotated[str | None, doc("why it halted itself")]
    reasons: Annotated[tuple[str, ...], doc("reasons of the exit code", since=V2)]
    interrupted: Annotated[bool, doc("it did not come to its end; false while it goes on")]
    out_of_reach: Annotated[
        Count, doc("mounts that may be open, in a session that has ended", since=V2)
    ]
    only: Annotated[tuple[str, ...], doc("patterns of --only", since=V2)]
    retry_of: Annotated[str | None, doc("run of --retry-failed", since=V2)]
    narrowed: Annotated[str | None, doc("by what and to what part of the plan", since=V2)]
    resumed_from: Annotated[str | None, doc("the run that was resumed; null: it was not")]
    require_checks: Annotated[bool, doc("a target without checks is not good")]
    journal_head: Annotated[
        str | None,
        doc(
            "hash of the last record of the run's own chain, which covers all others; null: the "
            "journal does not have all of this"
        ),
    ]
    journal_records: Annotated[Count | None, doc("records that this head covers")]
    forecast: Annotated[
        ForecastReport | None,
        doc("what was expected; absent: too few of its machines had a history", since=V3),
    ] = None
    waits_for: Annotated[
        tuple[GateReport, ...], doc("waves that wait for people; absent: none", since=V3)
    ] = ()
    shards: Annotated[
        tuple[ShardReport, ...],
        doc("who served each server; absent: a run on one machine", since=V3),
    ] = ()
    part: Annotated[
        PartReport | None,
        doc("the part of the plan that it took (--shard); absent: all of it", since=V3),
    ] = None
    merged: Annotated[
        tuple[MergedPart, ...],
        doc("the shards whose reports were merged into this one; absent: it is one run", since=V3),
    ] = ()
    missing: Annotated[
        tuple[int, ...],
        doc("numbers of the shards without a report; absent: none", since=V3),
    ] = ()


class RunReport(PublishedRun, frozen=True, kw_only=True):
    """A run with what report.json does not have."""

    utc_offset_s: float
    """Local time of the machine minus UTC when the run began."""

    @property
    def goes_on(self) -> bool:
        """Whether somebody works on it: it has not ended, and is not interrupted."""
        return self.finished_at is None and self.exit_code is None and not self.interrupted


class PublishedReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """report.json: everything about one run."""

    schema_version: Annotated[Literal[1], doc("changes if a reader must")]
    run: Annotated[PublishedRun, doc("the run itself")]
    totals: Annotated[
        Mapping[str, int],
        counts(
            "targets by result; mounts that are open or may be",
            ("targets", *(result.value for result in Result), "left"),
            {"may_be_mounted"},
            "integer",
        ),
    ]
    servers: Annotated[tuple[ServerReport, ...], doc("in the order of the plan")]
    waves: Annotated[tuple[WaveReport, ...], doc("in the order of the plan")]
    targets: Annotated[tuple[PublishedTarget, ...], doc("in the order of the plan")]
    objectives: Annotated[tuple[Objective, ...], doc("those of the run and its waves")]
    not_proven: Annotated[tuple[str, ...], doc("what the report does not mean")]
    strays: Annotated[tuple[StrayReport, ...], doc("open mounts of no target", since=V2)]
    warnings: Annotated[tuple[str, ...], doc("what needs attention, whatever the results")]
    unread: Annotated[
        tuple[UnreadReport, ...],
        doc("servers where a mount of no target may be open, unseen; absent: none", since=V3),
    ] = ()
    controls: Annotated[
        tuple[ControlReport, ...],
        doc("what people asked of the living run, in order; absent: nothing", since=V3),
    ] = ()


class Report(PublishedReport, frozen=True, kw_only=True):
    """The report of one run, as every rendering uses it."""

    run: RunReport
    targets: tuple[TargetReport, ...]
    strays_removed: tuple[StrayReport, ...]
    """Those that were found and removed; `warnings` has the reason of each."""

    def with_exit_code(self, code: int | None) -> Report:
        """Return the report of the same run with another exit code."""
        run = msgspec.structs.replace(self.run, exit_code=None if code is None else int(code))
        return msgspec.structs.replace(self, run=run)

    def without_journal(self) -> Report:
        """Return the report as one that the journal cannot give again."""
        run = msgspec.structs.replace(self.run, journal_head=None, journal_records=None)
        return msgspec.structs.replace(self, run=run)
