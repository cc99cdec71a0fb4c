"""The picture of a run: at most twenty rows of styled text, cut to a screen of any size.

Pure: statistics and a size in, rows out. Every row has a rank; a small screen shows the rows
that matter most, in the order in which a large one shows them. Text from servers and plans is
escaped here, before it is measured.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from orchestrator.core.events import ServerFacts
from orchestrator.core.exit_codes import exit_words
from orchestrator.core.lifecycle import MountRecord
from orchestrator.core.model import Result
from orchestrator.core.text import counted, duration, printable
from orchestrator.views.held_up import Awaited
from orchestrator.views.statistics import RunStatistics

ROWS = 20
NARROW = 60
"""Columns below which space is dear."""
SERVERS_SHOWN, OLDEST_SHOWN, FAILURES_SHOWN, PEOPLE_SHOWN, STANDSTILLS_SHOWN = 6, 3, 3, 3, 3

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


def picture(stats: RunStatistics, width: int, height: int) -> list[Row]:
    """Return the state of the run, in at most `height` and twenty rows of at most `width` cells."""
    sections = list(_sections(stats, width))
    order = sorted((rank, place) for place, each in enumerate(sections) for rank in each.ranks)
    shown = [0] * len(sections)
    for _rank, place in order[: min(height, ROWS)]:
        shown[place] += 1
    made = (each.made(count) for each, count in zip(sections, shown, strict=True) if count)
    return [_cut(row, width) for rows in made for row in rows]


def _row(rank: int, row: Row) -> _Section:
    return _Section((rank,), lambda _count: [row])


def _sections(stats: RunStatistics, width: int) -> Iterator[_Section]:
    servers = list(stats.started.servers) if stats.started else []
    oldest = heapq.nsmallest(OLDEST_SHOWN, stats.under_way(), key=_begun)  # not the held ones
    failures = list(reversed(stats.failures))[:FAILURES_SHOWN]
    gap = _row(90, BLANK)
    yield _row(0, _title(stats, width))
    yield _row(20, _bar(stats, width))
    yield _row(1, _results(stats, width))
    content = stats.content.parts()
    if content:
        yield _row(12, (Span("  ".join(content)),))
    if stats.left_open:
        yield _row(4, _left(stats))
    if len(stats.by_wave) > 1:
        yield _row(14, _waves(stats))
    for each in stats.waits_for_people[:PEOPLE_SHOWN]:
        yield _Section((2, 6), partial(_awaited, each))
    if stats.ending is not None:
        yield _row(2, (Span(printable(stats.ending, width), "bold yellow"),))
    if stats.standstills:
        ranks = (2, 9, 11)[: min(len(stats.standstills), STANDSTILLS_SHOWN)]
        yield _Section(ranks, partial(_standstills, stats))
    if stats.force_hint is not None:
        yield _row(7, (Span(stats.force_hint, "yellow"),))
    has_nobody = stats.abandoned or stats.stall is not None
    if has_nobody and stats.away is None and stats.started is not None:
        yield _row(2, (Span(stats.continuing_words, "bold yellow"),))
    if servers:
        ranks = (3, 10, 11, 30, 31, 32)[: min(len(servers), SERVERS_SHOWN)]
        yield gap
        yield _Section(ranks, partial(_lanes, stats, servers, width))
    if oldest:
        yield gap
        yield _Section(
            (8, 22, 23)[: len(oldest)],
            lambda count: [_running(stats, each, width) for each in oldest[:count]],
        )
    if stats.held_open:
        yield _Section((6, 7, 24), lambda count: _held(stats, width, count))
    if failures:
        yield gap
        yield _Section(
            (5, 9, 13)[: len(failures)],
            lambda count: [_failure(each, width) for each in failures[:count]],
        )


# --- the head ----------------------------------------------------------------------------------


def _title(stats: RunStatistics, width: int) -> Row:
    name = printable(stats.started.plan, max(12, width // 3)) if stats.started else ""
    gap = _gap(width)
    if stats.finished is not None:
        code = stats.finished.exit_code
        end = Span(f"{gap}ended, exit code {code}: {exit_words(code, stats.stops)}", "bold")
    elif stats.away is not None:
        end = Span(f"{gap}the database is away", "bold red")
    elif stats.abandoned:
        colour = "bold yellow" if stats.is_shared else "bold red"  # it waits, or it is dead
        end = Span(f"{gap}{printable(stats.abandoned_words)}", colour)
    elif stats.stall is not None:
        end = Span(f"{gap}{printable(stats.stalled_words)}", "bold red")
    else:
        end = Span(f"{gap}{stats.time_left().words}")
    return Span(name, "bold"), Span(f"{gap}{duration(stats.now)}"), end


def _gap(width: int) -> str:
    return "  " if width >= NARROW else " "


def _bar(stats: RunStatistics, width: int) -> Row:
    cells = min(72, width - 6)
    share = stats.done / stats.targets if stats.targets else 0.0
    full = int(cells * share)
    percent = f" {int(100 * share):3}%"
    return Span("━" * full, "green"), Span("─" * (cells - full), "dim"), Span(percent)


def _results(stats: RunStatistics, width: int) -> Row:
    gap = _gap(width)
    results = (
        Span(f"{gap}{stats.results[result]} {result}", STYLES[result])
        for result in Result
        if stats.results[result]
    )
    time_left = Span(f"{gap}{len(stats.running)} open{gap}{stats.waiting} waiting", "dim")
    return Span(f"{stats.done}/{stats.targets} done"), *results, time_left


def _left(stats: RunStatistics) -> Row:
    """Return which mounts need a person, whatever the results are, and what to try first.

    While its process lives, a run tries itself, and lets nobody else.
    """
    what = "a person must look"
    if stats.started is not None and stats.is_over:
        what = f"try bulk-restore unmount {stats.started.run}"
    return (Span(f"{', '.join(stats.left_open.parts)}: {what}", "bold magenta"),)


def _waves(stats: RunStatistics) -> Row:
    """Return which waves go on, how far each is, and how many there are."""
    if stats.is_over:
        return (Span(_waves_ended(stats), "dim"),)
    going = stats.waves_going
    parts = [f"{printable(w, 24)} {stats.done_by_wave[w]}/{stats.by_wave[w]}" for w in going[:4]]
    parts += [f"and {len(going) - 4} more"] if len(going) > 4 else []
    now = (Span("wave ", "dim"), Span(", ".join(parts))) if parts else (Span("no wave goes on"),)
    return (*now, Span(f"  {len(stats.waves_finished)} of {len(stats.by_wave)} ended", "dim"))


def _waves_ended(stats: RunStatistics) -> str:
    return f"{len(stats.waves_finished)} of {counted(len(stats.by_wave), 'wave')} ended"


def _awaited(awaited: Awaited, count: int) -> list[Row]:
    """Return what people are awaited for, and the command for it."""
    rows: list[Row] = [
        (Span(awaited.words, "bold yellow"),),
        (Span(f"  {awaited.command}", "yellow"),),
    ]
    return rows[:count]


def _standstills(stats: RunStatistics, count: int) -> list[Row]:
    """Return what does not go on, and why."""
    return [(Span(printable(each), "bold yellow"),) for each in stats.standstills[:count]]


# --- servers -----------------------------------------------------------------------------------


def _lanes(stats: RunStatistics, servers: list[ServerFacts], width: int, count: int) -> list[Row]:
    """Return the servers in the plan's order; of too many, those that a person must see first."""
    if len(servers) > count:
        servers = sorted(  # servers in trouble, then those with work left
            servers,
            key=lambda facts: (
                facts.name not in stats.trouble,
                stats.done_by_server[facts.name] >= stats.by_server[facts.name],
            ),
        )
    names = min(max(cell_len(printable(facts.name, 20)) for facts in servers), max(6, width // 5))
    alone = count == 1
    shown = count if alone or len(servers) <= count else count - 1
    rows = [_lane(stats, facts, names, width) for facts in servers[:shown]]
    hidden = servers[shown:]
    if hidden and not alone:
        trouble = sum(facts.name in stats.trouble for facts in hidden)
        more = f", {trouble} of them in trouble" if trouble else ""
        rows.append(
            (Span(f"and {counted(len(hidden), 'more server')}{more}", "yellow" if more else "dim"),)
        )
    return rows


def _lane(stats: RunStatistics, facts: ServerFacts, names: int, width: int) -> Row:
    server, used = facts.name, stats.open_on(facts.name)
    limit, allowed = facts.mounts_limit, stats.allowed.get(facts.name)
    most = stats.allowed_on(facts)
    slots = str(used) if most is None else f"{used}/{most}"
    gap, word = _gap(width), " done" if width >= NARROW else ""
    row = [
        Span(set_cell_size(printable(server, 20), names)),
        Span(f" {_gauge(used, most, 10 if width >= NARROW else 5)}", "cyan"),
        Span(f" {slots:>7}"),
        Span(f"{gap}{stats.done_by_server[server]}/{stats.by_server[server]}{word}", "dim"),
    ]
    if server in stats.trouble:
        row.append(Span(f"{gap}{_gate(stats, facts)}", "yellow"))
    elif server in stats.awaited:
        row.append(Span(f"{gap}WAITS: {printable(stats.awaited[server], 200)}", "yellow"))
    elif allowed is not None:
        of = f" of {limit}" if limit is not None else ""
        is_ramp = stats.is_ramp(server)
        word, style = ("ramp", "dim") if is_ramp else ("slowed", "yellow")
        row.append(Span(f"{gap}{word}: {allowed}{of}", style))
    return tuple(row)


def _gauge(used: int, most: int | None, cells: int) -> str:
    if not most:
        return "·" * cells if most == 0 else " " * cells
    full = min(cells, -(-used * cells // most))
    return "▮" * full + "▯" * (cells - full)


def _gate(stats: RunStatistics, facts: ServerFacts) -> str:
    """Return since when the server is parked and why, or why it was given up."""
    _kind, _, reason = stats.trouble[facts.name].partition(": ")
    why = printable(reason.removeprefix(facts.name).lstrip(": "), 200)
    since = stats.parked_at.get(facts.name)
    state = "GIVEN UP" if since is None else f"PARKED {duration(stats.now - since)}"
    return f"{state}: {why}"


# --- targets -----------------------------------------------------------------------------------


def _begun(record: MountRecord) -> float:
    return record.attempts[-1].submitted_at if record.attempts else record.since


def _running(stats: RunStatistics, record: MountRecord, width: int) -> Row:
    late = Span("  over its deadline", "yellow") if record.overdue else Span("")
    age = duration(stats.now - _begun(record))
    phase = record.phase.words
    return Span("oldest  ", "dim"), Span(_key(record, width)), Span(f" {age:>12}  {phase}"), late


def _held(stats: RunStatistics, width: int, count: int) -> list[Row]:
    """Return how many mounts are held until when, what was found there, how to end it, and
    which ends first.
    """
    held = stats.held_open
    end = stats.held_until
    until = "until somebody ends it" if end is None else f"until {stats.time_of_day(end)}"
    verdicts = stats.held_verdicts
    verdict_spans = (
        Span(f"{', ' if place else ': '}{verdicts[result]} {result}", STYLES[result])
        for place, result in enumerate(each for each in Result if verdicts[each])
    )
    run = stats.started.run if stats.started else "RUN"
    rows: list[Row] = [
        (Span(f"{len(held)} held open {until}", "bold cyan"), *verdict_spans),
        (Span(f"end it: bulk-restore unmount {run}", "cyan"),),
    ]
    first = min(held, key=lambda each: inf if each.kept_until is None else each.kept_until)
    return [*rows, _held_one(stats, first, width)][:count]


def _held_one(stats: RunStatistics, record: MountRecord, width: int) -> Row:
    until = record.kept_until
    left = "" if until is None else f" {duration(until - stats.now):>12} left "
    why = Span(f" {printable(stats.held_why.get(record.planned.key, ''), 200)}", "dim")
    verdict = record.standing or Result.UNKNOWN
    key = Span(_key(record, width))
    return Span("held    ", "cyan"), key, Span(left), Span(f" {verdict}", STYLES[verdict]), why


def _failure(record: MountRecord, width: int) -> Row:
    result = record.result or Result.UNKNOWN
    message = printable(record.message or "no reason given", 200)
    return Span(f"{result:<8}", STYLES[result]), Span(_key(record, width)), Span(f" {message}")


def _key(record: MountRecord, width: int) -> str:
    """Return a target's name in a column of its own; of a long one its end, which differs most."""
    cells = max(10, min(40, width // 3))
    key = printable(record.planned.key, 120)
    while cell_len(key) > cells:
        key = "…" + key[2:]
    return set_cell_size(key, cells)


# --- cells -------------------------------------------------------------------------------------


def _cut(row: Iterable[Span], width: int) -> Row:
    """Return the row without what does not fit, with an ellipsis in its place."""
    kept: list[Span] = []
    room = width
    for span in row:
        cells = cell_len(span.text)
        if cells > room:
            kept.append(Span(set_cell_size(span.text, room - 1).rstrip() + "…", span.style))
            break
        room -= cells
        kept.append(span)
        if not room:
            break
    return tuple(kept)
