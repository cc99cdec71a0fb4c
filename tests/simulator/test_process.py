"""Checklist, "TLS with a self-signed certificate": the same server as a real HTTPS process."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import aiohttp
import anyio
import pytest

from orchestrator.core.errors import SimulatedServerEnded
from orchestrator.simulator.certificates import self_signed
from orchestrator.simulator.process import ACCOUNT, Settings, _Child, simulation
from tests.processes import Place, ended, until_said
from tests.simulator.wire import DOWNLOAD_SPEC, NS, SPEC, TOKEN, Answer
from tests.virtual.guests import read

pytestmark = [pytest.mark.anyio, pytest.mark.process]

PASSWORD = "not-a-real-password"
BASIC = b64encode(f"{ACCOUNT}:{PASSWORD}".encode()).decode()


@pytest.fixture
def anyio_backend() -> str:
    """Processes and sockets need real time."""
    return "asyncio"


def settings(name: str, seed: int) -> Settings:
    """Return a small server whose mounts take a moment."""
    return Settings(
        name=name,
        seed=seed,
        machines=8,
        password=PASSWORD,
        duration_range=(0.0, 0.01),
        behaviour={"operation_finished_share": 0.0, "href_host": "request", "stage_s": 0.05},
        faults=[{"kind": "xml_503", "path": "/querySvc$"}],
    )


async def asked(
    http: aiohttp.ClientSession, method: str, url: str, token: str = "", body: bytes = b""
) -> Answer:
    """Send one request as it is."""
    headers = {"Accept": "application/xml", "Content-Type": "application/xml"}
    headers |= {TOKEN: token} if token else {"Authorization": f"Basic {BASIC}"}
    async with http.request(method, url, headers=headers, data=body) as response:
        read = await response.read()
        return Answer(response.status, response.reason, response.headers.copy(), read)


async def finished(http: aiohttp.ClientSession, task: str, token: str) -> Answer:
    """Poll a task until it is finished."""
    while True:
        answer = await asked(http, "GET", task, token)
        if answer.texts("State") == ["Finished"]:
            return answer
        await anyio.sleep(0.02)


async def test_two_servers_as_processes_over_https(tmp_path: Path) -> None:
    """A real HTTPS process: certificate, session, mount, unmount, faults and the side channel."""
    servers = [settings("hq", 1), settings("dr", 2)]
    async with simulation(servers, password=PASSWORD, directory=tmp_path) as running:
        trusted = ssl.create_default_context(cafile=str(running.certificate.certificate))
        connector = aiohttp.TCPConnector(ssl=trusted)
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar()
        ) as http:
            for one in servers:
                base = f"{running.urls[one.name]}/api"
                logon = await asked(http, "POST", f"{base}/sessionMngr/?v=latest")
                token = logon.headers[TOKEN]
                point = next(
                    found for found in one.inventory().machines if found.os == "Windows"
                ).points[0]
                mounts = f"{base}/vmReplicaPoints/{point.id}/mounts"
                started = await asked(http, "POST", mounts, token, SPEC % b"Windows")
                (task,) = started.hrefs("Delete")
                done = await finished(http, task, token)

                assert (logon.status, started.status) == (201, 202)
                assert started.headers["Content-Length"] == str(len(started.body))
                assert task == f"{base}/tasks/task-1"
                assert done.all("Result")[0].attrib["Success"] == "true"
                assert (await asked(http, "GET", f"{mounts}/1", token)).all("DirectoryEntry")
                if one.name == "hq":
                    assert (await asked(http, "DELETE", f"{mounts}/1", token)).status == 204
                refused = await asked(http, "GET", f"{base}/querySvc", token)
                assert (refused.status, refused.xml.tag) == (503, f"{NS}Error")

        truth = await running.truth()
        children = [child.process for child in running.children]

        assert [(fate.server, fate.succeeded, fate.closed_by) for fate in truth.mounts] == [
            ("hq", True, "unmounted"),
            ("dr", True, None),
        ]
        assert (truth.logons, truth.dangerous) == (2, 0)
    assert [child.returncode for child in children] == [0, 0]


async def test_a_file_is_staged_and_downloaded_over_https(tmp_path: Path) -> None:
    """Megabytes through a real socket and TLS, with their length; the side channel counts them."""
    one = settings("hq", 1)
    path = "E:/Data/table-0004.mdf"
    async with simulation([one], password=PASSWORD, directory=tmp_path) as running:
        trusted = ssl.create_default_context(cafile=str(running.certificate.certificate))
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusted), cookie_jar=aiohttp.DummyCookieJar()
        ) as http:
            base = f"{running.urls['hq']}/api"
            token = (await asked(http, "POST", f"{base}/sessionMngr/?v=latest")).headers[TOKEN]
            point = next(
                found for found in one.inventory().machines if found.os == "Windows"
            ).points[0]
            mounts = f"{base}/vmReplicaPoints/{point.id}/mounts"
            started = await asked(http, "POST", mounts, token, SPEC % b"Windows")
            await finished(http, started.hrefs("Delete")[0], token)
            order = f"{mounts}/1/{path}?action=restore"
            accepted = await asked(http, "POST", order, token, DOWNLOAD_SPEC)
            staged = await finished(http, accepted.hrefs("Delete")[0], token)
            answer = await asked(http, "GET", staged.hrefs("Download")[0], token)
        truth = await running.truth()

    assert answer.headers["Content-Length"] == str(5 * 1024 * 1024)
    assert answer.body == read(point, path)
    (fate,) = truth.mounts
    assert (fate.staged, fate.downloaded, fate.downloaded_bytes) == (1, 1, 5 * 1024 * 1024)


async def test_the_certificate_is_self_signed_and_has_the_named_fingerprint(
    tmp_path: Path,
) -> None:
    """TLS with a self-signed certificate: unknown to the system, known by its fingerprint."""
    async with (
        simulation([settings("hq", 1)], password=PASSWORD, directory=tmp_path) as running,
        aiohttp.ClientSession() as http,
    ):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(f"{running.urls['hq']}/api/")
        pin = aiohttp.Fingerprint(bytes.fromhex(running.certificate.fingerprint_sha256))
        async with http.get(f"{running.urls['hq']}/api/", ssl=pin) as response:
            assert response.status == 200
        wrong = aiohttp.Fingerprint(hashlib.sha256(b"another").digest())
        with pytest.raises(aiohttp.ServerFingerprintMismatch):
            await http.get(f"{running.urls['hq']}/api/", ssl=wrong)


def test_the_key_is_for_its_owner_only(tmp_path: Path) -> None:
    """The private key's file can be read by nobody else."""
    made = self_signed(tmp_path)

    assert made.key.stat().st_mode & 0o777 == 0o600


async def test_a_server_that_has_ended_is_named(tmp_path: Path) -> None:
    """Its counts are gone: whoever asks for them is told so, also if it ends in the middle."""
    async with simulation(
        [settings("hq", 1), settings("dr", 2)], password=PASSWORD, directory=tmp_path
    ) as running:
        process = running.children[1].process
        process.send_signal(signal.SIGTERM)  # is not for it
        process.send_signal(signal.SIGINT)
        assert (await running.truth()).logons == 0
        process.kill()
        process.wait()
        for _ in range(2):
            with pytest.raises(SimulatedServerEnded, match=r"server dr has ended \(signal 9\)"):
                await running.truth()


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    """A server that ends while it answers is named as one that has ended."""
    child = _Child(settings("hq", 1), _saying("printf '{\"port\": 1'; exit 3"))

    with pytest.raises(SimulatedServerEnded, match=r"server hq has ended \(exit code 3\)"):
        child.read()
    child.end()


def _saying(script: str) -> subprocess.Popen[bytes]:
    """Return a process in place of a server."""
    pipe = subprocess.PIPE
    return subprocess.Popen(["/bin/sh", "-c", script], stdin=pipe, stdout=pipe)


@pytest.mark.parametrize("said", [b"", b'{"name": "hq"'])
def test_a_server_that_is_not_told_what_to_serve_ends(said: bytes) -> None:
    """Its parent has ended before: nothing is wrong with the server."""
    command = [sys.executable, "-m", "orchestrator.simulator"]
    ended = subprocess.run(command, input=said, capture_output=True, timeout=120, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_server_ends_with_its_parent(tmp_path: Path) -> None:
    """When the side channel closes the process ends: no server outlives its parent."""
    certificate = self_signed(tmp_path)
    program = (
        "import sys, os\n"
        "from pathlib import Path\n"
        "from orchestrator.simulator.certificates import Certificate\n"
        "from orchestrator.simulator.process import Settings, _port_of, _started\n"
        "certificate = Certificate(certificate=Path(sys.argv[1]), key=Path(sys.argv[2]),"
        " fingerprint_sha256='')\n"
        "child = _started(Settings(name='hq', seed=1, machines=4, password='x'), certificate)\n"
        "_port_of(child)\n"
        "print('serving', flush=True)\n"
        "os._exit(9)\n"
    )
    command = [sys.executable, "-c", program, str(certificate.certificate), str(certificate.key)]

    # The server inherits this pipe as its stderr: `run` returns only when both are gone.
    parent = subprocess.run(command, capture_output=True, timeout=120, check=False)

    assert (parent.returncode, parent.stdout.strip(), parent.stderr) == (9, b"serving", b"")


async def test_windows_of_simulate_count_from_the_start_of_its_servers(tmp_path: Path) -> None:
    """Not from the start of the machine: one window is open at once, the other not for long."""
    age = time.monotonic()
    rules = [
        {"kind": "error_500", "path": "/open$", "until_s": age},
        {"kind": "error_500", "path": "/closed$", "from_s": age},
    ]
    faults = tmp_path / "faults.json"
    faults.write_text(json.dumps(rules), encoding="utf-8")
    options = ["--servers=1", "--machines=2", "--targets=1", f"--output={tmp_path / 'plan.yaml'}"]
    process = Place(tmp_path).start("simulate", "--faults", faults, *options)

    said = until_said(process, "Ctrl-C")
    found = re.search(r"https://\S+", said)
    assert found is not None
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        statuses = [
            (await asked(http, "GET", f"{found[0]}/api/{name}")).status
            for name in ("open", "closed")
        ]
    process.send_signal(signal.SIGINT)

    assert ended(process)[0] == 0
    assert statuses == [500, 401]
