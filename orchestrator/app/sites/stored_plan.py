"""The plan of a run as it travels: its bytes, the files that it names, and its shards.

Secrets stay references: they are read by the worker, at its logon. Programs of checks and
directories of downloads stay paths, on the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.app.wiring import Choices, Plan, World, beginning
from orchestrator.core.earlier_runs.makespans import with_makespans
from orchestrator.core.ports.store import Store
from orchestrator.core.records import server_address
from orchestrator.core.sites import ShardFacts, Submission
from orchestrator.plan.choose.locked import content_of, load_any_text
from orchestrator.plan.file.loading import refusal
from orchestrator.plan.file.named_files import (
    CarriedFiles,
    CollectedFiles,
    NamedFiles,
    with_authorities,
)


class TravellingPlan(Struct, frozen=True, kw_only=True):
    """A plan that can be carried out on another machine, and everything that goes there with it."""

    source: Plan
    content: bytes
    documents: Mapping[str, bytes]


def travelling_plan(path: Path, *, overrides: Mapping[str, str]) -> TravellingPlan:
    """Return the plan or locked plan at `path`, with the files that it names.

    No secret is read, and nothing is sent.

    Raises:
        PlanError: as `load_any`; also a secret with a relative path, a `ca_file` that cannot be
            read, or a gate, which nobody could open.
    """
    content, named = content_of(path), CollectedFiles()
    source = _loaded(content, path, overrides, named)
    if source.plan.gates:
        raise refusal(path, "a run over several machines has no gates yet: leave out 'gates'")
    return TravellingPlan(source=source, content=content, documents=named.contents)


def submission_of(
    plan: TravellingPlan, choices: Choices, world: World, earlier: Store | None = None
) -> Submission:
    """Return a run of a plan as it is submitted, with one shard per server.

    `earlier` has the runs with whose time its own is compared; None: with none.
    """
    started = beginning(plan.source, choices, world)
    if earlier is not None:
        started = with_makespans(started, lambda name, run: earlier.makespans(name, before=run))
    return Submission(
        started=started,
        plan=plan.content,
        documents=plan.documents,
        shards=tuple(
            ShardFacts(server=name, site=server.site, address=server_address(server.url))
            for name, server in plan.source.plan.servers.items()
        ),
        options={"yes_write": choices.yes_write},
    )


def loaded_plan(submission: Submission) -> Plan:
    """Return the plan that was submitted; no file of this machine is read.

    Raises:
        PlanError: this version cannot read it.
    """
    started = submission.started
    named = CarriedFiles(submission.documents)
    return _loaded(submission.plan, Path(started.plan_path), started.overrides, named)


def _loaded(content: bytes, path: Path, overrides: Mapping[str, str], named: NamedFiles) -> Plan:
    source = load_any_text(content, path, overrides=overrides, named=named)
    try:
        plan = with_authorities(source.plan, named)
    except ValueError as exc:
        raise refusal(path, str(exc)) from None
    return replace(source, plan=plan)
