"""The bodies: each receiver's own form, in which no server's text is more than text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.app.notify.composing import Notice, RunEnding, composed_end
from orchestrator.app.notify.shapes import body
from orchestrator.core.events import RunNoted, SessionEnded, StrayFound
from orchestrator.core.model import ServerName, TaskId
from orchestrator.core.text import printable
from orchestrator.plan.file.settings import HookKind
from orchestrator.report.objective_values import Objective
from tests.report.builders import SESSION, Fate, finished, life, run_of, started
from tests.report.payloads import PAYLOADS

SLACK_LIMITS = {"header": 150, "section": 3000, "context": 2000}
"""Characters of one text. Source: Slack, reference of blocks."""
TEAMS_LIMIT = 28 * 1024
"""Bytes of one message. Source: Teams, limits of webhooks."""


def notices(words: str, count: int = 1) -> list[Notice]:
    """Return the messages about the end of a run in which everything is called `words`."""
    first = started(plan=words or "x", reason=words, waves=(words or "x",))
    lives = [
        life(f"{words}{n}", fate, wave=words or "x", words=words)
        for n in range(count)
        for fate in (Fate.TASK_FAILED, Fate.LEFT, Fate.VANISHED)
        if fate is not Fate.LEFT or n % 2 == 0
    ]
    seen: set[str] = set()
    events = []
    for lived in lives:
        key = str(lived[0].key)  # type: ignore[attr-defined]  # a target's first event
        if key not in seen:
            seen.add(key)
            events.append(lived)
    state = run_of(*events, [finished(exit_code=3)], first=first)
    missed = tuple(
        Objective(scope=words, kind="rpo", target_s=1, actual_s=2, met=False) for _ in range(count)
    )
    ending = RunEnding(exit_code=3, missed=missed, report=f"/reports/{words}")
    return list(composed_end(state, ending))


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


def slack_markup(text: str) -> str:
    """Return what Slack would read as markup: everything outside of code spans."""
    return re.sub(r"`[^`\n]*`", "", text)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_is_text_for_every_receiver(payload: str) -> None:
    """No mention, link, mark-up or control character comes of it."""
    for notice in notices(payload):
        slack = json.loads(body(notice, HookKind.SLACK))
        teams = json.loads(body(notice, HookKind.TEAMS))
        generic = json.loads(body(notice, HookKind.GENERIC))

        assert all(text.isprintable() for text in texts(generic))
        for block in slack["blocks"][1:]:
            for element in block.get("elements", [block.get("text")]):
                assert (element["type"], element["verbatim"]) == ("mrkdwn", True)
                assert not set("<>") & set(element["text"])
                assert re.fullmatch(r"[\sA-Za-z:]*", slack_markup(element["text"]))
                assert all(line.isprintable() for line in element["text"].split("\n"))
        assert not set("<>") & set(slack["text"])
        assert slack["blocks"][0]["text"]["type"] == "plain_text"
        rows = teams["attachments"][0]["content"]["body"]
        assert {row["type"] for row in rows} == {"RichTextBlock"}  # text runs know no Markdown
        assert all(run["type"] == "TextRun" for row in rows for run in row["inlines"])
        assert all(run["text"].isprintable() for row in rows for run in row["inlines"])


def test_a_text_is_not_lost_by_being_made_safe() -> None:
    """The receiver of the generic form sees the very words, escaped once."""
    finish = json.loads(body(notices("a<b>&`c`")[0], HookKind.GENERIC))

    assert finish["targets"][0]["message"] == printable("a<b>&`c`")
    assert finish["run"]["reason"] == "a<b>&`c`"


@pytest.mark.parametrize("words", ["x", "ä" * 300, "\x1b" * 300, "&<>" * 120])
def test_a_thousand_targets_still_fit(words: str) -> None:
    """Every receiver's limits hold; what is left out is counted."""
    for notice in notices(words, count=500):
        slack = json.loads(body(notice, HookKind.SLACK))
        for block in slack["blocks"]:
            for element in block.get("elements", [block.get("text")]):
                assert 0 < len(element["text"]) <= SLACK_LIMITS[block["type"]]
        assert len(slack["blocks"]) <= 50
        assert len(body(notice, HookKind.TEAMS)) <= TEAMS_LIMIT
        assert len(body(notice, HookKind.GENERIC)) <= 128 * 1024


def test_what_is_left_out_is_counted() -> None:
    """Twenty targets are named, and the rest is a number."""
    finish = notices("x", count=50)[0]

    assert len(finish.targets) == 20
    generic = json.loads(body(finish, HookKind.GENERIC))
    assert generic["more_targets"] == finish.totals["targets"] - 20
    shown = "".join(texts(json.loads(body(finish, HookKind.TEAMS))))
    assert f"and {finish.totals['targets'] - 10} more targets" in shown


def test_the_end_is_told_the_same_however_late_it_is_told() -> None:
    """Notes may follow the end of a run; one message keeps one time, whoever is told of it."""
    ending = RunEnding(exit_code=0, missed=(), report="/r")
    note = RunNoted(at=99.0, message="notification 1 was not delivered")

    (early,) = composed_end(run_of(life("a"), [finished()]), ending)
    (late,) = composed_end(run_of(life("a"), [finished(), note]), ending)

    assert early == late


def test_a_run_that_ended_well_says_so() -> None:
    """One message, and it is good."""
    state = run_of(life("a"), [finished()])
    ending = RunEnding(exit_code=0, missed=(), report="/r")

    (only,) = composed_end(state, ending)

    assert only.good
    assert (
        json.loads(body(only, HookKind.TEAMS))["attachments"][0]["content"]["body"][0]["inlines"][
            0
        ]["color"]
        == "Good"
    )
    assert "finished well" in json.loads(body(only, HookKind.SLACK))["text"]


def test_a_mount_of_nobodys_is_told_as_left_too() -> None:
    """And where its session has ended, no command is named for it."""
    found = StrayFound(
        at=40.0, server=ServerName("hq"), session=SESSION, task=TaskId("task-9"), reason="a copy"
    )
    gone = SessionEnded(at=50.0, server=ServerName("hq"), session=SESSION, lost=True, reason="401")

    ending = RunEnding(exit_code=3, missed=(), report="/reports/1")
    reached = list(composed_end(run_of(life("sql01"), [found, finished()]), ending))
    lost = list(composed_end(run_of(life("sql01"), [found, gone, finished(1000.0)]), ending))

    assert [each.event.value for each in reached] == ["finished", "leftover"]
    assert "1 mount may still be open" in reached[1].text
    assert "bulk-restore unmount" in reached[1].text
    assert "bulk-restore unmount" not in lost[1].text
    assert "only a person" in lost[1].text


def test_a_session_that_nobody_has_read_is_told_as_left_too() -> None:
    """Whoever waits for a message hears of a mount that may be open, unseen."""
    unread = SessionEnded(
        at=50.0,
        server=ServerName("hq"),
        session=SESSION,
        lost=False,
        reason="left open",
        unaudited="no answer in time",
        left_open=True,
    )

    ending = RunEnding(exit_code=3, missed=(), report="/reports/1")
    told = list(composed_end(run_of(life("sql01"), [unread, finished()]), ending))

    assert [each.event.value for each in told] == ["finished", "leftover"]
    assert "is open on hq is not known (no answer in time)" in told[1].text
    assert "bulk-restore unmount" in told[1].text
