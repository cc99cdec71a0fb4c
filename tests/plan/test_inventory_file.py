"""`from_file`: what a CSV lists becomes targets, and its mistakes are named by file and row."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import PlanError
from orchestrator.core.model import OsKind, ServerName
from orchestrator.plan.choose.expansion import expand
from orchestrator.plan.choose.inventory import Inventory
from orchestrator.plan.choose.targets import Narrowing, PlanSelection
from orchestrator.plan.file import inventory_file
from orchestrator.plan.file.document import MAX_BYTES
from orchestrator.plan.file.problems import Problem, Problems, SourceText
from orchestrator.plan.file.settings import PointPolicy, PolicyName
from tests.plan.builders import DR, HQ, NOW, load, point

PLAN = "targets:\n  - from_file: vms.csv\n"


def problems(base: Path, csv: str | bytes, body: str = PLAN) -> list[tuple[str, str]]:
    """Return where and what is wrong with a plan beside the inventory file `csv`."""
    (base / "vms.csv").write_bytes(csv.encode() if isinstance(csv, str) else csv)
    with pytest.raises(PlanError) as caught:
        load(body, two_servers=True, base=base)
    found = [problem for problem in caught.value.problems if isinstance(problem, Problem)]
    return [(f"{Path(problem.file).name}:{problem.position}", problem.message) for problem in found]


def test_each_row_is_a_vm_target_with_its_own_settings(tmp_path: Path) -> None:
    """Every column overrides what the target entry and the defaults say; empty cells do not."""
    (tmp_path / "vms.csv").write_text(
        "vm,server,os,before,label\na,,,,\nb,dr,linux,2026-11-20T02:00:00Z,second\n c ,,windows\n"
    )
    body = (
        "defaults: {server: hq, os: linux, point: {max_age: 9h}}\n"
        "targets:\n  - {from_file: vms.csv, critical: true, timeouts: {mount: 7s}}\n"
    )

    entries = load(body, two_servers=True, base=tmp_path).plan.entries()

    assert [(e.kind, e.value, e.server, e.label) for e in entries] == [
        ("vm", "a", "hq", None),
        ("vm", "b", "dr", "second"),
        ("vm", "c", "hq", None),
    ]
    assert [e.os_kind for e in entries] == [OsKind.LINUX, OsKind.LINUX, OsKind.WINDOWS]
    assert [e.point for e in entries] == [
        PointPolicy(max_age=9 * 3600),
        PointPolicy(policy=PolicyName.BEFORE, time=datetime(2026, 11, 20, 2, tzinfo=UTC)),
        PointPolicy(max_age=9 * 3600),
    ]
    assert all(e.critical and e.timeouts.mount == 7 for e in entries)
    assert [Path(e.place).name for e in entries] == ["vms.csv:2", "vms.csv:3", "vms.csv:4"]


@pytest.mark.parametrize(
    "data",
    [
        b"vm\na\nb,c\n".replace(b"b,c", b'"b,c"'),
        b'\xef\xbb\xbfvm\r\na\r\n"b,c"\r\n',
        b'\n\nvm\n\na\n  \n"b,c"',
        b'label,vm\n,a\n,"b,c"\n',
        b'vm,label\na\n"b,c",\n',
        b'vm,checks\na,\n"b,c",""\n',
    ],
    ids=["plain", "spreadsheet", "blank lines", "other order", "short rows", "empty checks"],
)
def test_files_of_any_editor_are_read(tmp_path: Path, data: bytes) -> None:
    """Byte order marks, line ends, quotes and blank lines change nothing."""
    (tmp_path / "vms.csv").write_bytes(data)

    loaded = load(PLAN, base=tmp_path)

    assert [entry.value for entry in loaded.plan.entries()] == ["a", "b,c"]


def test_the_name_of_the_file_says_nothing_about_its_format(tmp_path: Path) -> None:
    """A `.txt` with one column is the simplest list of machines there is."""
    (tmp_path / "list.txt").write_text("vm\n007\nno\n")

    plan = load("targets:\n  - from_file: list.txt\n", base=tmp_path).plan

    assert [entry.value for entry in plan.entries()] == ["007", "no"]


def test_exclude_and_backup_server_hold_for_every_row(tmp_path: Path) -> None:
    """The keys beside `from_file` are obeyed, not just accepted."""
    (tmp_path / "vms.csv").write_text("vm\nw1\nlab-1\nlab-2\nw2\n")
    body = "targets:\n  - {from_file: vms.csv, exclude: ['lab-*', w2], backup_server: x}\n"

    entries = load(body, base=tmp_path).plan.entries()

    assert [(entry.value, entry.backup_server) for entry in entries] == [("w1", "x")]


@pytest.mark.parametrize(
    ("expect", "is_broken"), [("{min: 3}", False), ("{min: 4}", True), ("{max: 2}", True)]
)
def test_the_rows_of_a_file_share_one_guard(tmp_path: Path, expect: str, is_broken: bool) -> None:
    """`expect` counts the machines of the whole file, not those of each row."""
    (tmp_path / "vms.csv").write_text("vm\na\nb\nc\n")
    plan = load(f"targets:\n  - {{from_file: vms.csv, expect: {expect}}}\n", base=tmp_path).plan

    expansion = expand(plan, {HQ: Inventory([point(vm) for vm in "abc"])}, now=NOW)

    assert bool(expansion.broken) is is_broken
    assert all("from_file 'vms.csv' matches 3" in sentence for sentence in expansion.broken)


def test_the_hash_of_every_file_is_kept(tmp_path: Path) -> None:
    """A locked plan can tell whether a list has changed since."""
    (tmp_path / "vms.csv").write_text("vm\na\n")

    loaded = load(PLAN, base=tmp_path)

    (hashed,) = loaded.inventory_sha256.values()
    assert hashed == sha256(b"vm\na\n").hexdigest()


# --- mistakes ----------------------------------------------------------------------------

HEADED = "vm,server,os,before,label\n"


@pytest.mark.parametrize(
    ("csv", "place", "words"),
    [
        (HEADED + "a,hq,no\n", "2:6", "'no'"),
        (HEADED + "a,hq,linux,2026-11-20\n", "2:12", "2026-11-20"),
        (HEADED + "a,hq,\n\nb,hk,\n", "4:1", "there is no server 'hk': servers: hq, dr"),
        (HEADED + ",hq\n", "2:1", "this row names no vm"),
        (HEADED + "a,hq,,,,\n", "2:9", "6 cells under 5 columns"),
        (HEADED + "a,hq\na,hq\n", "3:1", "vm 'a' on server 'hq' is selected twice"),
        (HEADED + "a,hq,,,x\nb,hq,,,x\n", "3:1", "another target of this wave is called 'x'"),
        ("vm,servr\na,hq\n", "1:4", "unknown column 'servr': did you mean 'server'?"),
        ("vm,os,vm\na,linux,b\n", "1:7", "the column 'vm' is there twice"),
        ("name\na\n", "1:1", "unknown column 'name'"),
        ("vm;server\na;hq\n", "1:1", "columns are separated by ',' here, not ';'"),
        ("vm,server,checks\na,hq,boot\n", "2:6", "there is no check set 'boot'"),
        ("vm,server,checks\na,hq,;\n", "2:6", "';' holds no name of a check set"),
        ('vm,server\na,hq\n"b,hq\n', "3:1", "not valid CSV"),
        ('vm,label,server\na,"x\ny",hq\n', "2:3", "line"),
        ('checks,vm,server\n"\n",a,hq\n,c,hk\n', "4:1", "there is no server 'hk'"),
        ("", "1:1", "the file is empty"),
        ("\n \n", "1:1", "the file is empty"),
        ("vm,server\n", "1:1", "the file lists no machine"),
        (b"vm\na\nb\xff\n", "3:1", "not valid UTF-8"),
    ],
)
def test_a_mistake_is_named_by_file_row_and_column(
    tmp_path: Path, csv: str | bytes, place: str, words: str
) -> None:
    """A person finds the cell at once."""
    first, message = problems(tmp_path, csv, "defaults: {server: hq}\n" + PLAN)[0]

    assert first == f"vms.csv:{place}"
    assert words in message


def test_every_mistake_of_plan_and_file_is_told_in_one_pass(tmp_path: Path) -> None:
    """The plan's own problems come first, then those of the file in the order of its rows."""
    csv = HEADED + "a,hq,beos\n,hq\nc,hq,,tomorrow\nd\n"

    found = problems(tmp_path, csv, PLAN + "  - vmm: x\n")

    assert [place for place, _ in found] == [
        "plan.yaml:8:5",
        "vms.csv:2:6",
        "vms.csv:3:1",
        "vms.csv:4:7",
        "vms.csv:5:1",
    ]
    assert "this target names no server, and there are 2" in found[-1][1]


def test_a_machine_of_the_file_that_the_plan_names_too_is_told_at_the_row(tmp_path: Path) -> None:
    """One VM once, across both files; the message names the first place."""
    (found,) = problems(
        tmp_path, "vm,server\na,hq\n", "targets:\n  - {vm: a, server: hq}\n  - from_file: vms.csv\n"
    )

    assert found[0] == "vms.csv:2:1"
    assert "first at 7:5" in found[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing.csv", "there is no such file"),
        (".", "this is a directory"),
        ("large.csv", "it is larger than 32.0 MiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_at_the_key(
    tmp_path: Path, name: str, words: str
) -> None:
    """The plan is what must be changed, so the plan's line is shown."""
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(MAX_BYTES + 1)

    (found,) = problems(tmp_path, "", f"targets:\n  - from_file: {name}\n")

    assert found[0] == "plan.yaml:7:16"
    assert words in found[1]


@given(st.one_of(st.binary(max_size=120), st.text('vm,os"\n\r;ab \x00', max_size=80)))
def test_any_bytes_give_rows_or_problems(content: bytes | str) -> None:
    """No file crashes the loader, and none is silently empty."""
    data = content.encode() if isinstance(content, str) else content
    found = Problems(SourceText("vms.csv", data))

    rows = inventory_file._rows(data, found)

    assert rows or found
    assert all(str(problem) for problem in found.sorted())
    assert all(row.vm.strip() and row.position.line > 1 for row in rows)


@pytest.mark.parametrize(
    ("expect", "matched", "is_broken"),
    [
        ("{min: 3}", {HQ: 1, DR: 1}, True),
        ("{min: 2}", {HQ: 1, DR: 1}, False),
        ("{min: 3}", {HQ: 1}, False),
        ("{max: 2}", {HQ: 3}, True),
        ("{max: 2}", {HQ: 1, DR: 2}, True),
        ("{max: 3}", {HQ: 1, DR: 2}, False),
    ],
)
def test_a_guard_over_several_servers_is_judged_from_what_each_has_matched(
    tmp_path: Path, expect: str, matched: dict[ServerName, int], is_broken: bool
) -> None:
    """Too few are a verdict once all have listed, too many at once; as when one process counts."""
    (tmp_path / "vms.csv").write_text("vm,server\na,hq\nb,hq\nc,dr\n")
    body = f"targets:\n  - {{from_file: vms.csv, expect: {expect}}}\n"
    plan = load(body, base=tmp_path, two_servers=True).plan
    selection = PlanSelection(plan, Narrowing(), NOW)
    place = next(entry.expect.place for entry in plan.entries() if entry.expect)
    counts = {server: {place: count} for server, count in matched.items()}

    assert bool(selection.broken_together(counts)) is is_broken


def test_a_guard_of_one_server_is_judged_there_alone(tmp_path: Path) -> None:
    """It is not judged a second time over all of them."""
    body = "targets:\n  - {job: web, server: hq, expect: {min: 3}}\n"
    selection = PlanSelection(load(body, two_servers=True).plan, Narrowing(), NOW)

    assert selection.broken_together({HQ: {"6:5": 0}, DR: {}}) == ()
