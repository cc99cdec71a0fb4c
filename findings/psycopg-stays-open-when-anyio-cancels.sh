#!/usr/bin/env bash
# psycopg 3.3 under anyio: `async with connection` does not close the connection when it is cancelled.
#
# Seen with psycopg 3.3.9, anyio 4.16.0 and Debian's PostgreSQL 15. A coroutine waits inside
# `async with await AsyncConnection.connect(...)`, with nothing under way at the server, and is
# cancelled. By `asyncio.timeout` the connection is closed. By anyio's `move_on_after` it is still
# open after the block, whenever the block has lasted longer than a moment.
#
# psycopg's documents say that the block closes the connection. Its end first rolls back. There is
# nothing to roll back, so it asks the server for nothing; but this version lets the loop go on once
# in between (psycopg.waiting.wait_async sleeps for 0 s, if it has not let the loop go on for a
# while). anyio cancels again there, as it does at every wait in a cancelled scope, and what would
# have closed the connection is not reached. It is open until it is garbage.
#
# Output seen:
#   asyncio.timeout: closed
#   anyio.move_on_after: open
#
# What it means here: a worker that ended while it listened for notifications left that connection
# open; a database has few. So connections are closed in a `finally` of our own
# (orchestrator/database/link.py, `hang_up`; tests/database/test_cancelled.py).
set -euo pipefail

binaries=$(ls -d /usr/lib/postgresql/15/bin 2>/dev/null || true)
version=$("${binaries:-/nowhere}/postgres" --version 2>/dev/null || true)
if [ -z "$version" ]; then echo "this finding is about Debian's postgresql-15"; exit 2; fi

work=$(mktemp -d /tmp/finding-XXXXXX)
as=()
if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid nobody --regid nogroup --clear-groups); chown nobody "$work"; fi
cd "$work"
trap '"${as[@]}" "$binaries/pg_ctl" stop -D "$work/data" -m immediate >/dev/null 2>&1 || true
      rm -rf "$work"' EXIT

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check "psycopg[binary]==3.3.9" "anyio==4.16.0"

"${as[@]}" "$binaries/initdb" -D data -U u -A trust --no-sync >/dev/null
"${as[@]}" "$binaries/pg_ctl" start -D data -w -l "$work/log" \
  -o "-c listen_addresses= -c unix_socket_directories=$work" >/dev/null

cat >program.py <<'PY'
import asyncio
import sys

import anyio
import psycopg


async def use(made):
    async with await psycopg.AsyncConnection.connect(sys.argv[1], autocommit=True) as connection:
        made.append(connection)
        await connection.execute("SELECT 1")
        await asyncio.sleep(60)


async def main():
    made = []
    try:
        async with asyncio.timeout(1):
            await use(made)
    except TimeoutError:
        pass
    with anyio.move_on_after(1):
        await use(made)
    for name, connection in zip(("asyncio.timeout", "anyio.move_on_after"), made, strict=True):
        print(f"{name}: {'closed' if connection.closed else 'open'}")
        await connection.close()


anyio.run(main)
PY
venv/bin/python program.py "host=$work user=u dbname=postgres" >seen
cat seen

cat >wanted <<'TXT'
asyncio.timeout: closed
anyio.move_on_after: open
TXT
diff wanted seen && echo "as found ($version)"
