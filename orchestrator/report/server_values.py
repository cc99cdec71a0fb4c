"""What report.json says of each server, and of mounts that belong to no target."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from orchestrator.report.described import Count, doc, one_of

NOT_VISIBLE = "not_visible"


SIGHTS = ("seen", "nothing_seen", NOT_VISIBLE)


class OutageReport(Struct, frozen=True, kw_only=True):
    """When a server could not be used."""

    start_s: Annotated[float, doc("second of the run")]
    end_s: Annotated[float | None, doc("second of the run; null: to its end")]
    reason: Annotated[str, doc("the cause")]


class PaceReport(Struct, frozen=True, kw_only=True):
    """A change of how many mounts a server is given."""

    at_s: Annotated[float, doc("second of the run")]
    mounts: Annotated[int | None, doc("mounts from then on; null: as many as the plan allows")]


class ServerReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Enterprise Manager over the run; null where nothing was measured."""

    name: Annotated[str, doc("name in the plan")]
    url: Annotated[str, doc("its address")]
    tls: Annotated[str, doc("how its certificate was checked")]
    api_version: Annotated[str, doc("version of its REST API")]
    certificate_sha256: Annotated[str | None, doc("SHA-256 of its certificate")]
    user: Annotated[str | None, doc("account that was logged on")]
    clock_offset_s: Annotated[float | None, doc("seconds that its clock is ahead of this one")]
    mounts_limit: Annotated[int | None, doc("mounts at a time; null: no limit of its own")]
    peak_mounts: Annotated[
        int | None, doc("most mounts that were, or may have been, open at a time")
    ]
    sessions: Annotated[Count, doc("logon sessions")]
    requests: Annotated[int | None, doc("requests to it; not those of a killed process")]
    retries: Annotated[int | None, doc("requests that were repeated")]
    problem: Annotated[str | None, doc("why it could not be used")]
    outages: Annotated[tuple[OutageReport, ...], doc("when it could not be used")]
    paces: Annotated[tuple[PaceReport, ...], doc("how many mounts it was given, and when")]
    replications: Annotated[
        str, one_of("what it showed of replication jobs at work; absent: not visible", SIGHTS)
    ] = NOT_VISIBLE
    restores: Annotated[
        str, one_of("what it showed of open restores; absent: not visible", SIGHTS)
    ] = NOT_VISIBLE


class StrayReport(Struct, frozen=True, kw_only=True):
    """A mount of one of the run's own sessions that belongs to no target, and may be open."""

    server: Annotated[str, doc("server of the plan")]
    task_id: Annotated[str, doc("task that made it")]
    mount_href: Annotated[str | None, doc("the mount on its server")]
    point_id: Annotated[str | None, doc("its restore point")]
    message: Annotated[str, doc("what is known of it")]


class UnreadReport(Struct, frozen=True, kw_only=True):
    """A server with a logon session in which a mount of no target may be open, unseen."""

    server: Annotated[str, doc("server of the plan")]
    message: Annotated[str, doc("what is not known, and why")]
