"""What most people would write first, for comparison: `python -m tests.bench.naive KIND JOB`.

KIND is `asyncio` (a semaphore per server, one poll per task and second) or `threads` (the
requests package in a thread pool). Neither survives a lost answer, a lost session or Ctrl-C;
both are written to be fast where everything goes well. JOB is a JSON file: a list of servers
with url, username, password, limit and machines as [name, os].
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import xml.etree.ElementTree as ET  # the servers are our own
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import requests
import urllib3

NS = "{http://www.veeam.com/ent/v1.0}"
XML = {"Accept": "application/xml", "Content-Type": "application/xml"}
TICK_S = 1.0


def _login(server: dict[str, Any]) -> dict[str, str]:
    pair = f"{server['username']}:{server['password']}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _query(vm: str) -> str:
    condition = quote(f'VmDisplayName=="{vm}"', safe="")
    return (
        f"/api/query?type=VmReplicaPoint&format=Entities&sortDesc=CreationTime&filter={condition}"
    )


def _body(os: str) -> str:
    return f'<StartMountSpec xmlns="{NS[1:-1]}"><OsKind>{os}</OsKind></StartMountSpec>'


def _newest(text: str) -> str:
    entity = next(ET.fromstring(text).iter(f"{NS}VmReplicaPoint"))
    return entity.attrib["UID"].rpartition(":")[2]


def _text(text: str, tag: str) -> str:
    return ET.fromstring(text).findtext(f"{NS}{tag}") or ""


async def _with_asyncio(servers: list[dict[str, Any]]) -> None:
    async def call(http: aiohttp.ClientSession, method: str, path: str, body: str = "") -> str:
        async with http.request(method, path, data=body or None, ssl=False) as answer:
            answer.raise_for_status()
            return await answer.text()

    async def mount(
        http: aiohttp.ClientSession, slots: asyncio.Semaphore, base: str, vm: str, os: str
    ) -> None:
        async with slots:
            point = _newest(await call(http, "GET", base + _query(vm)))
            mounts = f"{base}/api/vmReplicaPoints/{point}/mounts"
            task = _text(await call(http, "POST", mounts, _body(os)), "TaskId")
            while True:
                await asyncio.sleep(TICK_S)
                text = await call(http, "GET", f"{base}/api/tasks/{task}")
                if _text(text, "State") == "Finished":
                    break
            await call(http, "GET", f"{mounts}/1")
            await call(http, "DELETE", f"{mounts}/1")

    async def one(server: dict[str, Any]) -> None:
        base = server["url"]
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            async with http.post(
                f"{base}/api/sessionMngr/", headers=_login(server), ssl=False
            ) as answer:
                http.headers["X-RestSvcSessionId"] = answer.headers["X-RestSvcSessionId"]
            http.headers.update(XML)
            slots = asyncio.Semaphore(server["limit"])
            async with asyncio.TaskGroup() as tasks:
                for vm, os in server["machines"]:
                    tasks.create_task(mount(http, slots, base, vm, os))

    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(one(server))


def _with_threads(servers: list[dict[str, Any]]) -> None:
    urllib3.disable_warnings()

    def mount(http: requests.Session, base: str, vm: str, os: str) -> None:
        point = _newest(http.get(base + _query(vm)).text)
        mounts = f"{base}/api/vmReplicaPoints/{point}/mounts"
        task = _text(http.post(mounts, data=_body(os)).text, "TaskId")
        while True:
            time.sleep(TICK_S)
            if _text(http.get(f"{base}/api/tasks/{task}").text, "State") == "Finished":
                break
        http.get(f"{mounts}/1").raise_for_status()
        http.delete(f"{mounts}/1").raise_for_status()

    def one(server: dict[str, Any]) -> None:
        base = server["url"]
        with requests.Session() as http, ThreadPoolExecutor(server["limit"]) as pool:
            http.verify = http.trust_env = False
            http.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=server["limit"]))
            answer = http.post(f"{base}/api/sessionMngr/", headers=_login(server))
            http.cookies.clear()
            http.headers.update(XML)
            http.headers["X-RestSvcSessionId"] = answer.headers["X-RestSvcSessionId"]
            jobs = [pool.submit(mount, http, base, vm, os) for vm, os in server["machines"]]
            for job in jobs:
                job.result()

    with ThreadPoolExecutor(len(servers)) as pool:
        for job in [pool.submit(one, server) for server in servers]:
            job.result()


if __name__ == "__main__":
    work = json.loads(Path(sys.argv[2]).read_text())
    if sys.argv[1] == "asyncio":
        asyncio.run(_with_asyncio(work))
    else:
        _with_threads(work)
