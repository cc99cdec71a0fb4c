"""The published JSON Schema: an editor accepts what the loader takes and marks what it can see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from orchestrator.cli import command
from orchestrator.plan.file.json_schema import plan_json_schema
from orchestrator.plan.file.schema import PlanFile
from tests.plan.builders import HEAD, load

HERE = Path(__file__).parent
PLANS = sorted((HERE.parent.parent / "plans").glob("*.yaml"))
SCHEMA = plan_json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


class EditorLoader(yaml.SafeLoader):
    """Types scalars as editors do, by YAML 1.2: no dates, no `no`, no numbers to base 60."""


EditorLoader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]*\.[0-9]+|[0-9]+\.)(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
):
    EditorLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


def as_an_editor_sees(text: str) -> Any:
    """Return the plain data of a plan."""
    return yaml.load(text, Loader=EditorLoader)


def complaints(text: str) -> list[str]:
    """Return what an editor would mark in a plan, as paths and messages."""
    return [
        f"{error.json_path}: {error.message}"
        for error in VALIDATOR.iter_errors(as_an_editor_sees(text))
    ]


def test_the_schema_is_valid() -> None:
    """It follows the rules of its own dialect."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_command_prints_exactly_this_schema() -> None:
    """`schema plan` is what editors are given."""
    answer = CliRunner().invoke(command, ["schema", "plan"])

    assert answer.exit_code == 0
    assert json.loads(answer.stdout) == SCHEMA


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    """No definition is missing and none is unused."""
    used = set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(SCHEMA)))

    assert used == set(SCHEMA["$defs"])


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_shipped_plan_is_accepted(path: Path) -> None:
    """The examples are not full of red lines."""
    assert complaints(path.read_text()) == []


STRUCTURAL = [
    *("a-list", "a-text", "a-text-for-a-list", "a-text-for-a-mapping", "a-list-for-a-text"),
    *("no-version", "no-name", "no-servers", "no-password", "no-targets", "empty-targets"),
    *("unknown-top-level-key", "misspelt-selector", "no-selector", "two-selectors"),
    *("target-as-text", "targets-as-mapping", "targets-and-waves", "wave-without-targets"),
    *("version-2", "mode-unknown", "os-no", "os-misspelt", "critical-yes", "retries"),
    *("on-error-misspelt", "ramp", "start-interval"),
    *("literal-password", "literal-password-in-quotes", "password-two-references"),
    *("password-misspelt", "password-unknown-reference", "password-command-text"),
    *("duration-without-unit", "plain-http", "server-name", "wave-name"),
    *("tls-empty", "fingerprint", "fingerprint-not-a-list", "api-version"),
    "api-format",
    *("expect-empty", "mounts-negative", "failures", "point-id", "key-without-value"),
    *("checks-as-texts", "download-misspelt", "fallback-misplaced"),
    *("sample-misplaced", "point-keys-misplaced", "label-on-a-match"),
    *("checks-as-a-list", "check-kinds", "check-paths", "check-values", "check-counts"),
    *("download-values", "download-write", "cleanup"),
    *("gates", "gates-no-list"),
    *("variable-name", "variable-structure", "backup-server-limit"),
]


@pytest.mark.parametrize("name", STRUCTURAL)
def test_a_structural_mistake_is_marked(name: str) -> None:
    """What stands at one place and is wrong there is seen while the plan is typed."""
    assert complaints((HERE / "broken" / f"{name}.yaml").read_text())


TAKEN = [
    "targets: [{vm: 007}, {vm: 1.5}, {vm: true}, {vm: no}]\n",
    "targets: [{vm: a, critical: true}, {vm: b, critical: 'false'}]\n",
    "limits: {mounts: 4, failures: 3, outage: 0s}\ntargets: [{vm: a}]\n",
    "limits: {mounts: '4', failures: '3'}\ntargets: [{vm: a}]\n",
    "limits: {failures: 12.5%, deadline: 1d}\ntargets: [{vm: a}]\n",
    "limits: {start_interval: 2s, ramp: {from: '2', every: 60s}}\ntargets: [{vm: a}]\n",
    "variables: {n: 4, yes_or_no: true}\nlimits: {mounts: '${n}'}\ntargets: [{vm: '${n}'}]\n",
    "variables: {o: linux}\ntargets: [{vm: a, os: '${o}', critical: '${c:-true}'}]\n",
    "targets: [{id: 9B414AFE-E957-4D40-A144-7D02DE9A041C}]\n",
    "targets: [{vm: a, point: {policy: before, time: 2026-11-20T02:00:00+01:00}}]\n",
    "waves: [{name: a.b-c_1, after: [], targets: [{job: x, expect: {min: 0}}]}]\n",
    "targets: [{vm: a, checks: []}]\ncleanup: {unmount: always}\nmode: drill\n",
    "targets: [{vm: a}]\n  # a comment\n",
    "checks: {a: [{path: 'C:\\x', min_size: 1B, magic: 0400, owner: 7}], b: [{dir: 'C:/'}]}\n"
    "targets: [{vm: a, checks: [a, b]}]\n",
    "checks: {a: [{exec: [x, 7, '-v']}, {baseline: /x, count: 5%}, {dir: /x, absent: [7]}]}\n"
    "targets: [{vm: a}]\n",
    f"checks: {{a: [{{path: /x, sha256: {'1' * 64}}}]}}\ntargets: [{{vm: a}}]\n",
    "variables: {p: /x}\nchecks: {a: [{path: '${p}', max_size: '${s:-1B}'}]}\n"
    "targets: [{vm: a, download: [{path: 'Volume$0:/x', to: x, max_files: 3}]}]\n",
    "mode: recovery\ncleanup: {unmount: never, keep_failed: 30m}\n"
    "targets: [{vm: a, download: [{path: 'C:\\x', write: original, overwrite: true}]}]\n",
    "targets: [{match: 'a*', exclude: ['*-t'], sample: {count: 3, order: stalest}}]\n",
    "targets: [{query: 'Name==\"x\"', backup_server: b, sample: {count: '3', seed: 0}}]\n",
    "targets: [{vm: a, all: true, sample: {count: 1}, point: {policy: random, seed: 7}}]\n",
    "targets: [{vm: a, point: {policy: newest_passing, search: bisect, exclude_points: [x]}}]\n",
    "defaults: {point: {policy: every, count: 3, incident_time: 2026-11-20T02:00:00Z}}\n"
    "targets: [{vm: a}]\n",
    "defaults: {point: {fallback: {count: 2, max_age: 72h, on: [check_failed]}}}\n"
    "targets: [{vm: a}]\n",
    "targets: [{vm: a, timeouts: {mount: 1h}, retries: {delay: 0s, max_delay: 0s}}]\n",
]


@pytest.mark.parametrize("body", TAKEN)
def test_what_the_loader_takes_the_schema_takes(body: str) -> None:
    """No valid plan is marked: people would learn to ignore the marks."""
    load(body)

    assert complaints(HEAD + body) == []


def test_every_supported_key_is_described_and_later_ones_are_not_offered() -> None:
    """An editor shows a sentence for each key, and completes none that would be refused."""
    missing = [
        f"{name}.{key}"
        for name, section in {"plan": SCHEMA, **SCHEMA["$defs"]}.items()
        for key, value in section.get("properties", {}).items()
        if "description" not in value
    ]

    assert missing == []
    assert set(SCHEMA["properties"]) == set(PlanFile.keys)
