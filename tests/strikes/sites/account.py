"""What is known of a story once it has ended: of the database, the servers and the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.app.planned_limits import limits_of
from orchestrator.core.events import Event, from_json
from orchestrator.engine.limits import Limits
from orchestrator.plan.file.loading import load_plan
from orchestrator.simulator.truth import GroundTruth
from tests.strikes.sites.blows import Blow
from tests.strikes.sites.scene import Scene
from tests.strikes.sites.witness import Request

ENDS_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Told:
    """One record."""

    chain: str
    epoch: int
    at: float
    """Seconds of the database's wall clock, which is this machine's, as `time.time`."""
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is known."""

    kind: str
    blow: Blow
    held: frozenset[str]
    """Servers that the struck worker served then."""
    victim: int
    workers: Mapping[str, int]
    """Process of each worker."""
    told: Sequence[Told]
    requests: Sequence[Request]
    truth: GroundTruth
    report: Mapping[str, Any]
    limits: Limits
    code: int
    """Exit code of the command that followed the run."""
    left_with: Sequence[int]
    """Exit codes of the workers that could leave."""
    ended_early: Sequence[int]
    """Processes of workers that had ended before they were asked to."""
    complaints: Sequence[str]
    """What the commands said that looked afterwards, where they failed."""


def account_of(
    where: Scene,
    kind: str,
    blow: Blow,
    *,
    held: frozenset[str],
    victim: int,
    code: int,
    left_with: Sequence[int],
    ended_early: Sequence[int],
) -> Account:
    """Return an account of a story; what is left open is unmounted then."""
    truth = where.servers.truth()
    requests = tuple(where.witness.requests)
    rows = where.rows(
        "SELECT chain, epoch, at + extract(epoch FROM submitted_at)::double precision, kind, body "
        "FROM event JOIN run ON run.id = run ORDER BY at, chain, seq"
    )
    return Account(
        kind=kind,
        blow=blow,
        held=held,
        victim=victim,
        workers=dict(where.rows("SELECT id, pid FROM worker")),
        told=[Told(chain, epoch, at, from_json(k, body)) for chain, epoch, at, k, body in rows],
        requests=requests,
        truth=truth,
        report=where.site.values(),
        limits=limits_of(load_plan(where.site.directory / "plan.yaml").plan, None),
        code=code,
        left_with=left_with,
        ended_early=ended_early,
        complaints=_looked(where, code, truth),
    )


def _looked(where: Scene, code: int, truth: GroundTruth) -> list[str]:
    """Verify the reports, and remove what is left, as a person would."""
    site, complaints = where.site, []
    verified = site.call("report", "--verify", site.report)
    if verified.returncode != 0:
        complaints.append(f"report --verify: {verified.returncode}: {verified.stderr}")
    if code == 3 and truth.still_open():
        done = site.call("unmount", "last", "--token-key", site.key, within=ENDS_WITHIN_S)
        if done.returncode != 0 or where.servers.truth().still_open():
            complaints.append(f"unmount: {done.returncode}: {done.stdout}{done.stderr}")
    return complaints
