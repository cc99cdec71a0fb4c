"""The pipeline files that are shipped, run as far as a machine without the CI system can.

Their very shell steps run with the shell and the variables that each system gives them, in a
workspace of their own, against simulated servers. Only the step that installs is replaced.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from defusedxml.ElementTree import parse

from orchestrator.app.demo import settings_for
from orchestrator.core.events import StopRequested
from orchestrator.journal import State
from orchestrator.plan.file.loading import load_plan
from orchestrator.simulator.process import PASSWORD_VARIABLE
from tests.processes import PASSWORD, PATIENCE_S, Servers, served, servers
from tests.report.ci_systems import azure, github, gitlab

pytestmark = pytest.mark.process

SHIPPED = Path(__file__).parents[2] / "plans"
STRICT = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""How GitHub and GitLab start bash with a file; Azure without -e; Jenkins sh -xe."""

FASTER = 0.4
"""The runners' times in these tests, as a share of the real ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """One shell step, and the secrets in its environment.

    `always`: it runs whatever became of the steps before it.
    """

    script: str
    secrets: Mapping[str, str] = field(default_factory=dict)
    always: bool = False


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The shell steps of one file, without the one that installs, and their environment.

    `cancel` does to a running step what its runner does to one that is cancelled or takes too
    long; it waits for what it is given before it counts seconds, so that these are the program's
    and not the machine's. `lenient`: what its last step ends with is no result of the job's.
    """

    name: str
    shell: tuple[str, ...]
    steps: tuple[Step, ...]
    environment: Mapping[str, str]
    cancel: Callable[[subprocess.Popen[bytes], Callable[[], None]], None]
    lenient: bool = False

    @property
    def drill(self) -> Step:
        """Return the step that runs the plan."""
        (found,) = [step for step in self.steps if re.search(r"\brun plans/ci.yaml", step.script)]
        return found


def interrupted_then_killed(
    process: subprocess.Popen[bytes], until_noticed: Callable[[], None]
) -> None:
    """Do as GitHub's runner and Azure's agent do: they know only the process that they started.

    Source: actions/runner and microsoft/azure-pipelines-agent, ProcessInvoker: SIGINT, 7.5 s,
    SIGTERM, 2.5 s, then the whole tree is killed.
    """
    for number, seconds in ((signal.SIGINT, 7.5), (signal.SIGTERM, 2.5)):
        process.send_signal(number)
        until_noticed()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds * FASTER)
            return
    os.killpg(process.pid, signal.SIGKILL)


def group_terminated(process: subprocess.Popen[bytes], until_noticed: Callable[[], None]) -> None:
    """Do as GitLab's runner does: SIGTERM to the process group, 10 s, SIGKILL.

    Source: gitlab-runner, helpers/process: graceful and force timeouts of a killer.
    """
    os.killpg(process.pid, signal.SIGTERM)
    until_noticed()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10 * FASTER)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def found_and_terminated(
    process: subprocess.Popen[bytes], until_noticed: Callable[[], None]
) -> None:
    """Do as Jenkins does: SIGTERM to everything with the build's cookie; then the post steps.

    Source: hudson.util.ProcessTree.
    """
    os.killpg(process.pid, signal.SIGTERM)
    until_noticed()
    time.sleep(1)


def described(name: str) -> Any:
    """Return a shipped YAML file's values; `on` is a text, as the CI systems read it."""
    return yaml.load((SHIPPED / "ci" / name).read_text(), Loader=yaml.BaseLoader)


def on_github() -> Pipeline:
    """Return GitHub's steps."""
    found = described("github-actions.yml")["jobs"]["drill"]["steps"]
    steps = [
        Step(step["run"], step.get("env", {}), always="always()" in step.get("if", ""))
        for step in found
        if "run" in step
    ]
    assert "pip" in steps[0].script
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "4711"}
    return Pipeline("github", STRICT, tuple(steps[1:]), environment, interrupted_then_killed)


def on_gitlab() -> Pipeline:
    """Return GitLab's: one shell runs all of a job's lines, another one those that follow."""
    job = described("gitlab-ci.yml")["restore-drill"]
    lines = [line for line in job["before_script"] if "pip install" not in line]
    secrets = {"EM_PASSWORD": "$(EM_PASSWORD)"}  # a variable of the project is everywhere
    steps = (
        Step("\n".join([*lines, *job["script"]]), secrets),
        Step("\n".join(job["after_script"]), always=True),
    )
    environment = {"GITLAB_CI": "true", "CI_PIPELINE_ID": "4711"}
    return Pipeline("gitlab", STRICT, steps, environment, group_terminated, lenient=True)


def on_azure() -> Pipeline:
    """Return Azure's steps."""
    found = described("azure-pipelines.yml")["jobs"][0]["steps"]
    steps = [
        Step(step["bash"], step.get("env", {}), always="always()" in step.get("condition", ""))
        for step in found
        if "bash" in step
    ]
    assert "pip" in steps[0].script
    environment = {"TF_BUILD": "True", "BUILD_BUILDNUMBER": "4711"}
    shell = ("bash", "--noprofile", "--norc")
    return Pipeline("azure", shell, tuple(steps[1:]), environment, interrupted_then_killed)


def on_jenkins() -> Pipeline:
    """Return Jenkins' steps, found by their quotes; its `environment` holds the credential."""
    text = (SHIPPED / "ci" / "Jenkinsfile").read_text()
    assert text.count("{") == text.count("}")
    places = list(re.finditer(r"sh '''(.*?)'''", text, re.DOTALL))
    scripts = [textwrap.dedent(place[1]) for place in places]
    assert "pip" in scripts[0]
    secret = re.search(r"(\w+) = credentials\('em-password'\)", text)
    assert secret is not None
    post = text.index("always {")
    steps = [
        Step(script, {secret[1]: "$(it)"} if " run " in script else {}, always=place.start() > post)
        for script, place in zip(scripts[1:], places[1:], strict=True)
    ]
    environment = {"JENKINS_URL": "https://ci.example.net/", "BUILD_NUMBER": "4711"}
    return Pipeline("jenkins", ("sh", "-xe"), tuple(steps), environment, found_and_terminated)


PIPELINES = [on_github, on_gitlab, on_azure, on_jenkins]
each_pipeline = pytest.mark.parametrize(
    "pipeline", [make() for make in PIPELINES], ids=lambda pipeline: pipeline.name
)


@pytest.fixture
def running() -> Iterator[Servers]:
    """Serve two servers whose mounts take a moment."""
    with served(
        settings_for(2, machines=60, password=PASSWORD, duration_range=(0.1, 0.3))
    ) as found:
        yield found


@dataclass(slots=True)
class Workspace:
    """A checked-out repository with a plan that fits the simulated servers."""

    directory: Path
    said: str = ""
    log: Path = Path()
    """What the step that was started last says."""

    def prepare(self, running: Servers, *, change: str = "") -> None:
        """Write the plan, and install the command where the pipelines look for it."""
        (self.directory / "plans").mkdir()
        plan = running.plan(self.directory / "plans", targets=4)
        text = plan.read_text().replace(PASSWORD_VARIABLE, "EM_PASSWORD")
        head = "version: 1\nvariables: {build: by hand}\nreason: build ${build}\n"
        assert text.count("version: 1\n") == 1
        plan.with_name("ci.yaml").write_text(text.replace("version: 1\n", head) + change)
        for place in ("bin", ".venv/bin"):
            (self.directory / place).mkdir(parents=True)
            command = self.directory / place / "bulk-restore"
            command.write_text(f'#!/bin/sh\nexec {sys.executable} -m orchestrator "$@"\n')
            command.chmod(0o755)

    def play(self, pipeline: Pipeline) -> int:
        """Run the steps as the CI system does; return the first exit code that is not 0."""
        result, has_drilled = 0, False
        for step in pipeline.steps:
            if (result and not step.always) or (step.always and not has_drilled):
                continue
            has_drilled = has_drilled or step == pipeline.drill
            code = self.finish(self.start(pipeline, step))
            result = result or (0 if pipeline.lenient and step.always else code)
        return result

    def play_and_cancel(self, pipeline: Pipeline, stalled: Servers) -> None:
        """Run the steps, and cancel the job in its drill once the second mount was asked for.

        The servers go on when the runner has done with the drill.
        """
        drill: subprocess.Popen[bytes] | None = None
        for step in pipeline.steps:
            process = self.start(pipeline, step)
            if step == pipeline.drill:
                drill = process
                while len(stalled.truth().mounts) < 2:
                    assert process.poll() is None
                    time.sleep(0.05)
                pipeline.cancel(process, self.until_noticed)
                stalled.go_on()
            else:
                self.finish(process)
        assert drill is not None
        drill.wait(PATIENCE_S)

    @property
    def state(self) -> State:
        """The state directory that the steps use."""
        home = self.directory / "home" / ".restore-drill"
        return State(home if home.exists() else self.directory / ".bulk-restore")

    def stops(self) -> list[StopRequested]:
        """Return the signals that the run has noted in its journal."""
        (run,) = self.state.runs()
        return [each for each in self.state.events(run.run) if isinstance(each, StopRequested)]

    def until_noticed(self) -> None:
        """Wait until the run has noted a signal."""
        due = time.monotonic() + PATIENCE_S
        while not self.stops():
            assert time.monotonic() < due
            time.sleep(0.05)

    def start(self, pipeline: Pipeline, step: Step) -> subprocess.Popen[bytes]:
        """Start a step: its shell reads a file, as on all four."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environment = {
            **kept,
            **pipeline.environment,
            **dict.fromkeys(step.secrets, PASSWORD),
            "CI": "true",
            "HOME": str(self.directory / "home"),
            "PATH": f"{self.directory / 'bin'}:{kept['PATH']}",
            "PYTHONPATH": str(SHIPPED.parent),
            "GITHUB_STEP_SUMMARY": str(self.directory / "summary.md"),
        }
        script = self.directory / "script.sh"
        script.write_text(step.script)
        self.log = self.directory / "log"
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [*pipeline.shell, str(script)],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a step's end, take what it said, and return its exit code."""
        code = process.wait(PATIENCE_S)
        said = self.log.read_bytes().decode()  # no line end changed: GitLab's sections hold one
        self.said += said
        assert PASSWORD not in said
        return code

    def cases(self) -> list[Any]:
        """Return the cases of the JUnit file that the pipelines upload."""
        return list(parse(self.directory / "report" / "junit.xml").iter("testcase"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return an empty workspace."""
    return Workspace(tmp_path)


@each_pipeline
def test_a_good_drill_is_a_good_build(
    pipeline: Pipeline, workspace: Workspace, running: Servers
) -> None:
    """Exit code 0, every file that is uploaded exists, and the build's number is the reason."""
    workspace.prepare(running)

    assert workspace.play(pipeline) == 0, workspace.said

    report = (workspace.directory / "report" / "report.json").read_text()
    assert "build 4711" in report
    assert PASSWORD not in report
    assert len(workspace.cases()) == 4
    assert not running.truth().still_open()
    summary = workspace.directory / "summary.md"
    assert summary.exists() == (pipeline.name == "github")
    if pipeline.name == "github":
        assert summary.read_text().startswith("# ")
        assert github(workspace.said) == []
    elif pipeline.name == "azure":
        began, upload = azure(workspace.said)
        assert (began.name, began.properties) == ("task.setvariable", {"variable": "drillBegan"})
        assert upload.name == "task.uploadsummary"
        assert Path(upload.data).is_file()
    elif pipeline.name == "gitlab":
        assert [each.name for each in gitlab(workspace.said)] == ["start", "end"]
    else:
        assert f"the junit step takes {workspace.directory}/report/junit.xml" in workspace.said


@each_pipeline
def test_a_target_that_fails_is_a_failed_build(
    pipeline: Pipeline, workspace: Workspace, running: Servers
) -> None:
    """Exit code 1 reaches the CI system, and the failure is shown in its own way."""
    text = "      - {vm: there-is-no-such-machine, server: hq}\n"
    workspace.prepare(running, change=text)

    assert workspace.play(pipeline) == 1, workspace.said

    kinds = [case.find("failure") is not None for case in workspace.cases()]
    assert kinds.count(True) == 1
    if pipeline.name == "github":
        (error,) = [each for each in github(workspace.said) if each.name == "error"]
        assert "there-is-no-such-machine" in error.data
    elif pipeline.name == "azure":
        issue = next(each for each in azure(workspace.said) if each.name == "task.logissue")
        assert "there-is-no-such-machine" in issue.data


@each_pipeline
def test_a_mount_that_is_left_is_looked_after(pipeline: Pipeline, workspace: Workspace) -> None:
    """Exit code 3: what is in reach is released, a person is called, and the build fails with 3."""
    (chosen,) = settings_for(1, machines=60, password=PASSWORD, duration_range=(0.1, 0.3))
    stubborn = {"kind": "error_500", "method": "DELETE", "path": "/mounts"}
    with served([replace(chosen, faults=[stubborn])]) as running:
        workspace.prepare(running, change="defaults: {timeouts: {unmount: 1s}}\n")

        assert workspace.play(pipeline) == 3, workspace.said

    assert "person must look" in workspace.said.lower()
    assert "not released" in workspace.said
    assert any(case.find("error") is not None for case in workspace.cases())


@each_pipeline
def test_a_broken_plan_ends_the_build_before_anything_is_sent(
    pipeline: Pipeline, workspace: Workspace, running: Servers
) -> None:
    """The first step finds it: no logon, exit code 2, and no report of an earlier build."""
    workspace.prepare(running, change="reasn: x\n")
    (workspace.directory / "report").mkdir()
    (workspace.directory / "report" / "junit.xml").write_text("<testsuites/>")

    assert workspace.play(pipeline) == 2

    assert "unknown key 'reasn'" in workspace.said
    assert not (workspace.directory / "report").exists()
    assert running.truth().logons == 0


def test_the_plan_that_the_pipelines_run_is_shipped_and_takes_their_variable() -> None:
    """Copying the directory is all there is to do."""
    for path in (SHIPPED / "ci").iterdir():
        text = path.read_text()
        assert "plans/ci.yaml" in text
        assert "--set build=" in text
        assert "report/junit.xml" in text
        assert "EM_PASSWORD" in text
    assert load_plan(SHIPPED / "ci.yaml", overrides={"build": "4711"}).plan.reason == (
        "nightly drill, build 4711"
    )


def test_no_pipeline_puts_a_secret_on_a_command_line() -> None:
    """It is mapped into the environment of the one step that needs it."""
    for make in PIPELINES:
        pipeline = make()
        holders = [step for step in pipeline.steps if "EM_PASSWORD" in step.secrets]
        assert holders == [pipeline.drill]
        assert all("EM_PASSWORD" not in step.script for step in pipeline.steps)


@each_pipeline
def test_a_cancelled_drill_leaves_nothing(pipeline: Pipeline, workspace: Workspace) -> None:
    """The program gets the signal, and what it has no time for the step that always runs does."""
    with servers(stall_after=1) as running:
        workspace.prepare(running)

        workspace.play_and_cancel(pipeline, running)

        assert not running.truth().still_open(), workspace.said
        made = len(running.truth().mounts)
    state, stops = workspace.state, workspace.stops()
    (run,) = state.runs()
    assert stops
    assert stops[0].signal == ("SIGTERM" if pipeline.name in {"gitlab", "jenkins"} else "SIGINT")
    assert made <= 4
    assert not any(record.may_be_open for record in state.replay(run.run).records.values())
    report = json.loads((workspace.directory / "report" / "report.json").read_text())
    assert report["totals"]["left"] == report["totals"]["may_be_mounted"] == 0
