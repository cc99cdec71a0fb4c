"""Evidence of a run over several machines: its chains, and the pins that hold them together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.core.errors import JournalDamaged
from orchestrator.core.events import (
    ChainPinned,
    Event,
    RunFinished,
    RunNoted,
    RunResumed,
    ShardFinished,
)
from orchestrator.core.model import RunId, ServerName
from orchestrator.core.records import RUN_CHAIN, Record
from orchestrator.report.evidence.verifying import verify
from orchestrator.report.evidence.writing import require_no_more
from orchestrator.report.writing import RENDERINGS
from tests.report.builders import RUN, STARTED_AT, finished
from tests.report.evidence.sample import altered, lines_of, made_of, put, refuted
from tests.report.several_chains import SMALL, Chains, chains, pins, records, served, taken, whole

ALL = records(whole())
COUNT = len(ALL)
OF = {name: [each for each in ALL if each.chain == name] for name in whole()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A report directory of a run over two servers, each with a chain."""
    return made_of(tmp_path / "report", ALL)


def chain_of(raw: bytes) -> str:
    """Return the chain that a line names."""
    return str(json.loads(raw).get("chain", RUN_CHAIN))


def adjust(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Make evidence.json anew, after a change, with the hash that journal.jsonl has now."""
    path = directory / "evidence.json"
    values = json.loads(path.read_bytes())
    change(values["journal"])
    values["journal"]["sha256"] = sha256((directory / "journal.jsonl").read_bytes()).hexdigest()
    path.write_text(json.dumps(values))


def of_these_records(directory: Path) -> None:
    """Make evidence.json say of the records what these themselves say."""
    ends: dict[str, dict[str, Any]] = {}
    for values in map(json.loads, lines_of(directory)):
        name = values.get("chain", RUN_CHAIN)
        ends[name] = {"name": name, "records": values["seq"], "head": values["hash"]}

    def change(journal: dict[str, Any]) -> None:
        journal["records"] = sum(each["records"] for each in ends.values())
        journal["head"] = ends[RUN_CHAIN]["head"]
        journal["chains"] = [ends[name] for name in sorted(ends)]

    adjust(directory, change)


def test_what_was_written_is_verified(directory: Path) -> None:
    """Every chain is followed, and the run's own one pins the others."""
    verdict = verify(directory)

    assert verdict.is_good, verdict.refuted
    said = "\n".join(verdict.verified)
    assert f"{COUNT} records of run {RUN} follow one another in 3 chains" in said
    assert (
        f"of the run itself, which pins all others, ends in {OF[RUN_CHAIN][-1].hash.hex()}" in said
    )
    assert all(name in said for name in RENDERINGS)
    assert not any("pinned" in note for note in verdict.notes)


def test_the_manifest_names_each_chain_and_its_end(directory: Path) -> None:
    """In a form of a new version, so that no older program takes the run's chain for all."""
    values = json.loads((directory / "evidence.json").read_bytes())
    report = json.loads((directory / "report.json").read_bytes())

    assert values["format_version"] == 2
    assert values["journal"]["chains"] == [
        {"name": name, "records": len(OF[name]), "head": OF[name][-1].hash.hex()}
        for name in (RUN_CHAIN, "dr", "hq")
    ]
    assert report["run"]["journal_head"] == values["journal"]["head"] == OF[""][-1].hash.hex()
    assert report["run"]["journal_records"] == values["journal"]["records"] == COUNT


def test_a_single_chain_is_written_as_ever(tmp_path: Path) -> None:
    """Also where a run over several machines has nothing of any server yet."""
    directory = made_of(tmp_path, OF[RUN_CHAIN][:2])

    values = json.loads((directory / "evidence.json").read_bytes())

    assert values["format_version"] == 1
    assert "chains" not in values["journal"]
    assert b'"chain"' not in (directory / "journal.jsonl").read_bytes()
    assert verify(directory).is_good


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_run_is_verified_and_any_change_of_it_refuted(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Over random runs whose pins are right: written is good; one changed line is not."""
    chained = records(_pinned(data.draw(chains())))
    directory = made_of(tmp_path_factory.mktemp("run"), chained)
    assert verify(directory).is_good, verify(directory).refuted

    lines = lines_of(directory)
    place = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "repeat", "byte", "chain"]))
    if change == "drop":
        del lines[place]
    elif change == "repeat":
        lines.insert(place, lines[place])
    elif change == "byte":
        at = data.draw(st.integers(0, len(lines[place]) - 2))
        lines[place] = lines[place][:at] + b"~" + lines[place][at + 1 :]
    else:
        lines[place] = altered(lines[place], chain=data.draw(st.sampled_from(["", "hq", "xx"])))
    put(directory, lines)

    assert verify(directory).is_good is (lines == [*map(_line, chained)])


def _pinned(run: Chains) -> Chains:
    """Return a run whose chain pins the others where they end, before its own end."""
    own = [event for event in run[RUN_CHAIN] if not isinstance(event, ChainPinned)]
    servers = {name: events for name, events in run.items() if name != RUN_CHAIN}
    last = next((n for n in reversed(range(len(own))) if isinstance(own[n], RunFinished)), len(own))
    return {RUN_CHAIN: [*own[:last], *pins(servers, 199.0), *own[last:]], **servers}


def _line(record: Record) -> bytes:
    from orchestrator.report.evidence.lines import line

    return line(record)


# --- hostile changes: journal.jsonl alone --------------------------------------------------------


@pytest.mark.parametrize("place", range(1, COUNT))
def test_a_dropped_record_of_any_chain_is_found(directory: Path, place: int) -> None:
    """In the middle of its chain it is missing; at its end the chain was cut off."""
    lines, gone = lines_of(directory), ALL[place]
    of = f" of chain {gone.chain}" if gone.chain else ""

    put(directory, [*lines[:place], *lines[place + 1 :]])

    found = refuted(directory)
    cut = f"record {gone.seq}{of} and what followed were cut off, of {len(OF[gone.chain])}"
    assert f"record {gone.seq}{of} is missing" in found or cut in found


@pytest.mark.parametrize("chain", ["hq", "dr"])
@pytest.mark.parametrize("field", ["type", "body", "hash"])
def test_any_other_value_names_record_and_chain(directory: Path, chain: str, field: str) -> None:
    """A record with another value, written just as ours are, is named with its chain."""
    lines = lines_of(directory)
    place = next(n for n, raw in enumerate(lines) if chain_of(raw) == chain)
    value = json.loads(lines[place])[field]
    lines[place] = altered(lines[place], **{field: "00" * 32 if field == "hash" else f"{value} "})

    put(directory, lines)

    assert f") of chain {chain} is not what was written" in refuted(directory)


def test_a_chain_that_was_taken_away_is_named(directory: Path) -> None:
    """From the records alone, or from the manifest, too."""
    put(directory, [raw for raw in lines_of(directory) if chain_of(raw) != "dr"])
    count = len(OF["dr"])
    assert f"all {count} records of chain dr are missing" in refuted(directory)

    of_these_records(directory)
    found = refuted(directory)

    assert f"record {count // 2} of chain dr is missing, which record 4 of the run" in found
    assert f"record {count} of chain dr is missing, which record" in found


def test_a_chain_that_the_manifest_does_not_name_is_found(directory: Path) -> None:
    """Its records are there, and nothing says that they should be."""

    def change(journal: dict[str, Any]) -> None:
        journal["chains"] = [each for each in journal["chains"] if each["name"] != "dr"]
        journal["records"] -= len(OF["dr"])

    adjust(directory, change)

    assert "record 1 (ShardTaken) of chain dr is of a chain that is not named" in refuted(directory)


def test_exchanged_chains_are_found(directory: Path) -> None:
    """Two chains under each other's name do not begin as chains of these names do."""
    names = {"hq": "dr", "dr": "hq"}
    put(
        directory,
        [
            altered(raw, chain=names[chain_of(raw)]) if chain_of(raw) in names else raw
            for raw in lines_of(directory)
        ],
    )
    of_these_records(directory)

    found = refuted(directory)

    assert "record 1 (ShardTaken) of chain hq is one of chain dr" in found or (
        "record 1 (ShardTaken) of chain dr is one of chain hq" in found
    )


@pytest.mark.parametrize("to", ["hq", RUN_CHAIN])
def test_a_record_that_was_moved_to_another_chain_is_found(directory: Path, to: str) -> None:
    """It fits nowhere else, with its own number or with the next one there."""
    lines = lines_of(directory)
    moved = OF["dr"][4]
    place = ALL.index(moved)
    seen = sum(chain_of(raw) == to for raw in lines[:place])

    lines[place] = altered(lines[place], chain=to)
    put(directory, lines)
    found = refuted(directory)
    assert f"record {moved.seq} is in its place" in found or "repeated or moved" in found

    lines[place] = altered(lines[place], seq=seen + 1)
    put(directory, lines)
    assert f"record {seen + 1} ({moved.kind})" in refuted(directory)


def test_lines_name_chains_as_ours_do(directory: Path) -> None:
    """A chain that is no text, or the run's own by name, is a changed line."""
    lines = lines_of(directory)
    own = next(n for n, raw in enumerate(lines) if chain_of(raw) == RUN_CHAIN)

    whole_line = json.loads(lines[own])
    run_first = {"run": whole_line.pop("run"), "chain": "", **whole_line}
    named = json.dumps(run_first, separators=(",", ":")).encode() + b"\n"
    odd: list[object] = [[], 7, None]
    for raw in (named, *(altered(lines[own], chain=name) for name in odd)):
        put(directory, [*lines[:own], raw, *lines[own + 1 :]])
        assert f"line {own + 1} is not written as it was" in refuted(directory)


# --- hostile changes: journal.jsonl and evidence.json ---------------------------------------------


@pytest.mark.parametrize("kept", [1, len(SMALL["hq"]) // 2, len(SMALL["hq"]) - 1])
def test_a_chain_that_was_cut_is_found(directory: Path, kept: int) -> None:
    """Also at a pin, and with a manifest that was made for it: another pin is behind."""
    lines, last = lines_of(directory), len(OF["hq"])
    put(
        directory, [raw for raw in lines if chain_of(raw) != "hq" or json.loads(raw)["seq"] <= kept]
    )
    assert f"record {kept + 1} of chain hq and what followed were cut off" in refuted(directory)

    of_these_records(directory)

    found = refuted(directory)
    assert f"record {last} of chain hq is missing, which record" in found
    assert "of the run itself pins" in found


def test_what_was_added_behind_the_last_pin_is_found(tmp_path: Path) -> None:
    """Records that fit their chain, in a directory that was made anew with them."""
    more = RunNoted(at=59.0, message="nothing was left open")
    run = {**whole(), "hq": [*SMALL["hq"], more]}

    found = refuted(made_of(tmp_path, records(run)))

    place = len(SMALL["hq"]) + 1
    assert f"record {place} of chain hq and what follows are behind its last pin" in found


def test_a_chain_that_nothing_pins_is_found(tmp_path: Path) -> None:
    """A run that has ended covers every chain."""
    run = whole()
    without = [
        each for each in run[RUN_CHAIN]
        if not (isinstance(each, ChainPinned) and each.chain == "dr")
    ]  # fmt: skip

    found = refuted(made_of(tmp_path, records({**run, RUN_CHAIN: without})))

    assert "no record of the run itself pins chain dr before its end" in found


def test_a_pin_after_the_end_covers_nothing(tmp_path: Path) -> None:
    """What is pinned later was not seen by whoever ended the run."""
    run, late = whole(), pins(SMALL, 62.0)
    own: list[Event] = [each for each in run[RUN_CHAIN] if not isinstance(each, ChainPinned)]

    found = refuted(made_of(tmp_path, records({**run, RUN_CHAIN: [*own, *late]})))

    assert "no record of the run itself pins chain dr before its end" in found
    assert "no record of the run itself pins chain hq before its end" in found


@pytest.mark.parametrize("seq", [0, 3, len(SMALL["hq"]) + 1])
def test_a_pin_of_another_record_is_found(tmp_path: Path, seq: int) -> None:
    """The record that a pin names must be there, with that hash."""
    wrong = ChainPinned(at=21.0, chain=ServerName("hq"), seq=seq, hash="ab" * 32)
    run = whole()
    first, *rest = run[RUN_CHAIN]

    found = refuted(made_of(tmp_path, records({**run, RUN_CHAIN: [first, wrong, *rest]})))

    how = "is not the one" if seq == 3 else "is missing"
    assert f"record {seq} of chain hq {how}, which record 2 of the run itself pins" in found


def test_a_pin_of_a_chain_that_never_was_is_found(tmp_path: Path) -> None:
    """However the chain came to be missing."""
    wrong = ChainPinned(at=21.0, chain=ServerName("lab"), seq=1, hash="ab" * 32)
    first, *rest = whole()[RUN_CHAIN]

    found = refuted(made_of(tmp_path, records({**whole(), RUN_CHAIN: [first, wrong, *rest]})))

    assert "record 1 of chain lab is missing, which record 2 of the run itself pins" in found


def test_a_pin_in_the_chain_of_a_server_pins_nothing(tmp_path: Path) -> None:
    """Only the run's own chain speaks of the others."""
    run = whole()
    own = [each for each in run[RUN_CHAIN] if not isinstance(each, ChainPinned)]
    servers = {"hq": SMALL["hq"]}
    dr = [*SMALL["dr"], *pins(servers, 56.0)]

    found = refuted(made_of(tmp_path, records({**run, RUN_CHAIN: own, "dr": dr})))

    assert "no record of the run itself pins chain hq before its end" in found


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 1},
        {"format_version": 3},
        {"chains": []},
        {"chains": "backwards"},
        {"chains": "twice"},
        {"chains": "no run"},
        {"chains": "no text"},
        {"records": 1},
        {"head": "00" * 32},
    ],
    ids=str,
)
def test_a_manifest_that_contradicts_itself_is_refused(
    directory: Path, change: Mapping[str, Any]
) -> None:
    """Chains in another order, named twice, without the run's own; other sums, another version."""
    path = directory / "evidence.json"
    values = json.loads(path.read_bytes())
    journal, every = values["journal"], values["journal"]["chains"]
    orders: Mapping[str, Sequence[Any]] = {
        "backwards": every[::-1],
        "twice": [*every, every[-1]],
        "no run": every[1:],
        "no text": [*every, {"name": "\ud800", "records": 0, "head": ""}],
    }
    for name, value in change.items():
        if name == "format_version":
            values[name] = value
        else:
            journal[name] = orders[value] if name == "chains" and value else value
    path.write_text(json.dumps(values))

    assert "evidence.json was changed" in refuted(directory)


# --- runs that go on ---------------------------------------------------------------------------


def test_a_run_that_goes_on_may_be_ahead_of_its_pins(tmp_path: Path) -> None:
    """That is said: only the manifest knows where these chains ended."""
    verdict = verify(made_of(tmp_path, records(whole(ended=False))))

    behind = sum(len(events) - len(events) // 2 for events in SMALL.values())
    assert verdict.is_good, verdict.refuted
    assert any(f"{behind} records are not pinned" in note for note in verdict.notes)


def test_a_resumed_run_is_judged_by_its_last_end(tmp_path: Path) -> None:
    """While it goes on nothing need be pinned; at its end everything once more."""
    own = [*whole()[RUN_CHAIN], RunResumed(at=70.0, resumed_at=STARTED_AT, version="1")]
    again: list[Event] = [taken("hq", 71.0), ShardFinished(at=80.0, server=ServerName("hq"))]
    servers = {**SMALL, "hq": [*SMALL["hq"], *again]}
    end = finished(at=90.0)

    goes_on = made_of(tmp_path / "1", records({**servers, RUN_CHAIN: own}))
    ended = made_of(
        tmp_path / "2", records({**servers, RUN_CHAIN: [*own, *pins(servers, 81.0), end]})
    )
    unpinned = made_of(tmp_path / "3", records({**servers, RUN_CHAIN: [*own, end]}))

    assert verify(goes_on).is_good
    assert verify(ended).is_good
    assert "are behind its last pin" in refuted(unpinned)


def test_rubbish_in_a_record_that_is_a_pin_is_refuted(directory: Path) -> None:
    """Whatever is there in place of a pin, the answer is a sentence."""
    lines = lines_of(directory)
    place = next(n for n, raw in enumerate(lines) if b'"ChainPinned"' in raw)

    put(directory, [*lines[:place], altered(lines[place], body="{"), *lines[place + 1 :]])

    assert "record 3 (ChainPinned) is not what was written" in refuted(directory)


# --- rebuilding over evidence ---------------------------------------------------------------------


def test_evidence_that_knows_more_of_a_chain_is_not_replaced(directory: Path) -> None:
    """A journal that lost the end of any chain, or has another one, is an older copy."""
    shorter = [each for each in ALL if each != OF["dr"][-1]]
    other = [replace(each, hash=b"x" * 32) if each == OF["hq"][-1] else each for each in ALL]
    without = [each for each in ALL if each.chain != "dr"]
    last = len(OF["dr"])

    require_no_more(directory, RunId(RUN), ALL)
    require_no_more(directory, RunId(RUN), [*ALL, *_more()])
    for kept, why in (
        (shorter, f"had {last} records of chain dr; the journal ends with record {last - 1}"),
        (without, f"had {last} records of chain dr; the journal ends with record 0"),
        (other, "of chain hq; the journal has another one in the last's place"),
    ):
        with pytest.raises(JournalDamaged, match=why):
            require_no_more(directory, RunId(RUN), kept)


def _more() -> Iterable[Record]:
    """Return one more record of a chain."""
    chain = [*SMALL["hq"], RunNoted(at=99.0, message="more")]
    return records({"hq": chain})[-1:]


def test_a_report_is_made_of_all_chains_or_of_none(tmp_path: Path) -> None:
    """Records that lack a chain are not those of the report."""
    from orchestrator.core.events import from_json
    from orchestrator.core.records import BEGINNING
    from orchestrator.core.run_state import fold
    from orchestrator.report.evidence.writing import stage_evidence
    from orchestrator.report.summary import summarize
    from orchestrator.report.writing import write

    found = fold(from_json(each.kind, each.body) for each in ALL)
    report = summarize(found, chain_head=BEGINNING.past(ALL).head)
    some = [each for each in ALL if each.chain != "dr"]

    with pytest.raises(JournalDamaged, match="are not those of its report"):
        write(
            report,
            tmp_path,
            beside=lambda staging: stage_evidence(found, report, some, None, staging),
        )


def test_a_second_report_over_the_first_has_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    """Rebuilding changes nothing, and a chain that was served later is added."""
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)

    made_of(copy, ALL)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before

    lab = {**SMALL, "lab": served("lab")}
    made_of(copy, records(whole(lab)))
    assert verify(copy).is_good
