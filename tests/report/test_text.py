"""The plain-text summary: what needs a person comes first, and nothing escapes from it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from orchestrator.core.events import Event, RunHalted, RunNoted, SessionEnded
from orchestrator.core.exit_codes import ExitCode, short_words
from orchestrator.core.model import Objectives, ServerName
from orchestrator.core.run_state import RunState
from orchestrator.core.text import duration
from orchestrator.report import as_html
from orchestrator.report.summary import summarize
from orchestrator.report.text import SHOWN, text
from tests.report.builders import HOSTILE, SESSION, Fate, finished, life, run_of, runs, started

TITLES = (
    "LEFT MOUNTED",
    "MAY BE MOUNTED",
    "Unknown:",
    "Failed:",
    "Skipped:",
    "Cancelled:",
    "Objectives:",
    "Warnings:",
    "Not proven:",
)


def test_what_needs_a_person_comes_first() -> None:
    """Open mounts stand before failures, failures before what was never tried, then the rest."""
    fates = (Fate.CANCELLED, Fate.SKIPPED, Fate.TASK_FAILED, Fate.VANISHED, Fate.LEFT)
    lives = [life(f"vm{n}", fate) for n, fate in enumerate(fates)]
    first = started(tls="insecure", objectives=Objectives(rto=10.0))

    shown = text(summarize(run_of(*lives, [finished(60.0, 3)], first=first)))

    places = [shown.index(f"\n{title}") for title in TITLES]
    assert places == sorted(places)


def test_a_good_run_has_no_section_for_trouble() -> None:
    """Sections without targets are left out, so that a section is always worth reading."""
    shown = text(summarize(run_of(life("a"), [finished()])))

    assert [title for title in TITLES if title in shown] == ["Not proven:"]


@pytest.mark.parametrize(
    ("fate", "title"),
    [
        (Fate.LEFT, "LEFT MOUNTED"),
        (Fate.VANISHED, "MAY BE MOUNTED"),
        (Fate.VANISHED, "Unknown:"),
        (Fate.TASK_FAILED, "Failed:"),
        (Fate.REFUTED, "Failed:"),
        (Fate.SKIPPED, "Skipped:"),
        (Fate.CANCELLED, "Cancelled:"),
    ],
)
def test_a_target_stands_in_its_section_with_its_reason(fate: Fate, title: str) -> None:
    """Key, backup server and the server's words stand under the section's title."""
    shown = text(summarize(run_of(life("sql01", fate, words="no free space"))))

    section = next(part for part in shown.split("\n\n") if part.startswith(title))
    assert "databases/hq/sql01 on vbr-hq-01: no free space" in section


@pytest.mark.parametrize("fate", [Fate.SKIPPED, Fate.CANCELLED])
def test_a_reason_that_targets_share_stands_there_once(fate: Fate) -> None:
    """A server that was out of reach is one trouble, and not one for each of its machines."""
    alike = [life(f"vm{n:03}", fate, words="hq is away") for n in range(SHOWN + 2)]

    shown = text(summarize(run_of(*alike, life("sql01", fate, words="too late"))))

    section = next(part for part in shown.split("\n\n") if "hq is away" in part).splitlines()
    assert section[1] == f"  {SHOWN + 2} targets: hq is away"
    assert section[2] == "    databases/hq/vm000 on vbr-hq-01"
    assert section[-2:] == [
        "  and 2 more, see report.json",
        "  databases/hq/sql01 on vbr-hq-01: too late",
    ]


@pytest.mark.parametrize("fate", [Fate.LEFT, Fate.VANISHED])
def test_an_open_mount_comes_with_its_point_and_what_to_do(fate: Fate) -> None:
    """Whoever must remove a mount by hand is told the restore point and the command to try."""
    shown = text(summarize(run_of(life("sql01", fate))))

    assert "(restore point sql01@2026-11-23)" in shown
    assert "bulk-restore unmount 20261123T060000Z-7f3a" in shown


def test_the_last_word_is_what_may_still_be_done_and_until_when() -> None:
    """However much stands between: whoever sees the end of a long summary sees this."""
    lives = [life(f"vm{n:03}", Fate.CANCELLED) for n in range(SHOWN)]
    lives += [life("sql01", Fate.LEFT), life("sql02", Fate.VANISHED), [finished(at=600.0)]]

    last = text(summarize(run_of(*lives))).splitlines()[-2:]

    assert last == [
        "1 left mounted and 1 may be mounted, see above. Until about 2026-11-23 06:25:00 UTC this "
        "may still release them:",
        "  bulk-restore unmount 20261123T060000Z-7f3a",
    ]


@pytest.mark.parametrize("others", [[], [life("sql02", Fate.LEFT, server="dr")]])
def test_what_a_lost_session_mounted_is_promised_to_no_command(others: list[list[Event]]) -> None:
    """`unmount` is named for what it may still release, and a person for the rest."""
    lost = SessionEnded(at=50.0, server=ServerName("hq"), session=SESSION, lost=True, reason="401")
    first = started(servers=("hq", "dr"))
    end = [lost, finished(at=600.0)]
    soon = summarize(run_of(life("sql01", Fate.LEFT), *others, end, first=first))
    end = [lost, finished(at=1000.0)]
    report = summarize(run_of(life("sql01", Fate.LEFT), *others, end, first=first))

    shown = text(report)

    assert soon.run.out_of_reach == 0, "it may be denied for a while only"
    assert "bulk-restore unmount" in text(soon)

    assert report.run.out_of_reach == 1
    assert "The logon session of 1 mount has ended, and no command can release it" in shown
    assert ("bulk-restore unmount" in shown) is bool(others)
    assert ("may still release 1 of them:" in shown) is bool(others)
    assert "has ended, and no command can release it" in as_html.render(report)


def test_what_a_session_that_was_left_open_mounted_is_promised_to_unmount() -> None:
    """A run that was stopped twice leaves it open for just that; no console is needed yet."""
    left = SessionEnded(
        at=50.0, server=ServerName("hq"), session=SESSION, lost=False, reason="", left_open=True
    )
    report = summarize(run_of(life("sql01", Fate.LEFT), [left, finished(at=600.0)]))

    shown = text(report)

    assert report.run.out_of_reach == 0
    assert "bulk-restore unmount" in shown
    assert "no command" not in shown + as_html.render(report)


def test_a_long_section_is_cut_and_says_so() -> None:
    """Hundreds of failures do not hide the totals; the rest is counted."""
    lives = [life(f"vm{n:03}", Fate.TASK_FAILED) for n in range(SHOWN + 7)]

    shown = text(summarize(run_of(*lives)))

    assert f"vm{SHOWN - 1:03}" in shown
    assert f"vm{SHOWN:03}" not in shown
    assert "and 7 more, see report.json" in shown


def test_the_totals_name_what_matters_even_at_zero() -> None:
    """Verified, mounted, failed and left are always said, the others when there are any."""
    shown = text(summarize(run_of(life("a"), life("b"), life("c", Fate.SKIPPED))))

    assert "3 targets: 2 verified, 0 mounted, 0 failed, 1 skipped, 0 left" in shown


@pytest.mark.parametrize("code", ExitCode)
def test_the_exit_code_is_explained(code: ExitCode) -> None:
    """The number is followed by the sentence of the one table, or by reasons and the rest of it."""
    report = summarize(run_of([finished(60.0, code)]))
    shown = text(report)

    words = short_words(code) if report.run.reasons else code.about
    assert f"Exit code: {code.value} ({words})" in shown


def test_a_killed_run_claims_no_exit_code() -> None:
    """Without the run's end there is no code, and the headline says interrupted."""
    shown = text(summarize(run_of(life("a"))))

    assert "Exit code: none yet" in shown
    assert shown.splitlines()[0].endswith("; interrupted")


def test_a_halt_stands_in_the_headline() -> None:
    """The first line says that the run halted, and why."""
    halted = RunHalted(at=5.0, reason="budget", detail="6 of 20 failed")

    shown = text(summarize(run_of([halted, finished(60.0, 5)])))

    assert "HALTED: budget: 6 of 20 failed" in shown.splitlines()[0]


def test_objectives_are_shown_against_what_was_measured() -> None:
    """Met, missed and not measured are three different things."""
    late = Objectives(rto=10.0)
    lives = [life("a", objectives=late), life("b", Fate.TASK_FAILED, wave="directory")]
    first = started(objectives=Objectives(rto=600.0), wave_objectives=Objectives(rpo=7200.0))

    shown = text(summarize(run_of(*lives, first=first)))

    assert "run RTO: not measured of 10 min, MISSED" in shown
    assert "wave databases RPO: 1 h of 2 h, met" in shown
    assert "1 objective of single targets MISSED" in shown


@given(runs())
@settings(deadline=None, max_examples=50)
def test_nothing_hostile_reaches_the_terminal(state: RunState) -> None:
    """Whatever servers and plans say, only printable characters and our line ends come out."""
    state.notes.append(RunNoted(at=1.0, message=HOSTILE))

    shown = text(summarize(state))

    assert all(line.isprintable() for line in shown.split("\n"))


def test_hostile_words_stay_on_their_line() -> None:
    """A line end in a name or message makes no line of its own."""
    plain = text(summarize(run_of(life("a", Fate.TASK_FAILED, words="x"))))
    hostile = text(summarize(run_of(life(HOSTILE, Fate.TASK_FAILED, words=HOSTILE))))

    assert len(hostile.splitlines()) == len(plain.splitlines())
    assert "\\r\\nfake line" in hostile


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (59.6, "1 min"),
        (725.0, "12 min 5 s"),
        (3599.7, "1 h"),
        (10_920.0, "3 h 2 min"),
        (187_200.0, "2 d 4 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    """Two units at most, rounded, and never sixty of the smaller one."""
    assert duration(seconds) == said
