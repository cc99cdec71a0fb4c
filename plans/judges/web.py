#!/usr/bin/env python3
"""Judges a web server's guest: BUILD_ID must be there, and with --strict not be empty.

Described in docs/reference/check-programs.md.
"""

import json
import sys

PATH = "/srv/www/BUILD_ID"

json.loads(sys.stdin.readline())  # what is judged
print(json.dumps({"verb": "stat", "path": PATH}), flush=True)
answer = json.loads(sys.stdin.readline())
if not answer["ok"]:
    sys.exit(f"{PATH}: {answer['error']}")  # to stderr, with exit code 1
size = answer["entry"].get("size", 0)
print(json.dumps({"message": f"BUILD_ID has {size} bytes"}), flush=True)
sys.exit(1 if "--strict" in sys.argv and not size else 0)
