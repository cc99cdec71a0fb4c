"""A task that was asked to stop: every report shows the request, and what was seen of the task."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from orchestrator.core.events import Event, TaskAccepted, TaskStopAsked, TaskStopSeen
from orchestrator.core.stops import StopSeen
from orchestrator.report import as_html, as_markdown, junit
from orchestrator.report.as_json import render, report_json_schema
from orchestrator.report.summary import summarize
from orchestrator.report.text import text
from orchestrator.report.values import Report
from tests.report.builders import HOSTILE, Fate, finished, life, run_of

ASKED = "was asked to stop: refused; the task goes on"


def stopped(*seen: StopSeen, words: str | None = None) -> Report:
    """Return a report in which the task of the one target was asked to stop."""
    lived: list[Event] = []
    for event in life("a", Fate.TASK_FAILED):
        lived.append(event)
        if isinstance(event, TaskAccepted):
            at, key, task = event.at, event.key, event.task
            lived.append(TaskStopAsked(at=at, key=key, task=task))
            lived += [TaskStopSeen(at=at, key=key, task=task, seen=s, words=words) for s in seen]
    return summarize(run_of(lived, [finished()]))


@pytest.mark.parametrize(
    "rendered",
    [text, as_markdown.render, as_html.render, junit.render],
    ids=["text", "markdown", "html", "junit"],
)
def test_every_report_for_people_shows_the_request_and_what_was_seen(rendered: object) -> None:
    """The answer proves nothing, so both are there."""
    assert callable(rendered)

    assert ASKED in rendered(stopped(StopSeen.REFUSED, StopSeen.GOES_ON)).replace("\\", "")


@pytest.mark.parametrize(
    ("seen", "answer", "last"),
    [
        ((), None, None),
        ((StopSeen.ACCEPTED,), "accepted", None),
        ((StopSeen.LOST, StopSeen.VANISHED), "lost", "vanished"),
        ((StopSeen.ACCEPTED, StopSeen.GOES_ON, StopSeen.ENDED), "accepted", "ended"),
        ((StopSeen.NOT_SENT,), "not_sent", None),
    ],
)
def test_report_json_has_the_answer_and_what_was_seen_last(
    seen: tuple[StopSeen, ...], answer: str | None, last: str | None
) -> None:
    """What is not known is null; the schema accepts it."""
    report = json.loads(render(stopped(*seen)))

    Draft202012Validator(report_json_schema()).validate(report)
    stop = report["targets"][0]["attempts"][0]["stop"]
    assert (stop["answer"], stop["seen"]) == (answer, last)


def test_an_attempt_without_such_a_request_says_nothing_of_it() -> None:
    """Reports of runs without late tasks are as they were."""
    report = summarize(run_of(life("a"), [finished()]))

    assert "stop" not in json.loads(render(report))["targets"][0]["attempts"][0]
    assert "asked to stop" not in text(report) + as_markdown.render(report) + junit.render(report)


def test_the_server_s_words_are_shown_as_text_and_nothing_else() -> None:
    """They come from outside."""
    report = stopped(StopSeen.REFUSED, words=HOSTILE)

    for rendered in (text(report), as_markdown.render(report), as_html.render(report)):
        assert "\x1b" not in rendered
        assert "\nfake line" not in rendered
    assert '<b a="1">' not in as_html.render(report)
