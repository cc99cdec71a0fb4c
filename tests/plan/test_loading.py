"""Reading a plan's bytes: what the strict subset of YAML takes and refuses."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.core.errors import PlanError
from orchestrator.plan.file import document
from orchestrator.plan.file.loading import load_plan, load_plan_text
from orchestrator.plan.file.problems import Problem
from tests.plan.builders import HEAD, load

MINIMAL = HEAD + "targets:\n  - vm: dc01\n"


def problem_of(data: bytes) -> Problem:
    """Return the first problem of a plan."""
    with pytest.raises(PlanError) as caught:
        load_plan_text(data, Path("plan.yaml"))
    problem = caught.value.problems[0]
    assert isinstance(problem, Problem)
    return problem


@pytest.mark.parametrize(
    "text",
    [
        "007",
        "0x1F",
        "1e3",
        "null",
        "~",
        "true",
        "on",
        "2026-11-20",
        "12:30",
        "1_000",
        "-",
        "=",
        "+1",
    ],
)
def test_a_scalar_stays_the_text_it_is(text: str) -> None:
    """No word of YAML turns a VM's name into a number, a time or nothing."""
    loaded = load(f"targets:\n  - vm: {text if text != '-' else chr(39) + '-' + chr(39)}\n")

    assert loaded.plan.entries()[0].value == text


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + MINIMAL.encode(),
        MINIMAL.replace("\n", "\r\n").encode(),
        MINIMAL.rstrip("\n").encode(),
        b"%YAML 1.1\n---\n" + MINIMAL.encode() + b"...\n",
    ],
    ids=["byte order mark", "CRLF", "no last line break", "document markers"],
)
def test_a_plan_of_any_editor_is_read(data: bytes) -> None:
    """Byte order marks, Windows line ends and document markers change nothing."""
    plan = load_plan_text(data, Path("plan.yaml")).plan

    assert [entry.value for entry in plan.entries()] == ["dc01"]


def test_positions_behind_a_byte_order_mark_and_windows_line_ends_are_right() -> None:
    """An editor's own line and column are named."""
    data = b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode() + b"limit: {}\r\n"

    problem = problem_of(data)

    assert problem.position == (7, 1)
    assert problem.excerpt == "    limit: {}\n    ^"


def test_columns_count_characters_not_bytes() -> None:
    """A line with umlauts and wide characters has its caret in the right place."""
    problem = problem_of((MINIMAL + "  - {vm: 'Zürich 東京', os: no}\n").encode())

    assert problem.position == (7, 27)
    shown, caret = problem.excerpt.split("\n")
    assert shown == "      - {vm: 'Zürich 東京', os: no}"
    assert caret == " " * (4 + 26 + 2) + "^"  # each wide character takes two columns


@pytest.mark.parametrize(
    ("data", "position", "words"),
    [
        (b"", (1, 1), "the file is empty"),
        (b"name: x\n\xff", (2, 1), "not valid UTF-8"),
        (b"name: x\nreason: a\x01b", (2, 10), "control character"),
        (b"a: " + b"[" * 100_000, (1, 23), "nested more than 20 levels"),
        (b"a:\n " + b"- " * 100_000, (2, 40), "nested more than 20 levels"),
        (b"? [a]\n: b\n", (1, 1), "the plan needs the key"),
        (b"\x00", (1, 1), "control character"),
    ],
    ids=["empty", "not UTF-8", "control", "brackets", "dashes", "structure as key", "zero byte"],
)
def test_bytes_that_are_no_plan_are_refused_with_a_position(
    data: bytes, position: tuple[int, int], words: str
) -> None:
    """Hostile and damaged files end in a problem, not in a crash."""
    problem = problem_of(data)

    assert problem.position == position
    assert words in problem.message


def test_a_file_with_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of values is counted while reading, not after."""
    monkeypatch.setattr(document, "MAX_NODES", 20)

    problem = problem_of((HEAD + "targets: [" + "x, " * 50 + "x]\n").encode())

    assert "more than 20 values" in problem.message
    assert problem.position.line == 5


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """Nothing is parsed of a file above 32 MiB."""
    path = tmp_path / "plan.yaml"
    with path.open("wb") as file:
        file.truncate(document.MAX_BYTES + 1)

    with pytest.raises(PlanError, match=r"larger than 32\.0 MiB"):
        load_plan(path)


def test_a_missing_file_and_a_directory_are_no_plans(tmp_path: Path) -> None:
    """What cannot be read is a plan error with the path in it."""
    with pytest.raises(PlanError, match=r"nothing\.yaml:1:1: no plan: there is no such file"):
        load_plan(tmp_path / "nothing.yaml")
    with pytest.raises(PlanError, match="this is a directory"):
        load_plan(tmp_path)


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    """`plan_sha256` can be checked with any tool."""
    path = tmp_path / "plan.yaml"
    path.write_text(MINIMAL)

    loaded = load_plan(path)

    assert loaded.sha256 == sha256(path.read_bytes()).hexdigest()
    assert loaded.path == path


def test_a_very_long_line_is_cut_around_the_caret() -> None:
    """A plan in one line still gives a readable message."""
    targets = ", ".join(f"{{vm: vm{i}}}" for i in range(5000))
    data = (HEAD + f"targets: [{targets}, {{vmm: x}}, {targets.replace('vm:', 'id:')}]\n").encode()

    problem = problem_of(data)

    shown, caret = problem.excerpt.split("\n")
    assert len(shown) <= 160
    assert shown[caret.index("^") :].startswith("vmm: x")


def test_secrets_of_a_neighbouring_key_are_masked() -> None:
    """A line is shown for another reason than its password, and the password still is not."""
    line = "  x: {url: 'https://u:hunter2@h:1', usrname: u, password: hunter2, api_token: hunter2}"

    with pytest.raises(PlanError) as caught:
        load_plan_text(f"version: 1\nname: x\nservers:\n{line}\n".encode(), Path("p"))

    assert "hunter2" not in str(caught.value)
    assert "unknown key 'usrname'" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "servers:\n  hq:\n    password:\n      hunter2: [\n",
        "servers:\n  hq:\n    password:\n      'hunter2\n      hunter2' x\n",
        "servers:\n  hq:\n    password: >\n      hunter2\n     \thunter2\n   x: [hunter2: }\n",
        "servers: {hq: {password: 'hunter2', url: [}}\n",
        "servers: {hq: {password: hunter2 @ : {}}\n",
        "servers:\n  hq:\n    password: *hunter2\n",
        "servers:\n  hq:\n    password:\n      - hunter2\n      - hunter2: hunter2\n",
        "servers:\n  hq:\n    password: {env: [hunter2]}\n",
        "servers:\n  hq:\n    password: {env: hunter2 hunter2}\n",
        "servers:\n  hq:\n    password: {keyring: hunter2}\n",
        "servers:\n  hq:\n    password: {hunter2: {env: A}, hunter2: B}\n",
        "servers:\n  hq:\n    password:\n      hunter2: x\n      hunter2: y\n",
    ],
)
def test_a_secret_in_a_broken_place_is_never_printed(text: str) -> None:
    """However the plan is broken, what stands where a password belongs stays unseen."""
    with pytest.raises(PlanError) as caught:
        load_plan_text(f"version: 1\nname: x\n{text}".encode(), Path("p"))

    assert "hunter2" not in str(caught.value)


PIECES = (
    *("version: 1", "name: x", "servers:", "targets:", "  - vm: a", "  hq:", "waves:"),
    *("after: [a]", "password: x", "url: http://a:b@c", "{", "}", "[", "]", "&a ", "*a "),
    *("!!x ", "<<: ", "${", "- ", ": ", "'", '"', "  ", "\t", "# ", "|", "? ", "---", ","),
    *("\x00", "\n", "\n  "),
)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(PIECES), max_size=30).map(lambda p: "".join(p).encode()),
    )
)
@example(b"a: \xed\xa0\x80")
@example(b"? ? ? ? :")
@example(MINIMAL.encode())
def test_any_bytes_give_a_plan_or_a_plan_error(data: bytes) -> None:
    """Nothing but PlanError leaves the loader, and every problem can be printed."""
    try:
        said: Sequence[object] = load_plan_text(data, Path("plan.yaml")).plan.entries()
    except PlanError as exc:
        said = exc.problems

    assert said
    assert all(str(each) for each in said)


def test_twenty_problems_of_a_kind_are_shown_and_the_others_counted() -> None:
    """All are known; each that is shown has its place, and another kind is shown beside them."""
    rows = "".join(f"  - {{vm: vm{n:02}, server: nowhere{n}, colour: red}}\n" for n in range(30))
    rows += "".join(f"  - {{vm: sql{n:02}, checks: [none, nil]}}\n" for n in range(25))
    with pytest.raises(PlanError) as refused:
        load_plan_text((MINIMAL + rows).encode(), Path("plan.yaml"))

    lines = [line for line in str(refused.value).split("\n") if not line.startswith("    ")]
    assert len(refused.value.problems) == 30 * 2 + 25 * 2
    assert len(lines) == 3 * 20 + 3
    keys = [line.split(":")[1] for line in lines[:-3] if "unknown key 'colour'" in line]
    assert keys == [str(row) for row in range(7, 27)]
    assert [line.split(" no ")[0].split(" unknown ")[0] for line in lines[-3:]] == [
        "10 more of this kind: plan.yaml:7:24: there is",
        "10 more of this kind: plan.yaml:7:34:",
        "30 more of this kind: plan.yaml:37:26: there is",
    ]


@pytest.mark.parametrize(
    "row",
    [
        "{vm: VM, os: beos}",
        "{os: beos, vm: VM}",
        "{vm: VM, colour: red, label: VM, os: beos}",
        "{vm: VM, checks: [none, nil]}",
        "{checks: [none], vm: VM, all: maybe}",
        "{label: VM, vm: VM, expect: 3, sample: 4}",
    ],
)
def test_targets_wrong_in_the_same_way_have_the_same_problems_at_their_own_places(
    row: str,
) -> None:
    """The first is read in full, the others take its problems over; so each is tried alone, too."""

    def problems(rows: str) -> list[tuple[tuple[int, int], str]]:
        with pytest.raises(PlanError) as refused:
            load_plan_text((MINIMAL + rows).encode(), Path("plan.yaml"))
        return [(each.position, each.message) for each in refused.value.problems]  # type: ignore[attr-defined]

    names = ["ab-01", "ab-02", "ab-03"]
    rows = [f"  - {row.replace('VM', name)}\n" for name in names]
    together = problems("".join(rows))
    alone = [problems("  # before\n" * number + each) for number, each in enumerate(rows)]

    assert sorted(together) == sorted(problem for each in alone for problem in each)


def test_a_plan_of_which_only_the_servers_are_wanted_may_name_what_is_gone() -> None:
    """`unmount` needs no inventory file and no check program; the servers must be right."""
    text = HEAD + "checks: {gone: [{exec: [./gone]}]}\ntargets:\n  - {from_file: gone.csv}\n"
    broken = text.replace("https://", "ftp://")

    loaded = load_plan_text(text.encode(), Path("plan.yaml"), only_servers=True)

    assert loaded.plan.servers
    assert not loaded.plan.waves
    with pytest.raises(PlanError):
        load_plan_text(text.encode(), Path("plan.yaml"))
    with pytest.raises(PlanError):
        load_plan_text(broken.encode(), Path("plan.yaml"), only_servers=True)
