"""The first plan: what servers list, whatever its names are made of, becomes a plan that holds."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.model import RestorePoint, ServerName, Source
from orchestrator.core.text import inert
from orchestrator.plan.choose.expansion import expand
from orchestrator.plan.choose.first_plan import FirstServer, first_plan
from orchestrator.plan.choose.first_waves import (
    FirstWaves,
    Wanted,
    first_waves,
    listed_machines,
    plan_name,
)
from orchestrator.plan.choose.inventory import Inventory, Listing, Question, inventory_needs
from orchestrator.plan.choose.targets import Narrowing, PlanSelection
from orchestrator.plan.file.access import EnvironmentSecret, SystemTrust
from orchestrator.plan.file.loading import LoadedPlan, load_plan_text
from orchestrator.plan.file.quoting import can_be_written, quoted
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import ServerSettings
from tests.plan.builders import DR, HQ, NOW, point

HOSTILE = (
    *("Finance & Payroll", 'the "old" server', "it's-legacy", "büro-süd", "机器", "🦔"),
    *("a: b", "a #b", "- x", "{a: b}", "[x]", "*alias", "&anchor", "!tag", "| x", "> y", "%a"),
    *("${HOME}", "$${x}", "$$${", "no", "null", "~", "1e3", "0x10", "yes", ".", "..", "?", "@x"),
    *("*", "web[1]", "a?", "##vso[task]x", "::error::x", "C:\\x\\n", "a'b", 'a"b', "a\\", "#"),
    *(
        "a\nb: c",
        "a\u2028b",
        "a\x85b",
        "a\x00",
        "x\ufeff",
        " lead",
        "trail ",
        "",
        "\u202eabc",
        "a\tb",
    ),
)
EVERYTHING = Wanted()
names = st.one_of(
    st.sampled_from(HOSTILE), st.text(max_size=12), st.sampled_from(["dc01", "DC01", "sql", "web"])
)


def server(name: ServerName, username: str = "LAB\\svc") -> FirstServer:
    """Return a server as `init` would name it."""
    settings_ = ServerSettings(
        name=name,
        url=f"https://{name}.example.net:9398",
        username=username,
        password=EnvironmentSecret(name="P"),
    )
    return FirstServer(settings=settings_, password=settings_.password, trust=SystemTrust())


def made(
    *points: RestorePoint,
    wanted: Wanted = EVERYTHING,
    askable: Any = lambda *_: True,
    dr: tuple[RestorePoint, ...] = (),
) -> tuple[FirstWaves, str]:
    """Return the waves and the text of the first plan for these points on hq, and on dr."""
    listings = [listed_machines(HQ, points[0].source, points)]
    listings += [listed_machines(DR, dr[0].source, dr)] if dr else []
    waves = first_waves(listings, wanted, askable)
    in_plan = {wave.server for wave in waves.waves}
    servers = [server(each.server) for each in listings if each.server in in_plan]
    return waves, first_plan(servers, waves)


def loaded(text: str) -> LoadedPlan:
    """Return the plan of a text, or raise what is wrong with it."""
    return load_plan_text(text.encode(), Path("plan.yaml"))


def waves_of(text: str) -> list[dict[str, Any]]:
    """Return the waves as another reader of YAML sees them."""
    found: list[dict[str, Any]] = yaml.safe_load(text)["waves"]
    return found


# --- names that came from a server -------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(names)
def test_a_name_is_read_back_as_it_was(name: str) -> None:
    """In a block, in a flow and as a key: one value, for us and for other readers of YAML."""
    if not can_be_written(name):
        return
    text = quoted(name, variables=False)

    read = yaml.safe_load(f"- {text}\n- [{text}, {text}]\n- {{k: {text}}}\n- {text}: 1\n")

    assert read == [name, [name, name], {"k": name}, {name: 1}]
    assert inert(f"      - {text}") == f"      - {text}"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            names,
            st.sampled_from(["vbr-01", "VBR-01", "vbr:2", "${x}", ""]),
            names,
            st.integers(1, 9),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(list(Source)),
    st.randoms(use_true_random=False),
)
def test_whatever_servers_list_the_plan_holds_and_means_each_machine_once(
    rows: list[tuple[str, str, str, int]], source: Source, shuffled: random.Random
) -> None:
    """It loads, no guard is broken, every machine is one target or named as left out."""
    points = [
        point(vm, behind=behind, job="" if source is Source.AGENT else job, hours=h, source=source)
        for vm, behind, job, h in rows
    ]
    waves, text = made(*points)
    shuffled.shuffle(points)

    assert made(*points)[1] == text
    if not waves.waves:
        return
    plan = loaded(text).plan
    returned: dict[Question, tuple[Any, ...]] = {}
    listing = Listing(points=points, returned=returned)
    expansion = expand(plan, {HQ: Inventory(listing=listing)}, now=NOW)
    assert not expansion.broken
    assert not expansion.unresolved
    machines = Counter((r.point.backup_server, r.vm) for r in expansion.requests)
    known = {(p.backup_server, p.vm) for p in points}
    assert set(machines) <= known
    assert max(machines.values()) == 1
    assert len(machines) + len(waves.left_out) == len(known)
    assert inert(text) == text


def test_a_name_that_no_plan_can_hold_is_left_out_and_named() -> None:
    """A line break in a name breaks neither the plan nor its comments."""
    waves, text = made(point("a\nwaves: []"), point("b"))

    assert [target.value for target in waves.waves[0].targets] == ["b"]
    assert waves.left_out == ("hq: 'a\\nwaves: []': a plan cannot hold its name",)
    assert "# Left out: 1 machine.\n#   hq: 'a\\nwaves: []': a plan cannot hold its name\n" in text
    loaded(text)


def test_a_name_that_looks_like_a_variable_is_a_name() -> None:
    """No value of the plan, and none of the command line, takes its place."""
    waves, text = made(point("${x:-y}", job="$${HOME}"))

    (entry,) = loaded(text).plan.entries()
    assert entry.value == waves.waves[0].job == "$${HOME}"


def test_a_job_that_cannot_be_asked_for_is_its_machines() -> None:
    """What the allow-list would stop is never the value of a selector."""

    def askable(_source: Source, kind: SelectorKind, value: str) -> bool:
        return kind is SelectorKind.VM and value != "x&action=failover"

    waves, text = made(point("a", job="j"), point("x&action=failover", job="j"), askable=askable)

    assert waves_of(text)[0]["targets"] == [{"vm": "a"}]
    assert waves.left_out == ("hq: 'x&action=failover': its name cannot be asked for",)


# --- waves -------------------------------------------------------------------------------------


def test_each_job_is_a_wave_with_what_was_counted() -> None:
    """In the order of their names, with the limit of each backup server."""
    _, text = made(
        point("w1", job="web"), point("w2", job="web"), point("s1", job="SQL", behind="vbr-02")
    )

    assert waves_of(text) == [
        {"name": "SQL", "targets": [{"job": "SQL", "expect": {"min": 1, "max": 1}}]},
        {"name": "web", "targets": [{"job": "web", "expect": {"min": 2, "max": 2}}]},
    ]
    behind = yaml.safe_load(text)["servers"]["hq"]["backup_servers"]
    assert behind == {"vbr-01": {"mounts": 4}, "vbr-02": {"mounts": 4}}


def test_a_machine_of_two_jobs_is_in_the_wave_of_the_newer_point() -> None:
    """The other job excludes it by a name whose stars are no globs."""
    _, text = made(
        point("a*", job="old", hours=9),
        point("a*", job="new"),
        point("ab", job="old"),
        point("b", job="new"),
    )

    assert [wave["targets"] for wave in waves_of(text)] == [
        [{"job": "new", "expect": {"min": 2, "max": 2}}],
        [{"job": "old", "exclude": ["a[*]"], "expect": {"min": 1, "max": 1}}],
    ]


def test_a_job_of_several_backup_servers_has_an_entry_for_each() -> None:
    """So that one machine can be excluded behind one of them."""
    _, text = made(point("a", job="j"), point("a", job="j", behind="vbr-02"))

    assert [target["backup_server"] for target in waves_of(text)[0]["targets"]] == [
        "vbr-01",
        "vbr-02",
    ]


def test_waves_of_several_servers_name_their_server() -> None:
    """The same job on both is two waves with different names."""
    _, text = made(point("a", job="Tier 1: büro"), dr=(point("b", job="tier 1 buro"),))

    named = [(wave["name"], wave["server"]) for wave in waves_of(text)]
    assert named == [("Tier-1-buro-hq", "hq"), ("tier-1-buro-dr", "dr")]


def test_backups_without_jobs_are_a_wave_for_each_backup_server() -> None:
    """The server does not say which job made an agent's point."""
    _, text = made(
        point("a", source=Source.AGENT), point("b", source=Source.AGENT, behind="vbr-02")
    )

    assert waves_of(text)[1] == {
        "name": "vbr-02",
        "source": "agent",
        "targets": [{"match": "*", "backup_server": "vbr-02", "expect": {"min": 1, "max": 1}}],
    }


def test_globs_choose_jobs_and_machines() -> None:
    """A job of which only some machines are wanted names them."""
    points = [point("w1", job="web"), point("x", job="web"), point("s", job="sql")]

    by_job = waves_of(made(*points, wanted=Wanted(jobs=("w*",)))[1])
    by_name = waves_of(made(*points, wanted=Wanted(machines=("w*", "s")))[1])

    assert [wave["name"] for wave in by_job] == ["web"]
    assert [wave["targets"] for wave in by_name] == [
        [{"job": "sql", "expect": {"min": 1, "max": 1}}],
        [{"vm": "w1"}],
    ]


def test_the_needs_of_the_plan_are_one_question_for_each_job() -> None:
    """A plan for thousands of machines asks as often as it has jobs."""
    _, text = made(*(point(f"m{n}", job=f"j{n % 3}") for n in range(300)))

    needs = inventory_needs(loaded(text).plan, HQ)
    assert needs.jobs == {Source.REPLICA: ("j0", "j1", "j2")}
    assert PlanSelection(loaded(text).plan, Narrowing(), NOW).wants(HQ)


def test_names_of_waves_are_names_and_never_twice() -> None:
    """Letters, digits and `._-`, at most 64, whatever the job is called."""
    waves, _ = made(
        *(point(f"m{n}", job=job) for n, job in enumerate(["ü" * 90, "u" * 90, "机", "::"]))
    )

    found = [wave.name for wave in waves.waves]
    assert len({name.casefold() for name in found}) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) for name in found)
    assert plan_name("-x-", "job") == "x"


# --- what is left to decide --------------------------------------------------------------------


def test_every_setting_in_a_comment_can_be_taken_over() -> None:
    """The commented lines become a valid plan when their # is removed."""
    _, text = made(point("a", job="j"))

    chosen = re.sub(r"(?m)^( *)# (?=[a-z]+: \{)", r"\1", text)

    plan = loaded(chosen).plan
    assert plan.limits.mounts == 40
    assert plan.servers[HQ].mounts_limit == 24
    assert plan.waves[0].entries[0].checks == ("windows", "linux")
