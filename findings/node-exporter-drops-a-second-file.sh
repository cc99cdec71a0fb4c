#!/usr/bin/env bash
# Node exporter drops the series of a second textfile, and neither status nor its own metric says so.
#
# Seen with Debian's prometheus-node-exporter 1.5.0: two files in the directory of the textfile
# collector hold a sample with the same name and labels and different values. The page shows the
# sample of the first file only. Its HTTP status is 200 and `node_textfile_scrape_error` is 0, so
# neither an alarm on failed scrapes nor one on unreadable textfiles is raised. Only the exporter's
# log names the duplicate.
#
# We had expected `node_textfile_scrape_error` to be 1: that metric exists to tell of textfiles that
# could not be used.
#
# Output seen:
#   status 200
#   drill_mounts_open{server="hq"} 1
#   node_textfile_scrape_error 0
#   the log names the duplicate 1 time
#
# What it means here: two plans that write metrics into one directory need a label that tells them
# apart, so every sample carries `plan` (tests/views/web/test_metrics.py).
set -euo pipefail

version=$(dpkg-query -W -f '${Version}' prometheus-node-exporter 2>/dev/null || true)
case "$version" in
  1.5.0*) ;;
  *) echo "this finding is about Debian's prometheus-node-exporter 1.5.0; installed: ${version:-none}"
     exit 2 ;;
esac

work=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir "$work/textfiles"
echo 'drill_mounts_open{server="hq"} 1' >"$work/textfiles/a.prom"
echo 'drill_mounts_open{server="hq"} 7' >"$work/textfiles/b.prom"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
prometheus-node-exporter --web.listen-address="127.0.0.1:$port" --collector.disable-defaults \
  --collector.textfile --collector.textfile.directory="$work/textfiles" >"$work/log" 2>&1 & pid=$!

python3 - "$port" "$work/log" <<'PY' | tee "$work/seen"
import http.client, pathlib, sys, time

def page():
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()

for _ in range(200):
    try:
        status, text = page()
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
print(f"status {status}")
for line in text.splitlines():
    if line.startswith(("drill_", "node_textfile_scrape_error")):
        print(line)
log = pathlib.Path(sys.argv[2]).read_text()
print(f"the log names the duplicate {log.count('was collected before')} time")
PY
cat >"$work/wanted" <<'TXT'
status 200
drill_mounts_open{server="hq"} 1
node_textfile_scrape_error 0
the log names the duplicate 1 time
TXT
diff "$work/wanted" "$work/seen" && echo "as found"
