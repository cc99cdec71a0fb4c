"""Evidence as people use it: run, sign, verify, list, and run again, against real servers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.app.demo import settings_for
from tests.processes import PASSWORD, Place, Servers, kill, served, servers, until_running
from tests.report.evidence.sample import key_files

pytestmark = pytest.mark.process


def test_a_signed_run_is_verified_without_its_journal(
    quick: Servers, place: Place, tmp_path: Path
) -> None:
    """The directory alone is enough; a rebuilt one has the same bytes; a changed one is refused."""
    private, public = key_files(tmp_path)
    plan = quick.plan(place.directory, targets=6)
    done = place.call("run", plan, "--yes", "--sign-key", private, "--reason", "audit")
    assert done.returncode == 0, done.stderr
    rebuilt = place.directory / "rebuilt"
    again = place.call("report", "last", "--report", rebuilt, "--sign-key", private)
    assert again.returncode == 0, again.stderr
    names = sorted(path.name for path in place.report.iterdir())
    assert {"journal.jsonl", "evidence.json", "evidence.sig"} < set(names)
    assert all((rebuilt / n).read_bytes() == (place.report / n).read_bytes() for n in names)
    nothing = place.call("unmount", "last")
    assert "are signed and were not updated" in nothing.stderr
    shutil.rmtree(place.directory / "state")

    good = place.call("report", "--verify", place.report, "--key", public)

    assert good.returncode == 0, good.stderr
    assert "the signature over evidence.json is this key's" in good.stdout
    assert not (place.directory / "state").exists()
    manifest = json.loads((place.report / "evidence.json").read_text())
    assert manifest["run"]["reason"] == "audit"
    assert all(len(each["certificates_sha256"]) == 1 for each in manifest["servers"])
    secret = "".join(private.read_text().splitlines()[1:-1])
    for path in (*place.report.iterdir(), *rebuilt.iterdir()):
        assert secret not in path.read_text(errors="replace")
    (place.report / "report.csv").write_bytes(b"nothing happened")
    bad = place.call("report", "--verify", place.report, "--key", public)
    assert bad.returncode == 1
    assert "NOT what was written: report.csv was changed" in bad.stderr


def test_a_key_that_cannot_sign_stops_the_run_before_it_begins(
    quick: Servers, place: Place, tmp_path: Path
) -> None:
    """Exit code 2, nothing sent, and nothing of the key in what is said."""
    private, _ = key_files(tmp_path)
    private.chmod(0o644)
    plan = quick.plan(place.directory, targets=2)

    done = place.call("run", plan, "--yes", "--sign-key", private)

    assert done.returncode == 2
    assert "chmod 600" in done.stderr
    assert private.read_text().splitlines()[1] not in done.stdout + done.stderr
    assert quick.truth().logons == 0


def test_a_killed_and_resumed_run_has_the_evidence_of_both(place: Place, tmp_path: Path) -> None:
    """The report of a dead run says that it has no end; the resumed one names both processes."""
    private, public = key_files(tmp_path)
    with servers(stall_after=0) as stalled:
        plan = stalled.plan(place.directory, targets=8)
        process = place.start("run", plan, "--yes", "--json")
        until_running(process, 1)
        kill(process)
        stalled.go_on()
        assert place.call("report", "last").returncode == 0
        dead = place.call("report", "--verify", place.report)
        done = place.call("resume", "last", "--sign-key", private)

    assert dead.returncode == 0, dead.stderr
    assert "had not ended" in dead.stdout
    assert done.returncode == 0, done.stderr
    assert place.call("report", "--verify", place.report, "--key", public).returncode == 0
    manifest = json.loads((place.report / "evidence.json").read_text())
    assert len(manifest["processes"]) == 2


def test_reports_beside_the_journal_are_verified_with_their_exit_code(
    quick: Servers, place: Place
) -> None:
    """A report directory that takes nothing costs exit code 74; the evidence knows and says so."""
    plan = quick.plan(place.directory, targets=2)
    (place.report / "report.html").mkdir(parents=True)  # in the way

    done = place.call("run", plan, "--yes")

    assert done.returncode == 74
    (instead,) = (place.directory / "state" / "reports").iterdir()
    verified = place.call("report", "--verify", instead)
    assert verified.returncode == 0, verified.stderr
    assert "exit code 74" in verified.stdout


ONLY_WINDOWS = "checks: {boot: [{path: 'C:/Windows'}]}\ndefaults: {checks: [boot]}\n"
"""What the Linux guests among the targets cannot pass."""


def test_the_failed_targets_become_a_plan_that_runs(place: Place) -> None:
    """`list --status failed -o` names just those, and `run` mounts just those."""
    settings = settings_for(2, machines=60, password=PASSWORD, duration_range=(0.1, 0.2))
    with served(settings) as running:
        plan = running.plan(place.directory, targets=12)
        plan.write_text(plan.read_text() + ONLY_WINDOWS)
        assert place.call("run", plan, "--yes").returncode == 1
        values = place.values()
        failed = {t["key"] for t in values["targets"] if t["result"] == "failed"}
        assert 0 < len(failed) < 12
        saved = place.directory / "again.json"

        listed = place.call("list", "last", "--status", "failed", "-o", saved)

        assert listed.returncode == 0, listed.stderr
        assert sum(line.startswith("failed ") for line in listed.stdout.splitlines()) == len(failed)
        assert place.call("validate", saved).returncode == 0
        again = place.call("run", saved)
        assert again.returncode in {0, 1}, again.stderr
        assert {t["key"] for t in place.values()["targets"]} == failed
        first = {t["key"]: t["point"]["id"] for t in values["targets"]}
        assert all(t["point"]["id"] == first[t["key"]] for t in place.values()["targets"])
        once_more = place.call("list", "last", "-o", place.directory / "locked-again.json")
        assert once_more.returncode == 0, once_more.stderr
        assert place.call("validate", place.directory / "locked-again.json").returncode == 0
        plan.write_text(plan.read_text() + "\n")
        first_run = json.loads(place.call("status", "--json").stdout)[-1]["run"]
        changed = place.call("list", first_run, "-o", place.directory / "no.json")
        assert changed.returncode == 2
        assert "is not the plan" in changed.stderr


def test_coverage_asks_the_servers_where_told_to(quick: Servers, place: Place) -> None:
    """Before any run nothing is proven, after it everything; asking mounts nothing."""
    plan = quick.plan(place.directory, targets=4)
    before = place.call("coverage", plan, "--ask", "--json")
    assert before.returncode == 1, before.stderr
    assert json.loads(before.stdout)["counts"]["never"] == 4
    assert not quick.truth().mounts
    assert place.call("run", plan, "--yes").returncode == 0

    for more in ([], ["--ask"]):
        after = place.call("coverage", plan, "--json", *more)
        assert after.returncode == 0, after.stdout
        assert json.loads(after.stdout)["counts"]["proven"] == 4
    trend = json.loads(place.call("trend", "--plan", "process-drill", "--json").stdout)
    assert len(trend[0]["runs"]) == 1
