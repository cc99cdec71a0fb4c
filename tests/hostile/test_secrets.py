"""Passwords, tokens and headers stand nowhere, in no form, whatever happens to a run."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
import structlog

from orchestrator.app import logs
from orchestrator.app.wiring import World, clients
from orchestrator.em import transport
from orchestrator.em.credentials import resolve
from orchestrator.engine.mount import drive
from orchestrator.log import prepare
from orchestrator.plan.file.access import CommandSecret
from orchestrator.plan.file.loading import load_plan_text
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.faults import Fault
from orchestrator.views.json_events import JsonEvents
from orchestrator.views.lines import LineView
from tests.hostile.searching import assert_nowhere, files_below, forms, holding, secrets_of
from tests.hostile.twisting import Liars, Said
from tests.scenarios import drill as scenarios
from tests.scenarios.drill import ACCOUNT, Site, drill
from tests.views.story import fed

PASSWORD = 'pä:ss "w\\ord/+%41&<x>'
OTHER = "another-password-than-this"

TROUBLE = (
    Fault(kind="xml_503", path="query|tasks", skip=2, count=3, retry_after="5"),
    Fault(kind="drop_after", method="POST", path="/mounts$", count=1),
    Fault(kind="error_500", method="POST", path="/mounts$", count=1),
    Fault(kind="html_200", path="tasks", skip=4, count=1),
    Fault(kind="reset_mid_body", path="query", skip=3, count=1),
)
LOST = (Fault(kind="forget_session", path="tasks|query", skip=6, count=1),)
TALKATIVE = Behaviour(message_share=1.0)
STORIES: dict[str, Any] = {
    "well": {},
    "refused": {"password": OTHER},
    "in trouble": {"faults": TROUBLE},
    "session lost": {"faults": LOST},
    "a server that repeats it all": {"repeats": True, "behaviour": TALKATIVE},
    "crash at the logon": {"crash": (transport, "feed_body")},
    "crash at the verdict": {"crash": (drive, "prove")},
    "crash while watching": {"crash": (drive, "record_finished")},
}


class Planted(Exception):
    """A mistake of ours."""


def repeating(answer: Said, liars: Liars) -> Said:
    """Return an answer that names everything that opens something, where a server has words."""
    known = escape(" ".join([PASSWORD, *sorted(liars.tokens - {""})])).encode()
    words = b"<Message>%s</Message>" % known.replace(b"\\", rb"\\")
    return answer.rewritten(rb"<Message>[^<]*</Message>", words)


@pytest.fixture
def said() -> Iterator[list[io.StringIO]]:
    """Return what both forms of the log, and every library at its loudest, have said."""
    kept = structlog.get_config()
    heard = [io.StringIO() for _ in range(4)]
    library = logging.StreamHandler(heard[2])
    root = logging.getLogger()
    level = root.level
    root.addHandler(library)
    root.setLevel(logging.DEBUG)
    yield heard
    root.removeHandler(library)
    root.setLevel(level)
    structlog.configure(**kept)
    prepare(logging.NOTSET, lambda: None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("story", "style"), [(each, ("console", "json")[n % 2]) for n, each in enumerate(STORIES)]
)
async def test_no_drill_gives_a_secret_away(
    story: str,
    style: str,
    said: list[io.StringIO],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Logs of every level, both streams, views, events, journal and every report."""
    told = dict(STORIES[story])
    crash, repeats = told.pop("crash", None), told.pop("repeats", False)
    logs.configure(verbosity=3, style=style, stream=said[0])
    monkeypatch.setattr(scenarios, "PASSWORD", PASSWORD)
    liars = Liars({"hq": lambda answer: repeating(answer, liars)} if repeats else {})
    face = liars.face(monkeypatch)
    if crash is not None:

        def mistaken(*arguments: Any, **_named: Any) -> None:
            raise Planted(f"{len(arguments)} arguments")

        monkeypatch.setattr(crash[0], crash[1], mistaken)
    site = Site(machines=3, mount_s=20.0, **{"password": PASSWORD, **told})
    views = fed(LineView(said[1], verbose=True), JsonEvents(said[3]))
    try:
        await drill(tmp_path, monkeypatch, [site], observers=views, face=face)
    except (AssertionError, FileNotFoundError):
        assert crash is not None, "only a crash may leave less than a truthful report"

    out, err = capfd.readouterr()
    texts = [out, err, *(stream.getvalue() for stream in said)]
    assert_nowhere(secrets_of(ACCOUNT, PASSWORD, liars.tokens), tmp_path, *texts)
    assert (tmp_path / "state" / "journal.sqlite").stat().st_size > 0
    if repeats:
        assert any(b"*** ***" in path.read_bytes() for path in files_below(tmp_path)), "it spoke"
    if crash is not None:
        assert "Planted" in said[0].getvalue()


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    """Every form of a secret is one that the search above would find, also inside of others."""
    secrets = secrets_of(ACCOUNT, PASSWORD, ["+/+/token=="])
    for number, form in enumerate(sorted(secrets)):
        (tmp_path / str(number)).write_bytes(b"before " + form + b" after")

    assert all(holding(secrets, path.read_bytes()) for path in files_below(tmp_path))
    assert len(forms(PASSWORD)) > 30


PLAN = """version: 1
name: secrets
servers:
  hq: {url: "https://hq.example.net:9398", username: a, password: {env: HQ_PASSWORD}}
  dr: {url: "https://dr.example.net:9398", username: b, password: {command: [env]}}
targets:
  - {vm: a, server: hq}
  - {vm: b, server: dr}
"""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_program_that_knows_one_secret_does_not_see_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that a plan names as secrets are not handed on to the programs it names."""
    monkeypatch.setenv("HQ_PASSWORD", PASSWORD)
    monkeypatch.setenv("HARMLESS", "seen")
    plan = load_plan_text(PLAN.encode(), tmp_path / "plan.yaml").plan
    withheld = clients(plan, World())[1]._withheld
    show = CommandSecret(argv=("python3", "-c", "import os; print(dict(os.environ))"))

    seen = await resolve(show, withheld=withheld)

    assert "'HARMLESS': 'seen'" in seen
    assert "HQ_PASSWORD" not in seen
