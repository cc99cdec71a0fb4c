"""`report --merge`: the reports of all parts of a plan become one, and no missing part is green."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.app.rebuilding import rebuild
from orchestrator.cli import command
from orchestrator.core.parts import Part
from orchestrator.journal import State
from orchestrator.report.as_json import report_json_schema
from orchestrator.report.writing import RENDERINGS
from orchestrator.simulator.faults import Fault
from tests.scenarios.drill import Drill, Site, drill, every_machine
from tests.scenarios.test_steering import reached, steered, told, until, with_a_person

pytestmark = pytest.mark.anyio

COUNT = 3
GATED = """waves:
  - {name: first, targets: [{match: "hq-*[0-4]"}]}
  - {name: second, after: [first], targets: [{match: "hq-*[5-9]"}]}
gates: [{before: second, timeout: 1h, on_timeout: halt}]
"""


class Shards:
    """Runs the parts of a plan as jobs of a CI matrix do, and merges their reports."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self._monkeypatch = directory, monkeypatch

    @property
    def merged(self) -> Path:
        """The directory of the merged report."""
        return self.directory / "merged"

    async def run(
        self,
        numbers: Sequence[int] = range(1, COUNT + 1),
        site: Site | None = None,
        *,
        of: int | None = COUNT,
        name: str = "",
        plan: str | None = None,
        **choices: Any,
    ) -> list[Path]:
        """Run parts and return their report directories."""
        found = []
        for number in numbers:
            place = self.directory / f"{name}{number}"
            part = None if of is None else Part(number=number, of=of)
            done: Drill = await drill(
                place,
                self._monkeypatch,
                [site or Site(machines=9)],
                plan,
                choices={"part": part, **choices},
                history=number,
            )
            found.append(done.outcome.directory)
        return found

    def merge(self, *directories: Path, more: Sequence[str] = ()) -> Result:
        """Call the command."""
        places = [*map(str, directories), "--report", str(self.merged), *more]
        return CliRunner().invoke(command, ["report", "--merge", *places])

    def values(self) -> dict[str, Any]:
        """Return the merged report.json."""
        found: dict[str, Any] = json.loads((self.merged / "report.json").read_bytes())
        return found


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shards:
    """Parts of a plan with nine machines."""
    return Shards(tmp_path, monkeypatch)


async def test_the_reports_of_all_parts_are_one_report_of_the_plan(shards: Shards) -> None:
    """It has the targets and totals of a whole run, and says whose reports it is made of."""
    directories = await shards.run()
    (whole,) = await shards.run([1], of=None, name="whole")

    result = shards.merge(*directories)

    assert result.exit_code == 0, result.output
    values, expected = shards.values(), json.loads((whole / "report.json").read_bytes())
    jsonschema.validate(values, report_json_schema())
    assert {each["key"] for each in values["targets"]} == {
        each["key"] for each in expected["targets"]
    }
    assert values["totals"] == expected["totals"]
    assert values["waves"][0]["targets"] == 9
    run = values["run"]
    assert [each["number"] for each in run["merged"]] == [1, 2, 3]
    assert {each["evidence"] for each in run["merged"]} == {"verified"}
    assert [run["narrowed"], run["exit_code"], run["interrupted"]] == [None, 0, False]
    assert not {"part", "missing"} & run.keys()
    assert not any("narrowed" in line for line in values["not_proven"])
    assert {path.name for path in shards.merged.iterdir()} == set(RENDERINGS)


async def test_what_people_asked_of_a_part_is_in_the_merged_report(shards: Shards) -> None:
    """With its part. A forecast of one part says nothing of the whole."""
    directories = await shards.run()
    for number, directory in enumerate(directories, 1):
        path = directory / "report.json"
        values = json.loads(path.read_bytes())
        values["controls"] = [
            {
                "at": f"2026-11-23T06:0{5 - number}:00.000000Z",
                "user": "anna",
                "host": "admin",
                "verb": "pause",
                "words": "pause",
                "reason": None,
            }
        ]
        values["run"]["forecast"] = {
            "makespan_s": 1.0,
            "low_s": 1.0,
            "high_s": 1.0,
            "actual_s": 9.0,
            "targets": 3,
            "without_history": 0,
        }
        path.write_text(json.dumps(values), encoding="utf-8")
        (directory / "evidence.json").unlink(missing_ok=True)

    result = shards.merge(*directories)

    assert result.exit_code == 0, result.output
    merged = shards.values()
    words = [each["words"] for each in merged["controls"]]
    assert words == ["shard 3/3: pause", "shard 2/3: pause", "shard 1/3: pause"]
    assert "forecast" not in merged["run"]


async def test_the_order_of_the_directories_changes_nothing(shards: Shards) -> None:
    """A glob of a shell may give them in any order."""
    directories = await shards.run()
    shards.merge(*directories)
    before = {path.name: path.read_bytes() for path in shards.merged.iterdir()}

    shards.merge(*reversed(directories))

    assert {path.name: path.read_bytes() for path in shards.merged.iterdir()} == before


async def test_a_missing_part_is_named_and_never_green(shards: Shards) -> None:
    """Also where its job left an empty directory; every rendering says so."""
    directories = await shards.run([1, 3])
    empty = shards.directory / "lost"
    empty.mkdir()

    result = shards.merge(*directories, empty)

    assert result.exit_code == 3
    assert "shard 2/3 has no report" in result.output
    values = shards.values()
    jsonschema.validate(values, report_json_schema())
    assert values["run"]["missing"] == [2]
    assert values["run"]["exit_code"] == 3
    assert values["run"]["finished_at"] is None
    assert any(str(empty) in line for line in values["warnings"])
    for name in RENDERINGS:
        if name != "report.csv":
            assert "2/3" in (shards.merged / name).read_text().replace("\\/", "/")


async def test_a_part_that_waits_at_a_gate_is_named_and_never_green(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its report was made while it waited: each rendering names the wave, and until when."""
    site, living = Site(machines=9), shards.directory / "living"
    (ended,) = await shards.run([1], of=2, plan=GATED)

    async def report_and_approve() -> None:
        await until(lambda: reached(stage))
        state = State(stage.state)
        rebuild(state, state.summary("last").run, living)
        assert (await told(stage, "approve", "second", reason="go")).code == 0

    place = shards.directory / "2"
    place.mkdir()
    async with steered(place, monkeypatch, site, plan=GATED) as stage:
        done = await with_a_person(stage, report_and_approve, part=Part(number=2, of=2))
    result = shards.merge(ended, living)

    waits = "wave second waits for 1 approval until 2026"
    alone = json.loads((living / "report.json").read_bytes())
    assert [each["wave"] for each in alone["run"]["waits_for"]] == ["second"]
    for name in ("report.md", "report.html"):
        assert waits in (living / name).read_text().replace("\\", "")
    assert "waits_for" not in done.report["run"]
    assert result.exit_code == 3
    assert f"shard 2/2 has not ended; {waits}" in result.stderr
    values = shards.values()
    jsonschema.validate(values, report_json_schema())
    assert values["run"]["reasons"][0].startswith(f"shard 2/2 has not ended; {waits}")
    assert values["run"]["merged"][1]["waits_for"] == alone["run"]["waits_for"]
    assert values["run"]["finished_at"] is None
    for name in ("report.txt", "report.md", "report.html"):
        assert waits in (shards.merged / name).read_text().replace("\\", "")


async def test_the_worst_exit_code_is_that_of_the_whole(shards: Shards) -> None:
    """One part with a failed target is enough; the reasons name it."""
    plan = every_machine([Site(machines=9)]) + "  - {vm: no-such-machine, server: hq}\n"
    directories = await shards.run(plan=plan)

    result = shards.merge(*directories)

    codes = [
        json.loads((each / "report.json").read_text())["run"]["exit_code"] for each in directories
    ]
    assert sorted(codes) == [0, 0, 1]
    assert result.exit_code == 1
    number = codes.index(1) + 1
    assert shards.values()["run"]["reasons"] == [f"shard {number}/3: 1 target failed"]
    assert shards.values()["totals"]["failed"] == 1


async def test_what_no_part_could_list_is_one_target(shards: Shards) -> None:
    """Each part has it, as nobody knows in which its machines are."""
    plan = every_machine([Site(machines=9)]) + "  - {match: 'nothing-*', server: hq}\n"
    directories = await shards.run(plan=plan)

    result = shards.merge(*directories)

    assert result.exit_code == 1
    assert shards.values()["totals"]["failed"] == 1
    assert shards.values()["totals"]["targets"] == 10


async def test_what_may_be_open_names_the_run_that_can_release_it(shards: Shards) -> None:
    """A merged report is no run: `unmount` needs the id of the part's own."""
    site = Site(
        machines=9,
        faults=[Fault(kind="unmount_task_endless", method="DELETE", path=r"/mounts/\d+$")],
    )
    directories = [*await shards.run([1], site), *await shards.run([2, 3])]
    code = json.loads((directories[0] / "report.json").read_text())["run"]["exit_code"]

    result = shards.merge(*directories)

    assert result.exit_code == code == 3
    assert "bulk-restore unmount 20261123T060000Z-0001" in result.output
    assert "unmount merged-" not in (shards.merged / "report.html").read_text()


async def test_reports_that_do_not_belong_together_are_refused(shards: Shards) -> None:
    """Exit code 2 says which and why, and nothing is written."""
    one, two, three = await shards.run()
    (whole,) = await shards.run([1], of=None, name="whole")
    (other_plan,) = await shards.run([2], name="other", plan="targets: [{match: 'hq-*'}]\n")
    (other_number,) = await shards.run([2], name="of-four", of=4)
    (narrowed,) = await shards.run([2], name="only", only=("hq-*",))
    (again,) = await shards.run([2], name="again")

    for directories, words in (
        ([one, whole], "no report of a shard: its run had no --shard"),
        ([one, other_plan], "another plan"),
        ([one, other_number], "another number of shards"),
        ([one, narrowed], "another --seed, --set, --only"),
        ([one, two, again, three], "shard 2/3 is there twice"),
        ([one, shards.directory / "nowhere"], "is not a directory"),
        ([shards.directory], "there is no report.json in"),
        ([], "needs the directories"),
    ):
        result = shards.merge(*directories)
        assert result.exit_code == 2, result.output
        assert words in result.output
        assert not shards.merged.exists()


async def test_a_report_that_was_changed_is_refused(shards: Shards) -> None:
    """Its evidence tells; without evidence the report is taken, and that is said."""
    one, two, three = await shards.run()
    path = two / "report.json"
    path.write_text(path.read_text().replace('"exit_code": 0', '"exit_code": 1'))

    result = shards.merge(one, two, three)

    assert result.exit_code == 2
    assert f"{two} is not what its run wrote: report.json was changed" in result.output
    assert not shards.merged.exists()

    (two / "evidence.json").unlink()
    result = shards.merge(one, two, three)
    assert result.exit_code == 1
    assert any("shard 2/3: there is no evidence" in line for line in shards.values()["warnings"])


async def test_a_target_in_two_parts_is_refused(shards: Shards) -> None:
    """A machine that was mounted twice was in no part for sure."""
    one, two, three = await shards.run()
    values = json.loads((two / "report.json").read_bytes())
    values["targets"] += json.loads((one / "report.json").read_bytes())["targets"][:1]
    (two / "evidence.json").unlink()
    (two / "report.json").write_text(json.dumps(values))

    result = shards.merge(one, two, three)

    assert result.exit_code == 2
    assert "targets are in two shards: default/hq/" in result.output


async def test_nothing_is_written_over_the_report_of_a_run(shards: Shards) -> None:
    """Neither over one that is merged, nor over any other with evidence."""
    directories = await shards.run()
    shutil.copytree(directories[0], shards.merged)

    result = shards.merge(*directories)

    assert result.exit_code == 2
    assert "holds the report of a run" in result.output
    assert (shards.merged / "evidence.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"run": 1}', "\x00", "{" * 100_000])
async def test_what_is_no_report_is_refused(tmp_path: Path, content: str) -> None:
    """It names the file."""
    (tmp_path / "report.json").write_text(content)

    result = CliRunner().invoke(command, ["report", "--merge", str(tmp_path)])

    assert result.exit_code == 2
    assert "report.json is no report of this version" in result.output


async def test_with_a_key_every_part_must_be_signed(shards: Shards) -> None:
    """A report without a signature is refused, whatever its own evidence says."""
    directories = await shards.run()
    key = shards.directory / "public.pem"
    key.write_bytes(
        Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )

    result = shards.merge(*directories, more=["--key", str(key)])

    assert result.exit_code == 2
    assert "it is not signed" in result.output
    assert not shards.merged.exists()
