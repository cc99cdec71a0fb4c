"""Every sample in JSON means what the same sample in XML means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core.errors import MalformedResponse
from orchestrator.core.model import OsKind, Source
from orchestrator.em.error_bodies import is_error, words_of
from orchestrator.em.families import FAMILIES
from orchestrator.em.json_codec import JsonCodec
from orchestrator.em.wire import Codec, XmlCodec
from tests.em.documents import SAMPLES, read

XML, JSON = XmlCodec(), JsonCodec()
READINGS: dict[str, Callable[[Codec], Any]] = {
    "task": Codec.task,
    "tasks": Codec.tasks,
    "points": lambda codec: codec.points(FAMILIES[Source.REPLICA]),
    "points of backups": lambda codec: codec.points(FAMILIES[Source.BACKUP]),
    "mounts": Codec.mounts,
    "entries": Codec.entries,
    "logon": Codec.logon,
    "sessions": Codec.open_sessions,
    "own session": lambda codec: codec.own_session("1c7e94b2-d80a-4f53-a6e7-92b0d3f5c814"),
    "servers": Codec.backup_servers,
    "versions": Codec.versions,
    "anything": Codec.anything,
}
OTHER_NAMES = {
    "logon-sessions": "logon-sessions.same-account",
    "task.mount.running.bom": "task.mount.running",
    "task.mount.finished-success": "task.mount.finished-success.related-as-documented",
    "tasks.empty.null-list": "tasks.empty",
    "query.vmreplicapoint.empty.null-list": "query.vmreplicapoint.empty",
    "query.vmreplicapoint.empty.no-member": "query.vmreplicapoint.empty",
}
"""Samples in XML whose names are not the same."""
SHORTER = {"tasks", "filesystementries.listall", "logon-session"}
"""Samples in JSON, some of which have fewer rows or links than those in XML."""
ANSWERS = sorted(
    path.stem
    for path in SAMPLES.glob("*.json")
    if "error." not in path.name
    and "-spec." not in path.name
    and path.stem != "replicajobsessions.entities"  # there is none in XML
)


def xml_of(name: str) -> str:
    """Return the name of the sample in XML that says the same."""
    plain = name.removeprefix("v13-camelcase.")
    return OTHER_NAMES.get(plain, plain)


def outcome(reading: Any, data: bytes) -> Any:
    """Return the value, or that there is none."""
    try:
        return read(reading, data)
    except MalformedResponse:
        return "not what was asked for"


def test_there_are_samples_of_each_kind_in_both_cases() -> None:
    """So that no typing mistake leaves the comparison empty."""
    assert len(ANSWERS) > 25
    assert sum(name.startswith("v13-camelcase.") for name in ANSWERS) > 9


@pytest.mark.parametrize("name", ANSWERS)
def test_a_sample_means_the_same_in_json(name: str) -> None:
    """Whatever is asked for: the same value, or no answer to that question in either form."""
    in_xml = (SAMPLES / f"{xml_of(name)}.xml").read_bytes()
    in_json = (SAMPLES / f"{name}.json").read_bytes()
    read_at_all = 0
    for kind, reading in READINGS.items():
        expected, found = outcome(reading(XML), in_xml), outcome(reading(JSON), in_json)
        if xml_of(name) in SHORTER and kind in {"tasks", "entries", "logon"} and found != expected:
            assert_within(found, expected)
        else:
            assert found == expected, kind
        read_at_all += kind != "anything" and found != "not what was asked for"
    assert read_at_all or ".refs" in name


def assert_within(found: Any, expected: Any) -> None:
    """Assert that a shorter sample says nothing else than the longer one."""
    if hasattr(found, "collections"):
        assert (found.guid, found.user) == (expected.guid, expected.user)
        assert 0 < len(found.collections - {""}) < len(expected.collections)
        assert found.collections <= expected.collections
        return
    assert len(found.rows) > 0
    assert all(row in expected.rows for row in found.rows)
    assert (found.has_next, found.set_aside) == (expected.has_next, expected.set_aside)


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in SAMPLES.glob("*.json") if "error." in path.name)
)
def test_a_sample_of_an_error_says_the_same(name: str) -> None:
    """The service's own words, and known as its own."""
    in_xml = (SAMPLES / f"{xml_of(name)}.xml").read_bytes()
    in_json = (SAMPLES / f"{name}.json").read_bytes()

    assert words_of(in_json) == words_of(in_xml) is not None
    assert is_error(in_json)
    assert outcome(JSON.task(), in_json) == outcome(XML.task(), in_xml)


@pytest.mark.parametrize("os_kind", OsKind)
def test_the_bodies_of_requests_are_those_of_the_samples(os_kind: OsKind) -> None:
    """A mount and a staging; a restore brings no credentials, and says whether it overwrites."""
    name = f"start-mount-spec.{os_kind.value.lower()}.json"

    assert squeezed(JSON.mount_spec(os_kind)) == squeezed((SAMPLES / name).read_bytes())
    staging = (SAMPLES / "file-restore-spec.download.json").read_bytes()
    assert squeezed(JSON.staging_spec()) == squeezed(staging)
    for overwrite, word in ((True, b"true"), (False, b"false")):
        spec = squeezed(JSON.original_location_spec(overwrite=overwrite))
        assert spec == b'{"ToOriginalLocation":{"Overwrite":%s}}' % word


def squeezed(body: bytes) -> bytes:
    """Return a body without white space."""
    return b"".join(body.split())
