"""What is asked of a server, and what its answers mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from orchestrator.app.readiness.asking import ServerAnswers
from orchestrator.app.readiness.findings import Finding, Status
from orchestrator.app.readiness.servers import server_findings
from orchestrator.app.wiring import Plan
from orchestrator.core.errors import CertificateRefused
from orchestrator.core.model import BackupServerName, ServerName, Source
from orchestrator.em.facts import ServiceRoot
from orchestrator.plan.file.access import EnvironmentSecret, FingerprintTrust, NoTrust, Trust
from orchestrator.plan.file.settings import ServerSettings
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.inventory import Inventory
from tests.app.readiness.desk import Answers, asked, at_desk, checked, older
from tests.plan.builders import point
from tests.scenarios.drill import ACCOUNT, PASSWORD, START, Site, Stage

pytestmark = pytest.mark.anyio

OK, WARNING = Status.OK, Status.WARNING
PROBLEM, NOT_VISIBLE = Status.PROBLEM, Status.NOT_VISIBLE


async def test_a_good_server_costs_a_logon_and_a_handful_of_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing stands in the way; every question is asked once; what is not told is not "ok"."""
    async with at_desk(tmp_path, monkeypatch, [Site("hq"), Site("dr")]) as stage:
        found = await asked(stage)

        assert found.readiness.is_ready
        assert stage.sites.truth.logons == 2
        assert set(stage.sites.truth.received.values()) == {10}
    assert found.statuses("hq") == found.statuses("dr") | {"trust": NOT_VISIBLE}
    assert found.statuses("hq") == {
        "reachable": OK,
        "trust": NOT_VISIBLE,  # the network in memory has no TLS
        "api_version": OK,
        "secret": OK,
        "logon": OK,
        "clock": OK,
        "role": OK,
        "sessions": OK,
        "open_mounts": NOT_VISIBLE,
        "jobs_at_work": NOT_VISIBLE,
        "restores_open": NOT_VISIBLE,
        "inventory": OK,
        "inventory_age": OK,
        "backup_servers": NOT_VISIBLE,
        "limits": OK,
    }
    assert found.of("hq", "backup_servers").detail == "not visible to this role"


async def test_a_wrong_password_is_tried_once_and_is_not_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accounts lock: one logon; the server is reachable; the other server is answered for."""
    sites = [Site("hq", password="another"), Site("dr")]
    async with at_desk(tmp_path, monkeypatch, sites) as stage:
        found = await asked(stage)

        assert stage.sites.truth.requests["POST /api/sessionMngr/"] == 2
        assert stage.sites.truth.received["hq"] == 2
    assert found.problems == {("hq", "logon")}
    assert "password is incorrect" in found.of("hq", "logon").detail
    assert (found.of("hq", "reachable").status, found.of("hq", "role").status) == (OK, NOT_VISIBLE)
    assert {each.status for each in targets(found, "hq", "point")} == {NOT_VISIBLE}
    assert {each.status for each in targets(found, "dr", "point")} == {OK}


def targets(found: Answers, server: str, item: str) -> list[Finding]:
    """Return the answers about the targets of one server."""
    return [
        each
        for each in found.readiness.findings
        if each.item == item and f"/{server}/" in each.name
    ]


@pytest.mark.parametrize(
    ("role", "status", "says"),
    [
        ("File Restore Operator", OK, "replica: may mount"),
        ("Portal Administrator", OK, "replica: may mount"),
        ("Portal User", PROBLEM, "sees restore points and may not mount them"),
        ("VM Restore Operator", PROBLEM, "sees restore points and may not mount them"),
        ("Exchange Restore Operator", PROBLEM, "does not show vmReplicaPoints"),
    ],
)
async def test_a_role_is_judged_by_what_it_may_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, status: Status, says: str
) -> None:
    """Who may not list the mounts of a point may not make one; no mount is tried."""
    found = await checked(tmp_path, monkeypatch, [Site(role=role)])

    assert found.of("hq", "role").status is status
    assert says in found.of("hq", "role").detail
    assert found.of("hq", "logon").status is OK
    assert found.readiness.is_ready is (status is OK)


@pytest.mark.parametrize(
    ("role", "status"),
    [
        ("Portal Administrator", OK),
        ("Portal User", OK),
        ("File Restore Operator", NOT_VISIBLE),
        ("Exchange Restore Operator", NOT_VISIBLE),
    ],
)
async def test_backup_servers_are_told_where_the_role_may_see_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, status: Status
) -> None:
    """Their versions where they are visible, and otherwise that they are not."""
    found = await checked(tmp_path, monkeypatch, [Site(role=role)])

    told = found.of("hq", "backup_servers")
    assert told.status is status
    wanted = "vbr-hq-01 12.3.2.3617" if status is OK else "not visible to this role"
    assert wanted in told.detail


async def test_a_server_without_lists_of_mounts_says_nothing_of_the_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 404 before the first mount is no permission."""
    behaviour = Behaviour(empty_mounts_are_404=True)
    found = await checked(tmp_path, monkeypatch, [Site(behaviour=behaviour)])

    assert found.of("hq", "role").status is NOT_VISIBLE
    assert found.readiness.is_ready


@pytest.mark.parametrize("kind", ["drop_before", "html_200", "black_hole"])
async def test_an_unreachable_server_does_not_keep_the_others_from_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It is a problem within the patience, gets no account sent, and the other is all there."""
    sites = [Site("hq", faults=[Fault(kind=kind)]), Site("dr")]
    async with at_desk(tmp_path, monkeypatch, sites) as stage:
        began = anyio.current_time()
        found = await asked(stage)

        assert anyio.current_time() - began <= 60.0
        assert stage.sites.truth.requests["POST /api/sessionMngr/"] == 1
    assert found.problems == {("hq", "reachable")}
    assert found.of("hq", "logon").status is NOT_VISIBLE
    assert {item for item, said in found.statuses("hq").items() if said is OK} <= {"secret"}
    assert PROBLEM not in found.statuses("dr").values()
    assert {each.status for each in targets(found, "hq", "point")} == {NOT_VISIBLE}


async def test_a_server_that_stops_answering_is_left_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said before counts; what it did not say is not "ok"; the session is logged off."""
    sites = [Site("hq", faults=[Fault(kind="black_hole", path="/query")]), Site("dr")]
    async with at_desk(tmp_path, monkeypatch, sites) as stage:
        began = anyio.current_time()
        found = await asked(stage, patience=20.0)

        assert anyio.current_time() - began == pytest.approx(20.0, abs=1.0)
    assert found.problems == {("hq", "reachable")}
    assert "everything in 20 s" in found.of("hq", "reachable").detail
    assert found.of("hq", "logon").status is OK
    assert found.of("hq", "inventory").detail == "not asked: the time limit of 20 s was reached"


async def test_a_session_that_ends_meanwhile_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restarting service is not ready, whatever it said before."""
    fault = Fault(kind="restart", path="/logonSessions$", method="GET")
    found = await checked(tmp_path, monkeypatch, [Site(faults=[fault])])

    assert found.problems == {("hq", "reachable")}
    assert "broke off" in found.of("hq", "reachable").detail
    assert found.of("hq", "sessions").status is NOT_VISIBLE


async def test_an_inventory_that_cannot_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its targets are not said to be missing: the server's words say why nobody knows."""
    fault = Fault(kind="error_500", path="/query")
    found = await checked(tmp_path, monkeypatch, [Site(faults=[fault])])

    points = targets(found, "hq", "point")
    assert {each.status for each in points} == {Status.PROBLEM}
    assert not [each.detail for each in points if "refused to list" not in each.detail]
    assert len(found.problems) == len(points)


@pytest.mark.parametrize(("skew", "status"), [(-300.0, WARNING), (90.0, WARNING), (20.0, OK)])
async def test_a_skewed_clock_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float, status: Status
) -> None:
    """Beyond a minute a person should know: ages of restore points are corrected by as much."""

    def skewed(stage: Stage) -> None:
        stage.sites.managers["hq"].skew = skew

    found = await checked(tmp_path, monkeypatch, before=skewed)

    assert found.of("hq", "clock").status is status
    assert found.readiness.is_ready
    assert ("behind" in found.of("hq", "clock").detail) is (skew < -60)


async def test_other_sessions_of_the_account_are_noted_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be another program's, with its mounts in them."""
    async with at_desk(tmp_path, monkeypatch) as stage:
        manager = stage.sites.managers["hq"]
        other = manager.logon(ACCOUNT.lower(), PASSWORD)
        assert other is not None
        found = await asked(stage)

        assert list(manager.sessions.values()) == [other]
        manager.log_off(other)
    assert found.of("hq", "sessions").status is OK
    assert "1 other session of" in found.of("hq", "sessions").detail


async def test_an_inventory_without_anything_new_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The age of the newest listed point of all is told, and more than a day is a warning."""
    found = await checked(tmp_path, monkeypatch, [Site(change=older(2.0))])

    told = found.of("hq", "inventory_age")
    assert told.status is WARNING
    assert "2 d" in told.detail
    assert "every 15 minutes" in told.detail


async def test_a_server_without_any_point_says_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the role nor the inventory's age can be seen, and the target is a problem."""
    plan = "targets:\n  - vm: nobody\n"
    found = await checked(tmp_path, monkeypatch, [Site(machines=0)], plan)

    assert found.of("hq", "role").status is NOT_VISIBLE
    assert found.of("hq", "inventory_age").status is NOT_VISIBLE
    assert found.of("hq", "limits").status is NOT_VISIBLE
    assert found.problems == {("default/hq/nobody", "point")}


async def test_a_server_of_which_the_plan_wants_nothing_is_as_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its points were not asked for: nobody may say that there are none."""
    plan = "targets:\n  - {vm: hq-app0000, server: hq}\n"
    found = await checked(tmp_path, monkeypatch, [Site("hq"), Site("dr")], plan)

    assert found.readiness.is_ready
    for item in ("inventory", "inventory_age", "limits"):
        told = found.of("dr", item)
        assert told.status is OK
        assert told.detail == "not applicable: the plan asks for nothing on this server"
        assert "not applicable" not in found.of("hq", item).detail


async def test_points_that_the_plan_does_not_ask_for_are_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that lists others, one that lists none, and one that refuses are told apart."""
    plan = "targets:\n  - vm: nobody\n"
    others = await checked(tmp_path / "a", monkeypatch, plan=plan)
    none = await checked(tmp_path / "b", monkeypatch, [Site(machines=0)], plan)
    fault = Fault(kind="error_500", path="/query")
    refused = await checked(tmp_path / "c", monkeypatch, [Site(faults=[fault])], plan)

    told = [each.of("hq", "limits").detail for each in (others, none, refused)]
    assert told == [
        "the server lists none of the restore points that the plan asks for",
        "no restore point to see",
        "the server refused to list restore points that the plan asks for",
    ]
    assert none.of("hq", "inventory_age").detail == "no restore point is listed at all"
    assert others.of("hq", "inventory_age").status is OK


async def test_an_api_version_that_is_not_offered_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service root says which there are."""
    async with at_desk(tmp_path, monkeypatch) as stage:
        found = await asked(stage, changed(stage, api_version="v1_9"))

    assert found.of("hq", "api_version").status is PROBLEM
    assert "v1_5, v1_6, v1_7" in found.of("hq", "api_version").detail


async def test_a_limit_for_a_backup_server_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt name would leave the real one with the default limit."""
    names = {BackupServerName("vbr-hq-01"): 2, BackupServerName("vbr-hq-1"): 2}
    async with at_desk(tmp_path, monkeypatch) as stage:
        found = await asked(stage, changed(stage, backup_server_mounts=names))

    assert found.of("hq", "limits").status is PROBLEM
    assert "no restore point is behind 'vbr-hq-1'; did you mean" in found.of("hq", "limits").detail


async def test_a_secret_that_is_missing_is_told_before_any_logon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reachability and trust are answered all the same."""
    async with at_desk(tmp_path, monkeypatch) as stage:
        monkeypatch.delenv("SCENARIO_PASSWORD")
        found = await asked(stage)

        assert stage.sites.truth.requests == {"GET /api/": 1}
    assert found.problems == {("hq", "secret")}
    assert "SCENARIO_PASSWORD is not set" in found.of("hq", "secret").detail
    assert found.of("hq", "reachable").status is OK


async def test_a_missing_secret_is_told_also_of_an_unreachable_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both stand in the way; whoever mends one should know of the other."""
    async with at_desk(tmp_path, monkeypatch, [Site(faults=[Fault(kind="drop_before")])]) as stage:
        monkeypatch.delenv("SCENARIO_PASSWORD")
        found = await asked(stage)

    assert found.problems == {("hq", "reachable"), ("hq", "secret")}


async def test_a_service_root_that_refuses_does_not_end_the_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answered, so the logon is tried; only the versions are not visible."""
    fault = Fault(kind="forbidden", path="^/api/$")
    found = await checked(tmp_path, monkeypatch, [Site(faults=[fault])])

    assert found.readiness.is_ready
    assert found.of("hq", "api_version").status is NOT_VISIBLE
    assert found.of("hq", "role").status is OK


@pytest.mark.parametrize(
    ("role", "problems"),
    [
        ("Portal Administrator", set()),
        ("File Restore Operator", {("default/hq/hq-app0000", "point")}),
    ],
)
async def test_agents_need_a_role_that_may_list_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, problems: set[tuple[str, str]]
) -> None:
    """A File Restore Operator may not: the run could not find their points either."""

    def change(inventory: Inventory) -> None:
        for each in inventory.by_id.values():
            each.family = "agents/agentRestorePoints"
        inventory.__init__(inventory.machines)  # type: ignore[misc]  # indexed again

    plan = "targets:\n  - {vm: hq-app0000, source: agent}\n"
    found = await checked(tmp_path, monkeypatch, [Site(role=role, change=change)], plan)

    assert found.problems == problems


def changed(stage: Stage, **settings: object) -> Plan:
    """Return the stage's plan with other settings of its server."""
    plan = stage.loaded.plan
    servers = {name: replace(each, **settings) for name, each in plan.servers.items()}
    return replace(stage.loaded, plan=replace(plan, servers=servers))


# --- trust: values, because the network in memory has no TLS --------------------------------


@pytest.mark.parametrize(
    ("trust", "days", "status", "says"),
    [
        (FingerprintTrust(sha256=("ab" * 32,)), 200, OK, "fingerprint_sha256: certificate abab"),
        (FingerprintTrust(sha256=("ab" * 32,)), 5, WARNING, "it expires soon"),
        (FingerprintTrust(sha256=("ab" * 32,)), -5, WARNING, "it has expired"),
        (NoTrust(), 200, WARNING, "the server's identity is not checked"),
    ],
)
def test_trust_names_its_kind_the_certificate_and_its_end(
    trust: Trust, days: int, status: Status, says: str
) -> None:
    """How the server is trusted is told with what was seen of it."""
    sight = ServerAnswers(
        server=HQ,
        sources=(Source.REPLICA,),
        root=ServiceRoot(versions=("v1_7",)),
        certificate=("ab" * 32, START + timedelta(days=days)),
    )

    told = answer(sight, "trust", trust)

    assert told.status is status
    assert says in told.detail
    assert f"{START + timedelta(days=days):%Y-%m-%d}" in told.detail


@pytest.mark.parametrize(("offset", "status"), [(0.0, OK), (7200.0, WARNING)])
def test_the_age_of_the_inventory_goes_by_the_servers_clock(offset: float, status: Status) -> None:
    """It is the server that wrote the time of the point."""
    newest = replace(point("a"), created_at=START - timedelta(hours=23))
    sight = ServerAnswers(
        server=HQ,
        sources=(Source.REPLICA,),
        clock_offset_s=offset,
        newest={Source.REPLICA: newest},
    )

    assert answer(sight, "inventory_age", NoTrust()).status is status


def test_a_refused_certificate_is_a_problem_of_trust_alone() -> None:
    """The server is reachable; nothing else was asked of it."""
    refused = CertificateRefused("hq shows the certificate ff, which the plan does not pin")
    sight = ServerAnswers(server=HQ, sources=(Source.REPLICA,), root=refused)
    trust = FingerprintTrust(sha256=("ab" * 32,))

    assert answer(sight, "trust", trust).status is PROBLEM
    assert answer(sight, "reachable", trust).status is OK
    assert answer(sight, "logon", trust).detail == "not asked: the server is not trusted"


HQ = ServerName("hq")


def answer(sight: ServerAnswers, item: str, trust: Trust) -> Finding:
    """Return what a sight means for one item."""
    settings = ServerSettings(
        name=HQ,
        url="https://hq.example.net:9398",
        username="u",
        password=EnvironmentSecret(name="P"),
        trust=trust,
    )
    (found,) = [
        each
        for each in server_findings(sight, settings, datetime(2026, 11, 23, 6, tzinfo=UTC), {})
        if each.item == item
    ]
    return found
