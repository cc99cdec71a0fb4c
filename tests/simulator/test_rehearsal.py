"""Rehearsals without a process: what a plan's servers get, and how a scenario changes it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from orchestrator.core.errors import PlanError
from orchestrator.core.expressions import compiled
from orchestrator.plan.file.loading import LoadedPlan, load_plan, load_plan_text
from orchestrator.simulator import guests
from orchestrator.simulator.inventory import Inventory, Machine
from orchestrator.simulator.rehearsal.copying import rehearsal_copy
from orchestrator.simulator.rehearsal.examples import first_names, line_like
from orchestrator.simulator.rehearsal.planned import RehearsedServer, plain, rehearsed
from orchestrator.simulator.rehearsal.scenario import ServerMishaps, apply_scenario
from orchestrator.simulator.rehearsal.stock import inventory_of

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
HEAD = """\
version: 1
name: drill
servers:
  hq: {url: 'https://em-hq.example.net:9398', username: x, password: {env: SECRET}}
"""


def loaded(text: str, directory: Path, head: str = HEAD) -> LoadedPlan:
    """Return a plan with one server."""
    return load_plan_text((head + text).encode(), directory / "plan.yaml")


def servers_of(text: str, directory: Path = Path("/nowhere")) -> list[RehearsedServer]:
    """Return what the servers of a plan get."""
    return rehearsed(loaded(text, directory).plan, NOW)


def inventory(server: RehearsedServer) -> Inventory:
    """Return what the process of a server has."""
    return inventory_of(server.name, plain(server.stock))


def scenario(directory: Path, text: str) -> Path:
    """Return a scenario file."""
    path = directory / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(servers: Sequence[RehearsedServer], path: Path) -> list[str]:
    """Return what is wrong with a scenario, without the file's name."""
    with pytest.raises(PlanError) as caught:
        apply_scenario(path, servers)
    return [each.head.removeprefix(f"{path}:") for each in caught.value.problems]


# --- machines --------------------------------------------------------------------------------


def test_every_selector_has_its_machines() -> None:
    """Named ones as they are named; of a job or glob as many as are expected, at least two."""
    (server,) = servers_of(
        """targets:
  - vm: dc01
  - {id: 9b414afe-e957-4d40-a144-7d02de9a041c, label: sql02}
  - {job: Web Replication, exclude: ['*-01'], expect: {min: 3}}
  - {match: 'api-[ab]?', backup_server: vbr-2, expect: {max: 1}}
  - {query: 'VmDisplayName=="odd one";BackupServerName=="vbr-9"', expect: {max: 1}}
"""
    )

    found = inventory(server)

    names = {machine.name: machine.backup_server.name for machine in found.machines}
    assert "dc01" in names
    assert found.by_id["9b414afe-e957-4d40-a144-7d02de9a041c"].machine.name == "sql02"
    of_job = {m.name for m in found.machines if m.job == "Web Replication"}
    assert len(of_job) == 3
    assert not any(name.endswith("-01") for name in of_job)
    assert [each for each in names if fnmatchcase(each, "api-[ab]?")] == ["api-a1"]
    assert (names["api-a1"], names["odd one"]) == ("vbr-2", "vbr-9")
    assert server.not_rehearsed == []


def test_a_query_that_cannot_be_met_is_said() -> None:
    """Nothing is invented that the query would not return."""
    (server,) = servers_of("targets: [{query: 'Algorithm==\"Incremental\"'}, {vm: dc01}]\n")

    assert [machine.name for machine in server.stock.machines] == ["dc01"]
    (said,) = server.not_rehearsed
    assert "no machine could be made that it returns" in said


def test_a_machine_of_a_job_is_not_meant_by_a_glob_too() -> None:
    """Otherwise the plan would select it twice."""
    (server,) = servers_of("targets: [{job: web farm}, {match: 'web-*'}]\n")

    of_job = [m.name for m in server.stock.machines if m.job == "web farm"]

    assert len(of_job) == 2
    assert not any(fnmatchcase(name, "web-*") for name in of_job)


def test_each_limited_backup_server_has_a_machine() -> None:
    """A plan that limits one without any restore point is refused."""
    head = HEAD.replace("}}\n", "}, backup_servers: {vbr-a: {mounts: 2}, VBR-B: {mounts: 1}}}\n")
    server = rehearsed(loaded("targets: [{vm: dc01}]\n", Path("/x"), head).plan, NOW)[0]

    assert {each.backup_server for each in server.stock.machines} == {"vbr-a", "VBR-B"}


@pytest.mark.parametrize(
    ("point", "fits"),
    [
        ("{policy: latest, max_age: 1h}", 4),
        ("{policy: latest, max_age: 1h, fallback: {count: 6, max_age: 9h}}", 7),
        ("{policy: before, time: 2026-11-20T02:00:00Z}", 4),
        ("{policy: every, count: 3}", 3),
        ("{policy: newest_passing, exclude_points: ['dc01@2026-11-2[23]*']}", 6),
    ],
)
def test_points_are_as_old_as_the_policy_asks(point: str, fits: int) -> None:
    """All that it may choose, and newer ones where it names a time."""
    (server,) = servers_of(f"targets: [{{vm: dc01, point: {point}}}]\n")
    points = server.stock.machines[0].points

    assert sum(each.fits for each in points) == fits
    assert all(each.created_at < NOW for each in points)
    if "time:" in point:
        assert [each.created_at.day for each in points if not each.fits] == [23]
    if "max_age: 1h}" in point:
        assert all((NOW - each.created_at).total_seconds() < 3600 for each in points)


# --- files -----------------------------------------------------------------------------------

CHECKS = r"""
checks:
  data:
    - {path: 'D:\Data\big.mdf', min_size: 5GiB, modified_within: 2h, owner: SYSTEM}
    - {dir: 'E:\Data', glob: '*.mdf', min_count: 3, max_count: 4, absent: ['*.locked']}
    - {path: 'Volume$0:\EFI\boot.efi', magic: 4D 5A}
  web:
    - {path: /etc/app.conf, contains: 'name pay', matches: '^\s*listen\s+(443|80)\b'}
    - {path: /srv/ID, sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae}
targets:
  - {vm: sql01, checks: [data], download: [{path: 'D:\Logs', glob: '*.log', to: ../logs/}]}
  - {vm: web01, checks: [web]}
"""


def machine(name: str) -> Machine:
    """Return a machine of the plan above."""
    (server,) = servers_of(CHECKS)
    assert server.not_rehearsed == []
    return inventory(server).machine(name)


def test_a_windows_guest_has_what_is_checked_and_copied() -> None:
    """Sizes, dates, owners, first bytes, counts."""
    point = machine("sql01").points[0]

    tree = guests.tree(point)
    big = guests.entry_at(point, "d:/data/BIG.mdf")
    assert big is not None
    assert (big.size, big.owner) == (5 * 1024**3, "SYSTEM")
    assert (point.created_at - big.modified_at).total_seconds() == 3600
    assert [name for name, _ in tree.below("E:/Data") or ()] == ["01.mdf", "02.mdf", "03.mdf"]
    first = next(iter(guests.pieces(point, "Volume$0:/EFI/boot.efi")))
    assert first.startswith(b"MZ")
    assert [name for name, _ in tree.below("D:/Logs") or ()] == ["01.log", "02.log"]


def test_a_linux_guest_has_the_content_that_is_looked_for() -> None:
    """Texts and lines that match; nobody names its system but its paths."""
    web = machine("web01")

    content = b"".join(guests.pieces(web.points[0], "root/etc/app.conf")).decode()
    assert web.os == "Linux"
    assert "name pay" in content
    assert compiled(r"^\s*listen\s+(443|80)\b").line_in(content) is not None


def test_a_copy_of_the_plan_leads_to_the_simulated_servers_alone(tmp_path: Path) -> None:
    """No address, secret or hook of the plan is in it; a hash is that of the stand-in."""
    hook = "notifications: [{webhook: {url: {env: HOOK}}}]\n"
    data = (HEAD + "variables: {lit: x}\n" + hook + CHECKS).encode()
    plan = load_plan_text(data, tmp_path / "plan.yaml")

    text = rehearsal_copy(
        data,
        plan,
        {"hq": "https://127.0.0.1:4711"},
        fingerprint="ab" * 32,
        overrides={},
        short_waits=True,
    )

    copy = load_plan_text(text.encode(), tmp_path / "rehearsal.yaml").plan
    assert not {"example.net", "SECRET", "HOOK"} & set(text.replace("'", " ").split())
    assert copy.name == "drill (rehearsal)"
    assert copy.servers["hq"].url == "https://127.0.0.1:4711"  # type: ignore[index]
    assert copy.notifications == ()
    (to,) = [each.to for each in copy.entries()[0].downloads]
    assert to == str(tmp_path / "files" / "logs") + "/"
    assert copy.entries()[0].retries.delay == 0.1
    (point, *_) = machine("web01").points
    wanted = hashlib.sha256(b"".join(guests.pieces(point, "root/srv/ID"))).hexdigest()
    assert wanted in text


@pytest.mark.parametrize("glob", ["*", "api-*", "db[0-9]?", "a??", "[!x]*", "*-*", "plain"])
def test_names_match_their_glob(glob: str) -> None:
    """All of them, none twice."""
    names = first_names(glob, 5)

    assert names
    assert len(set(names)) == len(names)
    assert all(fnmatchcase(name, glob) for name in names)


@pytest.mark.parametrize(
    "expression",
    [r"^\s*listen\s+443\b", "a|b", "(?i)x{3}y*z?", r"[^a-z]+\d{2}", r"v(?:1|2)\.(\w+)", "^$", "[x"],
)
def test_a_line_for_an_expression_is_found_by_it(expression: str) -> None:
    """Or there is none: then it is said."""
    line = line_like(expression)

    assert line is None if expression == "[x" else line is not None
    if line is not None:
        assert compiled(expression).line_in(line) is not None


# --- scenarios -------------------------------------------------------------------------------


def test_the_newest_points_lack_a_checked_file(tmp_path: Path) -> None:
    """Only so many; where no check names a file, mounting fails."""
    servers = servers_of(CHECKS + "  - {vm: bare01}\n")
    apply_scenario(scenario(tmp_path, "- {vm: '*01', newest_bad: 2}\n"), servers)

    found = inventory(servers[0])

    lacks = [guests.tree(p).get("D:/Data/big.mdf") is None for p in found.machine("sql01").points]
    assert lacks == [True, True, False, False]
    fails = [bool(point.fails) for point in found.machine("bare01").points]
    assert fails == [True, True, False, False]


def test_what_goes_wrong_reaches_the_machines_and_servers(tmp_path: Path) -> None:
    """Mounts that fail, jobs at work, a role, faults."""
    servers = servers_of("targets: [{vm: dc01}, {vm: dc02}]\n")
    text = """\
- {vm: dc01, fails: 2, busy: 5m}
- {vm: dc02, fails: always}
- {role: Portal User, faults: [{kind: delay, seconds: 0.5, count: 1}]}
"""

    mishaps = apply_scenario(scenario(tmp_path, text), servers)

    found = inventory(servers[0])
    dc01 = found.machine("dc01")
    assert (dc01.mounts_to_fail, dc01.busy_s, dc01.points[0].fails) == (2, 300.0, None)
    assert all(point.fails for point in found.machine("dc02").points)
    assert mishaps["hq"] == ServerMishaps(
        role="Portal User", faults=[{"kind": "delay", "seconds": 0.5, "count": 1}]
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{vm: dc1, newest_bad: 1}", "1:8: no machine is called 'dc1': did you mean 'dc01'?"),
        ("{vm: dc01, newst_bad: 1}", "1:14: unknown key 'newst_bad': did you mean 'newest_bad'?"),
        ("{vm: dc01, fails: x}", "1:21: 'x' is neither a number from 1 nor 'always'"),
        ("{vm: dc01}", "1:3: nothing goes wrong here: add newest_bad, fails, busy"),
        ("{fails: 1}", "1:4: 'fails' goes with 'vm': say which machine"),
        ("{server: hp, dead: true}", "1:12: there is no server 'hp': servers: hq"),
        ("{faults: [{kind: dely}]}", "1:20: there is no fault 'dely': did you mean 'delay'?"),
        ("{faults: [{kind: delay, seconds: x}]}", "1:36: seconds: 'x' is no number"),
        ("nothing", "1:3: a mishap is a mapping (key: value), not a single value"),
    ],
)
def test_a_mistake_is_shown_where_it_is(tmp_path: Path, line: str, said: str) -> None:
    """With the nearest word that would do."""
    servers = servers_of("targets: [{vm: dc01}]\n")

    assert refusal(servers, scenario(tmp_path, f"- {line}\n")) == [said]


@pytest.mark.parametrize("text", ["", "a: 1\n", "- {", "[]x"])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    """As any unreadable file."""
    assert refusal(servers_of("targets: [{vm: dc01}]\n"), scenario(tmp_path, text))


def test_the_servers_of_a_shipped_plan_lack_nothing() -> None:
    """Everything that the complete plan names can be rehearsed."""
    path = Path(__file__).parents[2] / "plans" / "complete.yaml"

    servers = rehearsed(load_plan(path).plan, NOW)

    assert [server.not_rehearsed for server in servers] == [[], []]
