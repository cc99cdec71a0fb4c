"""The shape of a plan file: which keys there are, what they mean, which kind each holds.

The models read one section each; what depends on several sections is checked in `resolving`.
The published JSON Schema is generated from the same models and descriptions.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from orchestrator.plan import contents
from orchestrator.plan import scalars as kinds
from orchestrator.plan.secrets import Account, Secret


class Section(BaseModel):
    """One mapping of the plan file; keys it does not know are problems."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def said(self) -> dict[str, Any]:
        """Return what the file says in this section, without the keys it leaves out."""
        return {
            key: getattr(self, key)
            for key in type(self).model_fields
            if key in self.model_fields_set
        }


class TlsFile(Section):
    """How the server's certificate is judged; without it, by the system's authorities."""

    ca_file: kinds.FilePath | None = Field(
        None, description="PEM file with the authorities to trust, relative to the plan."
    )
    fingerprint_sha256: list[kinds.Fingerprint] | None = Field(
        None, description="SHA-256 fingerprints of the certificates to accept."
    )
    insecure: kinds.Truth | None = Field(
        None, description="true accepts any certificate; every report says so."
    )


class MountLimitFile(Section):
    """A limit of open mounts."""

    mounts: kinds.Mounts | None = Field(None, description="Open mounts at once.")


class BackupServerFile(Section):
    """A Veeam backup server behind the Enterprise Manager."""

    mounts: kinds.Mounts = Field(
        description="Open mounts at once on this backup server; 4 where nothing is said."
    )


class ServerFile(Section):
    """One Enterprise Manager."""

    url: kinds.Url = Field(
        description="https://HOST:PORT of the REST API; the default port is 9398."
    )
    username: Account = Field(description="The account, such as DOMAIN\\user, or a reference.")
    password: Secret = Field(description="A reference to the password, resolved at logon.")
    tls: TlsFile | None = Field(None, description="How the server's certificate is judged.")
    limits: MountLimitFile | None = Field(None, description="What this server may carry.")
    backup_servers: SkipValidation[dict[str, BackupServerFile]] | None = Field(
        None, description="Limits of the backup servers behind it, by name."
    )
    api_version: kinds.ApiVersion | None = Field(
        None, description="REST API version asked for at logon; the newest by default."
    )


class FallbackFile(Section):
    """Older points that are tried where a mount or a check of a newer one fails."""

    count: kinds.Mounts = Field(description="How many older points may be tried, at most.")
    max_age: kinds.PositiveDuration | None = Field(
        None, description="How old they may be; without it the point's own max_age holds."
    )
    on: list[kinds.CauseWord] | None = Field(
        None, description="What leads to them: mount_failed, check_failed; both by default."
    )


class PointFile(Section):
    """Which restore point of a machine is mounted."""

    policy: kinds.Policy | None = Field(
        None,
        description="latest (default); before: the newest not later than 'time'; id: exactly "
        "'id'; newest_passing: the newest whose mount and checks succeed; every: each point is "
        "a target; random: one of those that fit.",
    )
    time: kinds.Instant | None = Field(None, description="For policy 'before': RFC 3339 time.")
    id: kinds.Guid | None = Field(None, description="For policy 'id': the restore point's GUID.")
    max_age: kinds.PositiveDuration | None = Field(
        None,
        description="A point older than this at the start of the run, or at 'incident_time', does "
        "not fit.",
    )
    incident_time: kinds.Instant | None = Field(
        None,
        description="When the trouble began, RFC 3339: only points made by then fit, and the RPO "
        "counts back from it.",
    )
    exclude_points: list[kinds.Line] | None = Field(
        None, description="GUIDs, or globs over the names of points, that must not be mounted."
    )
    search: kinds.SearchOrder | None = Field(
        None,
        description="For policy 'newest_passing': linear (default) tries one older point after "
        "the other; bisect by halves, assuming that every point before a good one is good.",
    )
    count: kinds.Mounts | None = Field(
        None, description="For policy 'every': only so many of the newest points."
    )
    seed: kinds.Count | None = Field(
        None, description="For policy 'random': draw by this number instead of the run's."
    )
    fallback: FallbackFile | None = Field(
        None, description="For latest, before and random: older points to try where this fails."
    )


class SampleFile(Section):
    """Only some of the machines that a selector matches."""

    count: kinds.Mounts = Field(description="How many machines to take, at most.")
    order: kinds.SampleWord | None = Field(
        None,
        description="random (default): by the run's seed; stalest: those whose last proof in the "
        "journal is oldest, the never proven first.",
    )
    seed: kinds.Count | None = Field(
        None, description="Draw by this number instead of the run's own."
    )


class TimeoutsFile(Section):
    """How long each phase of one mount may take."""

    mount: kinds.PositiveDuration | None = Field(
        None, description="From submission until the server has finished; 20m by default."
    )
    checks: kinds.PositiveDuration | None = Field(
        None, description="For reading and checking what was mounted; 10m by default."
    )
    unmount: kinds.PositiveDuration | None = Field(
        None, description="For removing the mount; 5m by default."
    )


class RetriesFile(Section):
    """How often a target is tried; only its own faults count, never a server's trouble."""

    attempts: kinds.Attempts | None = Field(
        None, description="All attempts, the first included; 2 by default."
    )
    delay: kinds.Duration | None = Field(
        None, description="Pause before the second attempt; 30s by default."
    )
    max_delay: kinds.Duration | None = Field(
        None, description="Longest pause between attempts; 5m by default."
    )


class ObjectivesFile(Section):
    """Recovery objectives, compared with what was reached in the report."""

    rto: kinds.PositiveDuration | None = Field(
        None, description="Recovery time: from the start of the run to each target's verdict."
    )
    rpo: kinds.PositiveDuration | None = Field(
        None, description="Recovery point: age of the mounted point at the start of the run."
    )


class ExpectFile(Section):
    """How many machines a selector must match; otherwise nothing is mounted at all."""

    min: kinds.Count | None = Field(None, description="At least so many; 0 makes none fine.")
    max: kinds.Count | None = Field(None, description="At most so many.")


class PathCheckFile(Section):
    """One file or directory must be there, and be what the other keys say."""

    path: contents.GuestPath = Field(description="A file or directory of the guest.")
    min_size: contents.Size | None = Field(None, description="At least so large: 5GiB.")
    max_size: contents.Size | None = Field(None, description="At most so large.")
    modified_within: kinds.PositiveDuration | None = Field(
        None, description="Last changed at most so long before the restore point was made."
    )
    owner: kinds.Line | None = Field(None, description="Its owner, as the server names it.")
    sha256: contents.Sha256 | None = Field(None, description="The SHA-256 of its content.")
    contains: contents.SearchedText | None = Field(
        None, description="A text that stands in its content."
    )
    matches: contents.Expression | None = Field(
        None, description="A regular expression that is found in a line of its content."
    )
    magic: contents.Magic | None = Field(
        None, description="The bytes it begins with, in hex: 4D 5A."
    )
    max_download: contents.Volume | None = Field(
        None, description="A larger file is not looked into, and fails; 1MiB by default."
    )


class DirCheckFile(Section):
    """The names in one directory."""

    dir: contents.GuestPath = Field(description="A directory of the guest.")
    glob: contents.NameGlob | None = Field(
        None, description="Which of its entries are counted; all by default."
    )
    min_count: kinds.Count | None = Field(None, description="At least so many.")
    max_count: kinds.Count | None = Field(None, description="At most so many.")
    modified_within: kinds.PositiveDuration | None = Field(
        None, description="The newest changed at most so long before the restore point was made."
    )
    absent: contents.NameGlobs | None = Field(
        None, description="Patterns of names of which none may be there, such as ransom notes."
    )


class BaselineCheckFile(Section):
    """Files and bytes of a directory, compared with the last run that verified the target."""

    baseline: contents.GuestPath = Field(description="A directory of the guest.")
    count: contents.Tolerance | None = Field(
        None, description="By how much the number of files may differ; 10% by default."
    )
    size: contents.Tolerance | None = Field(
        None, description="By how much their bytes in all may differ; 10% by default."
    )


class ExecCheckFile(Section):
    """A program of your own judges the guest: it ends with 0 (good), 1 (bad) or 2 (warning)."""

    exec: contents.CommandLine = Field(
        description="Program and arguments, started without a shell; a path is relative to the "
        "plan. They are journaled: no secret belongs here."
    )
    timeout: kinds.PositiveDuration | None = Field(
        None, description="How long it may take; 5m by default."
    )


CheckFile = PathCheckFile | DirCheckFile | BaselineCheckFile | ExecCheckFile
CHECK_KINDS: dict[str, type[Section]] = {
    "path": PathCheckFile,
    "dir": DirCheckFile,
    "baseline": BaselineCheckFile,
    "exec": ExecCheckFile,
}
"""The model of each kind of check, by the key that makes it one."""


class OverridableFile(Section):
    """Settings that 'defaults' gives and every wave and target may override."""

    server: kinds.Line | None = Field(
        None, description="Name of a server under 'servers'; not needed where there is only one."
    )
    os: kinds.Os | None = Field(None, description="The guest's system; windows by default.")
    source: kinds.SourceKind | None = Field(
        None, description="The family of restore points; replica by default."
    )
    point: PointFile | None = Field(
        None, description="Which restore point; replaces an inherited choice as a whole."
    )
    timeouts: TimeoutsFile | None = Field(None, description="Time limits, merged key by key.")
    retries: RetriesFile | None = Field(None, description="Attempts, merged key by key.")
    checks: list[kinds.Line] | None = Field(
        None,
        description="Names of sets under 'checks' that must pass; replaces an inherited list as "
        "a whole, [] asks for none.",
    )


class DefaultsFile(OverridableFile):
    """Settings for every target that does not say otherwise."""


class DownloadFile(Section):
    """Files to copy out of the mounted guest, or back into the original one."""

    path: contents.GuestPath = Field(
        description="A file of the guest, or a directory of which 'glob' chooses files."
    )
    to: contents.LocalPath | None = Field(
        None,
        description="Where they go, relative to the plan; a directory ends in '/'. Where a "
        "target stands for several machines, each gets a directory of its own below.",
    )
    glob: contents.NameGlob | None = Field(
        None, description="Which files of the directory 'path'; those below it are not meant."
    )
    max_size: contents.Volume | None = Field(
        None, description="At most so many bytes, all files together; 1GiB by default."
    )
    max_files: contents.Files | None = Field(
        None, description="At most so many files; 1000 by default."
    )
    overwrite: kinds.Truth | None = Field(
        None, description="true replaces files that are there already."
    )
    write: contents.Original | None = Field(
        None,
        description="original: into the guest it came from, in place of 'to'. Needs 'mode: "
        "recovery', and --yes-write when it runs.",
    )


class TargetFile(OverridableFile):
    """What to mount: exactly one selector, and what differs from the defaults."""

    id: kinds.Guid | None = Field(None, description="Selector: one restore point by its GUID.")
    vm: kinds.Line | None = Field(None, description="Selector: one machine by its name.")
    job: kinds.Line | None = Field(
        None, description="Selector: every machine of a replication (or backup) job."
    )
    from_file: kinds.FilePath | None = Field(
        None,
        description="Selector: a CSV file with a header (vm and optionally server, os, before, "
        "label, checks), relative to the plan.",
    )
    label: kinds.Line | None = Field(None, description="What people call this target.")
    critical: kinds.Truth | None = Field(None, description="true: its failure halts the run.")
    exclude: list[kinds.Line] | None = Field(
        None, description="Names or globs of machines to leave out of a job, match, query or file."
    )
    expect: ExpectFile | None = Field(None, description="How many machines must be matched.")
    backup_server: kinds.Line | None = Field(
        None, description="Only machines behind this backup server."
    )
    all: kinds.Truth | None = Field(
        None, description="true: a name found on several backup servers means all of them."
    )
    match: kinds.Line | None = Field(
        None, description="Selector: every machine whose name matches this glob, such as 'api-*'."
    )
    query: kinds.Filter | None = Field(
        None,
        description="Selector: every machine of the restore points that this filter of the "
        'server\'s query language finds, such as BackupServerName=="vbr-01".',
    )
    sample: SampleFile | None = Field(
        None, description="Take only some of the machines that the selector matches."
    )
    download: list[DownloadFile] | None = Field(None, description="Files to copy after the checks.")


class WaveFile(OverridableFile):
    """A set of targets that start together."""

    name: kinds.Name = Field(description="The wave's name, part of every target's key.")
    targets: SkipValidation[list[TargetFile]] = Field(description="What this wave mounts.")
    after: list[kinds.Line] | None = Field(
        None, description="Waves that must have ended before this one starts."
    )
    critical: kinds.Truth | None = Field(
        None, description="true: any failure in this wave halts the run."
    )
    on_error: kinds.OnErrorWord | None = Field(
        None,
        description="What follows if a target of this wave does not end well: continue (the "
        "default), skip_dependents (the waves that wait for it are skipped), halt (as critical).",
    )
    limits: MountLimitFile | None = Field(None, description="What this wave may use.")
    objectives: ObjectivesFile | None = Field(
        None, description="Objectives of this wave, merged with the run's key by key."
    )


class LimitsFile(Section):
    """Limits of the whole run."""

    mounts: kinds.Mounts | None = Field(
        None, description="Open mounts over the whole run, held ones included."
    )
    mounts_per_vm: kinds.Mounts | None = Field(
        None, description="Open mounts per machine; 1 by default."
    )
    failures: kinds.Failures | None = Field(
        None, description="Submit nothing more once more than this has failed: a number or 20%."
    )
    deadline: kinds.PositiveDuration | None = Field(None, description="How long the run may take.")
    outage: kinds.Duration | None = Field(
        None, description="How long targets wait for an unreachable server; 30m by default."
    )


class CleanupFile(Section):
    """What happens to mounts at the end."""

    unmount: kinds.Unmount | None = Field(
        None,
        description="always (default): every mount is removed; on_success: one whose verdict is "
        "not good stays open, and so does every one with never, until somebody ends it.",
    )
    keep_failed: kinds.PositiveDuration | None = Field(
        None, description="How long a mount whose checks failed stays open for a person."
    )


class WebhookFile(Section):
    """A webhook that messages are posted to, over https."""

    url: Secret = Field(
        description="A reference to its address, which is a secret: whoever has it can post there."
    )
    kind: kinds.HookKindWord | None = Field(
        None, description="What reads the messages: generic (the default; JSON), slack or teams."
    )
    ca_file: kinds.FilePath | None = Field(
        None,
        description="PEM file with the authorities to trust in place of the system's, relative "
        "to the plan.",
    )


class NotificationFile(Section):
    """Somebody who is told of the run."""

    webhook: WebhookFile = Field(description="Where the messages go.")
    on: list[kinds.NotifyOnWord] | None = Field(
        None,
        description="What is worth a message: finished, halted, wave_failed, objective_missed, "
        "leftover (a mount that may still be open); all by default.",
    )


class PlanFile(Section):
    """A restore plan for bulk-restore."""

    version: kinds.Version = Field(description="Version of the plan format: 1.")
    name: kinds.Line = Field(description="The plan's name, in the journal and every report.")
    description: kinds.Paragraph | None = Field(None, description="What the plan is for.")
    mode: kinds.Mode | None = Field(
        None,
        description="drill (default): mounts, looks and unmounts; writes into no guest. "
        "recovery: may also write files into guests, where a target says so.",
    )
    reason: kinds.Line | None = Field(
        None, description="Why it runs, such as a change number; kept in journal and reports."
    )
    variables: SkipValidation[dict[str, kinds.Line]] | None = Field(
        None, description="Values for ${name} in any text below; --set name=value overrides."
    )
    servers: SkipValidation[dict[str, ServerFile]] = Field(
        description="The Enterprise Managers, by a name of your choice."
    )
    defaults: DefaultsFile | None = Field(None, description="Settings for every target.")
    limits: LimitsFile | None = Field(None, description="Limits of the whole run.")
    objectives: ObjectivesFile | None = Field(None, description="Objectives of the whole run.")
    checks: SkipValidation[dict[str, list[CheckFile]]] | None = Field(
        None, description="Sets of checks by name: what must be true of a guest's files."
    )
    targets: SkipValidation[list[TargetFile]] | None = Field(
        None, description="What to mount, as one wave called 'default'."
    )
    waves: SkipValidation[list[WaveFile]] | None = Field(
        None, description="What to mount, in waves that may wait for one another."
    )
    cleanup: CleanupFile | None = Field(None, description="What happens to mounts at the end.")
    notifications: SkipValidation[list[NotificationFile]] | None = Field(
        None, description="Who is told of the run; what goes wrong there never changes a result."
    )
