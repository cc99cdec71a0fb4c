"""A part of a run that a CI matrix makes, and the parts of a merged report."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from orchestrator.report.described import SHA256, V3, Count, Moment, doc, one_of


class PartReport(Struct, frozen=True, kw_only=True):
    """The part of a plan that a run of `--shard` took."""

    number: Annotated[int, doc("which one, from 1", minimum=1)]
    of: Annotated[int, doc("how many there are", minimum=1)]
    selection_sha256: Annotated[
        str,
        doc(
            "SHA-256 of everything that decides which targets the plan has: equal in all parts "
            "that belong together",
            **SHA256,
        ),
    ]


class GateReport(Struct, frozen=True, kw_only=True):
    """A wave of a living run that waits for people."""

    wave: Annotated[str, doc("name in the plan")]
    approvals: Annotated[int, doc("how many more must approve it", minimum=1)]
    until: Annotated[Moment, doc("when nobody is waited for any more")]


EVIDENCE = ("none", "verified", "signed")


class MergedPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run of `--shard` whose report is in a merged one."""

    number: Annotated[int, doc("which shard, from 1", minimum=1)]
    run: Annotated[str, doc("identifies the run in its journal")]
    host: Annotated[str, doc("machine that it ran on")]
    exit_code: Annotated[int | None, doc("null: it has not ended")]
    targets: Annotated[Count, doc("targets that it had")]
    may_be_open: Annotated[Count, doc("mounts that are open or may be; servers not known")]
    report_sha256: Annotated[str, doc("SHA-256 of its report.json", **SHA256)]
    journal_head: Annotated[str | None, doc("hash of the last record of its journal")]
    evidence: Annotated[
        str,
        one_of("whether its files were compared with its evidence, and a signature", EVIDENCE),
    ]
    waits_for: Annotated[
        tuple[GateReport, ...], doc("its waves that wait for people; absent: none", since=V3)
    ] = ()
