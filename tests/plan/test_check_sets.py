"""Check sets: what the plan says becomes values, and each target asks for the right ones."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from orchestrator.core.errors import PlanError
from orchestrator.core.model import OsKind
from orchestrator.core.proof import BaselineCheck, Check, DirCheck, ExecCheck, PathCheck
from orchestrator.plan.file.contents import expression
from tests.plan.builders import expanded, load, point

SHA = "2C26B46B68FFC68FF99B453C1D30413413422D706483BFA0F98A5E886266E7AE"


def check(text: str, base: Path = Path("/plans")) -> Check:
    """Return the one check that `text` says."""
    loaded = load(f"checks: {{s: [{text}]}}\ntargets: [{{vm: a}}]\n", base=base)
    (only,) = loaded.plan.checks["s"]
    return only


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{path: /a}", PathCheck(path="/a")),
        (
            "{path: 'C:\\a b', min_size: 1KiB, max_size: 2KiB, modified_within: 6h, owner: root}",
            PathCheck(
                path="C:\\a b", min_size=1024, max_size=2048, modified_within=21600, owner="root"
            ),
        ),
        (
            f"{{path: /a, sha256: {SHA}, contains: ' x ', matches: '^a+', magic: 4D 5a, "
            "max_download: 2MiB}",
            PathCheck(
                path="/a",
                sha256=SHA.lower(),
                contains=" x ",
                matches="^a+",
                magic="4d5a",
                max_download=2 * 2**20,
            ),
        ),
        ("{path: /a, magic: 0400}", PathCheck(path="/a", magic="0400")),
        ('{path: /a, contains: "a\\nb"}', PathCheck(path="/a", contains="a\nb")),
        ("{dir: /a}", DirCheck(dir="/a")),
        (
            "{dir: /a, glob: '*.mdf', min_count: 0, max_count: 3, modified_within: 1d, "
            "absent: [x, 7]}",
            DirCheck(
                dir="/a",
                glob="*.mdf",
                min_count=0,
                max_count=3,
                modified_within=86400,
                absent=("x", "7"),
            ),
        ),
        ("{baseline: 'D:\\a'}", BaselineCheck(baseline="D:\\a", count=0.1, size=0.1)),
        (
            "{baseline: /a, count: 0%, size: 25%}",
            BaselineCheck(baseline="/a", count=0.0, size=0.25),
        ),
        ("{exec: [judge, -v, 7]}", ExecCheck(argv=("judge", "-v", "7"))),
        ("{exec: [./j u], timeout: 9s}", ExecCheck(argv=("/plans/j u",), timeout=9)),
        ("{exec: [/usr/bin/j]}", ExecCheck(argv=("/usr/bin/j",))),
    ],
)
def test_what_the_plan_says_is_what_is_checked(text: str, value: Check) -> None:
    """Units, hex and programs are converted; everything else stays as it is written."""
    assert check(text) == value


def test_sets_keep_their_order_and_the_order_of_their_checks() -> None:
    """A report lists them as the plan does."""
    plan = load(
        "checks: {b: [{path: /2}, {path: /1}], a: [{path: /3}]}\ntargets: [{vm: a, os: linux}]\n"
    ).plan

    assert list(plan.checks) == ["b", "a"]
    assert [each.path for each in plan.checks["b"] if isinstance(each, PathCheck)] == ["/2", "/1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a(?=b)", "look-around at character 2"),
        ("(?<!a)b", "look-around at character 1"),
        ("x(?!y)", "look-around at character 2"),
        ("(?<=ab)c", "look-around at character 1"),
        (r"(a)\1", "a back-reference at character 4"),
        (r"(?P<q>['\"])x(?P=q)", "a back-reference at character 14"),
        ("(?>a)b", "an atomic group at character 1"),
        ("(a)?(?(1)b)", "a condition at character 5"),
        ("(?#why)a", "a comment at character 1"),
        ("(?x) a", "the flag of (?x) at character 1"),
        ("(?-m:a)", "the flag of (?-m: at character 1"),
    ],
)
def test_an_expression_that_takes_more_than_linear_time_is_refused_with_its_place(
    text: str, why: str
) -> None:
    """Before anything is sent, with the line and column of the expression and the place in it."""
    with pytest.raises(ValueError, match=re.escape(why)):
        expression(text)
    body = "checks: {a: [{path: /a, matches: '" + text.replace("'", "''") + "'}]}\n"
    with pytest.raises(PlanError, match=rf":\d+:34: .*{re.escape(why)}"):
        load(body + "targets: [{vm: a, checks: [a]}]\n")


@pytest.mark.parametrize(
    "text",
    [
        *("^a+b*$", "(\\d+\\.)+\\d+", "(a|b)*", "(a+)?", "(ab+){3}", "[(]a+[)]+", "\\(a+\\)+"),
        *("(a+)+", "(a*)*$", "(?P<n>[a-z]+){2,}", "(?i)pay", "(?s:.)", "[(?=]", r"\(?=", r"\\1"),
        *(r"\Aa\Z", r"\u00e9", "[[:alpha:]]+", r"\bw\b", "a[+*]+"),
    ],
)
def test_an_ordinary_expression_is_taken(text: str) -> None:
    """Nobody has to write a version number or an address in a strange way."""
    assert expression(text) == text


@pytest.mark.parametrize(
    "text",
    ["a{99999999999}", "(" * 400, "a" * 501, "[z-a]", "a++", "(.{0,99}a){9}"],
)
def test_what_cannot_be_compiled_is_refused_and_never_breaks_the_loader(text: str) -> None:
    """Whatever the expression engine raises becomes a problem of the plan."""
    with pytest.raises(ValueError, match=r"expression|repetition"):
        expression(text)


# --- who asks ------------------------------------------------------------------------------

SETS = "checks: {a: [{path: /a}], b: [{path: /b}], w: [{dir: 'C:\\'}], x: [{exec: [judge]}]}\n"


def asked(plan: str = "", wave: str = "", target: str = "") -> tuple[str, ...]:
    """Return what a Linux target asks for whose three levels say these pairs."""
    body = (
        f"{SETS}defaults: {{{plan}}}\n"
        f"waves: [{{name: n, {wave}{',' if wave else ''} targets: "
        f"[{{vm: v, os: linux{',' if target else ''} {target}}}]}}]\n"
    )
    (only,) = load(body).plan.entries()
    return only.checks


def test_the_nearest_list_replaces_the_others_as_a_whole() -> None:
    """Also an empty one, which asks for nothing."""
    lists = {"": None, "checks: [a, x]": ("a", "x"), "checks: [b]": ("b",), "checks: []": ()}

    for levels in product(lists, repeat=3):
        spoken = [lists[each] for each in levels if each]
        assert asked(*levels) == (spoken[-1] if spoken else ()), levels


def test_a_set_asked_for_twice_is_checked_once() -> None:
    """Outcomes are counted by name."""
    assert asked(target="checks: [b, a, b]") == ("b", "a")


def test_a_list_may_hold_variables() -> None:
    """A nightly run can ask for less than a quarterly one."""
    body = SETS + "variables: {s: a}\ntargets: [{vm: v, os: linux, checks: ['${s}']}]\n"

    assert load(body, sets={"s": "b"}).plan.entries()[0].checks == ("b",)


@pytest.mark.parametrize("os", list(OsKind))
def test_sets_without_a_path_fit_every_system(os: OsKind) -> None:
    """A program decides for itself."""
    (only,) = load(SETS + f"targets: [{{vm: v, os: {os.lower()}, checks: [x]}}]\n").plan.entries()

    assert only.checks == ("x",)


def test_a_set_for_both_systems_fits_none() -> None:
    """One of its checks must fail wherever it is made, so the plan is wrong."""
    mixed = "checks: {m: [{path: /a}, {path: 'C:\\a'}]}\n"

    for os in ("linux", "windows", "auto"):
        with pytest.raises(PlanError, match="check set 'm' looks at"):
            load(mixed + f"targets: [{{vm: v, os: {os}, checks: [m]}}]\n")


def test_ten_thousand_targets_with_the_same_mistake_are_told_once() -> None:
    """The inherited set is named where it was asked for, with the first target it does not fit."""
    targets = "".join(f"  - {{vm: v{n}, label: l{n}}}\n" for n in range(10_000))

    with pytest.raises(PlanError) as caught:
        load(f"{SETS}defaults: {{checks: [a, x], os: windows}}\ntargets:\n{targets}")

    (problem,) = caught.value.problems
    assert "6:21: check set 'a' looks at '/a', a path of Linux, but vm 'v0'" in str(problem)


def test_a_target_whose_system_is_left_open_may_ask_for_sets_of_both() -> None:
    """Which of them is for a machine shows only once it is mounted."""
    both = "checks: {a: [{path: /a}], b: [{path: 'C:\\a'}]}\n"

    (only,) = load(both + "targets: [{vm: v, checks: [a, b]}]\n").plan.entries()

    assert only.checks == ("a", "b")


def test_targets_of_one_shape_ask_for_the_same_sets_and_no_others() -> None:
    """The short way for many alike targets tells lists apart, and reads none of them wrongly."""
    lists = ["[a]", "[b]", "[a, b]", "[b, a]", "[]", "['a']", "[a, a]"]
    targets = "".join(
        f"  - {{vm: v{n}, os: linux, checks: {lists[n % len(lists)]}}}\n" for n in range(28)
    )

    entries = load(SETS + "targets:\n" + targets).plan.entries()

    expected = [("a",), ("b",), ("a", "b"), ("b", "a"), (), ("a",), ("a",)]
    assert [entry.checks for entry in entries] == expected * 4


def test_a_request_asks_for_what_its_entry_asks_for() -> None:
    """The engine is told the names; nothing is made up on the way."""
    (request,) = expanded(
        SETS + "targets: [{vm: v, os: linux, checks: [b, x]}]\n", point("v")
    ).requests

    assert request.checks == ("b", "x")


# --- rows of an inventory file ---------------------------------------------------------------


def rows(
    directory: Path, csv: str, around: str = "checks: [a]"
) -> list[tuple[str, tuple[str, ...]]]:
    """Return the machines of a file and what they ask for."""
    (directory / "vms.csv").write_text(csv)
    body = f"{SETS}targets: [{{from_file: vms.csv, os: linux, {around}}}]\n"
    return [(each.value, each.checks) for each in load(body, base=directory).plan.entries()]


def test_a_row_names_its_sets_by_spaces_or_semicolons(tmp_path: Path) -> None:
    """An empty cell inherits; a row may say otherwise than its file's entry."""
    csv = "vm,checks,os\n1,,\n2,b,\n3,a b,\n4,b;a;b,\n5,x; b,\n6,w,windows\n7,x,windows\n"

    assert rows(tmp_path, csv) == [
        ("1", ("a",)),
        ("2", ("b",)),
        ("3", ("a", "b")),
        ("4", ("b", "a")),
        ("5", ("x", "b")),
        ("6", ("w",)),
        ("7", ("x",)),
    ]


@pytest.mark.parametrize(
    ("csv", "place", "words"),
    [
        ("vm,checks\nv,a bb\n", "vms.csv:2:3", "there is no check set 'bb': "),
        ("vm,checks\nv,w\n", "vms.csv:2:3", "looks at 'C:\\', a path of Windows, but vm 'v'"),
    ],
)
def test_a_wrong_set_in_a_row_is_told_at_the_row(
    tmp_path: Path, csv: str, place: str, words: str
) -> None:
    """A person finds the cell, or the row whose system is another."""
    with pytest.raises(PlanError) as caught:
        rows(tmp_path, csv)

    (problem,) = map(str, caught.value.problems)
    assert f"{place}: " in problem
    assert words in problem


def test_a_row_of_another_system_inherits_what_hardly_fits_and_the_loader_says_so(
    tmp_path: Path,
) -> None:
    """The plan is taken; the check will fail there, and the person is told where and why."""
    (tmp_path / "vms.csv").write_text("vm,os\nu,\nv,windows\n")
    body = f"{SETS}targets: [{{from_file: vms.csv, os: linux, checks: [a]}}]\n"

    loaded = load(body, base=tmp_path)

    (doubt,) = map(str, loaded.doubts)
    assert "vms.csv:3:1: " in doubt
    assert "looks at '/a', a path of Linux, but vm 'v'" in doubt


def test_an_inherited_set_that_fits_no_row_is_told_once_in_the_plan(tmp_path: Path) -> None:
    """The rows are not at fault."""
    with pytest.raises(PlanError) as caught:
        rows(tmp_path, "vm\nu\nv\n", "checks: [w]")

    (problem,) = map(str, caught.value.problems)
    assert "plan.yaml:6:52: check set 'w'" in problem
