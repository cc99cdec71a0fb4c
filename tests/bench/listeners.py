"""`python -m tests.bench.listeners PORT TOKEN COUNT`: pages that are open; half never read.

Ends when the server has ended all connections, or the process that made this one is gone.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys


def main(port: int, token: str, count: int) -> None:
    """Open the streams and read every second one."""
    parent = os.getppid()
    waiting = selectors.DefaultSelector()
    silent = []
    for number in range(count):
        stream = socket.create_connection(("127.0.0.1", port))
        head = f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}"
        stream.sendall(f"{head}\r\n\r\n".encode())
        if number % 2:
            silent.append(stream)
        else:
            waiting.register(stream, selectors.EVENT_READ)
    while waiting.get_map() and os.getppid() == parent:
        for key, _ in waiting.select(1.0):
            stream = key.fileobj  # type: ignore[assignment]  # what was registered
            if not _read(stream):
                waiting.unregister(stream)
                stream.close()


def _read(stream: socket.socket) -> bool:
    try:
        return bool(stream.recv(1 << 16))
    except OSError:
        return False


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
