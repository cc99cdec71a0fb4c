"""How commands end that meet a poor encoding, no home, a reader that left, or a bug."""

from __future__ import annotations

import json
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import COMMANDS
from tests.cli.test_broken_plans import PLAN, invoke
from tests.processes import Place, Servers, servers

NAME = "Büro-日本-№7"
"""A VM that Latin-1 can say only in part, and ASCII hardly."""

SAID = {"ascii": r"B\xfcro-\u65e5\u672c-\u21167", "latin-1": r"Büro-\u65e5\u672c-\u21167"}


@pytest.fixture(scope="module")
def running() -> Iterator[Servers]:
    """Serve one server."""
    with servers(count=1) as found:
        yield found


@pytest.mark.process
@pytest.mark.parametrize("encoding", SAID)
def test_a_name_that_a_stream_cannot_say_ends_no_command(
    encoding: str, running: Servers, tmp_path: Path
) -> None:
    """It is escaped there, in every command; files are UTF-8 and hold the name itself."""
    place = Place(tmp_path, {"PYTHONIOENCODING": f"{encoding}:strict"})
    plan = running.plan(tmp_path, targets=2)
    plan.write_text(
        plan.read_text(encoding="utf-8") + f"      - {{vm: {NAME}, server: hq}}\n", encoding="utf-8"
    )
    calls = {
        ("run", str(plan), "--yes"): 1,
        ("plan", str(plan)): 1,
        ("forecast", str(plan)): 1,
        ("check", str(plan)): 4,
        ("status", "last"): 0,
        ("watch", "last"): 0,
        ("list", "last"): 0,
        ("trend", "--target", "*7"): 0,
        ("coverage", str(plan)): 1,
        ("report", "last", "--compare", "last"): 0,
        ("report", "last"): 0,
    }
    silent = {"watch", "report"}

    for arguments, code in calls.items():
        done = subprocess.run(
            place.arguments(*arguments), env=place.environ(), capture_output=True, check=False
        )
        said = (done.stdout + done.stderr).decode(encoding)
        assert done.returncode == code, said
        assert "Traceback" not in said
        assert SAID[encoding] in said or arguments[0] in silent, (arguments, said)
    text = (place.report / "report.md").read_bytes().decode("utf-8")
    assert "日本" in text
    assert any(target["vm"] == NAME for target in place.values()["targets"])


NOWHERE: list[dict[str, str | None]] = [{"HOME": None}, {"HOME": ""}]


@pytest.mark.parametrize("home", NOWHERE, ids=["unset", "empty"])
@pytest.mark.parametrize("verb", ["status", "list last", "trend", "unmount last", "resume last"])
def test_without_a_home_the_state_directory_is_asked_for(
    verb: str, home: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No directory named `~` is made, and nothing is written anywhere else."""

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name, value in home.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)

    done = invoke(*verb.split())

    assert done.exit_code == 2, done.stderr
    assert "--state" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
@pytest.mark.parametrize("reader", ["head -n 1", "true"])
@pytest.mark.parametrize("command", ["schema report", "validate plans/*.yaml", "--help"])
def test_a_reader_that_leaves_is_no_fault(command: str, reader: str) -> None:
    """The exit code is the command's own, and nothing is said of it."""
    line = f"{sys.executable} -m orchestrator {command} | {reader}; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.process
def test_a_reader_that_leaves_hides_no_problem(tmp_path: Path) -> None:
    """`validate | head` of a broken plan still ends with 2."""
    (tmp_path / "broken.yaml").write_text("nonsense: 1\n")
    argv = f"{sys.executable} -m orchestrator validate {tmp_path}/broken.yaml plans/*.yaml"
    line = f"{argv} | true; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)

    assert done.returncode == 2


DATABASE = "--state postgresql://127.0.0.1:1/none"
"""An address at which nothing is; it is not reached."""

BUGS = {
    "init": (
        "orchestrator.plan.file.scalars.url",
        "init https://em:9398 --username u --password-from env:P -o -",
    ),
    "validate": ("orchestrator.plan.choose.locked.load_any", "validate PLAN"),
    "plan": ("orchestrator.plan.file.loading.load_plan", "plan PLAN"),
    "forecast": ("orchestrator.plan.choose.locked.load_any", "forecast PLAN"),
    "check": ("orchestrator.plan.choose.locked.load_any", "check PLAN"),
    "run": ("orchestrator.plan.choose.locked.load_any", "run PLAN --yes"),
    "submit": ("orchestrator.app.sites.stored_plan.travelling_plan", f"submit PLAN {DATABASE}"),
    "work": (
        "orchestrator.database.sealing.load_sealer",
        f"work --site x --token-key DIR {DATABASE}",
    ),
    "stop": ("orchestrator.database.store.DatabaseStore.summary", f"stop last {DATABASE}"),
    "resume": ("orchestrator.journal.State.summary", "resume last"),
    "status": ("orchestrator.journal.State.runs", "status"),
    "watch": ("orchestrator.journal.State.summary", "watch last"),
    "serve": ("orchestrator.journal.State.summary", "serve last"),
    "list": ("orchestrator.journal.State.summary", "list last"),
    "trend": ("orchestrator.journal.State.runs", "trend"),
    "coverage": ("orchestrator.plan.file.loading.load_plan", "coverage PLAN"),
    "due": ("orchestrator.plan.file.loading.load_plan", "due PLAN"),
    "units": ("orchestrator.plan.file.loading.load_plan", "units PLAN"),
    "orphans": ("orchestrator.journal.State.summary", "orphans last"),
    "ctl": ("orchestrator.journal.State.summary", "ctl last pause"),
    "browse": ("orchestrator.journal.State.summary", "browse last key"),
    "unmount": ("orchestrator.journal.State.summary", "unmount last"),
    "report": ("orchestrator.journal.State.summary", "report last"),
    "simulate": ("orchestrator.app.demo.settings_for", "simulate"),
    "demo": ("orchestrator.app.demo.settings_for", "demo --directory DIR"),
    "database": ("orchestrator.database.token_key.make_key", "database token-key DIR"),
    "schema": ("orchestrator.report.as_json.report_json_schema", "schema report"),
}


def test_every_command_has_such_a_bug() -> None:
    """The table below leaves none out."""
    assert list(BUGS) == list(COMMANDS)


@pytest.mark.parametrize("verb", BUGS)
def test_what_nobody_foresaw_ends_with_70_and_one_line(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No traceback, no secret, nothing that spans lines; -v shows where it happened."""

    def broken(*_args: object, **_options: object) -> None:
        raise ExceptionGroup("several", [LookupError("a\nbug with password=hunter2-c0ffee")])

    path, line = BUGS[verb]
    monkeypatch.setattr(path, broken)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "plan.yaml").write_text(PLAN)
    places = {"PLAN": str(tmp_path / "plan.yaml"), "DIR": str(tmp_path / "demo")}
    arguments = [places.get(word, word) for word in line.split()]

    done = invoke(*arguments)

    assert done.exit_code == 70, done.output
    message = "bulk-restore: internal error: LookupError: a\\nbug with password=***"
    if verb in {"simulate", "schema"}:
        assert done.stderr == f"{message}\n"
    else:
        assert done.stderr == f"{message}; use -v to see where it happened\n"
        more = invoke(*arguments, "-v")
        assert more.exit_code == 70
        assert "in broken" in more.stderr
        assert "hunter2" not in more.stderr


@pytest.mark.parametrize(
    "verb", ["plan PLAN", "forecast PLAN", "check PLAN", "run PLAN --yes", "coverage PLAN"]
)
def test_a_command_that_a_person_stops_says_so(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit code 1 would mean that the answer is no."""

    def stopped(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    for name in ("choose.locked.load_any", "file.loading.load_plan"):
        monkeypatch.setattr(f"orchestrator.plan.{name}", stopped)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    done = invoke(*(word.replace("PLAN", str(tmp_path)) for word in verb.split()))

    assert (done.exit_code, done.stderr) == (130, "bulk-restore: stopped by SIGINT\n")


BAD_FAULTS = {
    "{": "Expecting property name",
    '{"kind": "twice"}': "it is not a JSON list of objects",
    '[{"path": "x"}]': "fault 1 has no 'kind'",
    '[{"kind": "twice"}, {"kind": "twice", "methode": "POST"}]': "fault 2 has no 'methode'",
    '[{"kind": "trice"}]': "unknown fault 'trice'",
    '[{"kind": "twice", "path": "("}]': "unterminated subpattern",
    '[{"kind": "twice", "path": 1}]': "must be string",
}


@pytest.mark.parametrize("script", BAD_FAULTS)
def test_a_broken_script_of_faults_is_refused_before_a_server_starts(
    script: str, tmp_path: Path
) -> None:
    """One line that names the file and the fault, and 2."""
    path = tmp_path / "faults.json"
    path.write_text(script)

    done = invoke("simulate", "--faults", path)

    assert done.exit_code == 2
    assert done.stderr.startswith(f"bulk-restore: --faults {path}: ")
    assert BAD_FAULTS[script] in done.stderr


def test_programs_are_told_of_what_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--json` ends with an error event, and with the exit code."""

    def broken(*_args: object, **_options: object) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("orchestrator.plan.choose.locked.load_any", broken)
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)

    done = invoke("run", plan, "--yes", "--json", "--state", tmp_path / "state")

    assert done.exit_code == 70
    event = json.loads(done.stdout)
    assert (event["type"], event["message"]) == ("error", "internal error: LookupError")


@pytest.mark.process
def test_what_nobody_foresaw_outside_of_a_command_ends_so_too(tmp_path: Path) -> None:
    """Such as a command that cannot even be imported."""
    code = (
        "import orchestrator.cli as cli; from orchestrator.__main__ import main\n"
        "cli.COMMANDS['status'] = ('nowhere', '')\n"
        "main()"
    )
    argv = [sys.executable, "-c", code, "status"]

    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=Path.cwd())

    assert done.returncode == 70
    assert re.fullmatch(r"bulk-restore: internal error: ModuleNotFoundError: .*\n", done.stderr)


@pytest.mark.parametrize(
    ("knob", "said"),
    [
        ("latency_s=abc", "latency_s takes a number from 0"),
        ("latency_s=NaN", "latency_s takes a number from 0"),
        ("latency_s=1e999", "latency_s takes a number from 0"),
        ("latency_s=true", "latency_s takes a number from 0"),
        ("idle_limit_s=-5", "idle_limit_s takes a number above 0"),
        ("message_share=2", "message_share takes a number from 0 to 1"),
        ("backup_server_slots=1.5", "backup_server_slots takes a whole number from 1"),
        ("bears_mounts=0", "bears_mounts takes a whole number from 1, none"),
        ("speaks=yaml", "speaks takes both, xml, json, json_406"),
        ("shows_activity=maybe", "shows_activity takes denied, by_role, all, nothing"),
        ("byte_order_mark=1", "byte_order_mark takes true, false"),
        ("stage_s=none", "stage_s takes a number from 0"),
        ("href_host=", "href_host takes localhost, request, or the name of a host"),
        ("speed=1", "the knobs are activity_delay_s, "),
    ],
)
@pytest.mark.parametrize("rehearsed", [False, True])
def test_a_knob_of_the_simulator_takes_its_values_only(
    tmp_path: Path, knob: str, said: str, rehearsed: bool
) -> None:
    """Exit code 2 with the values it takes, and no server is started."""
    plan = ("--plan", tmp_path / "plan.yaml") if rehearsed else ()
    done = invoke("simulate", *plan, "--behaviour", "unmount_s=1", "--behaviour", knob)

    assert done.exit_code == 2
    assert f"--behaviour {knob}: {said}" in done.stderr
    assert "Traceback" not in done.stderr
