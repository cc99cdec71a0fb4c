"""Variables are texts in texts: never structure, never secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import PlanError
from orchestrator.plan.file.access import EnvironmentSecret
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.plan.file.variables import expand_text
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
