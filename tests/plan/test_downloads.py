"""Downloads: where files come to lie, and that no two targets mean the same place."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.errors import PlanError
from orchestrator.core.model import MountKey, Order, Unmount, WaveName
from orchestrator.core.proof import Download
from orchestrator.plan.choose.expansion import expand
from orchestrator.plan.choose.inventory import Inventory
from orchestrator.plan.file.downloads import downloads_of
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import Cleanup, Entry
from tests.plan.builders import HQ, NOW, expanded, load, point

BASE = Path("/plans")


def downloads(text: str, head: str = "") -> tuple[Download, ...]:
    """Return what a Linux target downloads."""
    body = f"{head}targets: [{{vm: v, os: linux, download: [{text}]}}]\n"
    (only,) = load(body, base=BASE).plan.entries()
    return only.downloads


@pytest.mark.parametrize(
    ("to", "absolute"),
    [
        ("out/a.log", "/plans/out/a.log"),
        ("./out/", "/plans/out/"),
        ("../x//y/", "/x/y/"),
        (".", "/plans/"),
        ("..", "/"),
        ("a/..", "/plans/"),
        ("/", "/"),
        ("/var/x", "/var/x"),
        ("ä b/100%", "/plans/ä b/100%"),
    ],
)
def test_a_local_path_starts_at_the_plan_and_keeps_its_slash(to: str, absolute: str) -> None:
    """Where the process was started does not matter; a trailing slash still means a directory."""
    (found,) = downloads(f"{{path: /a, to: '{to}'}}")

    assert found.to == absolute


def test_everything_a_download_may_say_arrives() -> None:
    """Sizes in bytes; files chosen by name always go to a directory."""
    found = downloads(
        "{path: /logs, glob: '*.log', to: l, max_size: 5MiB, max_files: 7, overwrite: true}, "
        "{path: /a, to: a}"
    )

    assert found == (
        Download(
            path="/logs",
            to="/plans/l/",
            glob="*.log",
            max_size=5 * 2**20,
            max_files=7,
            overwrite=True,
        ),
        Download(path="/a", to="/plans/a", max_size=2**30, max_files=1000, overwrite=False),
    )


def test_only_a_recovery_plan_can_write_into_a_guest() -> None:
    """The mode is what a reviewer looks for."""
    text = "{path: /a, write: original, overwrite: true}"

    assert downloads(text, "mode: recovery\n") == (Download(path="/a", to=None, overwrite=True),)
    for mode in ("", "mode: drill\n"):
        with pytest.raises(PlanError, match="drill mode cannot write into a guest"):
            downloads(text, mode)


def test_a_misspelt_mode_is_one_problem() -> None:
    """What depends on it is not held against the plan as well."""
    with pytest.raises(PlanError) as caught:
        downloads("{path: /a, write: original}", "mode: recover\n")

    (problem,) = map(str, caught.value.problems)
    assert "did you mean 'recovery'?" in problem


def test_a_drill_never_becomes_a_recovery_by_itself() -> None:
    """Without a word it is a drill, and mounts are removed at once."""
    plan = load("targets: [{vm: v}]\n").plan

    assert plan.mode == "drill"
    assert plan.cleanup == Cleanup(unmount=Unmount.ALWAYS, keep_failed=None)


@pytest.mark.parametrize("word", list(Unmount))
def test_what_happens_to_mounts_arrives(word: Unmount) -> None:
    """Durations in seconds."""
    plan = load(f"targets: [{{vm: v}}]\ncleanup: {{unmount: {word}, keep_failed: 30m}}\n").plan

    assert plan.cleanup == Cleanup(unmount=word, keep_failed=1800)


# --- several machines ------------------------------------------------------------------------


def test_each_machine_of_a_job_has_a_directory_of_its_own() -> None:
    """No machine's file takes the place of another's."""
    found = expanded(
        "targets:\n  - {job: j, download: [{path: 'C:\\a', to: /out/}]}\n"
        "  - {vm: c, all: true, download: [{path: 'C:\\a', to: /c/}]}\n"
        "  - {vm: d, download: [{path: 'C:\\a', to: /d/}]}\n",
        *(point("web 01", job="j"), point("../../etc", job="j")),
        *(point("c", behind="b1"), point("c", behind="b2"), point("d")),
    )

    assert sorted(str(each.downloads[0].to) for each in found.requests) == [
        "/c/c@b1/",
        "/c/c@b2/",
        "/d/",
        "/out/..%2F..%2Fetc/",
        "/out/web 01/",
    ]


def test_each_point_of_one_machine_has_a_directory_of_its_own() -> None:
    """A machine through time: no day's file takes the place of another's."""
    found = expanded(
        "targets: [{vm: v, point: {policy: every}, download: [{path: 'C:\\a', to: /out/}]}]\n",
        point("v", hours=1),
        point("v", hours=25),
    )

    assert sorted(str(each.downloads[0].to) for each in found.requests) == [
        "/out/v@2026-11-22T11%3A00%3A00Z/",
        "/out/v@2026-11-23T11%3A00%3A00Z/",
    ]


NAMES = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30
) | st.sampled_from(
    [".", "..", "...", "/", "a/../..", "../x", "%2E", "a\x00b", "a\nb", "~", "-rf", " "]
)


@given(NAMES, NAMES)
def test_no_name_leads_out_of_the_directory_and_no_two_share_one(one: str, other: str) -> None:
    """What a server calls its machines never chooses the place."""
    entry = Entry(
        kind=SelectorKind.JOB,
        value="j",
        wave=WaveName("w"),
        server=HQ,
        place="1:1",
        downloads=(Download(path="/a", to="/out/"),),
        several=True,
    )

    found = [downloads_of(entry, MountKey(f"w/hq/{name}"))[0].to for name in (one, other)]

    for to in found:
        assert to is not None
        assert to.endswith("/")
        assert to.isprintable()
        (directory,) = PurePosixPath(to).relative_to("/out").parts
        assert directory not in {"", ".", ".."}
    assert (found[0] == found[1]) == (one == other)


# --- the same place ----------------------------------------------------------------------------


def same(*targets: str, directory: Path | None = None) -> list[str]:
    """Return the problems of a plan with these targets."""
    body = "targets:\n" + "".join(f"  - {{{each}}}\n" for each in targets)
    try:
        load(body, base=directory or BASE)
    except PlanError as exc:
        return [str(problem).split("\n")[0] for problem in exc.problems]
    return []


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("{path: 'C:\\a', to: x}", "{path: 'D:\\b', to: x}", True),
        ("{path: 'C:\\a', to: x/}", "{path: 'D:\\b', to: x/a}", True),
        ("{path: 'C:/d/a', to: x/}", "{path: 'D:\\a', to: ./x/}", True),
        ("{path: 'C:\\a', to: x/}", "{path: 'D:\\b', to: x/}", False),
        ("{path: 'C:\\a', to: x/}", "{path: 'C:\\a', to: y/}", False),
        ("{path: 'C:\\a', to: x/, glob: '*'}", "{path: 'C:\\a', to: x, glob: '*'}", False),
        (
            "{path: 'C:\\a', to: x/, glob: '*', overwrite: true}",
            "{path: 'C:\\a', to: x, glob: '*'}",
            True,
        ),
    ],
)
def test_two_targets_that_write_the_same_file_are_refused(
    one: str, other: str, is_same: bool
) -> None:
    """Told at the second, naming the first; also within one target."""
    found = same(f"vm: v, download: [{one}]", f"vm: w, download: [{other}]")
    within = same(f"vm: v, download: [{one}, {other}]")

    assert len(found) == len(within) == int(is_same)
    if is_same:
        assert "/plans/plan.yaml:7:" in found[0]
        assert "vm 'v' (6:5) writes" in found[0]
        assert "/plans/plan.yaml:6:" in within[0]


def test_rows_of_a_file_write_to_places_of_their_own(tmp_path: Path) -> None:
    """Each row has its directory; two that would share one are told at the row."""
    (tmp_path / "vms.csv").write_text("vm,label\na,\nb,\nc,x\n")
    entry = "from_file: vms.csv, download: [{path: 'C:\\l', to: out/}]"

    assert same(entry, directory=tmp_path) == []
    clash = same("vm: d, download: [{path: 'C:\\l', to: out/x/}]", entry, directory=tmp_path)

    (problem,) = clash
    assert "vms.csv:4:1: vm 'd' (6:5) writes the same file" in problem


# --- searching -----------------------------------------------------------------------------


@pytest.mark.parametrize("download", ["", ", download: [{path: /a, to: out/}]"])
def test_bisection_gives_way_where_files_are_copied_and_validate_says_so(download: str) -> None:
    """What is asked for, what is done and what the report says are the same."""
    policy = "{policy: newest_passing, search: bisect}"
    body = f"targets:\n  - {{vm: v, os: linux, point: {policy}{download}}}\n"
    loaded = load(body, base=BASE)
    points = [point("v", hours=hours) for hours in range(1, 9)]
    (request,) = expand(loaded.plan, {HQ: Inventory(points)}, now=NOW).requests

    doubts = [str(doubt) for doubt in loaded.doubts]
    if download:
        assert len(doubts) == 1
        assert "plan.yaml:6:73: 'search: bisect' goes one by one here" in doubts[0]
    else:
        assert doubts == []
    assert (request.search.order is Order.BISECT) is not bool(download)
    assert ("by halves" in request.policy) is not bool(download)
    assert ("one by one" in request.policy) is bool(download)


def test_the_rows_of_a_file_are_told_once(tmp_path: Path) -> None:
    """A default that asks for bisection, and 3 rows that copy files."""
    (tmp_path / "vms.csv").write_text("vm\na\nb\nc\n")
    head = "defaults: {os: linux, point: {policy: newest_passing, search: bisect}}\n"
    body = f"{head}targets: [{{from_file: vms.csv, download: [{{path: /a, to: out/}}]}}]\n"

    loaded = load(body, base=tmp_path)

    assert len(loaded.doubts) == 1
    assert {entry.point.search for entry in loaded.plan.entries()} == {Order.LINEAR}
