"""Webhooks over real TLS: what arrives, what is told of what does not, and that nobody waits."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from orchestrator.app.notify.composing import RunEnding
from orchestrator.app.notify.notifier import WAITING, Notifier
from orchestrator.app.notify.posting import Patience, Webhook
from orchestrator.core.errors import CredentialError
from orchestrator.core.events import RunHalted, WaveFinished
from orchestrator.core.model import WaveName
from orchestrator.core.run_state import RunState
from orchestrator.plan.file.access import EnvironmentSecret, SecretReference
from orchestrator.plan.file.settings import HookKind, Notification, NotifyOn
from orchestrator.report.objective_values import Objective
from tests.app.notify.hooks import PART, Hooks, hooks
from tests.hostile.searching import forms, holding
from tests.report.builders import Fate, finished, life, run_of

pytestmark = pytest.mark.anyio

CALM = Patience(connect=60.0, answer=60.0, pauses=(0.01, 0.01), longest_pause=0.05)
"""It waits for every answer that comes, however busy this machine is."""
HASTY = replace(CALM, answer=1.0)
"""For a webhook that does not answer."""
ENDING = RunEnding(
    exit_code=3,
    missed=(Objective(scope="run", kind="rto", target_s=60, actual_s=None, met=False),),
    report="/reports/1",
)


@pytest.fixture
def anyio_backend() -> str:
    """Return the backend: real time, for what is here of it is real too."""
    return "asyncio"


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """See that no library logs an address, however loud it is."""
    caplog.set_level(logging.DEBUG)
    yield
    assert not holding(forms(PART), caplog.text.encode())


def run() -> RunState:
    """Return a run of two waves that left a mount and lost a target."""
    lives = [
        life("dc01", wave="directory"),
        life("sql01", Fate.TASK_FAILED, words="no space"),
        life("sql02", Fate.LEFT),
        life("sql03", Fate.VANISHED),
    ]
    return run_of(*lives, [finished(exit_code=3)])


def hook(name: str, ca_file: Path | None, **more: Any) -> Notification:
    """Return a notification whose address the variable `name` holds."""
    found = Notification(
        url=EnvironmentSecret(name=name), ca_file=str(ca_file) if ca_file else None
    )
    return replace(found, **more)


async def told(
    running: Hooks | None,
    *notifications: Notification,
    grace: float = 60.0,
    patience: Patience = CALM,
    state: RunState | None = None,
) -> list[str]:
    """Tell the end of a run; return what was noted. A name that begins with `http` is itself."""
    notes: list[str] = []
    shown = run()

    async def resolve(reference: SecretReference) -> str:
        assert isinstance(reference, EnvironmentSecret)
        if reference.name == "unset":
            raise CredentialError("the environment variable unset is not set, or empty")
        if running is None or "://" in reference.name:
            return reference.name
        return running.url(reference.name)

    notifier = Notifier(notifications, lambda: shown, resolve, patience=patience, grace=grace)
    async with notifier.delivering(notes.append):
        notifier.observe(RunHalted(at=1.0, reason="budget", detail="too many failed"), None)
        notifier.observe(WaveFinished(at=2.0, wave=WaveName("databases")), None)
        notifier.observe(WaveFinished(at=3.0, wave=WaveName("directory")), None)
        await notifier.finish(ENDING)
    assert not any(holding(forms(PART), note.encode()) for note in notes)
    assert not any("127.0.0.1" in note or "localhost" in note for note in notes)
    return notes


async def test_every_event_arrives_once_in_order_over_tls(tmp_path: Path) -> None:
    """What the plan asks for is posted as JSON, and a wave that ended well is no news."""
    async with hooks(tmp_path) as running:
        notes = await told(running, hook("good", running.ca_file))

    bodies = running.taken("good")
    assert notes == []
    assert [body["event"] for body in bodies] == [
        "halted",
        "wave_failed",
        "finished",
        "objective_missed",
        "leftover",
    ]
    assert len({body["id"] for body in bodies}) == 5
    assert bodies[1]["wave"] == "databases"
    end = bodies[2]
    assert (end["v"], end["good"], end["run"]["exit_code"]) == (1, False, 3)
    assert end["totals"] == {
        "targets": 4,
        "verified": 1,
        "mounted": 1,
        "failed": 1,
        "unknown": 1,
        "skipped": 0,
        "cancelled": 0,
        "left": 1,
        "may_be_mounted": 1,
    }
    assert [t["vm"] for t in end["targets"]] == ["sql02", "sql03", "sql01"]
    assert {t["vm"] for t in bodies[4]["targets"]} == {"sql02", "sql03"}
    assert end["report"] == "/reports/1"
    assert "hq.example" not in json.dumps(bodies)
    assert all("Cookie" not in headers for headers in running.headers)


async def test_only_what_was_asked_for_is_told(tmp_path: Path) -> None:
    """`on` chooses; each webhook gets its own choice in its own shape."""
    async with hooks(tmp_path) as running:
        notes = await told(
            running,
            hook("good", running.ca_file, on=(NotifyOn.LEFTOVER,), kind=HookKind.SLACK),
            hook("busy", running.ca_file, on=(NotifyOn.FINISHED,), kind=HookKind.TEAMS),
        )

    assert notes == []
    (slack,) = running.taken("good")
    assert "MOUNTS LEFT OPEN" in slack["text"]
    assert len(running.taken("busy")) == 3
    assert running.taken("busy")[0]["type"] == "message"


@pytest.mark.parametrize(
    ("manner", "why", "requests"),
    [
        ("gone", "it answered 404 (no_service)", 1),
        ("telltale", "it answered 400", 1),
        ("moved", "it answered 307: redirects are not followed", 1),
        ("broken", "it answered 500", 3),
        ("slow", "it did not answer within 1 s", 3),
        ("endless", "it answered 400", 1),
    ],
)
async def test_a_webhook_that_does_not_take_it_is_told_in_our_words(
    tmp_path: Path, manner: str, why: str, requests: int
) -> None:
    """Only what may help is repeated, a few times; no redirect is followed."""
    only = {"on": (NotifyOn.FINISHED,)}
    async with hooks(tmp_path) as running:
        patience = HASTY if manner == "slow" else CALM
        notes = await told(running, hook(manner, running.ca_file, **only), patience=patience)

    assert notes == [f"notification 1 (generic): 'finished' was not delivered: {why}"]
    assert len(running.taken(manner)) == requests
    assert running.taken("good") == []


async def test_a_connection_that_breaks_is_tried_again_and_told(tmp_path: Path) -> None:
    """A lost answer may mean a second copy; its id tells."""
    async with hooks(tmp_path) as running:
        notes = await told(running, hook("rude", running.ca_file, on=(NotifyOn.FINISHED,)))

    assert len(notes) == 1
    assert "the connection broke" in notes[0]
    assert len({body["id"] for body in running.taken("rude")}) == 1


@pytest.mark.parametrize("kind", [HookKind.SLACK, HookKind.TEAMS])
@pytest.mark.parametrize("manner", ["rude", "slow", "broken"])
async def test_people_get_no_message_twice(tmp_path: Path, manner: str, kind: HookKind) -> None:
    """One whose answer was lost may have arrived; only a program knows a second copy by its id."""
    only: dict[str, Any] = {"on": (NotifyOn.FINISHED,), "kind": kind}
    async with hooks(tmp_path) as running:
        patience = HASTY if manner == "slow" else CALM
        notes = await told(running, hook(manner, running.ca_file, **only), patience=patience)

    assert len(running.taken(manner)) == 1
    assert len(notes) == 1
    assert "'finished' was not delivered" in notes[0]


@pytest.mark.parametrize(
    ("manner", "why", "requests"),
    [
        ("one", None, 1),
        ("good", None, 1),
        ("throttled", None, 3),
        ("oversized", "it answered 200, and in the text: HTTP error 413", 1),
        ("unhappy", "it answered 200 with the text of an error", 1),
    ],
)
async def test_teams_is_judged_by_the_text_of_its_answer(
    tmp_path: Path, manner: str, why: str | None, requests: int
) -> None:
    """Its status is 200 also where it took no message."""
    only: dict[str, Any] = {"on": (NotifyOn.FINISHED,), "kind": HookKind.TEAMS}
    async with hooks(tmp_path) as running:
        notes = await told(running, hook(manner, running.ca_file, **only))

    told_of = "notification 1 (teams): 'finished' was not delivered"
    assert notes == ([] if why is None else [f"{told_of}: {why}"])
    assert len(running.taken(manner)) == requests


async def test_every_wave_that_failed_is_a_message_of_its_own(tmp_path: Path) -> None:
    """A program that leaves out an id it knows loses none."""
    state = run_of(
        life("dc01", Fate.TASK_FAILED, wave="directory"), life("sql01", Fate.TASK_FAILED)
    )
    async with hooks(tmp_path) as running:

        async def resolve(_reference: SecretReference) -> str:
            return running.url("good")

        hooked = [hook("good", running.ca_file, on=(NotifyOn.WAVE_FAILED,))]
        notifier = Notifier(hooked, lambda: state, resolve, patience=CALM)
        async with notifier.delivering(pytest.fail):
            for wave in ("directory", "databases"):
                notifier.observe(WaveFinished(at=1.0, wave=WaveName(wave)), None)
            await notifier.finish(ENDING)

    assert [body["wave"] for body in running.taken("good")] == ["directory", "databases"]
    assert len({body["id"] for body in running.taken("good")}) == 2


async def test_many_failures_are_two_notes(tmp_path: Path) -> None:
    """The first says why, and one at the end how many."""
    async with hooks(tmp_path) as running:
        notes = await told(running, hook("gone", running.ca_file))

    assert len(notes) == 2
    assert "'halted' was not delivered" in notes[0]
    assert "5 of 5 messages were not delivered" in notes[1]


async def test_a_certificate_that_is_not_trusted_gets_nothing(tmp_path: Path) -> None:
    """Without the CA of this server the system's authorities decide, and they do not know it."""
    async with hooks(tmp_path) as running:
        notes = await told(running, hook("good", None, on=(NotifyOn.FINISHED,)))

    assert running.posted == []
    assert "its certificate is not trusted" in notes[0]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("unset", "the environment variable unset is not set, or empty"),
        (f"http://hooks.example.net/{PART}", "its address must begin with https://"),
        (f"ftp://127.0.0.1/{PART}", "its address must begin with https://"),
        (f"https:///{PART}", "its reference does not lead to an address"),
        (f"https://a b/{PART}", "its reference does not lead to an address"),
        (f"https://[::1/{PART}", "its reference does not lead to an address"),
        (f"https://127.0.0.1:99999/{PART}", "its reference does not lead to an address"),
        (PART, "its reference does not lead to an address"),
    ],
)
async def test_what_is_no_address_is_told_once_and_early(address: str, why: str) -> None:
    """The note comes when the run begins, not when it ends; nothing of the value is in it."""
    notes = await told(None, hook(address, None))

    assert notes == [f"notification 1 (generic): nothing can be delivered: {why}"]


async def test_an_unusable_ca_file_is_told(tmp_path: Path) -> None:
    """Missing or empty: nothing is sent that nobody vouches for."""
    (tmp_path / "empty.pem").write_text("")

    missing = await told(None, hook(f"https://127.0.0.1:1/{PART}", tmp_path / "missing.pem"))
    empty = await told(None, hook(f"https://127.0.0.1:1/{PART}", tmp_path / "empty.pem"))

    assert "its ca_file cannot be used: No such file or directory" in missing[0]
    assert "its ca_file cannot be used" in empty[0]


async def test_http_is_for_this_machine_only(tmp_path: Path) -> None:
    """A relay on loopback may be posted to without TLS."""
    async with hooks(tmp_path, tls=False) as running:
        notes = await told(running, hook("good", None, on=(NotifyOn.FINISHED,)))

    assert notes == []
    assert len(running.taken("good")) == 1


async def test_a_dead_host_and_a_slow_one_take_only_the_grace(tmp_path: Path) -> None:
    """The end waits a bounded time for all of them together, and says what did not arrive."""
    started = time.monotonic()
    async with hooks(tmp_path) as running:
        dead = hook(f"https://127.0.0.1:1/{PART}", running.ca_file)
        notes = await told(running, dead, hook("slow", running.ca_file), grace=1.5)
    took = time.monotonic() - started

    assert took < 29, "the slow one answers after 30 s"
    assert any("notification 1" in note and "cannot be reached" in note for note in notes)
    assert any("notification 2" in note and "messages were not delivered" in note for note in notes)


async def test_the_queue_is_bounded_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    """A flood waits nowhere: the run is not held, and the end tells how many were lost."""
    notes: list[str] = []
    state = run()
    async with hooks(tmp_path) as running:

        async def resolve(_reference: SecretReference) -> str:
            return running.url("good")

        hooked = [hook("good", running.ca_file, on=(NotifyOn.HALTED,))]
        notifier = Notifier(hooked, lambda: state, resolve, patience=CALM)
        async with notifier.delivering(notes.append):
            for _ in range(WAITING + 7):
                notifier.observe(RunHalted(at=1.0, reason="budget", detail="x"), None)
            await notifier.finish(ENDING)

    assert len(running.taken("good")) == WAITING
    assert f"7 of {WAITING + 7} messages were not delivered" in notes[-1]


async def test_a_receiver_is_asked_again_no_later_than_it_may_ask_for(tmp_path: Path) -> None:
    """Retry-After is honoured within our own limit."""
    async with (
        hooks(tmp_path) as running,
        Webhook(running.url("busy"), running.ca_file.read_bytes(), CALM) as webhook,
    ):
        await webhook.post(b"{}")

    assert len(running.taken("busy")) == 3


async def test_nobody_to_tell_costs_nothing() -> None:
    """Without notifications there is no task, and no message is composed."""
    notifier = Notifier((), lambda: pytest.fail("nobody asked"), lambda _: pytest.fail("nor here"))

    async with notifier.delivering(lambda _: pytest.fail("nothing to note")):
        notifier.observe(RunHalted(at=1.0, reason="budget", detail="x"), None)
        await anyio.lowlevel.checkpoint()

    assert not notifier.is_needed
