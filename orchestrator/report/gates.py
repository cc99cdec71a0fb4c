"""The gates at which a living run waits for people."""

from __future__ import annotations

from orchestrator.core.run_state import RunState
from orchestrator.core.text import counted, moment, printable
from orchestrator.report.described import Moment
from orchestrator.report.part_values import GateReport


def gates_of(state: RunState) -> tuple[GateReport, ...]:
    """Return the waves that people may still approve; none once nobody works on the run."""
    if state.finished is not None or state.process_gone:
        return ()
    return tuple(
        GateReport(
            wave=each.wave, approvals=each.approvals, until=Moment.of(state.moment(each.until))
        )
        for each in state.closed_gates
    )


def gate_words(gate: GateReport) -> str:
    """Return `wave second waits for 1 approval until 2026-11-28 22:05:12 UTC`."""
    approvals = counted(gate.approvals, "approval")
    return f"wave {printable(gate.wave)} waits for {approvals} until {moment(gate.until)}"
