"""Judge whether a guest's last volume holds at least so many entries: enough_rows.py COUNT."""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Ask for a listing; 0 is good, 1 is bad."""
    about = json.loads(sys.stdin.readline())
    volume = about["roots"][-1]
    print(json.dumps({"verb": "list", "path": volume}), flush=True)
    answer = json.loads(sys.stdin.readline())
    if not answer["ok"]:
        print(answer["error"], file=sys.stderr)
        return 1
    count = len(answer["entries"])
    print(json.dumps({"message": f"{count} entries in {volume}"}), flush=True)
    return 0 if count >= int(sys.argv[1]) else 1


if __name__ == "__main__":
    sys.exit(main())
