"""Files of Linux guests: `/` in every spelling, and downloads by the same rules as checks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.core.model import MountRequest
from orchestrator.core.proof import Download, PathCheck
from orchestrator.simulator.exchange import Call, Refusal, Reply
from orchestrator.simulator.faults import FaultScript
from orchestrator.simulator.manager import SimSession, SimulatedManager
from orchestrator.simulator.server import HttpFace
from tests.scenarios.demanding import demand
from tests.scenarios.drill import Drill, Site, drill
from tests.scenarios.guests import File, Guests

pytestmark = pytest.mark.anyio

PLAN = "targets:\n  - {vm: hq-file0003, os: linux}\n"
HOSTS = b"127.0.0.1 localhost\n"
NAMESPACE = "http://www.veeam.com/ent/v1.0"


async def linux(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    face: Any,
    paths: Sequence[str],
    downloads: Sequence[Download],
) -> Drill:
    """Check that these paths exist in a Linux guest, and copy files out of it."""

    def ordered(request: MountRequest) -> MountRequest:
        return replace(request, downloads=tuple(downloads))

    demand(monkeypatch, {"there": [PathCheck(path=path) for path in paths]}, change=ordered)
    return await drill(tmp_path, monkeypatch, [Site(machines=4)], PLAN, face=face)


def fates(done: Drill) -> dict[str, tuple[str, str | None]]:
    """Return by path what became of each file, and the words on it."""
    (target,) = done.report["targets"]
    return {each["path"]: (each["fate"], each["message"]) for each in target["downloads"]}


async def test_a_download_finds_what_a_check_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/etc/hosts` lies below the volume that the mount shows, for both; so does a directory."""
    tree = {"root/etc/hosts": File(HOSTS), "root/etc/fstab": File(b""), "root/srv/x": File(b"x")}
    downloads = [
        Download(path="/etc/hosts", to=f"{tmp_path}/out/"),
        Download(path="/srv", to=f"{tmp_path}/all/", glob="*"),
    ]
    guests = Guests(lambda point: tree)

    done = await linux(tmp_path, monkeypatch, guests.face, ["/etc/hosts", "/srv"], downloads)

    assert done.outcome.code == 0
    assert (tmp_path / "out" / "hosts").read_bytes() == HOSTS
    assert (tmp_path / "all" / "x").read_bytes() == b"x"


async def test_a_name_with_a_backslash_is_never_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r"""`/srv/a\b` is one name; the file `b` in the directory `a` is another."""
    guests = Guests(lambda point: {"root/srv/a/b": File(b"another")})
    downloads = [
        Download(path="/srv/a\\b", to=f"{tmp_path}/out/"),
        Download(path="/srv/A/b", to=f"{tmp_path}/out/"),
        Download(path="/srv/a", to=f"{tmp_path}/out/", glob="B"),
    ]

    done = await linux(tmp_path, monkeypatch, guests.face, ["/srv/a"], downloads)

    assert fates(done) == {
        "/srv/a\\b": ("failed", "a name with a backslash cannot be asked for"),
        "/srv/A/b": ("failed", "there is no such path in the guest"),
        "/srv/a": ("failed", "no file there matches B"),
    }
    assert not (tmp_path / "out").exists()


# --- the root in every spelling ---------------------------------------------------------------


@dataclass(frozen=True)
class Spelling:
    """How a server addresses `/`, and what is below it; only these addresses answer."""

    named: str
    """Behind the mount and a slash, in the mount's own answer."""
    answers: str
    """The address of `/` that answers."""
    below: str
    """What stands before the names of the root's entries."""


SPELLINGS = {
    "nothing": Spelling("", "", ""),
    "encoded": Spelling("%2F", "%2F", "%2F/"),
    "encoded, and plain below it": Spelling("%2F", "%2F", ""),
    "encoded in small letters": Spelling("%2f", "%2f", "%2f/"),
    "encoded, decoded by a proxy": Spelling("%2F", "", ""),
}


class _RootFace(HttpFace):
    """One Linux guest with `/etc/hosts`, addressed in one spelling to the letter."""

    def __init__(
        self, manager: SimulatedManager, faults: FaultScript | None, spelling: Spelling
    ) -> None:
        super().__init__(manager, faults)
        self._spelling = spelling

    async def _dispatch(self, call: Call) -> Reply:
        above, found, below = call.path.partition("/mounts/")
        number, slash, guest = below.partition("/")
        session = self._session_of(call.headers)
        mount = f"https://em.example:9398{above}{found}{number}/"
        if session is None or not found or not number:
            return await super()._dispatch(call)
        if not slash:
            reply = await super()._dispatch(call)
            if call.method == "GET" and reply.xml is not None:
                entry = _entry(mount + self._spelling.named, "/", "/")
                reply.xml = _replaced(reply.xml, f"<FSRoots>{entry}</FSRoots>")
            return reply
        return self._guest(call, session, mount, guest)

    def _guest(self, call: Call, session: SimSession, mount: str, guest: str) -> Reply:
        below = mount + self._spelling.below
        hosts = f"{self._spelling.below}etc/hosts"
        etc = _entry(f"{below}etc", "/etc", "etc")
        file = _entry(f"{below}etc/hosts", "/etc/hosts", "hosts", len(HOSTS))
        if guest == hosts and call.method == "POST":
            return self._staged(call, session, f"{mount.partition('/api/')[2]}{hosts}")
        if guest == hosts and call.query.get("action") == "download":
            return Reply(200, raw=HOSTS)
        if guest == hosts:
            return _document("FileSystemEntry", file)
        if guest == self._spelling.answers:
            return _document("FileSystemEntries", f"<Directories>{etc}</Directories>")
        if guest == f"{self._spelling.below}etc":
            return _document("FileSystemEntries", f"<Files>{file}</Files>")
        raise Refusal(404, "The path is not found.")

    def _staged(self, call: Call, session: SimSession, address: str) -> Reply:
        task = self.manager.new_task(session, "FileRestoreFromMountPoint")

        def finish() -> None:
            task.state, task.success, task.downloads = (
                "Finished",
                True,
                [address + "?action=download"],
            )

        asyncio.get_running_loop().call_later(1.0, finish)
        return Reply(202, call.writer.task(task, whole=True))


def _entry(href: str, path: str, name: str, size: int | None = None) -> str:
    tag = "DirectoryEntry" if size is None else "FileEntry"
    told = "" if size is None else f"<Size>{size}</Size>"
    return f'<{tag} Href="{href}"><Path>{path}</Path><Name>{name}</Name>{told}</{tag}>'


def _document(root: str, inner: str) -> Reply:
    return Reply(200, f'<{root} xmlns="{NAMESPACE}">{inner}</{root}>')


def _replaced(xml: str, roots: str) -> str:
    before, _, rest = xml.partition("<FSRoots")
    return before + roots + rest.partition("</FSRoots>")[2]


@pytest.mark.parametrize("what", SPELLINGS)
async def test_the_root_is_read_where_the_server_says_it_is(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 51: at its own Href byte for byte, at the built one where that is a 404."""
    spelling = SPELLINGS[what]

    def face(manager: SimulatedManager, faults: FaultScript | None) -> HttpFace:
        return _RootFace(manager, faults, spelling)

    downloads = [
        Download(path="/etc/hosts", to=f"{tmp_path}/out/"),
        Download(path="/etc", to=f"{tmp_path}/all/", glob="*"),
    ]
    done = await linux(tmp_path, monkeypatch, face, ["/", "/etc", "/etc/hosts"], downloads)

    assert done.outcome.code == 0, [done.report["targets"][0]["message"], fates(done)]
    assert (tmp_path / "out" / "hosts").read_bytes() == HOSTS
    assert (tmp_path / "all" / "hosts").read_bytes() == HOSTS
