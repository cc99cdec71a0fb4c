"""The line mode: one plain line per change that matters, whatever a server says."""

from __future__ import annotations

import io
import os

import pytest

from orchestrator.core.events import (
    CheckMade,
    DeadlinePassed,
    Event,
    FileCopied,
    MountFound,
    MountLeft,
    OutOfReach,
    RunHalted,
    RunNoted,
    ServerGivenUp,
    ServerPaced,
    ServerParked,
    ServerResumed,
    SessionEnded,
    SessionOpened,
    StopRequested,
    SubmissionInDoubt,
    TargetEvent,
    TaskStopAsked,
    TaskStopSeen,
    TaskSucceeded,
    UnmountStarted,
    VerdictReached,
)
from orchestrator.core.lifecycle import MountRecord, begin
from orchestrator.core.model import (
    Href,
    MountState,
    Result,
    ServerName,
    SessionId,
    TaskId,
)
from orchestrator.core.proof import CheckOutcome, DownloadOutcome, Fate
from orchestrator.core.stops import StopSeen
from orchestrator.core.text import clock
from orchestrator.views.lines import LineView, _check
from tests.views.story import (
    HOSTILE,
    STALL,
    accepted,
    concluded,
    failed,
    finished,
    key,
    planned,
    see,
    started,
    submitted,
    tell,
    verified,
    wave,
)

HQ, SESSION = ServerName("hq"), SessionId("s")


def shown(*events: Event, verbose: bool = False) -> list[str]:
    """Return the lines that a story makes."""
    stream = io.StringIO()
    tell(LineView(stream, verbose=verbose), *events)
    return stream.getvalue().splitlines()


def line_of(event: Event, record: MountRecord | None = None) -> str:
    """Return all that one event makes the view write."""
    stream = io.StringIO()
    see(LineView(stream), event, record)
    return stream.getvalue()


def test_a_run_is_one_line_per_change_of_state() -> None:
    """Begin, logon, waves; each target mounting, mounted and concluded; the end."""
    logon = SessionOpened(at=0, server=HQ, session=SESSION, user="svc", api_version="v1_7")

    lines = shown(
        *[started(), logon, planned("a"), planned("b"), wave(1), *verified("a", 2)],
        *[*failed("b", 3600, "no disk"), wave(3700, over=True), finished(3701, 1)],
    )

    assert lines == [
        "0:00 run r-1 of night-drill started",
        "0:00 hq: logged on as svc",
        "0:01 wave w started",
        "0:03 w/hq/a: mounting as task-a",
        "0:05 w/hq/a: mounted, volumes: C:",
        "0:08 w/hq/a: verified, mount released",
        "1:00:01 w/hq/b: mounting as task-b",
        "1:00:02 w/hq/b: the mount failed: no disk",
        "1:00:02 w/hq/b: failed, mount none: no disk",
        "1:01:40 wave w finished",
        "1:01:41 run finished, exit code 1: the run ended with a target failed or skipped, with no "
        "target selected, or with an objective missed",
    ]


def test_verbose_adds_the_short_steps() -> None:
    """It adds lines and takes none away."""
    events = [started(), planned("a"), wave(1), *verified("a", 2)]

    plain, verbose = shown(*events), shown(*events, verbose=True)

    assert [line for line in verbose if line not in plain] == [
        "0:02 w/hq/a: submitting",
        "0:06 w/hq/a: check boot passed: C:\\Windows: expected exists, observed a directory",
        "0:07 w/hq/a: unmounting",
    ]
    assert [line for line in verbose if line in plain] == plain


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ServerParked(at=1, server=HQ, reason="503"), "hq: waiting for it: 503"),
        (ServerResumed(at=1, server=HQ, waited_s=75), "hq: answers again after 1 min 15 s"),
        (ServerGivenUp(at=1, server=HQ, reason="401", refused=True), "hq: GIVEN UP: 401"),
        (ServerPaced(at=1, server=HQ, allowed=1), "hq: is given 1 mount at once for now"),
        (ServerPaced(at=1, server=HQ), "hq: is given as many mounts as the plan allows again"),
        (
            SessionEnded(at=1, server=HQ, session=SESSION, lost=True, reason="401"),
            "hq: SESSION LOST: 401",
        ),
        (
            RunHalted(at=1, reason="budget", detail="3 of 4 failed"),
            "HALTED: 3 of 4 failed; open mounts are unmounted",
        ),
        (
            StopRequested(at=1, signal="SIGINT", forced=False),
            "stopping (SIGINT): running mounts end first; a second Ctrl-C to the run unmounts what "
            "is known now and names the rest",
        ),
        (
            StopRequested(at=1, signal="declined", forced=False),
            "declined at the question, nothing was mounted",
        ),
        (
            StopRequested(at=1, signal="SIGTERM", forced=True),
            "stopping (SIGTERM): cancelling and unmounting",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else None,
)
def test_trouble_has_its_line(event: Event, words: str) -> None:
    """Whoever reads the log learns of it when it happens, with the reason."""
    assert line_of(event) == f"0:01 {words}\n"


MOUNT = Href("/m/a")
BEFORE = [planned("a"), submitted("a", 1)]
MOUNTED: list[Event] = [
    *BEFORE,
    accepted("a", 2),
    TaskSucceeded(at=3, key=key("a"), task=TaskId("t"), mount=MOUNT),
    MountFound(at=4, key=key("a"), mount=MOUNT, roots=("C:",)),
    UnmountStarted(at=5, key=key("a"), mount=MOUNT),
]


def outcome(*, passed: bool, warning: bool = False) -> CheckOutcome:
    """Return what one check found, in a hostile guest's words."""
    return CheckOutcome(
        name="boot",
        path=f"C:\\{HOSTILE}",
        expected="exists",
        observed=HOSTILE,
        passed=passed,
        warning=warning,
    )


def file(fate: Fate) -> DownloadOutcome:
    """Return what became of one file."""
    return DownloadOutcome(path="C:\\a.txt", to="/out/a.txt", fate=fate, message=HOSTILE)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (CheckMade(at=9, key=key("a"), outcome=outcome(passed=False)), "check boot FAILED: C:"),
        (
            CheckMade(at=9, key=key("a"), outcome=outcome(passed=True, warning=True)),
            "check boot warns: C:",
        ),
        (FileCopied(at=9, key=key("a"), outcome=file(Fate.FAILED)), "NOT COPIED: C:\\a.txt: "),
    ],
    ids=["failed", "warning", "not copied"],
)
def test_what_was_found_in_a_guest_has_its_line(event: TargetEvent, words: str) -> None:
    """What a person may have to look at: never the checks and files that are as they should be."""
    before = MOUNTED[:-1]

    (line,) = shown(*before, event)[len(shown(*before)) :]

    assert line.startswith(f"0:09 w/hq/a: {words}")
    assert line.isprintable()


@pytest.mark.parametrize(
    "end",
    [
        VerdictReached(at=10, key=key("a"), result=Result.UNKNOWN),
        UnmountStarted(at=10, key=key("a"), mount=MOUNT),
        OutOfReach(at=10, key=key("a"), reason="session lost"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_file_is_in_doubt_where_nothing_better_can_come(end: TargetEvent) -> None:
    """Not when its order is about to be sent, and once, however its target goes on."""
    before = [*MOUNTED[:-1], FileCopied(at=9, key=key("a"), outcome=file(Fate.UNKNOWN))]

    assert shown(*before) == shown(*MOUNTED[:-1])
    doubt = shown(*before, end)[len(shown(*before))]
    assert doubt.startswith(
        "0:10 w/hq/a: IN DOUBT: C:\\a.txt may have been written into the guest: "
    )
    assert doubt.isprintable()


def test_good_checks_and_files_are_counted_and_not_listed() -> None:
    """A log with ten thousand checks stays readable: one line says how many files were copied."""
    good = CheckMade(at=9, key=key("a"), outcome=outcome(passed=True))
    copied = [FileCopied(at=9, key=key("a"), outcome=file(Fate.SAVED)) for _ in range(3)]
    verdict = VerdictReached(at=9, key=key("a"), result=Result.VERIFIED)

    lines = shown(*MOUNTED[:-1], good, *copied, verdict)[len(shown(*MOUNTED[:-1])) :]

    assert lines == ["0:09 w/hq/a: 3 files copied"]


@pytest.mark.parametrize(
    "event",
    [
        SessionEnded(at=1, server=HQ, session=SESSION, lost=False, reason="logoff"),
        RunNoted(at=1, message="x"),
    ],
    ids=["own logoff", "note"],
)
def test_what_needs_nobody_has_no_line(event: Event) -> None:
    """The log stays calm."""
    assert line_of(event) == ""


@pytest.mark.parametrize(
    ("before", "event", "words"),
    [
        (BEFORE, SubmissionInDoubt(at=9, key=key("a"), reason="cut off"), "in doubt: cut off"),
        (
            [*BEFORE, accepted("a", 2)],
            DeadlinePassed(at=9, key=key("a"), phase="mount", allowed_s=1200),
            "mount takes longer than 20 min; watching on to unmount it",
        ),
        (
            [*BEFORE, accepted("a", 2)],
            OutOfReach(at=9, key=key("a"), reason="session lost"),
            "session lost",
        ),
        (
            MOUNTED,
            MountLeft(at=9, key=key("a"), mount=MOUNT, reason="the unmount was refused"),
            "the unmount was refused",
        ),
        (
            [planned("a")],
            concluded("a", 9, Result.CANCELLED, MountState.NONE),
            "cancelled, mount none",
        ),
    ],
    ids=["in doubt", "late", "out of reach", "left", "cancelled"],
)
def test_a_targets_trouble_has_its_line(before: list[Event], event: Event, words: str) -> None:
    """The last line names the target and says what became of it."""
    assert shown(*before, event)[-1] == f"0:09 w/hq/a: {words}"


@pytest.mark.parametrize(
    "event",
    [
        started(plan=HOSTILE),
        SessionOpened(
            at=0, server=ServerName(HOSTILE), session=SESSION, user=HOSTILE, api_version=""
        ),
        SessionEnded(at=0, server=ServerName(HOSTILE), session=SESSION, lost=True, reason=HOSTILE),
        ServerParked(at=0, server=ServerName(HOSTILE), reason=HOSTILE),
        ServerResumed(at=0, server=ServerName(HOSTILE), waited_s=1),
        ServerGivenUp(at=0, server=ServerName(HOSTILE), reason=HOSTILE, refused=False),
        wave(0, name=HOSTILE),
        wave(0, over=True, name=HOSTILE),
        RunHalted(at=0, reason="budget", detail=HOSTILE),
        *failed(HOSTILE, 0, HOSTILE)[2:],
        SubmissionInDoubt(at=0, key=key(HOSTILE), reason=HOSTILE),
        OutOfReach(at=0, key=key(HOSTILE), reason=HOSTILE),
        MountLeft(at=0, key=key(HOSTILE), mount=MOUNT, reason=HOSTILE),
    ],
    ids=lambda event: type(event).__name__,
)
def test_text_from_outside_stays_in_its_line(event: Event) -> None:
    """Escape sequences, line ends and reversed text are shown as what they are, not obeyed."""
    record = begin(planned(HOSTILE)) if hasattr(event, "key") else None

    written = line_of(event, record)

    line, end = written[:-1], written[-1:]
    assert end == "\n"
    assert line.isprintable()
    assert "[/x][bold]no\\x1b[2J" in line


def test_the_summary_line_says_how_far_it_is() -> None:
    """Numbers and, once there is a pace, the rest; as of the moment it is drawn."""
    stream = io.StringIO()
    view = LineView(stream)
    events: list[Event] = [started(), *map(planned, "abcdef"), wave(1), *verified("a", 10)]
    tell(view, *events, *verified("b", 20), *failed("c", 30), submitted("d", 40))
    stream.truncate(stream.seek(0))

    view.draw(71.0)

    assert stream.getvalue() == (
        "1:11 3/6 done, 2 verified, 1 failed, 1 open, 2 waiting, 2 checks, 5 s to 1 min 35 s left\n"
    )


def test_no_summary_line_while_there_is_nothing_to_sum_up() -> None:
    """Neither before the targets are known nor once all are done."""
    stream = io.StringIO()
    view = LineView(stream)
    tell(view, started())
    before = stream.getvalue()
    view.draw(30.0)
    assert stream.getvalue() == before

    tell(view, planned("a"), *verified("a", 40))
    after = stream.getvalue()
    view.draw(60.0)
    view.close()

    assert stream.getvalue() == after


def test_a_summary_comes_every_half_minute() -> None:
    """The contract's pace, for logs that people scroll through."""
    assert LineView(io.StringIO()).interval_s == 30.0


def test_a_closed_pipe_hurts_nobody() -> None:
    """Once the reader is gone the view stays silent, and the run never notices."""
    read, write = os.pipe()
    with os.fdopen(write, "w", buffering=1) as stream:
        view = LineView(stream)
        tell(view, started(), planned("a"))
        os.close(read)

        tell(view, planned("b"), *failed("b", 1), wave(2))
        view.draw(30.0)
        view.close()

        # What the stream could not get rid of must not raise when it is closed either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


def test_a_closed_stream_hurts_nobody() -> None:
    """A stream that Python has closed counts as gone too."""
    stream = io.StringIO()
    view = LineView(stream)
    stream.close()

    tell(view, started(), planned("a"))
    view.draw(30.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0:00"), (0, "0:00"), (59.9, "0:59"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00")],
)
def test_the_clock_reads_as_people_read_it(seconds: float, words: str) -> None:
    """Minutes and seconds, hours only where there are any, never a negative time."""
    assert clock(seconds) == words


def test_a_process_that_is_gone_is_told_once() -> None:
    """No summary promises an end meanwhile; that another one goes on is told too."""
    stream = io.StringIO()
    view = LineView(stream)
    tell(view, started("hq"), planned("a"), planned("b"), wave(0), submitted("a", 1))
    before = len(stream.getvalue().splitlines())

    view.abandon(gone=False)
    view.abandon(gone=True)
    view.abandon(gone=True)
    view.draw(60)
    view.abandon(gone=False)
    view.draw(90)

    gone, again, summary = stream.getvalue().splitlines()[before:]
    assert gone.endswith("its process is gone; continue it: bulk-restore resume r-1")
    assert again.endswith("run r-1 goes on")
    assert "0/2 done" in summary


def test_a_task_that_is_asked_to_stop_is_shown_with_what_was_seen() -> None:
    """The request and the answer are a line each; the answer says nothing of the mount."""
    task = TaskId("task-a")
    begun = [started(), planned("a"), wave(1), submitted("a", 2), accepted("a", 3)]

    lines = shown(
        *begun,
        TaskStopAsked(at=60, key=key("a"), task=task),
        TaskStopSeen(at=61, key=key("a"), task=task, seen=StopSeen.GOES_ON, words="no\x1b[2J"),
    )

    assert lines[-2] == "1:00 w/hq/a: asking task-a to stop"
    assert lines[-1].startswith("1:01 w/hq/a: task-a, asked to stop: goes on (no")
    assert "\x1b" not in lines[-1]


def test_a_process_that_does_not_move_is_told_once() -> None:
    """No summary promises an end meanwhile; that it goes on is told, unless it is dead by then."""
    stream = io.StringIO()
    view = LineView(stream)
    tell(view, started("hq"), planned("a"), planned("b"), wave(0), submitted("a", 1))
    before = len(stream.getvalue().splitlines())

    view.stall(None)
    view.stall(STALL)
    view.draw(60)
    view.stall(STALL)
    view.stall(None)
    view.stall(STALL)
    view.abandon(gone=True)
    view.stall(None)

    told, moved, again, gone = stream.getvalue().splitlines()[before:]
    assert told.partition(" ")[2] == again.partition(" ")[2]
    assert told.endswith(
        "stalled since 2026-11-29 10:03:12 UTC: process 7 on host does not move; it may go on; "
        "if it does not, kill it, then: bulk-restore resume r-1"
    )
    assert moved.endswith("run r-1 goes on")
    assert "dead: its process is gone" in gone


def test_a_check_set_that_was_left_out_has_no_empty_path() -> None:
    """It is about a whole set, not about a path."""
    outcome = CheckOutcome(
        name="lin",
        path="",
        expected="a guest with Linux",
        observed="left out: this one has Windows",
        passed=True,
        warning=True,
    )

    assert _check(outcome) == (
        "check lin warns: expected a guest with Linux, observed left out: this one has Windows"
    )
