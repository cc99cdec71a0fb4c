"""Who served which server in a run over several machines: values, and words for people."""

from __future__ import annotations

from orchestrator.core.run_state import RunState
from orchestrator.core.server_state import ServerState
from orchestrator.core.text import counted, moment
from orchestrator.report.fields import Moment
from orchestrator.report.values import ShardReport, WorkerReport

SHOWN = 4
"""Workers of a server that people are shown: the last ones."""


def shard_reports(state: RunState) -> tuple[ShardReport, ...]:
    """Return who served each server, as far as workers did; nothing for a run on one machine."""
    return tuple(
        ShardReport(
            server=name,
            site=next((each.site for each in reversed(server.workers) if each.site), None),
            takeovers=sum(each.taken_over is not None for each in server.workers),
            workers=tuple(
                WorkerReport(
                    worker=each.worker,
                    host=each.host,
                    since=Moment.of(state.moment(each.at)),
                    until=_until(server, place, state),
                    taken_over=each.taken_over,
                )
                for place, each in enumerate(server.workers)
            ),
        )
        for name, server in state.servers.items()
        if server.workers
    )


def _until(server: ServerState, place: int, state: RunState) -> Moment | None:
    """Return when the worker in this place served a server no more, if that is known."""
    since = server.workers[place].at
    ends = [each for each in server.ends if each >= since]
    ends += [each.at for each in server.workers[place + 1 :]]
    return Moment.of(state.moment(min(ends))) if ends else None


def shard_name(shard: ShardReport) -> str:
    """Return the server and its site."""
    return f"{shard.server} (site {shard.site})" if shard.site else shard.server


def served_by(shard: ShardReport) -> str:
    """Return the workers of a server and when they took it; the last ones of many."""
    earlier = len(shard.workers) - SHOWN
    words = [counted(earlier, "earlier worker")] if earlier > 0 else []
    return "; ".join([*words, *map(_worker, shard.workers[-SHOWN:])])


def _worker(worker: WorkerReport) -> str:
    lost = f", which took it over from {worker.taken_over}" if worker.taken_over else ""
    return f"{worker.worker} on {worker.host} from {moment(worker.since)}{lost}"
