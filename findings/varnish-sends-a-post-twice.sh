#!/usr/bin/env bash
# Varnish sends a POST without a body a second time, and the client cannot see it.
#
# Seen with Debian's varnish 7.1.1: a client sends one POST with "Content-Length: 0". Varnish
# forwards it on a connection to the backend that it has used before. The backend reads the
# request, acts on it and closes the connection without an answer. Varnish then sends the same
# POST again on a new connection, and gives the client the answer to the second one: 200.
# The backend has acted twice. With a body of one byte the same POST is sent once, and the client
# gets 503.
#
# POST is not idempotent (RFC 9110, 9.2.2: a proxy must not repeat it automatically), so we had
# expected 503 in both cases.
#
# Output seen:
#   POST without a body: client got 200, backend saw it 2 times
#   POST with a body: client got 503, backend saw it 1 times
#
# What it means here: a mount request of the agents' family has no documented body, so it can be
# doubled behind Varnish. The closing audit finds and removes the second mount
# (tests/proxies/test_proxies.py).
set -euo pipefail

version=$(dpkg-query -W -f '${Version}' varnish 2>/dev/null || true)
case "$version" in
  7.1.1*) ;;
  *) echo "this finding is about Debian's varnish 7.1.1; installed: ${version:-none}"; exit 2 ;;
esac

work=$(mktemp -d)
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
pids=()

cat >"$work/backend.py" <<'PY'
"""Answers GET; reads a POST, and closes without an answer if its connection was used before."""
import socket, sys, threading

posts = 0
def serve(sock):
    global posts
    used = False
    while True:
        data = b""
        while b"\r\n\r\n" not in data:
            part = sock.recv(65536)
            if not part:
                return
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += sock.recv(65536)
        if head.startswith(b"POST"):
            posts += 1
            if used:
                sock.close()
                return
        answer = str(posts).encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
        used = True

listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
PY
python3 "$work/backend.py" >"$work/port" & pids+=($!)
until [ -s "$work/port" ]; do sleep 0.1; done
cat >"$work/default.vcl" <<VCL
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "$(cat "$work/port")"; }
sub vcl_recv { return (pass); }
VCL
front=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
varnishd -F -j none -n "$work/varnish" -f "$work/default.vcl" -a "127.0.0.1:$front" \
  -s malloc,16m >"$work/log" 2>&1 & pids+=($!)

python3 - "$front" <<'PY' | tee "$work/seen"
import http.client, sys, time

port = int(sys.argv[1])
def ask(method, body=None):
    for _ in range(200):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request(method, "/", body=body)
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    answer = connection.getresponse()
    return answer.status, answer.read()

before = int(ask("GET")[1])
for name, body in (("without a body", b""), ("with a body", b"x")):
    ask("GET")  # leaves a kept connection to the backend
    status, _ = ask("POST", body)
    after = int(ask("GET")[1])
    print(f"POST {name}: client got {status}, backend saw it {after - before} times")
    before = after
PY
cat >"$work/wanted" <<'TXT'
POST without a body: client got 200, backend saw it 2 times
POST with a body: client got 503, backend saw it 1 times
TXT
diff "$work/wanted" "$work/seen" && echo "as found"
