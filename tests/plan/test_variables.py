"""Variables are texts in texts: never structure, never secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import PlanError
from orchestrator.plan.file.access import EnvironmentSecret
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.plan.file.values_files import read_values
from orchestrator.plan.file.variables import Overrides, expand_text
from tests.plan.builders import HEAD, load


def vms(body: str, **sets: str) -> list[str]:
    """Return the VMs that a plan with `body` selects."""
    return [entry.value for entry in load(body, sets=sets).plan.entries()]


def test_a_variable_is_replaced_wherever_a_text_stands() -> None:
    """Several in one text, and beside literal text."""
    body = "variables: {site: hq, n: 01}\ntargets: [{vm: 'dc-${site}-${n}'}]\n"

    assert vms(body) == ["dc-hq-01"]


def test_an_override_wins_over_the_plan() -> None:
    """--set replaces the plan's own value."""
    body = "variables: {site: hq}\ntargets: [{vm: 'dc-${site}'}]\n"

    assert vms(body, site="dr") == ["dc-dr"]


def test_a_default_stands_in_for_a_variable_that_is_not_declared() -> None:
    """A variable with a default need not be declared, and --set still reaches it."""
    body = "targets: [{vm: 'dc-${site:-hq}'}]\n"

    assert vms(body) == ["dc-hq"]
    assert vms(body, site="dr") == ["dc-dr"]


def test_a_declared_value_wins_over_a_default() -> None:
    """The default is for what nobody declared."""
    assert vms("variables: {site: dr}\ntargets: [{vm: '${site:-hq}'}]\n") == ["dr"]


def test_a_doubled_dollar_is_a_literal() -> None:
    """`$${` gives `${`, also in a variable's value, and nothing is replaced twice."""
    body = "variables: {a: '$${b}', b: x}\ntargets: [{vm: '$${a} ${a} $5'}]\n"

    assert vms(body) == ["${a} ${b} $5"]


def test_an_overriding_value_is_never_structure() -> None:
    """Braces and colons in a value stay text."""
    assert vms("variables: {v: x}\ntargets: [{vm: '${v}'}]\n", v="{vm: a, b: [c]}") == [
        "{vm: a, b: [c]}"
    ]


def test_a_key_is_never_replaced() -> None:
    """A variable in a key is an unknown key."""
    with pytest.raises(PlanError, match=r"unknown key '\$\{k\}'"):
        load("variables: {k: vm}\ntargets: [{'${k}': dc01}]\n")


def test_an_override_that_no_variable_takes_is_an_error() -> None:
    """A misspelt --set does not go unnoticed."""
    with pytest.raises(PlanError, match=r"--set 'cutof': .* did you mean 'cutoff'\?"):
        load("variables: {cutoff: x}\ntargets: [{vm: a}]\n", sets={"cutof": "y"})


def test_a_typed_value_is_read_after_the_variable_was_replaced() -> None:
    """Durations, counts and choices may come from variables."""
    body = "variables: {t: 5m, n: 3, os: linux}\nlimits: {deadline: '${t}', mounts: '${n}'}\n"
    plan = load(body + "targets: [{vm: a, os: '${os}'}]\n").plan

    assert (plan.limits.deadline, plan.limits.mounts) == (300, 3)
    assert plan.entries()[0].os_kind == "Linux"


def test_a_wrong_value_is_an_error_where_the_variable_is_used() -> None:
    """The message names the value and the place that cannot take it."""
    with pytest.raises(PlanError, match=r"plan\.yaml:6:20: 'soon' is not a duration"):
        load("variables: {t: soon}\nlimits: {deadline: '${t}'}\ntargets: [{vm: a}]\n")


def test_a_user_name_may_hold_a_variable_and_a_secret_may_not() -> None:
    """Accounts differ by site; references are written out."""
    text = HEAD.replace("username: u", "username: 'svc-${site}'")
    plan = load_plan_text(
        (text + "variables: {site: hq}\ntargets: [{vm: a}]\n").encode(), Path("p")
    ).plan

    (server,) = plan.servers.values()
    assert server.username == "svc-hq"
    assert server.password == EnvironmentSecret(name="P")
    with pytest.raises(PlanError, match="not replaced inside a secret"):
        load_plan_text((text.replace("env: P", "env: '${site}'")).encode(), Path("p"))


@given(st.text(max_size=60))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    """Whatever stands in a scalar, the answer is a text or a ValueError."""
    message = ""
    try:
        expand_text(text, lambda name, default: default if default is not None else name)
    except ValueError as exc:
        message = str(exc)

    assert not message or ("${" in text and "starts no variable" in message)


@given(st.text(max_size=60))
def test_escaping_every_opening_gives_the_text_back(text: str) -> None:
    """`$${` is all that is needed to write any text literally."""

    def refuse(name: str, default: str | None) -> str:
        raise AssertionError((name, default))

    assert expand_text(text.replace("${", "$${"), refuse) == text


# --- files of values -----------------------------------------------------------------------------

BODY = "variables: {site: hq, tier: 1}\ntargets: [{vm: 'dc-${site}-${tier}-${n:-0}'}]\n"


def values(directory: Path, **files: str) -> Overrides:
    """Write files of values and read them in this order."""
    for name, text in files.items():
        (directory / name).write_text(text)
    return read_values([directory / name for name in files])


def test_the_last_file_of_values_counts_and_set_counts_more(tmp_path: Path) -> None:
    """Values are texts as they are written: no number is read, no variable replaced."""
    found = values(tmp_path, a="site: dr\ntier: 2\n", b="tier: 03\nn: '${site}'\n")

    assert [each.value for each in load(BODY, sets=found).plan.entries()] == ["dc-dr-03-${site}"]
    found.set({"site": "set"})
    assert [each.value for each in load(BODY, sets=found).plan.entries()] == ["dc-set-03-${site}"]
    assert type(found["tier"]) is str


def test_an_unknown_name_in_a_file_of_values_is_refused_where_it_is(tmp_path: Path) -> None:
    """File, line, column, and what was probably meant; also of the next plan."""
    found = values(tmp_path, a="site: dr\n\n# of berlin\ntirr: 2\n")

    for _ in range(2):
        with pytest.raises(PlanError) as caught:
            load(BODY, sets=found)
        (problem,) = caught.value.problems
        words = f"{tmp_path}/a:4:1: the plan has no variable 'tirr': did you mean 'tier'?"
        assert str(problem) == f"{words}\n    tirr: 2\n    ^"
    found.set({"tirr": "3"})
    with pytest.raises(PlanError, match="--set 'tirr': the plan has no such variable"):
        load(BODY, sets=found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "1:1: it is empty: write a mapping of variables to values"),
        ("- a\n", "1:1: write a mapping of variables to values"),
        ("a: [b]\n", "1:4: a variable's value is a single text, not a structure"),
        ("a: {b: c}\n", "1:4: a variable's value is a single text, not a structure"),
        ("a b: c\n", "1:1: a variable's name is letters, digits and '_'"),
        ("a: b\na: c\n", "2:1: this key is here twice"),
        ("a:\n", "1:1: this key has no value"),
        ("a: *b\n", "1:4: aliases"),
        ("a: 'b\n", ":"),
    ],
)
def test_what_is_no_file_of_values_is_refused_with_its_place(
    text: str, words: str, tmp_path: Path
) -> None:
    """Every file is read, so that one mistake hides no other."""
    with pytest.raises(PlanError) as caught:
        values(tmp_path, a=text, b="1: 2\n")

    first, *_, last = map(str, caught.value.problems)
    assert first.startswith(f"{tmp_path}/a:")
    assert words in first
    assert last.startswith(f"{tmp_path}/b:1:1: ")


def test_a_missing_file_of_values_is_named(tmp_path: Path) -> None:
    """As any file that cannot be read."""
    with pytest.raises(PlanError, match="none:1:1: no values: there is no such file"):
        read_values([tmp_path / "none"])


def test_what_only_targets_use_is_known_where_they_are_not_read() -> None:
    """`unmount` takes the variables of its run, and still refuses others."""
    text = f"{HEAD}targets: [{{vm: '${{site:-hq}}'}}]\n".encode()

    load_plan_text(text, Path("x"), overrides={"site": "dr"}, only_servers=True)
    with pytest.raises(PlanError, match="'sire': the plan has no such variable: did you mean"):
        load_plan_text(text, Path("x"), overrides={"sire": "dr"}, only_servers=True)
