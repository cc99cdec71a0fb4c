"""Links of the documents lead to a file, a heading, or a command that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents.made import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and anchors within the repository; addresses outside are not asked."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        to = (page.parent / name).resolve() if name else page
        if not to.exists() or (anchor and anchor not in anchors(to)):
            broken.append(link)

    assert broken == []


def test_every_page_is_reached_from_the_first() -> None:
    """A page that no page links to is not read."""
    first = ROOT / "docs/index.md"
    seen, waiting = {first}, [first]
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            to = (page.parent / link.partition("#")[0]).resolve()
            if to.suffix == ".md" and to not in seen:
                seen.add(to)
                waiting.append(to)

    assert [page for page in (ROOT / "docs").rglob("*.md") if page not in seen] == []


def test_every_file_that_is_named_exists() -> None:
    """Paths in code spans that begin with a directory of the repository."""
    named = re.compile(r"`((?:orchestrator|tests|plans|docs|findings)/[\w./-]*\w)`")
    wrong = [
        f"{page.name}: {path}"
        for page in PAGES
        for path in named.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    ]

    assert wrong == []


def test_every_declaration_that_the_guide_names_exists() -> None:
    """How to extend it: classes and tables that somebody looks for."""
    guide = (ROOT / "docs/explanation/extending.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`([A-Z][A-Za-z_]{4,})`", guide))
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "orchestrator").rglob("*.py")
    )

    assert names
    assert [
        name for name in names if not re.search(rf"^(class )?{name}\b", code, re.MULTILINE)
    ] == []
