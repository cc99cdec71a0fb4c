"""`coverage`: which machines of a plan were proven lately, which longer ago, which never."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.core.events import Event, TargetPlanned
from tests.report.builders import HOSTILE, Fate, life
from tests.report.history.runs import beginning, called, keep, logged_on, run_id

NOW = datetime.now(UTC)
NAMED = """
version: 1
name: payments-tier1
servers:
  hq: {url: "https://hq.example:9398", username: u, password: {env: NOT_SET}}
waves:
  - name: databases
    targets:
      - vm: sql01
      - vm: SQL02
      - vm: sql03
"""
SELECTED = """
version: 1
name: payments-tier1
servers:
  hq: {url: "https://hq.example:9398", username: u, password: {env: NOT_SET}}
waves:
  - name: databases
    targets:
      - vm: sql01
      - job: "Replication"
"""


def days_ago(days: float) -> datetime:
    """Return a moment so many days before this test."""
    return NOW - timedelta(days=days)


def plan(directory: Path, text: str) -> Path:
    """Write the plan file."""
    path = directory / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def standings(state: Path, path: Path, *more: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return the exit code, how every machine stands, worst first, and all that was said."""
    done = called(state, "coverage", path, "--json", *more)
    values = json.loads(done.stdout)
    return done.exit_code, {e["name"]: e["standing"] for e in values["machines"]}, values


def at_place(events: Sequence[Event], place: str) -> list[Event]:
    """Return a life whose target came from the plan entry at `place`."""
    return [replace(e, place=place) if isinstance(e, TargetPlanned) else e for e in events]


def test_never_longer_ago_and_proven_are_told_apart(tmp_path: Path) -> None:
    """Worst first; mounted proves as verified does, in any plan, whatever the name's case."""
    state, path = tmp_path / "state", plan(tmp_path, NAMED)
    keep(state, beginning(1, days_ago(90)), [life("sql03"), life("sql01", Fate.TASK_FAILED)])
    keep(state, beginning(2, days_ago(3), plan="other"), [life("sql02", Fate.MOUNTED)])
    keep(state, beginning(3, days_ago(2)), [life("sql03", Fate.REFUTED, words="not readable")])

    code, found, values = standings(state, path)

    assert code == 1
    assert list(found.items()) == [("sql01", "never"), ("sql03", "longer ago"), ("SQL02", "proven")]
    assert values["counts"] == {"never": 1, "longer ago": 1, "proven": 1}
    sql03 = values["machines"][1]
    assert (sql03["proven"]["run"], sql03["last_tried"]["result"]) == (run_id(1), "failed")
    assert standings(state, path, "--days", "100")[1]["sql03"] == "proven"
    text = called(state, "coverage", path).output
    assert "1 of 3 machines proven in the last 30 days" in text
    assert "sql01, last tried" in text
    assert "failed (not readable)" in text


def test_a_failure_after_the_proof_is_said_beside_it(tmp_path: Path) -> None:
    """The answer stays; who reads its first line learns what failed since, and when."""
    state, path = tmp_path / "state", plan(tmp_path, NAMED)
    names = ("sql01", "sql02", "sql03")
    keep(state, beginning(1, days_ago(3)), [life(name, Fate.MOUNTED) for name in names])
    later = [
        life("sql01", Fate.REFUTED, words="ledger is gone"),
        life("sql02", Fate.VANISHED),
        life("sql03", Fate.SKIPPED),
    ]
    keep(state, beginning(2, days_ago(0.01)), later)

    code, found, values = standings(state, path)
    lines = called(state, "coverage", path).output.splitlines()

    assert (code, set(found.values())) == (0, {"proven"})
    assert values["proven"] == {"verified": 0, "mounted": 3, "failed_since": 2}
    since = {
        e["name"]: e["failed_since"] and e["failed_since"]["result"] for e in values["machines"]
    }
    assert since == {"sql01": "failed", "SQL02": "unknown", "sql03": None}
    assert "3 of 3 machines proven in the last 30 days (3 only mounted); of these, " in lines[0]
    assert "of these, 1 failed, 1 unknown SINCE THEN, last on 20" in lines[0]
    assert lines[0].endswith(f" ago, run {run_id(2)})")
    assert lines[1] == "Proven, but not good since:"
    assert "sql01, only mounted 20" in lines[3]
    assert "since then failed (ledger is gone), 20" in lines[3]
    assert lines[4] == "Proven, but only mounted:"
    assert "since then" not in lines[5]


def test_what_a_proof_is_worth_is_said(tmp_path: Path) -> None:
    """Verified by checks and only mounted are told apart without -v; a newer proof heals."""
    state, path = tmp_path / "state", plan(tmp_path, NAMED)
    keep(state, beginning(1, days_ago(3)), [life("sql01", Fate.TASK_FAILED)])
    keep(
        state,
        beginning(2, days_ago(2)),
        [life("sql01"), life("sql02", Fate.MOUNTED), life("sql03")],
    )

    lines = called(state, "coverage", path).output.splitlines()
    verbose = called(state, "coverage", path, "-v").output

    assert lines[0].endswith("(2 verified by checks, 1 only mounted)")
    assert [line.partition(":")[0] for line in lines[1:]] == ["Proven, but only mounted", "  hq"]
    assert "sql01, verified by checks 20" in verbose


@pytest.mark.parametrize("where", ["", ", backup_server: vbr-hq-01"])
def test_a_machine_without_a_restore_point_has_failed_since(tmp_path: Path, where: str) -> None:
    """Nothing was submitted for it, and nothing can be restored of it: the worst to overlook."""
    state = tmp_path / "state"
    path = plan(tmp_path, NAMED.replace("- vm: sql01", f"- {{vm: sql01{where}}}"))
    keep(state, beginning(1, days_ago(3)), [life("sql01")])
    planned, *_, concluded = life("sql01", Fate.TASK_FAILED, words="lists no restore point")
    assert isinstance(planned, TargetPlanned)
    keep(state, beginning(2, days_ago(1)), [[replace(planned, point=None), concluded]])

    text = called(state, "coverage", path).output

    assert "(1 verified by checks); of these, 1 failed SINCE THEN" in text
    assert "since then failed (lists no restore point)" in text


def test_all_proven_is_exit_code_0(tmp_path: Path) -> None:
    """The answer that a CI job waits for."""
    state, path = tmp_path / "state", plan(tmp_path, NAMED)
    keep(state, beginning(1, days_ago(1)), [life(name) for name in ("sql01", "sql02", "sql03")])

    assert standings(state, path)[0] == 0
    assert standings(state, path, "--days", "0.5")[0] == 1


def test_without_any_run_nothing_is_proven(tmp_path: Path) -> None:
    """No journal is no proof."""
    code, found, _ = standings(tmp_path / "state", plan(tmp_path, NAMED))

    assert (code, set(found.values())) == (1, {"never"})


@pytest.mark.parametrize("fate", sorted(set(Fate) - {Fate.VERIFIED, Fate.MOUNTED, Fate.LEFT}))
def test_only_a_good_result_proves(tmp_path: Path, fate: Fate) -> None:
    """Failed, unknown, skipped, cancelled and unfinished targets are not proven."""
    state, path = tmp_path / "state", plan(tmp_path, NAMED)
    keep(state, beginning(1, days_ago(1)), [life("sql01", fate)], ended=False)

    assert standings(state, path)[1]["sql01"] == "never"


def test_another_server_of_the_same_name_proves_nothing(tmp_path: Path) -> None:
    """A machine belongs to the address of its server, not to what a plan calls it."""
    state = tmp_path / "state"
    path = plan(tmp_path, NAMED.replace("hq.example", "elsewhere.example"))
    keep(state, beginning(1, days_ago(1)), [life("sql01")])

    assert standings(state, path)[1]["sql01"] == "never"


def test_the_address_counts_however_it_is_written(tmp_path: Path) -> None:
    """Upper and lower case name the same server."""
    state = tmp_path / "state"
    path = plan(tmp_path, NAMED.replace("https://hq.example:9398", "https://HQ.example:9398"))
    keep(state, beginning(1, days_ago(1)), [life("sql01")])

    assert standings(state, path)[1]["sql01"] == "proven"


def test_a_simulated_server_proves_nothing_of_a_real_one(tmp_path: Path) -> None:
    """A rehearsal at the address of a server that real runs know counts for nothing."""
    state, path = tmp_path / "state", plan(tmp_path, NAMED)
    keep(state, beginning(1, days_ago(3)), [[logged_on(simulated=False)], life("sql01")])
    keep(state, beginning(2, days_ago(1)), [[logged_on(simulated=True)], life("sql02")])

    found = standings(state, path)[1]

    assert (found["sql01"], found["SQL02"]) == ("proven", "never")


def test_the_machines_of_a_rehearsal_are_not_those_of_the_plan(tmp_path: Path) -> None:
    """Their names were made up: of a selector that no other run expanded nothing is known."""
    state, path = tmp_path / "state", plan(tmp_path, SELECTED)
    rehearsal = beginning(1, days_ago(1))
    servers = tuple(replace(each, url="https://127.0.0.1:4711") for each in rehearsal.servers)
    lives = [[logged_on(simulated=True)], life("replication-01")]
    keep(state, replace(rehearsal, servers=servers), lives)

    assert set(standings(state, path)[1]) == {"sql01", "job:Replication"}


def test_a_selector_that_no_run_expanded_is_never_proven(tmp_path: Path) -> None:
    """What nobody knows is said, and is not taken for good."""
    state, path = tmp_path / "state", plan(tmp_path, SELECTED)

    code, found, values = standings(state, path)

    assert code == 1
    assert found == {"sql01": "never", "job:Replication": "never"}
    assert "--ask" in values["notes"][0]
    assert values["machines"][0]["is_known"] is False


def test_machines_of_selectors_are_those_that_a_run_found(tmp_path: Path) -> None:
    """The newest run that took the whole plan says which; a narrowed one does not."""
    state, path = tmp_path / "state", plan(tmp_path, SELECTED)
    digest = sha256(path.read_bytes()).hexdigest()
    job = "10:9"
    lives = [
        at_place(life("sql01"), "9:9"),
        at_place(life("web01"), job),
        at_place(life("web02", Fate.SKIPPED), job),
    ]
    keep(state, beginning(1, days_ago(5), plan_sha256=digest), lives)
    narrowed = beginning(2, days_ago(1), plan_sha256=digest, only=("web01",))
    keep(state, narrowed, [at_place(life("web01"), job)])

    code, found, values = standings(state, path)

    assert code == 1
    assert found == {"web02": "never", "sql01": "proven", "web01": "proven"}
    assert run_id(1) in values["notes"][0]
    assert "another one" not in values["notes"][0]
    assert "the machines of 1 selector are" in values["notes"][0]


def test_a_plan_changed_since_is_said(tmp_path: Path) -> None:
    """The list is then that of an older plan, and the note says so."""
    state, path = tmp_path / "state", plan(tmp_path, SELECTED)
    keep(state, beginning(1, days_ago(5)), [life("sql01"), life("web01")])

    _, found, values = standings(state, path)

    assert found == {"sql01": "proven", "web01": "proven"}
    assert "the plan was another one" in values["notes"][0]


SAMPLED = SELECTED.replace('- job: "Replication"', '- {match: "web*", sample: {count: 1}}')
ALL = SELECTED.replace('- job: "Replication"', "- {vm: web01, all: true}")


def test_of_a_sample_everything_drawn_so_far_is_known(tmp_path: Path) -> None:
    """Each run draws others; one that was drawn once is not forgotten, and the note says so."""
    state, path = tmp_path / "state", plan(tmp_path, SAMPLED)
    digest = sha256(path.read_bytes()).hexdigest()
    keep(
        state,
        beginning(1, days_ago(50), plan_sha256=digest),
        [at_place(life("web01"), "10:9"), at_place(life("web02"), "10:9")],
    )
    keep(state, beginning(2, days_ago(5), plan_sha256=digest), [at_place(life("web03"), "10:9")])

    _, found, values = standings(state, path)

    assert found == {
        "sql01": "never",
        "web01": "longer ago",
        "web02": "longer ago",
        "web03": "proven",
    }
    assert any("only what runs have drawn" in note for note in values["notes"])


def test_one_of_several_machines_of_a_name_does_not_prove_the_others(tmp_path: Path) -> None:
    """`all: true` may mean several: nobody knows before a run has found them."""
    state, path = tmp_path / "state", plan(tmp_path, ALL)
    keep(state, beginning(1, days_ago(1), plan="other"), [life("web01")])

    _, found, values = standings(state, path)

    assert found == {"sql01": "never", "vm:web01": "never"}
    assert values["machines"][1]["is_known"] is False


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    """What servers say of machines and failures steers no terminal."""
    state, path = tmp_path / "state", plan(tmp_path, SELECTED)
    digest = sha256(path.read_bytes()).hexdigest()
    lives = [
        at_place(life(HOSTILE, Fate.TASK_FAILED, words=HOSTILE), "10:9"),
        at_place(life(HOSTILE + "2"), "10:9"),
    ]
    keep(state, beginning(1, days_ago(5), plan_sha256=digest), lives)

    for more in ([], ["-v"], ["--json"]):
        done = called(state, "coverage", path, *more)
        assert done.exit_code == 1
        assert done.output.replace("\n", "").isprintable()
        assert HOSTILE not in done.output
