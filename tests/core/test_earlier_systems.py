"""Which systems earlier runs know: by server, machine and backup server, the newest word first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.core.earlier_runs.naming import Naming
from orchestrator.core.earlier_runs.systems import KnownSystems, known_systems
from orchestrator.core.events import RunStarted, ServerFacts, SystemFound, to_json
from orchestrator.core.model import BackupServerName, MountKey, OsKind, RunId, ServerName

HQ, VBR = ServerName("hq"), BackupServerName("vbr-01")
URL = "https://em-hq.example.net:9398"


def started(url: str = URL) -> bytes:
    """Return the first record of a run with one server."""
    facts = ServerFacts(name=HQ, url=url, tls="system", api_version="v1_7", backup_server_limits={})
    return to_json(
        RunStarted(
            at=0,
            run=RunId("r"),
            started_at=datetime(2026, 11, 23, tzinfo=UTC),
            plan="p",
            plan_path="p.yaml",
            plan_sha256="0" * 64,
            version="1",
            servers=(facts,),
        )
    )


def found(os_kind: OsKind = OsKind.LINUX, **fields: Any) -> bytes:
    """Return what a run has found out of a machine."""
    facts: dict[str, Any] = {"server": HQ, "vm": "web01", "backup_server": VBR}
    return to_json(
        SystemFound(at=1, key=MountKey("w/hq/web01"), os_kind=os_kind, **(facts | fields))
    )


def known(*rows: tuple[str, bytes], naming: Naming | None = None) -> KnownSystems:
    """Return what is known from the records of runs `a` and `b`."""
    firsts = {"a": started(), "b": started()}
    return known_systems(firsts, rows, naming or Naming(urls={HQ: URL}))


def test_the_newest_word_counts() -> None:
    """A machine that was changed is what it was last."""
    systems = known(("a", found()), ("b", found(OsKind.WINDOWS)))

    assert systems.known(HQ, "web01", VBR) is OsKind.WINDOWS


def test_a_machine_is_known_by_its_server_and_its_backup_server() -> None:
    """Two machines of one name are two machines; upper and lower case make no difference."""
    systems = known(("a", found()))

    assert systems.known(HQ, "WEB01", VBR) is OsKind.LINUX
    assert systems.known(HQ, "web01", BackupServerName("vbr-02")) is None
    assert systems.known(ServerName("dr"), "web01", VBR) is None
    assert systems.known(HQ, "web02", VBR) is None


def test_a_server_is_known_by_its_address_whatever_a_plan_calls_it() -> None:
    """Renaming it keeps what is known; another server of the same name has nothing of it."""
    other = Naming(urls={ServerName("head"): f"{URL}/", HQ: "https://em-other.example.net:9398"})
    systems = known(("a", found()), naming=other)

    assert systems.known(ServerName("head"), "web01", VBR) is OsKind.LINUX
    assert systems.known(HQ, "web01", VBR) is None


def test_what_a_simulated_server_shows_says_nothing_of_a_real_one() -> None:
    """Not even at the same address."""
    real = Naming(urls={HQ: URL}, is_simulated=lambda server: False)

    assert known(("a", found(simulated=True)), naming=real).known(HQ, "web01", VBR) is None
    assert known(("a", found(simulated=True))).known(HQ, "web01", VBR) is OsKind.LINUX


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"os_kind":"BSD","server":"hq","vm":"web01"}', b'{"os_kind":[]}']
)
def test_a_record_that_cannot_be_read_says_nothing(body: bytes) -> None:
    """The others count all the same."""
    systems = known(("a", found()), ("b", body))

    assert systems.known(HQ, "web01", VBR) is OsKind.LINUX
