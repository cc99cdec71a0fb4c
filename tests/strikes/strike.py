"""One strike: a run is killed or stopped at a random instant, and the servers are the witness.

The instant is counted in events of the run, so that it falls as often into the submissions as
into the unmounts, on a fast machine and on a slow one; a few milliseconds on top of it decide
between which two instructions it falls. The number of a strike makes the same choices every
time; the milliseconds of a real process are its own.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.app.planned_limits import limits_of
from orchestrator.plan.file.loading import load_plan
from tests.invariants import assert_invariants
from tests.processes import Place, Servers, ended, kill, servers

TARGETS = 12
EVENTS = 110
"""An undisturbed run of so many targets tells about so many events."""

WITHIN_EVENT_S = 0.05
"""A strike falls at most so long after its event: the next ones are told meanwhile."""
START_S = 0.8
"""Seconds from the start of the process to its first event, roughly."""
PATIENCE_S = 1.0
"""The second signal comes at most so many seconds after the first."""

LOOKED_FOR_S = 600.0
"""What is in doubt may be looked for, for three minutes; the rest is a busy machine's."""

STOPS = (
    ("SIGINT",),
    ("SIGTERM",),
    ("SIGHUP",),
    ("SIGINT", "SIGINT"),
    ("SIGTERM", "SIGTERM"),
    ("SIGHUP", "SIGTERM"),
    ("SIGINT", "SIGTERM"),
    ("SIGHUP", "SIGHUP"),
)
STOPPED = {"SIGINT": 130, "SIGTERM": 143}


@dataclass(frozen=True, slots=True)
class Struck:
    """What came of a strike. `hit`: processes that were at work when it fell."""

    hit: int
    began: bool
    """False if it fell before the run had begun: nothing was sent."""
    code: int
    """Exit code of the last process."""
    targets: int = 0
    unknown: int = 0
    left: int = 0
    """Targets whose mount the report names as left, which `unmount` then removed."""


def strike(kind: str, number: int) -> Struck:
    """Make the strike `kind` (kill or stop) of that number.

    Raises:
        AssertionError: an invariant is broken; the message names the command to try it again.
    """
    dice = random.Random(f"{kind}:{number}")
    try:
        with _scene() as (running, place):
            made = {"kill": _killed, "stop": _stopped}[kind]
            return made(running, place, dice)
    except Exception as exc:
        again = f"make strikes AT={kind}:{number}"
        raise AssertionError(f"{type(exc).__name__}: {exc}\n  {again}") from exc


@contextmanager
def _scene() -> Iterator[tuple[Servers, Place]]:
    with TemporaryDirectory(prefix="bulk-restore-strike-") as directory, servers() as running:
        yield running, Place(Path(directory), is_cold=True)


def _killed(running: Servers, place: Place, dice: random.Random) -> Struck:
    """Kill a run, perhaps the process that resumes it as well, and let another one end it."""
    plan = running.plan(place.directory, targets=TARGETS)
    process = place.start("run", plan, "--yes", "--json")
    hit, told = _at_an_instant(process, dice)
    kill(process)
    if dice.random() < 0.5:
        process = place.start("resume", "last", "--json")
        hit += _at_an_instant(process, dice, within=max(1, EVENTS - told))[0]
        kill(process)

    done = place.call("resume", "last", within=LOOKED_FOR_S)

    if done.returncode == 2:
        assert "no run" in done.stderr, done.stderr
        assert running.truth().logons == 0
        return Struck(hit, began=False, code=done.returncode)
    assert done.returncode in {0, 3}, done.stderr
    struck = _told(running, place, plan, hit, done.returncode)
    assert (struck.code == 3) == bool(struck.unknown or struck.left), done.stdout
    return struck


def _stopped(running: Servers, place: Place, dice: random.Random) -> Struck:
    """Send a run one signal or two; it ends by itself and reports."""
    plan = running.plan(place.directory, targets=TARGETS)
    names = dice.choice(STOPS)
    process = place.start("run", plan, "--yes", "--json")
    hit, _ = _at_an_instant(process, dice)
    process.send_signal(signal.Signals[names[0]])
    for name in names[1:]:
        time.sleep(dice.uniform(0, PATIENCE_S))
        process.send_signal(signal.Signals[name])
    code, _, err = ended(process, LOOKED_FOR_S)

    if not (place.report / "report.json").exists():
        assert running.truth().logons == 0, f"no report, code {code}: {err}"
        return Struck(hit, began=False, code=code)
    # One that came after the report was written ends the process as it ends any other.
    late = {-signal.Signals[name] for name in names}
    assert code in {0, 3} | late | {STOPPED[name] for name in names if name in STOPPED}, err
    assert code == 0 or set(names) != {"SIGHUP"} or code in late, err
    struck = _told(running, place, plan, hit, code)
    assert code == 3 or not (struck.unknown or struck.left), err
    return struck


def _at_an_instant(
    process: subprocess.Popen[str], dice: random.Random, within: int = EVENTS
) -> tuple[int, int]:
    """Wait for a random instant of a `--json` process that tells about `within` events.

    Returns 1 if it is at work then, else 0, and how many events it has told.
    """
    assert process.stdout is not None
    wanted = dice.randint(0, within)
    seen = 0
    while seen < wanted and process.stdout.readline():
        seen += 1
    time.sleep(dice.uniform(0, WITHIN_EVENT_S if seen else START_S))
    return int(process.poll() is None), seen


def _told(running: Servers, place: Place, plan: Path, hit: int, code: int) -> Struck:
    """Compare the report with what the servers say; then let `unmount` remove what is left."""
    values, truth = place.values(), running.truth()
    assert_invariants(truth, values, limits_of(load_plan(plan).plan, None))
    if code != 3:
        assert not truth.still_open()
    elif truth.still_open():
        released = place.call("unmount", "last", within=LOOKED_FOR_S)
        assert released.returncode == 0, released.stdout + released.stderr
        assert not running.truth().still_open()
    totals = values["totals"]
    return Struck(
        hit,
        began=True,
        code=code,
        targets=totals["targets"],
        unknown=totals["unknown"],
        left=totals["left"],
    )
