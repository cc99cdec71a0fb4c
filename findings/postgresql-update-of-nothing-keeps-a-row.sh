#!/usr/bin/env bash
# PostgreSQL: an UPDATE that has waited and then changes nothing ("UPDATE 0") keeps the row locked.
#
# Seen with Debian's PostgreSQL 15: two transactions say "note it, unless it is noted". The first one
# does. The second one waits for it, finds that its condition does not hold any more, and reports
# UPDATE 0. All the same it has the row locked until its own end, so that nobody else can even share
# it. Where the second one comes after the end of the first one, and so never waits, it also reports
# UPDATE 0, and has nothing locked.
#
# The documents ("Read Committed Isolation Level") say that the condition is looked at again after
# the wait, and that otherwise the row is ignored. So we had expected that a statement which ignores
# a row leaves it alone. It is locked before the condition is looked at again.
#
# Output seen:
#   it never waited: UPDATE 0, others can share the row
#   it has waited: UPDATE 0, others cannot share the row
#
# What it means here: of several workers that note a failover at once, those that only find it noted
# hold the row of the run until they commit. So every call locks runs before anything else, in one
# order (orchestrator/database/schema/chains.sql, append; tests/database/test_hammered.py).
set -euo pipefail

binaries=$(ls -d /usr/lib/postgresql/15/bin 2>/dev/null || true)
version=$("${binaries:-/nowhere}/postgres" --version 2>/dev/null || true)
if [ -z "$version" ]; then echo "this finding is about Debian's postgresql-15"; exit 2; fi

work=$(mktemp -d /tmp/finding-XXXXXX)
as=()
if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid nobody --regid nogroup --clear-groups); chown nobody "$work"; fi
cd "$work"
trap '"${as[@]}" "$binaries/pg_ctl" stop -D "$work/data" -m immediate >/dev/null 2>&1 || true
      wait 2>/dev/null || true; rm -rf "$work"' EXIT

"${as[@]}" "$binaries/initdb" -D data -U u -A trust --no-sync >/dev/null
"${as[@]}" "$binaries/pg_ctl" start -D data -w -l "$work/log" \
  -o "-c listen_addresses= -c unix_socket_directories=$work" >/dev/null

sql() { "$binaries/psql" -X -q -h "$work" -U u -d postgres "$@"; }
note="UPDATE t SET noted = true WHERE id = 1 AND NOT noted"

# Until a statement of another session is, or is not, waiting for a lock.
until_waiting() {
  until [ "$(sql -At -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")" = "$1" ]; do
    sleep 0.05
  done
}

until_said() { until grep -q "$1" "$2" 2>/dev/null; do sleep 0.05; done; }

for how in "never waited" "has waited"; do
  sql -c "DROP TABLE IF EXISTS t" -c "CREATE TABLE t (id int PRIMARY KEY, noted bool)" \
    -c "INSERT INTO t VALUES (1, false)" 2>/dev/null
  rm -f first second; mkfifo to_first to_second
  sql -e <to_first >first 2>&1 & one=$!
  sql <to_second >second 2>&1 & two=$!
  exec 3>to_first 4>to_second
  rm to_first to_second

  printf 'BEGIN;\n%s;\n\\echo done\n' "$note" >&3
  until_said done first
  if [ "$how" = "never waited" ]; then
    printf 'COMMIT;\n\\echo committed\n' >&3
    until_said committed first
  fi
  printf '\\set QUIET off\nBEGIN;\n%s;\n\\echo done\n' "$note" >&4
  if [ "$how" = "has waited" ]; then
    until_waiting 1
    printf 'COMMIT;\n\\echo committed\n' >&3
    until_said committed first
  fi
  until_said done second
  if sql -c "SELECT FROM t WHERE id = 1 FOR SHARE NOWAIT" >/dev/null 2>third; then
    can="can"
  else
    grep -q "could not obtain lock" third && can="cannot"
  fi
  echo "it $how: $(grep UPDATE second | tail -1), others $can share the row"
  printf 'ROLLBACK;\n' >&4
  exec 3>&- 4>&-
  wait "$one" "$two"
done >seen
cat seen

cat >wanted <<'TXT'
it never waited: UPDATE 0, others can share the row
it has waited: UPDATE 0, others cannot share the row
TXT
diff wanted seen && echo "as found ($version)"
