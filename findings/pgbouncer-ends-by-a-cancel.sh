#!/usr/bin/env bash
# PgBouncer ends, for all its clients, when somebody asks to cancel a query and leaves at once.
#
# Seen with Debian's pgbouncer 1.18.0 in front of Debian's PostgreSQL 15: a client runs a query; a
# second connection sends a CancelRequest for it, as the protocol wants, and closes without waiting
# for PgBouncer to close. PgBouncer forgets that connection while its own request to the server is
# still under way. When that one is done, PgBouncer closes what is in the forgotten one's place by
# then, which may be a new client ("bouncer config error") or nobody: then it ends with
# "FATAL @src/objects.c:1060 in function disconnect_client(): bad client state: 0".
# Where the sender waits for the end of its connection, nothing happens.
#
# The documents of the protocol ("Canceling Requests in Progress") let a sender close, and say that
# a server answers nothing to such a request. So we had expected PgBouncer to live on.
#
# Output seen:
#   the sender waits: PgBouncer lives after 50 requests to cancel
#   the sender leaves: PgBouncer has ended, bad client state: 0
#
# What it means here: psycopg sends such a request when a task is cancelled, and leaves if it is
# cancelled once more. So a call to the database that is given up only loses its connection
# (orchestrator/database/link.py).
set -euo pipefail

version=$(dpkg-query -W -f '${Version}' pgbouncer 2>/dev/null || true)
case "$version" in
  1.18.0*) ;;
  *) echo "this finding is about Debian's pgbouncer 1.18.0; installed: ${version:-none}"; exit 2 ;;
esac
binaries=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1 || true)
if [ -z "$binaries" ]; then echo "Debian's postgresql is needed"; exit 2; fi

work=$(mktemp -d /tmp/finding-XXXXXX)
as=()
if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid nobody --regid nogroup --clear-groups); chown nobody "$work"; fi
cd "$work"
trap '"${as[@]}" "$binaries/pg_ctl" stop -D "$work/data" -m immediate >/dev/null 2>&1 || true
      kill -9 "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
pids=()

"${as[@]}" "$binaries/initdb" -D data -U u -A trust --no-sync >/dev/null
"${as[@]}" "$binaries/pg_ctl" start -D data -w -l "$work/log" \
  -o "-c listen_addresses= -c unix_socket_directories=$work" >/dev/null

cat >client.py <<'PY'
"""Sends 50 queries, and for each a request to cancel it, whose sender waits or leaves at once."""
import socket, struct, sys, time

path, leaves = sys.argv[1], sys.argv[2] == "leaves"

def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock

def session():
    """Log on; return the connection and the key for requests to cancel."""
    sock = connect()
    body = struct.pack("!I", 196608) + b"user\0u\0database\0postgres\0\0"
    sock.sendall(struct.pack("!I", len(body) + 4) + body)
    file, key = sock.makefile("rb"), None
    while True:
        head = file.read(5)
        if len(head) < 5:
            raise OSError("closed")
        body = file.read(struct.unpack("!I", head[1:])[0] - 4)
        if head[:1] == b"K":
            key = body
        if head[:1] == b"Z":
            return sock, key

done = 0
try:
    for _ in range(50):
        sock, key = session()
        query = b"SELECT pg_sleep(5)\0"
        sock.sendall(b"Q" + struct.pack("!I", len(query) + 4) + query)
        time.sleep(0.02)
        asking = connect()
        asking.sendall(struct.pack("!II", 16, 80877102) + key)
        if not leaves:
            asking.recv(1)
        asking.close()
        time.sleep(0.002)
        sock.close()
        done += 1
except OSError:
    pass
print(done)
PY
for how in waits leaves; do
  mkdir "$how"; [ "$(id -u)" != 0 ] || chown nobody "$how"
  cat >"$how/ini" <<INI
[databases]
postgres = host=$work
[pgbouncer]
listen_addr =
unix_socket_dir = $work/$how
auth_type = trust
auth_file = $work/users
pool_mode = transaction
default_pool_size = 5
logfile = $work/$how/log
INI
  echo '"u" ""' >users
  "${as[@]}" pgbouncer -q "$how/ini" >/dev/null 2>&1 & pid=$!; pids+=("$pid")
  until [ -S "$how/.s.PGSQL.6432" ]; do sleep 0.1; done
  done=$(python3 client.py "$how/.s.PGSQL.6432" "$how")
  sleep 1
  if kill -0 "$pid" 2>/dev/null; then
    echo "the sender $how: PgBouncer lives after $done requests to cancel"
  else
    echo "the sender $how: PgBouncer has ended, $(grep FATAL "$how/log" | sed 's/.*: bad/bad/')"
  fi
done >seen
cat seen

cat >wanted <<'TXT'
the sender waits: PgBouncer lives after 50 requests to cancel
the sender leaves: PgBouncer has ended, bad client state: 0
TXT
diff wanted seen && echo "as found"
