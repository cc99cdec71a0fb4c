"""What a report says of objectives."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from orchestrator.report.described import V3, doc, one_of


class Reached(Struct, frozen=True, kw_only=True):
    """An objective of a target."""

    target_s: Annotated[float, doc("seconds that the plan allows")]
    actual_s: Annotated[float | None, doc("seconds that were measured; null: not known")]
    met: Annotated[bool, doc("false too if nothing was measured")]


class Objective(Struct, frozen=True, kw_only=True):
    """An objective of the run or of a wave."""

    scope: Annotated[str, doc("`run`, `wave NAME` or the key of a target")]
    kind: Annotated[
        str,
        one_of(
            "recovery time, recovery point, or longer than earlier runs",
            ("rto", "rpo", "regression"),
        ),
    ]
    target_s: Annotated[float, doc("seconds that the plan allows")]
    actual_s: Annotated[float | None, doc("seconds that were measured; null: not known")]
    met: Annotated[bool, doc("false too if nothing was measured")]
    median_s: Annotated[
        float | UnsetType,
        doc("median of the last whole runs; absent: not of this kind", since=V3),
    ] = UNSET
    runs: Annotated[
        int | UnsetType, doc("how many runs that is the median of; absent: as above", since=V3)
    ] = UNSET


class TargetObjectives(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The objectives that the plan has for a target."""

    rto: Annotated[Reached | UnsetType, doc("recovery time; absent: none")] = UNSET
    rpo: Annotated[Reached | UnsetType, doc("recovery point; absent: none")] = UNSET
