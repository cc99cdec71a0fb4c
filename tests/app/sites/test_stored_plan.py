"""What of a plan travels to a worker, and that it is the same plan there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.app.sites.stored_plan import loaded_plan, submission_of, travelling_plan
from orchestrator.app.wiring import Choices, World, require_same
from orchestrator.core.errors import PlanError
from orchestrator.core.sites import ShardFacts, Submission
from orchestrator.em.tls import ssl_argument
from orchestrator.plan.choose.locked import LockedPlan, lock
from orchestrator.plan.file.loading import LoadedPlan, load_plan
from orchestrator.simulator.certificates import self_signed
from tests.plan.builders import DR, HQ, NOW, expanded

PLAN = """version: 1
name: sites
variables: {name: web01}
servers:
  hq:
    url: https://HQ.example.net:9398
    username: u
    password: {env: EM_HQ}
    tls: {ca_file: ./ca.pem}
  dr: {url: "https://dr.example.net:9398", username: u, password: {file: /run/em}, site: moon}
notifications:
  - webhook: {url: {env: HOOK}, ca_file: ca.pem}
targets:
  - {from_file: lists/hq.csv, server: hq}
  - {vm: "${name}", server: dr}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Return a plan that names a list and a certificate, beside it."""
    directory = tmp_path / "plans"
    (directory / "lists").mkdir(parents=True)
    (directory / "lists" / "hq.csv").write_text("vm,label\ndc01,first\nsql01,\n")
    made = self_signed(tmp_path)
    made.certificate.rename(directory / "ca.pem")
    (directory / "plan.yaml").write_text(PLAN)
    return directory / "plan.yaml"


def submitted(path: Path, overrides: Mapping[str, str] | None = None) -> Submission:
    """Return what is submitted of a plan, and let all of its files vanish."""
    choices = Choices(state=path.parent, overrides=overrides or {})
    travelling = travelling_plan(path, overrides=choices.overrides)
    submission = submission_of(travelling, choices, World())
    for each in sorted(path.parent.rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() else each.unlink()
    return submission


def test_a_worker_has_the_plan_that_was_submitted(plan: Path) -> None:
    """Every machine of its lists, every hash, though none of its files exist there."""
    here = load_plan(plan, overrides={"name": "web02"})

    submission = submitted(plan, {"name": "web02"})

    there = loaded_plan(submission)
    assert isinstance(there, LoadedPlan)
    assert there.plan.waves == here.plan.waves
    assert [str(each.value) for each in there.plan.entries()] == ["dc01", "sql01", "web02"]
    assert (there.sha256, there.inventory_sha256) == (here.sha256, here.inventory_sha256)
    require_same(there, submission.started)


def test_its_certificates_travel(plan: Path) -> None:
    """Both a server's and a webhook's authorities are those of the submitting machine."""
    pem = (plan.parent / "ca.pem").read_bytes()

    there = loaded_plan(submitted(plan)).plan

    trust = there.servers[HQ].trust
    assert trust.kind == "ca_file"
    ssl_argument(trust, "hq")  # else it raises CertificateRefused
    assert there.notifications[0].authorities() == pem


def test_each_server_is_a_shard_of_its_site(plan: Path) -> None:
    """A server whose site is not named belongs to the default one; addresses have one spelling."""
    assert submitted(plan).shards == (
        ShardFacts(server=HQ, site="default", address="https://hq.example.net:9398"),
        ShardFacts(server=DR, site="moon", address="https://dr.example.net:9398"),
    )


def test_no_secret_is_read(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay references: who submits has none of them."""
    monkeypatch.setenv("EM_HQ", "never to be seen")

    submission = submitted(plan)

    assert b"never to be seen" not in repr(submission).encode()


def test_a_locked_plan_travels_as_it_is(plan: Path) -> None:
    """With its certificates."""
    text = plan.read_text().replace("  - {from_file: lists/hq.csv, server: hq}\n", "")
    plan.write_text(text)
    expansion = expanded("targets: [{vm: dc01}]\n")
    locked = plan.with_name("locked.json")
    locked.write_bytes(lock(load_plan(plan), expansion, created_at=NOW, version="9"))
    content = locked.read_bytes()

    submission = submitted(locked)

    there = loaded_plan(submission)
    assert submission.plan == content
    assert isinstance(there, LockedPlan)
    require_same(there, submission.started)
    assert there.plan.servers[DR].site == "moon"
    ssl_argument(there.plan.servers[HQ].trust, "hq")


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("{env: EM_HQ}", "{file: secrets/hq}", 8),
        ("{env: EM_HQ}", "{command: [./ask, hq]}", 8),
        ("username: u\n    password: {env", "username: {file: user}\n    password: {env", 7),
        ("url: {env: HOOK}", "url: {file: hook}", 12),
    ],
)
def test_a_relative_path_of_a_secret_is_refused(
    plan: Path, before: str, after: str, line: int
) -> None:
    """Nobody could say what it is relative to; the place of it is shown."""
    plan.write_text(plan.read_text().replace(before, after))
    load_plan(plan)  # on one machine it is beside the plan

    with pytest.raises(PlanError, match="relative to") as caught:
        travelling_plan(plan, overrides={})

    assert f"plan.yaml:{line}:" in str(caught.value)


@pytest.mark.parametrize("reference", ["{command: [ask, ./hq]}", "{file: /run/hq}"])
def test_a_secret_that_a_worker_finds_is_not_refused(plan: Path, reference: str) -> None:
    """A program by its name is looked for there, and arguments are the program's own matter."""
    plan.write_text(plan.read_text().replace("{env: EM_HQ}", reference))

    travelling_plan(plan, overrides={})


def test_a_certificate_that_is_not_there_is_refused_before_anything_travels(plan: Path) -> None:
    """No worker could find it later."""
    (plan.parent / "ca.pem").unlink()

    with pytest.raises(PlanError, match=r"ca_file .*ca\.pem: there is no such file"):
        travelling_plan(plan, overrides={})


def test_what_did_not_come_with_a_plan_is_not_looked_for_on_the_worker(plan: Path) -> None:
    """A file of the same name there is another one."""
    choices = Choices(state=plan.parent)
    travelling = travelling_plan(plan, overrides={})
    submission = submission_of(travelling, choices, World())
    submission.documents.clear()  # type: ignore[attr-defined]  # it is a dict

    with pytest.raises(PlanError, match="did not come with the plan"):
        loaded_plan(submission)
