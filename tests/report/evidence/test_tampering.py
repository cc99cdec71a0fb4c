"""Tampering: whatever is changed in a report directory is found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.report.evidence.verifying import verify
from orchestrator.report.writing import RENDERINGS
from tests.report.builders import journals
from tests.report.evidence.sample import (
    COUNT,
    EVENTS,
    altered,
    lines_of,
    made,
    put,
    records,
    refuted,
)

EVERY = range(1, COUNT + 1)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A report directory as a run left it."""
    return made(tmp_path / "report")


def test_what_was_written_is_verified(directory: Path) -> None:
    """Nothing is refuted; chain, hashes and contents are named, and that nobody signed."""
    verdict = verify(directory)

    assert verdict.is_good
    said = "\n".join(verdict.verified)
    assert f"{COUNT} records" in said
    assert records(EVENTS)[-1].hash.hex() in said
    assert all(name in said for name in RENDERINGS)
    assert any("not signed" in note for note in verdict.notes)


def test_the_manifest_names_who_why_and_with_whom(directory: Path) -> None:
    """Everything a reader of the evidence asks for stands in evidence.json."""
    values = json.loads((directory / "evidence.json").read_bytes())

    assert values["processes"] == [
        {"since": "2026-11-23T06:00:00.000Z", "user": "ada", "host": "dr-console",
         "version": "1.0.0"}
    ]  # fmt: skip
    assert values["run"]["reason"]
    assert values["plan_sha256"] == "ab" * 32
    (server,) = values["servers"]
    assert server["certificates_sha256"] == ["cd" * 32]
    assert server["clock_offsets_s"] == [0.4]
    assert set(values["files"]) == set(RENDERINGS)


@pytest.mark.parametrize("seq", EVERY)
def test_any_changed_byte_of_a_record_is_found(directory: Path, seq: int) -> None:
    """Whichever byte of a record's line changes, that record is named, or the one missing."""
    lines = lines_of(directory)
    whole = lines[seq - 1]

    for place in range(0, len(whole), 3):
        changed = bytes(byte ^ (1 if n == place else 0) for n, byte in enumerate(whole))
        put(directory, [*lines[: seq - 1], changed, *lines[seq:]])
        assert f"record {seq} " in refuted(directory)


@pytest.mark.parametrize("field", ["type", "at", "body", "hash"])
@pytest.mark.parametrize("seq", EVERY)
def test_any_other_value_is_found(directory: Path, seq: int, field: str) -> None:
    """A record with another value, written just as ours are, is named."""
    lines = lines_of(directory)
    value = json.loads(lines[seq - 1])[field]
    other = value + 1 if field == "at" else "00" * 32 if field == "hash" else f"{value} "

    put(directory, [*lines[: seq - 1], altered(lines[seq - 1], **{field: other}), *lines[seq:]])

    assert f"record {seq} " in refuted(directory)


@pytest.mark.parametrize("seq", range(1, COUNT))
def test_a_dropped_record_is_found(directory: Path, seq: int) -> None:
    """A gap is named by the record that is missing, a closed gap by the one that moved up."""
    lines = lines_of(directory)
    rest = [*lines[: seq - 1], *lines[seq:]]

    put(directory, rest)
    assert f"record {seq} is missing" in refuted(directory)

    put(directory, [altered(each, seq=n) for n, each in enumerate(rest, 1)])
    assert f"record {seq} " in refuted(directory)


@pytest.mark.parametrize("seq", range(1, COUNT))
def test_swapped_records_are_found(directory: Path, seq: int) -> None:
    """Two neighbours in each other's place are found, numbered anew or not."""
    lines = lines_of(directory)
    lines[seq - 1], lines[seq] = lines[seq], lines[seq - 1]

    put(directory, lines)
    assert f"record {seq} is missing" in refuted(directory)

    put(directory, [altered(each, seq=n) for n, each in enumerate(lines, 1)])
    assert f"record {seq} " in refuted(directory)


@pytest.mark.parametrize("seq", EVERY)
def test_an_inserted_record_is_found(directory: Path, seq: int) -> None:
    """A record that is there twice, or was added, is named with its place."""
    lines = lines_of(directory)

    put(directory, [*lines[:seq], lines[seq - 1], *lines[seq:]])
    assert f"is where record {seq + 1} should be" in refuted(directory)

    more = [*lines[:seq], lines[seq - 1], *lines[seq:]]
    put(directory, [altered(each, seq=n) for n, each in enumerate(more, 1)])
    assert f"record {seq + 1} " in refuted(directory)


@pytest.mark.parametrize("kept", range(COUNT))
def test_a_truncated_tail_is_found(directory: Path, kept: int) -> None:
    """However much of the end is cut off, it is told that something was."""
    put(directory, lines_of(directory)[:kept])

    found = refuted(directory)

    assert f"record {kept + 1} and what followed were cut off" in found or kept == 0


@pytest.mark.parametrize("kept", range(1, COUNT))
def test_a_tail_cut_off_with_its_manifest_is_found(directory: Path, kept: int) -> None:
    """Making the manifest anew without the end does not help: the run has no end then."""
    cut = made(directory.with_name("cut"), EVENTS[:kept])
    shutil.copy(cut / "journal.jsonl", directory)
    values = json.loads((directory / "evidence.json").read_bytes())
    values["journal"] = json.loads((cut / "evidence.json").read_bytes())["journal"]
    (directory / "evidence.json").write_text(json.dumps(values))

    found = refuted(directory)

    assert "end before the run did" in found


def test_the_records_of_another_run_are_found(directory: Path) -> None:
    """Records that were renamed, or are those of another run altogether, are not taken."""
    put(directory, [altered(each, run="20261123T060000Z-ffff") for each in lines_of(directory)])
    assert "record 1 (RunStarted) is one of another run" in refuted(directory)

    renamed = records(EVENTS, run="another")
    put(directory, [altered(lines, hash=each.hash.hex(), run="another")
                    for lines, each in zip(lines_of(directory), renamed, strict=True)])  # fmt: skip
    manifest = (directory / "evidence.json").read_text()
    head = records(EVENTS)[-1].hash.hex()
    (directory / "evidence.json").write_text(
        manifest.replace(head, renamed[-1].hash.hex()).replace(
            '"id": "20261123T060000Z-7f3a"', '"id": "another"'
        )
    )
    assert "the first record is that of another run" in refuted(directory)


def test_a_chain_made_anew_does_not_end_as_the_manifest_says(directory: Path) -> None:
    """Recomputing every hash after a change gives another head."""
    changed = made(directory.with_name("changed"), [*EVENTS[:-2], EVENTS[-1]])
    shutil.copy(changed / "journal.jsonl", directory)
    assert "were cut off" in refuted(directory)

    other = (EVENTS[0], *EVENTS[2:4], EVENTS[1], *EVENTS[4:])
    shutil.copy(made(directory.with_name("other"), other) / "journal.jsonl", directory)
    assert "the chain ends in" in refuted(directory)


@pytest.mark.parametrize("name", [*RENDERINGS, "journal.jsonl", "evidence.json"])
def test_a_missing_file_is_found(directory: Path, name: str) -> None:
    """Every file belongs to the evidence."""
    (directory / name).unlink()

    assert name in refuted(directory)


@pytest.mark.parametrize("name", [*RENDERINGS, "journal.jsonl", "evidence.json"])
@pytest.mark.parametrize("kind", ["link", "device", "pipe", "directory"])
def test_what_is_no_file_of_the_directory_is_found(directory: Path, name: str, kind: str) -> None:
    """A link, even to the same bytes, proves nothing; nothing is waited for or read for ever."""
    path = directory / name
    elsewhere = path.rename(directory.parent / name)
    match kind:
        case "link":
            path.symlink_to(elsewhere)
        case "device":
            path.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()

    assert name in refuted(directory)


def _changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", RENDERINGS)
@pytest.mark.parametrize("change", [_changed, _longer, _shorter])
def test_a_changed_rendering_is_found(
    directory: Path, name: str, change: Callable[[Path], None]
) -> None:
    """One byte more, less or other in any rendering is found, and the others stay good."""
    change(directory / name)

    found = refuted(directory)

    assert f"{name} was changed" in found
    assert all(f"{other} was changed" not in found for other in RENDERINGS if other != name)


@pytest.mark.parametrize("name", RENDERINGS)
def test_a_rendering_changed_with_its_hash_is_found(directory: Path, name: str) -> None:
    """Rendering and manifest changed together: neither says what the records say."""
    from orchestrator.report.evidence.manifest import sha256_of

    before = sha256_of(directory / name)
    _longer(directory / name)
    manifest = directory / "evidence.json"
    manifest.write_text(manifest.read_text().replace(before, sha256_of(directory / name)))

    assert f"{name} does not say what the records say" in refuted(directory)


def test_no_byte_of_the_manifest_can_be_changed(directory: Path) -> None:
    """Unsigned too: it is what the records and files say; another version is at least told."""
    path = directory / "evidence.json"
    whole = path.read_bytes()

    for place in range(0, len(whole), 7):
        path.write_bytes(bytes(byte ^ (1 if n == place else 0) for n, byte in enumerate(whole)))
        verdict = verify(directory)
        told = any("written by version" in note for note in verdict.notes)
        assert not verdict.is_good or told, whole[place - 20 : place + 20]


@pytest.mark.parametrize("name", ["../report.json", "/etc/passwd", "..", "sub/report.json", ""])
def test_a_manifest_cannot_name_files_elsewhere(directory: Path, name: str) -> None:
    """Only files of the directory itself are looked at."""
    path = directory / "evidence.json"
    values = json.loads(path.read_bytes())
    values["files"][name] = "00" * 32
    path.write_text(json.dumps(values))

    assert "evidence.json was changed" in refuted(directory)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"format":"bulk-restore-evidence"}'],
)
@pytest.mark.parametrize("name", ["evidence.json", "journal.jsonl", "report.json"])
def test_rubbish_is_refuted_without_a_traceback(directory: Path, name: str, content: bytes) -> None:
    """Whatever lies there in place of a file, the answer is a sentence."""
    (directory / name).write_bytes(content)

    assert name in refuted(directory)


def test_another_version_compares_chain_and_hashes_only(directory: Path) -> None:
    """What a newer program would render otherwise is no reproach, and is said."""
    path = directory / "evidence.json"
    values = json.loads(path.read_bytes())
    values["version"] = "0.0.1"
    path.write_text(json.dumps(values))

    verdict = verify(directory)
    assert verdict.is_good
    assert any("only the chain and the hashes" in note for note in verdict.notes)

    _changed(directory / "report.html")
    assert "report.html was changed" in refuted(directory)


def test_an_unfinished_run_is_said_to_be_one(tmp_path: Path) -> None:
    """The report of a killed run can be verified too."""
    verdict = verify(made(tmp_path, EVENTS[:-1]))

    assert verdict.is_good
    assert any("had not ended" in note for note in verdict.notes)


def test_files_beside_the_evidence_are_named(directory: Path) -> None:
    """What is not covered is said, with its name made harmless."""
    (directory / "notes\x1b[2J.txt").write_text("x")

    (note,) = [each for each in verify(directory).notes if "not covered" in each]

    assert "notes\\x1b[2J.txt" in note


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_run_is_verified_and_any_change_of_it_refuted(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Over random runs: written is good; one changed line, whichever, is not."""
    events = data.draw(journals())
    directory = made(tmp_path_factory.mktemp("run"), events)
    assert verify(directory).is_good

    lines = lines_of(directory)
    seq = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "repeat", "swap", "byte"]))
    if change == "drop":
        del lines[seq]
    elif change == "repeat":
        lines.insert(seq, lines[seq])
    elif change == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda n: n != seq))
        lines[seq], lines[other] = lines[other], lines[seq]
    else:
        place = data.draw(st.integers(0, len(lines[seq]) - 1))
        lines[seq] = lines[seq][:place] + b"~" + lines[seq][place + 1 :]
    put(directory, lines)

    assert verify(directory).is_good is (b"".join(lines) == b"".join(map(_same, records(events))))


def _same(record: object) -> bytes:
    from orchestrator.core.records import Record
    from orchestrator.report.evidence.lines import line

    assert isinstance(record, Record)
    return line(record)
