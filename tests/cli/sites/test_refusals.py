"""A database that must not be used, or cannot be: every command says so, and nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.database import address
from orchestrator.database.private_server import PrivateServer
from tests.cli.test_broken_plans import PLAN, invoke
from tests.cli.wiretap import listening
from tests.database.owner import Owner
from tests.plan.test_broken import BROKEN

VERBS: Sequence[str] = (
    "run PLAN --yes",
    "submit PLAN",
    "work --site default",
    "stop last",
    "resume last",
    "status",
    "status last",
    "watch last",
    "serve last",
    "list last",
    "trend",
    "coverage PLAN",
    "unmount last",
    "report last",
)
"""Every command that takes --state and asks nobody but the database."""

SECRET = "hunter2-never-shown"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Return a plan of a server that does not answer."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture(params=VERBS)
def verb(request: pytest.FixtureRequest, plan: Path) -> list[str]:
    """Return the arguments of a command, without its --state."""
    return [str(plan) if word == "PLAN" else word for word in request.param.split()]


def test_a_password_in_an_address_is_refused_and_not_shown(verb: list[str]) -> None:
    """It would be in the list of processes."""
    with listening() as heard:
        done = invoke(*verb, "--state", f"postgresql://u:{SECRET}@127.0.0.1/drills")

    assert done.exit_code == 2
    assert "has a password in it" in done.output
    assert SECRET not in done.output
    assert heard == []


def test_a_connection_that_nobody_verified_is_refused(verb: list[str]) -> None:
    """Before anything is connected."""
    done = invoke(*verb, "--state", "postgresql://db.invalid/drills?sslmode=require")

    assert done.exit_code == 2
    assert "sslmode=verify-full" in done.output


def test_without_the_extra_it_is_said_how_to_install_it(
    verb: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a usage error, not as a missing module."""
    monkeypatch.setattr(address, "find_spec", lambda name: None)

    done = invoke(*verb, "--state", "postgresql://127.0.0.1/drills")

    assert done.exit_code == 2
    assert "pip install 'bulk-restore-orchestrator[sites]'" in done.output


def test_a_database_that_does_not_answer_is_away(verb: list[str]) -> None:
    """Within 15 seconds, and with what to do."""
    began = time.monotonic()

    done = invoke(*verb, "--state", "postgresql://127.0.0.1:1/drills")

    assert done.exit_code == 74
    assert "is away" in done.output
    assert "serving" not in done.output
    assert "bulk-restore database init" in done.output
    assert time.monotonic() - began < 15


def test_a_foreign_database_is_unusable(verb: list[str], server: PrivateServer) -> None:
    """One in which nobody has made the tables."""
    done = invoke(*verb, "--state", server.url("template1"))

    assert done.exit_code == 74
    assert "bulk-restore database init" in done.output
    assert "serving" not in done.output


def test_a_database_of_another_version_is_unusable(
    verb: list[str], server: PrivateServer, name: str, owner: Owner
) -> None:
    """Nothing is read of it, and nothing written."""
    owner.rows("UPDATE meta SET version = 99")

    done = invoke(*verb, "--state", server.url(name, "drill"))

    assert done.exit_code == 74
    assert "tables of version 99" in done.output
    assert owner.one("SELECT count(*) FROM run") == 0


def test_who_may_only_look_can_neither_submit_nor_stop_nor_work(
    server: PrivateServer, name: str, plan: Path, owner: Owner
) -> None:
    """The role that is missing is named."""
    url, drill = server.url(name, "reader"), server.url(name, "drill")
    run = invoke("submit", plan, "--state", drill).stdout.strip()

    answers = [
        invoke("submit", plan, "--state", url),
        invoke("stop", run, "--state", url),
        invoke("work", "--site", "default", "--state", url),
    ]

    assert [done.exit_code for done in answers] == [74, 74, 74]
    assert not any("serving" in done.output for done in answers)
    assert all("bulk_restore_operator" in done.output for done in answers)
    assert invoke("status", run, "--state", url).exit_code == 0
    assert owner.one("SELECT count(*) FROM request") == 0


def test_a_login_that_may_not_serve_a_site_is_told_what_to_grant(
    server: PrivateServer, name: str, owner: Owner
) -> None:
    """It would wait for ever, and nobody would know for what."""
    owner.rows("CREATE ROLE bulk_restore_site_west ROLE west")
    try:
        west, east = (
            invoke(
                *("work", "--site", "default", "--site", "west", "--until-idle"),
                *("--state", server.url(name, login)),
            )
            for login in ("west", "east")
        )
    finally:
        owner.rows("DROP ROLE bulk_restore_site_west")

    assert (west.exit_code, east.exit_code) == (0, 74)
    assert "serving default, west in" in west.output
    assert "the login east may not serve west in" in east.output
    assert "GRANT bulk_restore_site_west TO east" in east.output
    assert "serving" not in east.output


def test_a_broken_plan_is_not_submitted(server: PrivateServer, name: str, owner: Owner) -> None:
    """With the same words as everywhere, before the database is asked for anything."""
    for path in BROKEN[:20]:
        done = invoke("submit", path, "--state", server.url(name, "drill"))

        assert done.exit_code == 2
        assert f"{path}:" in done.output
    assert owner.one("SELECT count(*) FROM run") == 0


def test_a_secret_with_a_relative_path_is_not_submitted(
    server: PrivateServer, name: str, plan: Path
) -> None:
    """Though `run` on one machine takes it."""
    plan.write_text(PLAN.replace("{env: CLI_TEST_PASSWORD}", "{file: secrets/hq}"))

    done = invoke("submit", plan, "--state", server.url(name, "drill"))

    assert done.exit_code == 2
    assert f"{plan}:4:" in done.output
    assert "nobody could say" in done.output


def test_a_plan_that_is_open_is_submitted_once(
    server: PrivateServer, name: str, plan: Path
) -> None:
    """Exit code 6 names the open run."""
    url = server.url(name, "drill")
    first = invoke("submit", plan, "--state", url)

    again = invoke("submit", plan, "--state", url)
    resumed = invoke("resume", "last", "--state", url)

    assert (first.exit_code, again.exit_code, resumed.exit_code) == (0, 6, 6)
    assert first.stdout.strip() in again.output
    assert "bulk-restore stop" in resumed.output


def test_a_run_that_no_worker_serves_is_described(
    server: PrivateServer, name: str, plan: Path
) -> None:
    """What waits, and for what; nothing is mounted, so that is no alarm."""
    plan.write_text(PLAN.replace("username: u,", "username: u, site: moon,"))
    url = server.url(name, "drill")
    run = invoke("submit", plan, "--state", url).stdout.strip()

    shown = invoke("status", run, "--state", url)
    listed = invoke("status", "--state", url)

    assert (shown.exit_code, listed.exit_code) == (0, 0)
    assert f"{run}: waiting" in shown.output
    assert "1 shard waits: no worker serves site moon" in shown.output
    assert "the conductor waits: no worker lives" in shown.output
    assert "waiting, 0 targets" in listed.output


@pytest.mark.parametrize("option", [("--plan", "plan.yaml"), ("--yes-write",), ("--json",)])
def test_options_that_mean_nothing_over_a_database_are_refused(
    server: PrivateServer, name: str, option: tuple[str, ...]
) -> None:
    """Rather than taken and not heeded."""
    done = invoke("resume", "last", *option, "--state", server.url(name, "drill"))

    assert done.exit_code == 2
    assert option[0] in done.output


def test_a_directory_is_refused_where_a_database_is_needed(plan: Path) -> None:
    """Workers of several machines do not share a directory; nor does one need a key."""
    for verb in (["submit", plan], ["work", "--site", "x"], ["stop", "last"]):
        assert invoke(*verb, "--state", plan.parent).exit_code == 2
    run = invoke("run", plan, "--yes", "--token-key", plan, "--state", plan.parent / "state")
    assert run.exit_code == 2
    assert "--token-key is for a database" in run.output


def test_who_names_no_database_is_told_what_the_command_is_for(plan: Path) -> None:
    """`stop last` looks as if it were for a run on one machine, too."""
    for verb in (["submit", plan], ["work", "--site", "x"], ["stop", "last"]):
        done = invoke(*verb)
        assert done.exit_code == 2
        assert "for runs over several machines; name their database: postgresql://" in done.output


def test_no_session_file_over_a_database_is_what_it_is_without_a_key(
    server: PrivateServer, name: str, plan: Path
) -> None:
    """Nothing is kept then; with a key it would be, so one of the two is meant."""
    run = ("run", plan, "--no-session-file", "--state", server.url(name, "drill"))

    alone, both = invoke(*run), invoke(*run, "--yes", "--token-key", plan)

    assert "use --yes" in alone.output  # what is refused is something else
    assert both.exit_code == 2
    assert "leave one of them away" in both.output


def test_a_database_takes_no_confirmation(server: PrivateServer, name: str, plan: Path) -> None:
    """Nobody is asked, so it must be said."""
    done = invoke("run", plan, "--state", server.url(name, "drill"))

    assert done.exit_code == 2
    assert "--yes" in done.output


def test_the_database_is_named_where_there_are_no_runs(server: PrivateServer, name: str) -> None:
    """It may be the wrong one."""
    done = invoke("status", "last", "--state", server.url(name, "reader"))

    assert done.exit_code == 2
    assert f"there are no runs in {name} on " in done.output
