"""What the bytes of a file say."""

from __future__ import annotations

import hashlib
import time

import pytest

from orchestrator.checks.content import TEXT_LIMIT, Content, judge_content, takes_long
from orchestrator.checks.outcomes import Unreadable
from orchestrator.core import expressions
from orchestrator.core.expressions import compiled
from orchestrator.core.proof import PathCheck
from tests.checks.entries import WINDOWS

TEXT = "server_name pay.example.net;\r\nlisten 443;\nünïcödé\n"


def content(check: PathCheck, data: bytes, *, piece: int = 7) -> Content:
    """Return the content of `data`, fed in pieces."""
    found = Content([check])
    for start in range(0, len(data), piece):
        found.feed(data[start : start + piece])
    found.close()
    return found


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ({"contains": "pay.example"}, True),
        ({"contains": "server_name"}, True),
        ({"contains": "ünïcödé\n"}, True),
        ({"contains": "PAY"}, False),
        ({"contains": ";\nlisten"}, False),
        ({"matches": r"^listen \d+;$"}, True),
        ({"matches": r"^server_name\s+pay\."}, True),
        ({"matches": r"ünïcödé$"}, True),
        ({"matches": r"net;.*listen"}, False),
        ({"matches": r"^\d"}, False),
    ],
)
def test_text_is_found_in_any_encoding_and_any_pieces(
    asked: dict[str, str], passed: bool, encoding: str, piece: int
) -> None:
    """UTF-8, or UTF-16 where a byte order mark says so; patterns are searched line by line."""
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    check = PathCheck(path="x", **asked)  # type: ignore[arg-type]

    found = content(check, (mark + TEXT).encode(encoding), piece=piece)
    (outcome,) = judge_content(check, found, WINDOWS)

    assert outcome.passed is passed, outcome


@pytest.mark.parametrize(
    "data", [b"", b"a", b"\xff", b"\xff\xfe", b"\xff\xfea", b"\xef\xbb", b"\x00" * 9]
)
def test_what_is_no_text_matches_nothing(data: bytes) -> None:
    """Nothing is raised either: half a character, half a mark, nothing at all."""
    check = PathCheck(path="x", contains="needle", matches="needle")

    assert not any(each.passed for each in judge_content(check, content(check, data), WINDOWS))


def test_a_replaced_character_is_not_the_one_that_was_asked_for() -> None:
    """Broken UTF-8 is read as something that no plan can write."""
    check = PathCheck(path="x", contains="a\ufffdb")

    (outcome,) = judge_content(check, content(check, b"a\xffb"), WINDOWS)

    assert not outcome.passed


def test_digest_and_magic_are_of_the_bytes() -> None:
    """In hex of either case; a file that is too short does not begin so."""
    data = b"MZ\x90\x00" + b"x" * 100
    digest = hashlib.sha256(data).hexdigest()
    good = PathCheck(path="x", sha256=digest.upper(), magic="4D5A90")
    long = PathCheck(path="x", magic="4d5a900078")

    assert all(each.passed for each in judge_content(good, content(good, data), WINDOWS))
    assert not judge_content(long, content(long, data[:4]), WINDOWS)[0].passed
    assert judge_content(long, content(long, b""), WINDOWS)[0].observed == "the file is empty"


def test_the_outcomes_say_what_was_found_and_never_the_content() -> None:
    """A report is no place for what stands in a guest's files."""
    check = PathCheck(path="x", contains="pay", matches="listen (.*)", magic="00")

    outcomes = judge_content(check, content(check, TEXT.encode()), WINDOWS)

    assert [(each.expected, each.observed) for each in outcomes] == [
        ("magic 00", "73"),
        ("contains 'pay'", "found in 54 bytes"),
        ("matches 'listen (.*)'", "line 2"),
    ]


def test_a_file_larger_than_allowed_is_not_judged() -> None:
    """Even if it was downloaded for another check."""
    check = PathCheck(path="x", contains="a", sha256="0" * 64, max_download=10)

    outcomes = judge_content(check, content(check, b"a" * 11), WINDOWS)

    assert [each.observed for each in outcomes] == [
        "11 bytes, more than the max_download of 10B"
    ] * 2
    assert not any(each.passed for each in outcomes)


def test_every_assertion_about_unreadable_content_fails() -> None:
    """Each with the reason."""
    check = PathCheck(path="x", contains="a", sha256="0" * 64, magic="00", matches="a")

    outcomes = judge_content(check, Unreadable("the file is locked"), WINDOWS)

    assert [each.observed for each in outcomes] == ["the file is locked"] * 4


def test_a_pattern_looks_at_the_beginning_of_a_large_file_and_says_so() -> None:
    """What stands behind it is not claimed to be missing."""
    check = PathCheck(path="x", matches="needle", max_download=10 * 2**20)
    data = b"hay\n" * (TEXT_LIMIT // 4) + b"needle\n"

    (outcome,) = judge_content(check, content(check, data, piece=65536), WINDOWS)

    assert not outcome.passed
    assert outcome.observed == "no line matches in the first 1.0 MiB of 1.0 MiB"


@pytest.mark.parametrize("wanted", ["(a+)+$", "(a|aa)*b", "^(.*a){12}$"])
def test_the_unlucky_patterns_of_other_engines_take_no_time(wanted: str) -> None:
    """Searching takes time linear in the text."""
    check = PathCheck(path="x", matches=wanted)
    began = time.process_time()

    (outcome,) = judge_content(check, content(check, b"a" * 200_000 + b"!", piece=65536), WINDOWS)

    assert outcome.observed == "no line matches in 195.3 KiB"
    assert time.process_time() - began < 5


def test_a_search_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two blocks of lines the time is looked at; the reason is in the outcome."""
    monkeypatch.setattr(expressions, "SECONDS", -1.0)
    check = PathCheck(path="x", matches="needle")
    data = b"hay\n" * 100_000

    (outcome,) = judge_content(check, content(check, data, piece=65536), WINDOWS)

    assert (outcome.passed, "simplify the pattern" in outcome.observed) == (False, True)


def test_what_is_no_expression_fails_with_the_reason() -> None:
    """A plan that was locked by an older version may hold one."""
    for wanted in ("(", "a(?=b)"):
        check = PathCheck(path="x", matches=wanted)
        (outcome,) = judge_content(check, content(check, b"a"), WINDOWS)
        assert not outcome.passed
        assert outcome.observed.startswith("the pattern ")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        ("^third$", 3),
        (r"\Athird\Z", 3),
        ("(?s)first.second", None),
        (r"first\s+second", None),
        ("[^x]third", None),
        ("^$", 4),
        ("fi|th", 1),
        ("^h[a-z]{,2}$", 5),
        ("(?i)LAST", 70_005),
    ],
)
def test_patterns_are_searched_line_by_line(wanted: str, line: int | None, end: str) -> None:
    """Whatever ends the lines, and however many there are."""
    text = end.join(["first", "second", "third", "", *["hay"] * 70_000, "last", ""])

    assert compiled(wanted).line_in(text) == line


def test_only_a_search_that_may_take_long_is_made_aside() -> None:
    """By the size of the text and of the compiled expression."""
    small, large = (
        PathCheck(path="x", matches="a+b"),
        PathCheck(path="x", matches="(a|b)*a[ab]{300}c"),
    )
    data = b"ab" * 100_000

    assert not takes_long(small, content(small, data, piece=65536))
    assert takes_long(large, content(large, data, piece=65536))
    assert not takes_long(large, Unreadable("no"))
    assert not takes_long(large, content(large, b"ab"))
