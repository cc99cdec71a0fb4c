"""What a mount costs in JSON beside XML: reading its answers, its requests, and a whole run.

`python -m tests.bench.forms xml|json` prints the CPU seconds that reading the answers of one
mount takes. Pairs are measured in turn, so that whoever uses this machine disturbs both alike.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

from orchestrator.em.elements import Reading
from orchestrator.em.json_codec import JsonCodec
from orchestrator.em.wire import Codec, XmlCodec
from orchestrator.simulator.behaviour import Behaviour
from orchestrator.simulator.json_form import as_json
from tests.bench.drills import Shape
from tests.bench.figures import Figure, percentile
from tests.bench.real import ours
from tests.em.documents import SAMPLES

PAIRS = 5
SHAPE = Shape(servers=2, machines=500, server=50, backup_server=16, seconds=(1.0, 6.0))
LOOKS = 4
"""How often a mount's task is read in a list before its mount is."""
WIRE = Behaviour()


def _answers(codec: Codec) -> list[tuple[Callable[[], Reading[Any]], bytes]]:
    """Return the answers of one mount, as they come over the wire, and what reads each."""

    def body(name: str) -> bytes:
        data = (SAMPLES / f"{name}.xml").read_bytes()
        if isinstance(codec, JsonCodec):
            return as_json(data.decode(), WIRE)
        return b"".join(line.strip() for line in data.splitlines())

    return [
        (codec.task, body("task.mount.running")),
        *[(codec.tasks, body("query.task.running"))] * LOOKS,
        (codec.task, body("task.mount.finished-success.related-as-documented")),
        (codec.mounts, body("vmreplicapointmount")),
        (codec.mounts, body("vmreplicapointmounts.empty")),
    ]


def _reading_s(codec: Codec) -> float:
    """Return the CPU seconds that reading the answers of one mount takes."""
    answers = _answers(codec)
    took = []
    for _ in range(60):
        began = time.process_time()
        for _ in range(40):
            for reading, body in answers:
                reading().whole(body)
        took.append((time.process_time() - began) / 40)
    return percentile(took, 0.1)


def _reading(form: str) -> float:
    command = [sys.executable, "-m", "tests.bench.forms", form]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def figures() -> Iterator[Figure]:
    """Measure both forms in turn."""
    reading = [(_reading("json"), _reading("xml")) for _ in range(PAIRS)]
    yield Figure(
        what="CPU of reading the answers of one mount in JSON / in XML",
        value=median(json / xml for json, xml in reading),
        limit=0.8,
    )
    yield Figure(
        what="… in JSON", value=median(1e6 * json for json, _ in reading), unit="µs", digits=0
    )
    runs = []
    for pair in range(PAIRS):
        both = [ours(replace(SHAPE, api_format=form)).cpu_ms for form in _in_turn(pair)]
        runs.append(both if pair % 2 == 0 else both[::-1])
    yield Figure(
        what="client CPU per mount of a whole run in JSON / in XML, 1,000 targets",
        value=median(json / xml for json, xml in runs),
    )
    yield Figure(what="… in JSON", value=median(json for json, _ in runs), unit="ms")


def _in_turn(pair: int) -> tuple[str, str]:
    return ("json", "xml") if pair % 2 == 0 else ("xml", "json")


if __name__ == "__main__":
    print(_reading_s(JsonCodec() if sys.argv[1] == "json" else XmlCodec()))
