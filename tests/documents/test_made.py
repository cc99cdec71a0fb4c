"""Pages that are made from the code are those of the code."""

from __future__ import annotations

import inspect
import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.notify.composing import Notice
from orchestrator.app.notify.shapes import as_values
from orchestrator.cli import COMMANDS
from orchestrator.core.model import MountState, Result
from orchestrator.plan.file.selectors import SelectorKind
from orchestrator.plan.file.settings import HookKind, NotifyOn, PolicyName
from orchestrator.report.objective_values import Objective
from orchestrator.views.web import metrics
from tests.documents.made import MARKED, PARTS, ROOT, pages, renewed
from tests.report.builders import life, run_of


@pytest.mark.parametrize("page", list(pages()), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_says_what_the_code_says(page: Path) -> None:
    """Otherwise: python -m tests.documents."""
    before = page.read_text(encoding="utf-8")

    assert renewed(before) == before, "run: .venv/bin/python -m tests.documents"


def test_every_made_part_is_on_a_page() -> None:
    """Nothing that can be looked up in the code is missing in the documents."""
    used = {match[1] for page in pages() for match in MARKED.finditer(page.read_text("utf-8"))}

    assert used == set(PARTS)


def test_every_metric_is_in_the_reference() -> None:
    """Also one that only a rare state of a run shows."""
    source = inspect.getsource(metrics)
    names = set(re.findall(r'Gauge\(\s*"(\w+)"', source)) | {metrics.LAST_SUCCESS}

    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")

    assert [name for name in sorted(names) if f"`bulk_restore_{name}`" not in page] == []


def test_every_command_has_a_section() -> None:
    """With all of its options."""
    page = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")

    assert re.findall(r"^## bulk-restore (\w+)$", page, re.MULTILINE) == list(COMMANDS)


def test_the_message_that_is_shown_has_the_fields_of_one_that_is_sent() -> None:
    """Webhooks: the example and the generic message agree."""
    page = (ROOT / "docs/reference/webhooks.md").read_text(encoding="utf-8")
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    notice = Notice(
        id="1",
        event=NotifyOn.FINISHED,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        run="r",
        plan="p",
        mode="drill",
        reason=None,
        version="1",
        text="t",
        totals=dict.fromkeys(shown["totals"], 0),
        targets=tuple(run_of(life("v")).records.values()),
        objectives=(Objective(scope="s", kind="rto", target_s=1.0, actual_s=None, met=False),),
    )

    assert _keys(shown) == _keys(as_values(notice))


def _keys(value: Any) -> Any:
    """Return the names of all fields, however deep."""
    if isinstance(value, list):
        return [_keys(each) for each in value]
    return {key: _keys(each) for key, each in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("reference/report.md", Result),
        ("reference/report.md", MountState),
        ("reference/webhooks.md", NotifyOn),
        ("reference/webhooks.md", HookKind),
        ("how-to/choose-targets.md", PolicyName),
        ("how-to/choose-targets.md", SelectorKind),
    ],
)
def test_a_table_that_people_wrote_names_every_word(page: str, words: type[StrEnum]) -> None:
    """A result, a moment or a policy that is added is explained, too."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    written = MARKED.sub("", text)

    assert [word.value for word in words if not re.search(rf"`{word}\b", written)] == []
