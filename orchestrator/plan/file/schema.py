"""The shape of a plan file: which keys there are, what they mean, which kind each holds.

Each section is read by itself; what depends on several sections is checked in `resolving`.
The published JSON Schema is made of the same sections and descriptions. Defaults are those of
the values that a plan becomes (`of`); nothing here repeats them.
"""

from __future__ import annotations

from typing import Annotated

from orchestrator.core.model import AttemptPolicy, Gate, PhaseTimeouts
from orchestrator.core.policy import DEADLINE
from orchestrator.core.proof import Download
from orchestrator.core.text import plan_size
from orchestrator.plan.file import contents
from orchestrator.plan.file import scalars as kinds
from orchestrator.plan.file.check_kinds import CheckFile
from orchestrator.plan.file.secrets import Account, Secret
from orchestrator.plan.file.section import ReadLater, Section, default_of, needed, optional
from orchestrator.plan.file.settings import (
    DEFAULT_BACKUP_SERVER_MOUNTS,
    Cleanup,
    Entry,
    Fallback,
    Notification,
    PointPolicy,
    RestorePlan,
    RunLimits,
    Sample,
    ServerSettings,
    Wave,
)


class TlsFile(Section):
    """How the server's certificate is checked; by default by the system's authorities."""

    ca_file: kinds.FilePath | None = optional(
        "PEM file with the authorities to trust, relative to the plan."
    )
    fingerprint_sha256: list[kinds.Fingerprint] | None = optional(
        "SHA-256 fingerprints of the certificates to accept."
    )
    insecure: kinds.Truth | None = optional(
        "true accepts any certificate; every report mentions it."
    )


class MountLimitFile(Section):
    """A limit of open mounts."""

    mounts: kinds.Mounts | None = optional("Open mounts at once.")


COUNT_OTHERS = (
    "true: open file-level restores of other people use up the limit, as far as the account's "
    "role sees them."
)


class ServerLimitFile(MountLimitFile):
    """Limits of a server."""

    count_others: kinds.Truth | None = optional(COUNT_OTHERS)


class BackupServerFile(Section):
    """A Veeam backup server behind the Enterprise Manager."""

    mounts: kinds.Mounts = needed(
        f"Open mounts at once on this backup server. Default: {DEFAULT_BACKUP_SERVER_MOUNTS}."
    )
    count_others: kinds.Truth | None = optional(COUNT_OTHERS)


class ApiFile(Section):
    """How the REST API is spoken."""

    format: kinds.ApiFormatWord | None = optional(
        "What answers and requests are written in: xml, json, or auto: XML, unless the server "
        "answers in JSON all the same.",
        default_of(ServerSettings, "api_format"),
    )


class ServerFile(Section, of=ServerSettings):
    """One Enterprise Manager."""

    url: kinds.Url = needed("https://HOST:PORT of the REST API; the default port is 9398.")
    username: Account = needed("The account, such as DOMAIN\\user, or a reference.")
    password: Secret = needed("A reference to the password, resolved at logon.")
    tls: TlsFile | None = optional("How the server's certificate is checked.")
    limits: ServerLimitFile | None = optional("Limits of this server.")
    backup_servers: Annotated[dict[str, BackupServerFile], ReadLater()] | None = optional(
        "Limits of the backup servers behind it, by name."
    )
    api_version: kinds.ApiVersion | None = optional("REST API version asked for at logon.")
    api: ApiFile | None = optional("How the REST API is spoken.")
    site: kinds.Name | None = optional(
        "Which workers of a run over several machines serve it: those of this site."
    )
    stop_tasks: kinds.StopTasksWord | None = optional(
        "when_needed: the task of a mount that still runs when its time limit has passed, or when "
        "the run is stopped the second time, is asked to stop, once; never: no task is."
    )


class FallbackFile(Section, of=Fallback):
    """Older points that are tried where a mount or a check of a newer one fails."""

    count: kinds.Mounts = needed("How many older points may be tried, at most.")
    max_age: kinds.PositiveDuration | None = optional(
        "How old they may be; without it the point's own max_age holds."
    )
    on: list[kinds.CauseWord] | None = optional("What leads to them: mount_failed, check_failed.")


class PointFile(Section, of=PointPolicy):
    """Which restore point of a machine is mounted."""

    policy: kinds.Policy | None = optional(
        "latest: the newest; before: the newest not later than 'time'; id: exactly 'id'; "
        "newest_passing: the newest whose mount and checks succeed; every: each point is a "
        "target; random: one of those that fit."
    )
    time: kinds.Instant | None = optional("For policy 'before': RFC 3339 time.")
    id: kinds.Guid | None = optional("For policy 'id': the restore point's GUID.")
    max_age: kinds.PositiveDuration | None = optional(
        "A point older than this at the start of the run, or at 'incident_time', does not fit."
    )
    incident_time: kinds.Instant | None = optional(
        "When the trouble began, RFC 3339: only points made by then fit, and the RPO counts "
        "back from it."
    )
    exclude_points: list[kinds.Line] | None = optional(
        "GUIDs, or globs over the names of points, that must not be mounted."
    )
    search: kinds.SearchOrder | None = optional(
        "For policy 'newest_passing': linear tries one older point after the other; bisect by "
        "halves, assuming that every point before a good one is good."
    )
    count: kinds.Mounts | None = optional("For policy 'every': only so many of the newest points.")
    seed: kinds.Count | None = optional("For policy 'random': random seed; by default the run's.")
    fallback: FallbackFile | None = optional(
        "For latest, before and random: older points to try where this fails."
    )


class SampleFile(Section, of=Sample):
    """Only some of the machines that a selector matches."""

    count: kinds.Mounts = needed("How many machines to take, at most.")
    order: kinds.SampleWord | None = optional(
        "random: by the run's seed; stalest: those whose last proof in the journal is oldest, "
        "the never proven first."
    )
    seed: kinds.Count | None = optional("Draw by this number instead of the run's own.")


class TimeoutsFile(Section, of=PhaseTimeouts):
    """How long each phase of one mount may take."""

    mount: kinds.PositiveDuration | None = optional(
        "From submission until the server has finished."
    )
    checks: kinds.PositiveDuration | None = optional("For reading and checking what was mounted.")
    unmount: kinds.PositiveDuration | None = optional("For removing the mount.")
    busy: kinds.PositiveDuration | None = optional(
        "How long a target waits for a machine at work in a job or a restore; needs "
        "'conflict: wait'."
    )


class RetriesFile(Section, of=AttemptPolicy):
    """How often a target is tried; only its own faults count, never a server's trouble."""

    attempts: kinds.Attempts | None = optional("All attempts, the first included.")
    delay: kinds.Duration | None = optional("Pause before the second attempt.")
    max_delay: kinds.Duration | None = optional("Longest pause between attempts.")


class ObjectivesFile(Section):
    """Recovery objectives, compared with what was reached in the report."""

    rto: kinds.PositiveDuration | None = optional(
        "Recovery time: from the start of the run to each target's verdict."
    )
    rpo: kinds.PositiveDuration | None = optional(
        "Recovery point: age of the mounted point at the start of the run."
    )


class RunObjectivesFile(ObjectivesFile):
    """Objectives of the whole run; the recovery ones hold for its waves and targets, too."""

    regression: kinds.Increase | None = optional(
        "By how much the run may take longer than the median of the last 5 whole runs of the plan: "
        "50%. Not judged with fewer than 3 such runs."
    )


class ExpectFile(Section):
    """How many machines a selector must match; otherwise nothing is mounted at all."""

    min: kinds.Count | None = optional("At least so many; 0 allows none.")
    max: kinds.Count | None = optional("At most so many.")


class OverridableFile(Section, of=Entry):
    """Settings that 'defaults' gives and every wave and target may override."""

    server: kinds.Line | None = optional(
        "Name of a server under 'servers'; not needed where there is only one."
    )
    os: kinds.Os | None = optional(
        "The guest's system. auto: what earlier runs know of the machine, else Windows; where "
        "nothing is readable, it is mounted once as the other.",
        "auto",
    )
    volumes: dict[str, contents.VolumeName] | None = optional(
        "Which volume of a Windows guest has which drive letter, such as {C: 'Volume$1:'}, where "
        "a Linux server mounts it and shows none; merged letter by letter."
    )
    source: kinds.SourceKind | None = optional("The family of restore points.")
    point: PointFile | None = optional(
        "Which restore point; replaces an inherited choice as a whole."
    )
    timeouts: TimeoutsFile | None = optional("Time limits, merged key by key.")
    retries: RetriesFile | None = optional("Attempts, merged key by key.")
    conflict: kinds.ConflictWord | None = optional(
        "If the machine is seen at work in a job or a restore. wait: mount it later; skip: do not "
        "mount it; fail: that is a failure."
    )
    checks: list[kinds.Line] | None = optional(
        "Names of sets under 'checks' that must pass; replaces an inherited list as a whole, [] "
        "asks for none."
    )


class DefaultsFile(OverridableFile):
    """Settings for every target that has none of its own."""


class DownloadFile(Section):
    """Files to copy out of the mounted guest, or back into the original one."""

    path: contents.GuestPath = needed(
        "A file of the guest, or a directory of which 'glob' chooses files."
    )
    to: contents.LocalPath | None = optional(
        "Where they go, relative to the plan; a directory ends in '/'. If a target "
        "means several machines, each gets a directory of its own below."
    )
    glob: contents.NameGlob | None = optional(
        "Which files of the directory 'path'; not those in directories below it."
    )
    max_size: contents.Volume | None = optional(
        "At most so many bytes, all files together.", default_of(Download, "max_size", plan_size)
    )
    max_files: kinds.Mounts | None = optional(
        "At most so many files.", default_of(Download, "max_files")
    )
    overwrite: kinds.Truth | None = optional("true replaces files that are there already.")
    write: contents.Original | None = optional(
        "original: into the guest it came from, in place of 'to'. Needs 'mode: recovery', and "
        "--yes-write when it runs."
    )


class TargetFile(OverridableFile):
    """What to mount: exactly one selector, and what differs from the defaults."""

    id: kinds.Guid | None = optional("Selector: one restore point by its GUID.")
    vm: kinds.Line | None = optional("Selector: one machine by its name.")
    job: kinds.Line | None = optional("Selector: every machine of a replication (or backup) job.")
    from_file: kinds.FilePath | None = optional(
        "Selector: a CSV file with a header (vm and optionally server, os, before, label, "
        "checks), relative to the plan."
    )
    label: kinds.Line | None = optional("What people call this target.")
    critical: kinds.Truth | None = optional("true: its failure halts the run.")
    exclude: list[kinds.Line] | None = optional(
        "Names or globs of machines to leave out of a job, match, query or file."
    )
    expect: ExpectFile | None = optional("How many machines must be matched.")
    backup_server: kinds.Line | None = optional("Only machines behind this backup server.")
    all: kinds.Truth | None = optional(
        "true: a name found on several backup servers means all of them."
    )
    match: kinds.Line | None = optional(
        "Selector: every machine whose name matches this glob, such as 'api-*'."
    )
    query: kinds.Filter | None = optional(
        "Selector: every machine of the restore points that this filter of the server's query "
        'language finds, such as BackupServerName=="vbr-01".'
    )
    sample: SampleFile | None = optional(
        "Take only some of the machines that the selector matches."
    )
    download: list[DownloadFile] | None = optional("Files to copy after the checks.")


class WaveFile(OverridableFile, of=Wave):
    """A set of targets that start together."""

    name: kinds.Name = needed("The wave's name, part of every target's key.")
    targets: Annotated[list[TargetFile], ReadLater()] = needed("What this wave mounts.")
    after: list[kinds.Line] | None = optional("Waves that must have ended before this one starts.")
    critical: kinds.Truth | None = optional("true: any failure in this wave halts the run.")
    on_error: kinds.OnErrorWord | None = optional(
        "What follows if a target of this wave does not end well: continue, skip_dependents "
        "(the waves that wait for it are skipped), halt (as critical)."
    )
    limits: MountLimitFile | None = optional("Limits of this wave.")
    objectives: ObjectivesFile | None = optional(
        "Objectives of this wave, merged with the run's key by key."
    )


class RampFile(Section):
    """How a server is given its slots, little by little."""

    from_: kinds.Mounts = needed("Mounts at first, and so many more each time.")
    every: kinds.PositiveDuration = needed("How long until there are more.")


class LimitsFile(Section, of=RunLimits):
    """Limits of the whole run."""

    mounts: kinds.Mounts | None = optional("Open mounts over the whole run, held ones included.")
    mounts_per_vm: kinds.Mounts | None = optional("Open mounts per machine.")
    failures: kinds.Failures | None = optional(
        "Submit nothing more once more than this has failed: a number or 20%."
    )
    deadline: kinds.PositiveDuration | None = optional(DEADLINE)
    outage: kinds.Duration | None = optional("How long targets wait for an unreachable server.")
    start_interval: kinds.PositiveDuration | None = optional(
        "The least time between two mount requests to the same server, from answer to request."
    )
    ramp: RampFile | None = optional(
        "Each server begins with `from` mounts, and is given `from` more each `every` until it "
        "has its limit. Counts from its first mount; a resume begins anew."
    )


class CleanupFile(Section, of=Cleanup):
    """What happens to mounts at the end."""

    unmount: kinds.Unmount | None = optional(
        "always: every mount is removed; on_success: a mount whose verdict is not good stays open; "
        "never: every mount stays open. `unmount` ends this."
    )
    keep_failed: kinds.PositiveDuration | None = optional(
        "How long a mount whose checks failed stays open for inspection."
    )


class GateFile(Section, of=Gate):
    """A wave that starts only once people have approved it."""

    before: kinds.Line = needed("The wave that waits.")
    approvals: kinds.Mounts | None = optional("How many people must approve it, each once.")
    timeout: kinds.PositiveDuration = needed("How long it waits once the waves before it are over.")
    on_timeout: kinds.OnTimeoutWord = needed(
        "What follows then: halt (the run submits nothing more), skip (the wave, and "
        "those that wait for it, are skipped)."
    )


class WebhookFile(Section, of=Notification):
    """A webhook that messages are posted to, over https."""

    url: Secret = needed(
        "A reference to its address, which is a secret: whoever has it can post there."
    )
    kind: kinds.HookKindWord | None = optional(
        "What reads the messages: generic (JSON), slack or teams."
    )
    ca_file: kinds.FilePath | None = optional(
        "PEM file with the authorities to trust in place of the system's, relative to the plan."
    )


class NotificationFile(Section, of=Notification):
    """Who gets messages about the run."""

    webhook: WebhookFile = needed("Where the messages go.")
    on: list[kinds.NotifyOnWord] | None = optional(
        "When a message is sent: finished, halted, wave_failed, objective_missed, leftover (a "
        "mount that may still be open)."
    )


class PlanFile(Section, of=RestorePlan):
    """A restore plan for bulk-restore."""

    version: kinds.Version = needed("Version of the plan format: 1.")
    name: kinds.Line = needed("The plan's name, in the journal and every report.")
    description: kinds.Paragraph | None = optional("What the plan is for.")
    mode: kinds.Mode | None = optional(
        "drill: mounts, checks and unmounts; writes into no guest. recovery: may also write "
        "files into guests, if a target asks for it."
    )
    reason: kinds.Line | None = optional(
        "Why it runs, such as a change number; kept in journal and reports."
    )
    every: kinds.PositiveDuration | None = optional(
        "How old the last proof of a target may be before the plan is due, for `due` and `units`."
    )
    variables: Annotated[dict[str, kinds.Line], ReadLater()] | None = optional(
        "Values for ${name} in any text below; --set name=value and --vars FILE override."
    )
    servers: Annotated[dict[str, ServerFile], ReadLater()] = needed(
        "The Enterprise Managers, by a name of your choice."
    )
    defaults: DefaultsFile | None = optional("Settings for every target.")
    limits: LimitsFile | None = optional("Limits of the whole run.")
    objectives: RunObjectivesFile | None = optional("Objectives of the whole run.")
    checks: Annotated[dict[str, list[CheckFile]], ReadLater()] | None = optional(
        "Sets of checks by name: what must be true of a guest's files."
    )
    targets: Annotated[list[TargetFile], ReadLater()] | None = optional(
        "What to mount, as one wave called 'default'."
    )
    waves: Annotated[list[WaveFile], ReadLater()] | None = optional(
        "What to mount, in waves that may wait for one another."
    )
    gates: Annotated[list[GateFile], ReadLater()] | None = optional(
        "Waves that wait for people: `bulk-restore ctl RUN approve WAVE --reason TEXT`. Not for "
        "runs over several machines."
    )
    cleanup: CleanupFile | None = optional("What happens to mounts at the end.")
    notifications: Annotated[list[NotificationFile], ReadLater()] | None = optional(
        "Who gets messages about the run. Failed messages never affect the exit code."
    )
