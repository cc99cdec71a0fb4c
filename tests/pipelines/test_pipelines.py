"""The pipeline files that are shipped, run as far as a machine without the CI system can.

Their very shell steps run with the shell and the variables that each system gives them, in a
workspace of their own, against simulated servers. Only the step that installs is replaced.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from defusedxml.ElementTree import parse

from orchestrator.demo import settings_for
from orchestrator.plan.loading import load_plan
from orchestrator.simulator.process import PASSWORD_VARIABLE
from tests.processes import PASSWORD, Servers, served
from tests.report.runners import azure, github, gitlab

pytestmark = pytest.mark.process

SHIPPED = Path(__file__).parents[2] / "plans"
STRICT = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")
"""How GitHub and GitLab start bash; Azure without -e; Jenkins sh -xe."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The shell steps of one file, without the one that installs, and their environment."""

    name: str
    shell: tuple[str, ...]
    steps: tuple[tuple[str, dict[str, str]], ...]
    environment: dict[str, str] = field(default_factory=dict)


def described(name: str) -> Any:
    """Return a shipped YAML file's values; `on` is a text, as the CI systems read it."""
    return yaml.load((SHIPPED / "ci" / name).read_text(), Loader=yaml.BaseLoader)


def on_github() -> Pipeline:
    """Return GitHub's steps."""
    steps = described("github-actions.yml")["jobs"]["drill"]["steps"]
    runs = [(step["run"], step.get("env", {})) for step in steps if "run" in step]
    assert "pip" in runs[0][0]
    return Pipeline(
        "github", STRICT, tuple(runs[1:]), {"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "4711"}
    )


def on_gitlab() -> Pipeline:
    """Return GitLab's: one shell runs all of a job's lines."""
    job = described("gitlab-ci.yml")["restore-drill"]
    lines = [line for line in job["before_script"] if "pip install" not in line]
    script = "\n".join([*lines, *job["script"]])
    variables = {"EM_PASSWORD": "$(EM_PASSWORD)"}  # a variable of the project is everywhere
    environment = {"GITLAB_CI": "true", "CI_PIPELINE_ID": "4711"}
    return Pipeline("gitlab", STRICT, ((script, variables),), environment)


def on_azure() -> Pipeline:
    """Return Azure's steps."""
    steps = described("azure-pipelines.yml")["jobs"][0]["steps"]
    runs = [(step["bash"], step.get("env", {})) for step in steps if "bash" in step]
    assert "pip" in runs[0][0]
    environment = {"TF_BUILD": "True", "BUILD_BUILDNUMBER": "4711"}
    return Pipeline("azure", ("bash", "--noprofile", "--norc", "-c"), tuple(runs[1:]), environment)


def on_jenkins() -> Pipeline:
    """Return Jenkins' steps, found by their quotes; its `environment` holds the credential."""
    text = (SHIPPED / "ci" / "Jenkinsfile").read_text()
    assert text.count("{") == text.count("}")
    found = re.findall(r"sh '''(.*?)'''|sh '([^'\n]*)'", text, re.DOTALL)
    steps = [textwrap.dedent(long or short) for long, short in found]
    assert "pip" in steps[0]
    secret = re.search(r"(\w+) = credentials\('em-password'\)", text)
    assert secret is not None
    runs = [(step, {secret[1]: "$(it)"} if " run " in step else {}) for step in steps[1:]]
    environment = {"JENKINS_URL": "https://ci.example.net/", "BUILD_NUMBER": "4711"}
    return Pipeline("jenkins", ("sh", "-xec"), tuple(runs), environment)


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
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        for script, secrets in pipeline.steps:
            given = dict.fromkeys(secrets, PASSWORD)
            environment = {
                **kept,
                **pipeline.environment,
                **given,
                "CI": "true",
                "HOME": str(self.directory / "home"),
                "PATH": f"{self.directory / 'bin'}:{kept['PATH']}",
                "PYTHONPATH": str(SHIPPED.parent),
                "GITHUB_STEP_SUMMARY": str(self.directory / "summary.md"),
            }
            done = subprocess.run(
                [*pipeline.shell, script],
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=120,
            )
            said = done.stdout.decode()  # and no line end changed: GitLab's sections hold one
            self.said += said
            assert PASSWORD not in said
            if done.returncode:
                return done.returncode
        return 0

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
        (upload,) = azure(workspace.said)
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
        holders = [script for script, secrets in pipeline.steps if "EM_PASSWORD" in secrets]
        assert len(holders) == 1
        assert " run " in holders[0]
        assert all("EM_PASSWORD" not in script for script, _ in pipeline.steps)
