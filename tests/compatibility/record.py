"""Record the files that a version of the program writes, with the code of that version.

In a checkout of the version (such as `git worktree add ../old 7ee8839`), with its packages::

    cd ../old && python NEW/tests/compatibility/record.py 0.1.0

The files go to a directory of that name beside this file. Two runs are recorded: one to its end,
with good and bad targets, checks, downloads and a webhook; and one that was killed. Only the
command line is used, so this script works with every version.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import yaml

HERE = Path("/srv/bulk-restore-recording")
"""Where it all happens, because paths are in the files; removed at the end."""

PROGRAM = (
    "import socket, sys; socket.gethostname = lambda: 'drill-host'; "
    "from orchestrator.__main__ import main; main()"
)


class _Hook(BaseHTTPRequestHandler):
    """Keep every message."""

    bodies: list[str] = []  # noqa: RUF012 - of the one server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.bodies.append(self.rfile.read(length).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_values: object) -> None:
        """Say nothing."""


def _plan(made: dict[str, object], *, name: str, delay: bool = False) -> str:
    """Return the recorded plan, for the servers of the plan that `simulate` made."""
    waves = made["waves"]
    assert isinstance(waves, list)
    targets = [target for wave in waves for target in wave["targets"]]
    linux = [target for target in targets if target.get("os") == "linux"]
    windows = [target for target in targets if target.get("os") != "linux"]
    check = [{"path": "C:\\Windows\\System32\\config\\SYSTEM", "min_size": "1KiB"}]
    plan = {
        "version": 1,
        "name": name,
        "description": "Recorded for later versions",
        "servers": made["servers"],
        "reason": "CHG-7",
        "limits": {"mounts": 3, "deadline": "30m"},
        "objectives": {"rto": "1s", "rpo": "366d"},
        "defaults": {"retries": {"attempts": 1, "delay": "0s"}},
        "checks": {
            "system": check,
            "broken": [{"dir": "C:\\", "absent": ["*"]}],
        },
        "notifications": [{"webhook": {"url": {"env": "HOOK"}}}],
        "waves": [
            {
                "name": "first",
                "targets": [
                    {
                        **windows[0],
                        "checks": ["system"],
                        "download": [
                            {
                                "path": "C:\\Windows\\System32\\config\\SAM",
                                "to": "./restored/",
                                "max_size": "9MiB",
                            }
                        ],
                    },
                    {**windows[1], "checks": ["system", "broken"], "label": "Second"},
                    windows[2],
                ],
            },
            {
                "name": "second",
                "after": ["first"],
                "targets": [
                    {**windows[3], "point": {"policy": "latest", "fallback": {"count": 1}}},
                    *linux[:2],
                    {"vm": "no-such-machine", "server": windows[0]["server"]},
                ],
            },
        ],
    }
    return json.dumps(plan, indent=1)


def _started(*arguments: str, output: Path | None = None) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "LOGNAME": "drill",
        "HOOK": "http://127.0.0.1:18980/hook/secret",
        "BULK_RESTORE_DEMO_PASSWORD": "recorded-password",
    }
    where = output.open("w") if output is not None else subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=environment,
        text=True,
        stdout=where,
        stderr=sys.stderr,
        cwd=HERE,
    )


def _ended(*arguments: str, output: Path | None = None) -> int:
    return _started(*arguments, output=output).wait()


def main(version: str) -> None:
    """Record everything."""
    to = Path(__file__).parent / version
    to.mkdir(exist_ok=True)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    server = HTTPServer(("127.0.0.1", 18980), _Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    simulator = _started(
        *("simulate", "--servers", "1", "--machines", "40", "--targets", "40", "--speed", "20"),
        *("-o", "made.yaml"),
    )
    try:
        while not (HERE / "made.yaml").exists() or not (HERE / "made.yaml").read_text():
            time.sleep(0.2)
        made = yaml.safe_load((HERE / "made.yaml").read_text())
        (HERE / "plan.yaml").write_text(_plan(made, name="recorded"))
        (HERE / "killed.yaml").write_text(_plan(made, name="killed"))
        _ended("plan", "plan.yaml", "-o", "plan.locked.json")
        whole = ("--yes", "--state", "state", "--report")
        whole_run = ("run", "plan.yaml", *whole, "reports/whole", "--json")
        _ended(*whole_run, output=to / "events.jsonl")
        killed = _started("run", "killed.yaml", *whole, "reports/killed")
        time.sleep(6)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    finally:
        simulator.send_signal(signal.SIGINT)
        simulator.wait()
    _keep(to, version)
    shutil.rmtree(HERE)


def _keep(to: Path, version: str) -> None:
    code = subprocess.run(
        [sys.executable, "-c", "import orchestrator as o; print(o.__file__)"],
        env={"PYTHONPATH": str(Path.cwd())},
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(code).is_relative_to(Path.cwd()), f"{version} was recorded with {code}"
    for name in ("plan.yaml", "plan.locked.json"):
        shutil.copy(HERE / name, to / name)
    shutil.copytree(HERE / "reports/whole", to / "report", dirs_exist_ok=True)
    (to / "webhook.jsonl").write_text("".join(f"{body}\n" for body in _Hook.bodies))
    with sqlite3.connect(HERE / "state/journal.sqlite") as journal:
        (to / "journal.sql").write_text("\n".join(journal.iterdump()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
