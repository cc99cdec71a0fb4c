#!/usr/bin/env bash
# aiohttp 3.14 on Python 3.11: a POST leaves a turn of the event loop later than a GET does.
#
# Seen with aiohttp 3.14.5. A connector of one's own looks, when `connect` gives a connection, whether
# the request may still be sent. Then the process stands still for half a second (here: a callback
# that was scheduled in `connect` sleeps). A GET has left by then. So has a POST with a body on Python
# 3.12 and later. On Python 3.11 nothing of the POST has: it leaves when the process goes on, however
# long ago the look was.
#
# aiohttp writes a request without a body at once, and one with a body in a task of its own, the
# headers with it. From Python 3.12 on it begins that task at once; Python 3.11 cannot, so it begins
# in a later turn of the event loop. The same request is also cancelled before it was sent in the one
# version, and after it in the other.
#
# Output seen:
#   Python 3.11: GET sent before the pause, POST sent after the pause
#   Python 3.12: GET sent before the pause, POST sent before the pause
#
# What it means here: a worker that was frozen after its last look at its lease sent a mount request
# when it woke, for a server that was another worker's by then. So the body itself looks once more
# (orchestrator/em/fencing.py, `_Body`; tests/em/test_fencing.py).
set -euo pipefail

work=$(mktemp -d /tmp/finding-XXXXXX)
trap 'rm -rf "$work"' EXIT

cat >"$work/program.py" <<'PY'
import asyncio
import socket
import sys
import threading
import time

import aiohttp

PAUSE_S = 0.5


class Pausing(aiohttp.TCPConnector):
    """Lets the process stand still once `connect` has given a connection."""

    async def connect(self, req, traces, timeout):
        connection = await super().connect(req, traces, timeout)
        asyncio.get_running_loop().call_soon(self.pause)
        return connection

    def pause(self):
        self.began = time.monotonic()
        time.sleep(PAUSE_S)


def serve(listening, came_at):
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            came_at.append(time.monotonic())
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def main():
    listening = socket.create_server(("127.0.0.1", 0))
    came_at = []
    threading.Thread(target=serve, args=(listening, came_at), daemon=True).start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    words = []
    for method, body in (("GET", None), ("POST", b"<x/>")):
        connector = Pausing()
        async with aiohttp.ClientSession(connector=connector) as http:
            async with http.request(method, url, data=body):
                pass
        when = "before" if came_at[-1] < connector.began + PAUSE_S / 2 else "after"
        words.append(f"{method} sent {when} the pause")
    print(f"Python {sys.version_info.major}.{sys.version_info.minor}: {', '.join(words)}")


asyncio.run(main())
PY

for version in 3.11 3.12; do
  if ! "python$version" -c "" 2>/dev/null; then echo "this finding needs python$version" >&2; exit 2; fi
  "python$version" -m venv "$work/venv$version"
  "$work/venv$version/bin/pip" install --quiet --disable-pip-version-check "aiohttp==3.14.5"
  "$work/venv$version/bin/python" "$work/program.py"
done >"$work/seen"
cat "$work/seen"

cat >"$work/wanted" <<'TXT'
Python 3.11: GET sent before the pause, POST sent after the pause
Python 3.12: GET sent before the pause, POST sent before the pause
TXT
diff "$work/wanted" "$work/seen" && echo "as found"
