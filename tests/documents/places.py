"""Where things happen in the code, and what its packages are for."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

from orchestrator.app import run_part, runner, signals, unmount
from orchestrator.app.readiness import checking
from orchestrator.checks import content, directory, metadata, outcomes, programs
from orchestrator.cli import ending
from orchestrator.core.lifecycle import apply
from orchestrator.core.ports.store import Store
from orchestrator.core.run_state import RunState
from orchestrator.em import logon
from orchestrator.em.session import Session
from orchestrator.em.transport import Transport
from orchestrator.engine.conductor import Conductor
from orchestrator.engine.content import checks, download, system, volumes
from orchestrator.engine.ledger import Ledger
from orchestrator.engine.mount import drive, find, orphans, recover, release, resume, submit
from orchestrator.engine.run import Run
from orchestrator.engine.scheduler import Scheduler
from orchestrator.engine.watcher import Watcher
from orchestrator.journal import RunJournal
from orchestrator.local.files.store import DiskFileStore
from orchestrator.plan.choose import expansion
from orchestrator.plan.file import loading
from orchestrator.report import exit_codes, summary, writing
from tests.documents.markdown import code, table

ROOT = Path(__file__).parents[2]

Place = Callable[..., object] | type

LIFE: tuple[tuple[str, Place], ...] = (
    ("The plan file is read, and every mistake found", loading.load_plan_text),
    ("A run begins: lock, journal, engine, reports", runner.run_plan),
    ("The engine's run: servers, waves, end", Run),
    ("A session is opened", logon.logged_on),
    ("Plan and inventory become mount requests", expansion.expand),
    ("A request gets a slot within all limits", Scheduler),
    ("One mount is driven, from its slot to its end", drive.drive),
    ("The intent is recorded, and the mount POST decided", submit.submit),
    ("The mount POST is sent", Session.start_mount),
    ("An answer becomes an error or a value", Transport),
    ("A lost answer is cleared up", recover.look),
    ("The task is watched to its end", Watcher),
    ("The mount is found, read and judged", find.prove),
    ("The guest's system is found out", system.is_readable),
    ("A path is matched with a volume", volumes.windows_volume),
    ("The checks are made", checks.examine),
    ("A check of a file's or directory's facts fails", metadata.judge_path),
    ("A check of names in a directory fails", directory.judge_directory),
    ("A check of content fails", content.judge_content),
    ("A check program's answer is judged", programs.judge_program),
    ("A check cannot be made, and fails", outcomes.not_judged),
    ("Files are copied out", download.copy_out),
    ("A file is saved on the local disk", DiskFileStore),
    ("The mount is removed, and seen to be gone", release.release),
    ("The session is audited before its logoff", orphans.audit),
)
BESIDE: tuple[tuple[str, Place], ...] = (
    ("An event is allowed, journaled, applied, shown", Ledger.record),
    ("What may follow what", apply),
    ("An event is written to disk", RunJournal),
    ("Whoever only looks reads runs", Store),
    ("A run is folded from its events", RunState),
    ("Ctrl-C and SIGTERM are caught", signals.caught_signals),
    ("A stop takes effect: nothing more is submitted", Conductor.stop),
    ("Ctrl-C and errors outside a run become exit codes", ending.explained),
    ("Resume begins", runner.resume),
    ("Resume sorts out what is left", resume.sort_out),
    ("`unmount` begins", unmount.release_leftovers),
    ("`check` begins", checking.check),
    ("The report's values are made", summary.summarize),
    ("The reports are written", writing.write),
    ("The exit code is decided", exit_codes.exit_code),
    ("An internal error of a run becomes exit code 70", run_part.RunPart),
)


def life() -> str:
    """Return the files that a mount passes, in order."""
    return _table(LIFE)


def beside() -> str:
    """Return the files of what happens beside it."""
    return _table(BESIDE)


def _table(rows: tuple[tuple[str, Place], ...]) -> str:
    shown = [(what, code(_file(place)), code(place.__qualname__)) for what, place in rows]
    return table(("what happens", "file", "name"), shown)


def _file(place: Place) -> str:
    source = inspect.getsourcefile(inspect.unwrap(place))
    assert source is not None
    return str(Path(source).relative_to(ROOT))


def packages() -> str:
    """Return each package below the whole one with the first line of its docstring."""
    rows = []
    for source in sorted((ROOT / "orchestrator").glob("*/__init__.py")):
        about = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
        rows.append((code(f"{source.parent.name}/"), about.partition("\n\n")[0]))
    return table(("package", "what it is for"), rows)
