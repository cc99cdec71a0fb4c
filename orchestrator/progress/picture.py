"""The picture of a run: at most twenty rows of styled text, cut to a screen of any size.

Pure: a tally and a size in, rows out. Every row has a rank; a small screen shows the rows
that matter most, in the order in which a large one shows them. Text from servers and plans is
escaped here, before it is measured.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from orchestrator.events import ServerFacts
from orchestrator.lifecycle import MountRecord
from orchestrator.model import Result, ServerName, counted, printable
from orchestrator.outlook import clock
from orchestrator.tally import Tally

ROWS = 20
NARROW = 60
"""Columns below which space is dear."""
SERVERS_SHOWN, OLDEST_SHOWN, FAILURES_SHOWN = 6, 3, 3

STYLES = {
    Result.VERIFIED: "green",
    Result.MOUNTED: "green",
    Result.FAILED: "bold red",
    Result.UNKNOWN: "bold magenta",
    Result.SKIPPED: "yellow",
    Result.CANCELLED: "yellow",
}


class Span(NamedTuple):
    """A piece of a row; `style` in the terminal library's words, empty for none."""

    text: str
    style: str = ""


Row = tuple[Span, ...]
BLANK: Row = ()


class _Section(NamedTuple):
    """Rows that belong together: how important each is (0 most), and how to make the first n."""

    ranks: tuple[int, ...]
    made: Callable[[int], list[Row]]


def picture(tally: Tally, width: int, height: int) -> list[Row]:
    """Return how the run stands, in at most `height` and twenty rows of at most `width` cells."""
    sections = list(_sections(tally, width))
    order = sorted((rank, place) for place, each in enumerate(sections) for rank in each.ranks)
    shown = [0] * len(sections)
    for _rank, place in order[: min(height, ROWS)]:
        shown[place] += 1
    made = (each.made(count) for each, count in zip(sections, shown, strict=True) if count)
    return [_cut(row, width) for rows in made for row in rows]


def _sections(tally: Tally, width: int) -> Iterator[_Section]:
    servers = list(tally.started.servers) if tally.started else []
    oldest = _oldest(tally)
    failures = list(reversed(tally.failures))[:FAILURES_SHOWN]
    gap = _Section((90,), lambda _count: [BLANK])
    yield _Section((0,), lambda _count: [_title(tally, width)])
    yield _Section((20,), lambda _count: [_bar(tally, width)])
    yield _Section((1,), lambda _count: [_results(tally, width)])
    proofs = tally.proofs.parts()
    if proofs:
        yield _Section((12,), lambda _count: [(Span("  ".join(proofs)),)])
    if tally.left:
        yield _Section((4,), lambda _count: [_left(tally)])
    if len(tally.by_wave) > 1:
        yield _Section((14,), lambda _count: [_waves(tally)])
    if tally.ending is not None:
        ending = Span(printable(tally.ending, width), "bold yellow")
        yield _Section((2,), lambda _count: [(ending,)])
    if tally.harder is not None:
        harder = Span(tally.harder, "yellow")
        yield _Section((7,), lambda _count: [(harder,)])
    if tally.abandoned and tally.started is not None:
        resume = Span(f"go on with it: bulk-restore resume {tally.started.run}", "bold yellow")
        yield _Section((2,), lambda _count: [(resume,)])
    if servers:
        ranks = (3, 10, 11, 30, 31, 32)[: min(len(servers), SERVERS_SHOWN)]
        yield gap
        yield _Section(ranks, partial(_lanes, tally, servers, width))
    if oldest:
        yield gap
        yield _Section(
            (8, 22, 23)[: len(oldest)],
            lambda count: [_running(tally, each, width) for each in oldest[:count]],
        )
    if tally.held_open:
        yield _Section((6, 7, 24), lambda count: _held(tally, width, count))
    if failures:
        yield gap
        yield _Section(
            (5, 9, 13)[: len(failures)],
            lambda count: [_failure(each, width) for each in failures[:count]],
        )


# --- the head ----------------------------------------------------------------------------------


def _title(tally: Tally, width: int) -> Row:
    name = printable(tally.started.plan, max(12, width // 3)) if tally.started else ""
    gap = _gap(width)
    if tally.finished is not None:
        end = Span(f"{gap}ended, exit code {tally.finished.exit_code}", "bold")
    elif tally.abandoned:
        end = Span(f"{gap}its process is gone", "bold red")
    else:
        end = Span(f"{gap}{tally.rest().words}")
    return Span(name, "bold"), Span(f"{gap}{clock(tally.now)}"), end


def _gap(width: int) -> str:
    return "  " if width >= NARROW else " "


def _bar(tally: Tally, width: int) -> Row:
    cells = min(72, width - 6)
    share = tally.done / tally.targets if tally.targets else 0.0
    full = int(cells * share)
    percent = f" {int(100 * share):3}%"
    return Span("━" * full, "green"), Span("─" * (cells - full), "dim"), Span(percent)


def _results(tally: Tally, width: int) -> Row:
    gap = _gap(width)
    results = (
        Span(f"{gap}{tally.results[result]} {result}", STYLES[result])
        for result in Result
        if tally.results[result]
    )
    rest = Span(f"{gap}{len(tally.running)} open{gap}{tally.waiting} waiting", "dim")
    return Span(f"{tally.done}/{tally.targets} done"), *results, rest


def _left(tally: Tally) -> Row:
    """Return how many mounts need a person, whatever the results are."""
    return (Span(f"{len(tally.left)} MAY BE MOUNTED: a person must look", "bold magenta"),)


def _waves(tally: Tally) -> Row:
    """Return which waves go on, how far each is, and how many there are."""
    going = tally.waves_going
    ended = len(tally.waves_finished)
    parts = [f"{printable(w, 24)} {tally.done_by_wave[w]}/{tally.by_wave[w]}" for w in going[:4]]
    parts += [f"and {len(going) - 4} more"] if len(going) > 4 else []
    now = (Span("wave ", "dim"), Span(", ".join(parts))) if parts else (Span("no wave goes on"),)
    return (*now, Span(f"  {ended} of {len(tally.by_wave)} ended", "dim"))


# --- servers -----------------------------------------------------------------------------------


def _lanes(tally: Tally, servers: list[ServerFacts], width: int, count: int) -> list[Row]:
    """Return the servers in the plan's order; of too many, those that a person must see first."""
    if len(servers) > count:
        servers = sorted(servers, key=lambda facts: _need(tally, facts.name))
    names = min(max(cell_len(printable(facts.name, 20)) for facts in servers), max(6, width // 5))
    alone = count == 1
    shown = count if alone or len(servers) <= count else count - 1
    rows = [_lane(tally, facts, names, width) for facts in servers[:shown]]
    hidden = servers[shown:]
    if hidden and not alone:
        trouble = sum(facts.name in tally.trouble for facts in hidden)
        more = f", {trouble} of them in trouble" if trouble else ""
        rows.append(
            (Span(f"and {counted(len(hidden), 'more server')}{more}", "yellow" if more else "dim"),)
        )
    return rows


def _need(tally: Tally, server: ServerName) -> tuple[bool, bool]:
    """Return what comes first: servers in trouble, then those with work left."""
    return server not in tally.trouble, tally.done_by_server[server] >= tally.by_server[server]


def _lane(tally: Tally, facts: ServerFacts, names: int, width: int) -> Row:
    server, used = facts.name, tally.held[facts.name]
    limit, allowed = facts.mounts_limit, tally.allowed.get(facts.name)
    most = tally.allowed_on(facts)
    slots = str(used) if most is None else f"{used}/{most}"
    gap, word = _gap(width), " done" if width >= NARROW else ""
    row = [
        Span(_sized(printable(server, 20), names)),
        Span(f" {_gauge(used, most, 10 if width >= NARROW else 5)}", "cyan"),
        Span(f" {slots:>7}"),
        Span(f"{gap}{tally.done_by_server[server]}/{tally.by_server[server]}{word}", "dim"),
    ]
    if server in tally.trouble:
        row.append(Span(f"{gap}{_gate(tally, facts)}", "yellow"))
    elif allowed is not None:
        of = f" of {limit}" if limit is not None else ""
        row.append(Span(f"{gap}slowed: {allowed}{of}", "yellow"))
    return tuple(row)


def _gauge(used: int, most: int | None, cells: int) -> str:
    if not most:
        return "·" * cells if most == 0 else " " * cells
    full = min(cells, -(-used * cells // most))
    return "▮" * full + "▯" * (cells - full)


def _gate(tally: Tally, facts: ServerFacts) -> str:
    """Return since when the server is parked and why, or why it was given up."""
    _kind, _, reason = tally.trouble[facts.name].partition(": ")
    why = printable(reason.removeprefix(facts.name).lstrip(": "), 200)
    since = tally.parked_at.get(facts.name)
    state = "GIVEN UP" if since is None else f"PARKED {clock(tally.now - since)}"
    return f"{state}: {why}"


# --- targets -----------------------------------------------------------------------------------


def _oldest(tally: Tally) -> list[MountRecord]:
    """Return the targets that are under way for the longest; a held one is in nobody's way."""
    return heapq.nsmallest(OLDEST_SHOWN, tally.under_way(), key=_begun)


def _begun(record: MountRecord) -> float:
    return record.attempts[-1].submitted_at if record.attempts else record.since


def _running(tally: Tally, record: MountRecord, width: int) -> Row:
    late = Span("  over its deadline", "yellow") if record.overdue else Span("")
    age = clock(tally.now - _begun(record))
    phase = record.phase.value.replace("_", " ")
    return Span("oldest  ", "dim"), Span(_key(record, width)), Span(f" {age:>7}  {phase}"), late


def _held(tally: Tally, width: int, count: int) -> list[Row]:
    """Return how many mounts are held until when, what was found there, how to end it, and
    which ends first.
    """
    held = tally.held_open
    times = [record.kept_until for record in held if record.kept_until is not None]
    until = "until somebody ends it"
    if len(times) == len(held):
        until = f"until {tally.time_of_day(max(times))}"
    verdicts = tally.held_verdicts
    found = (
        Span(f"{', ' if place else ': '}{verdicts[result]} {result}", STYLES[result])
        for place, result in enumerate(each for each in Result if verdicts[each])
    )
    run = tally.started.run if tally.started else "RUN"
    rows: list[Row] = [
        (Span(f"{len(held)} held open {until}", "bold cyan"), *found),
        (Span(f"end it: bulk-restore unmount {run}", "cyan"),),
    ]
    first = heapq.nsmallest(1, held, key=_end)
    return [*rows, *(_held_one(tally, each, width) for each in first)][:count]


def _held_one(tally: Tally, record: MountRecord, width: int) -> Row:
    left = "" if record.kept_until is None else f" {clock(record.kept_until - tally.now):>7} left "
    why = _dim(tally.held_why.get(record.planned.key, ""))
    verdict = record.standing or Result.UNKNOWN
    key = Span(_key(record, width))
    return Span("held    ", "cyan"), key, Span(left), Span(f" {verdict}", STYLES[verdict]), why


def _end(record: MountRecord) -> float:
    return float("inf") if record.kept_until is None else record.kept_until


def _dim(text: str) -> Span:
    return Span(f" {printable(text, 200)}", "dim")


def _failure(record: MountRecord, width: int) -> Row:
    result = record.result or Result.UNKNOWN
    message = printable(record.message or "no reason given", 200)
    return Span(f"{result:<8}", STYLES[result]), Span(_key(record, width)), Span(f" {message}")


def _key(record: MountRecord, width: int) -> str:
    """Return a target's name in a column of its own: its end tells most, so that is kept."""
    cells = max(10, min(40, width // 3))
    key = printable(record.planned.key, 120)
    while cell_len(key) > cells:
        key = "…" + key[2:]
    return _sized(key, cells)


# --- cells -------------------------------------------------------------------------------------


def _sized(text: str, cells: int) -> str:
    """Return text that takes exactly so many cells of a terminal."""
    return set_cell_size(text, cells)


def _cut(row: Iterable[Span], width: int) -> Row:
    """Return the row without what does not fit; an ellipsis says that there was more."""
    kept: list[Span] = []
    room = width
    for span in row:
        cells = cell_len(span.text)
        if cells > room:
            kept.append(Span(_sized(span.text, room - 1).rstrip() + "…", span.style))
            break
        room -= cells
        kept.append(span)
        if not room:
            break
    return tuple(kept)
