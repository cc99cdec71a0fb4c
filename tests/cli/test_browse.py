"""`browse` as people use it: real processes, HTTPS, files on disk."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_ctl import until_held
from tests.cli.test_stalled import standing_still
from tests.processes import Place, Servers, ended, servers

pytestmark = pytest.mark.process

SAM = "C:/Windows/System32/config/SAM"


@pytest.fixture(scope="module")
def quick() -> Iterator[Servers]:
    """Serve one server whose mounts take no time."""
    with servers(count=1) as running:
        yield running


def test_a_person_looks_around_and_takes_a_file_along(quick: Servers, place: Place) -> None:
    """The volumes, a directory, a file whose bytes are those of its hash; then the hold ends."""
    plan = quick.plan(place.directory, targets=1)
    process = place.start("run", plan, "--yes", "--json", "--hold", "1h")
    until_held(place, process)
    (target,) = json.loads(place.call("list", "last", "--json").stdout)
    key, directory, path = target["key"], "C:/Windows/System32/config", SAM

    listing = place.call("browse", "last", key, directory)
    rows = json.loads(place.call("browse", "last", key, directory, "--json").stdout)["entries"]
    file = next(each for each in rows if each["name"] == Path(path).name)
    to = place.directory / "evidence"
    got = place.call("browse", "last", key, "--get", path, "--to", to)
    (saved,) = to.iterdir()
    missing = place.call("browse", "last", key, f"{path}.no")
    halfway = place.start("browse", "last", key, path)
    halfway.send_signal(signal.SIGINT)
    halfway.communicate()
    place.call("unmount", "last")

    assert ended(process)[0] == 0
    assert "times in UTC" in listing.stdout
    assert saved.name in listing.stdout
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert got.stdout.endswith(f"sha256 {digest}\n"), got.stderr
    assert saved.stat().st_size == file["size"]
    assert (missing.returncode, "no such path in the guest" in missing.stderr) == (2, True)
    controls = place.values()["controls"]
    assert [each["verb"] for each in controls].count("get") == 1
    assert all(each["user"] and each["host"] for each in controls)
    assert not list((place.directory / "state").glob("ctl-*"))
    after = place.call("browse", "last", key)
    assert (after.returncode, "no process works on it" in after.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--get", "C:/x"], "--get and --to belong together"),
        (["--to", "here"], "--get and --to belong together"),
        (["C:/", "--get", "C:/x", "--to", "here"], "give one of them"),
    ],
)
def test_wrong_words_are_told_at_once(place: Place, words: list[str], why: str) -> None:
    """Nothing is looked up for them."""
    done = place.call("browse", "last", "key", *words)

    assert done.returncode == 2
    assert why in done.stderr


def test_a_database_is_refused(place: Place) -> None:
    """The mounts of its runs are at their workers."""
    place.address = "postgresql://user@db.example/runs?sslmode=verify-full"
    done = place.call("browse", "last", "key")

    assert (done.returncode, "over several machines" in done.stderr) == (2, True), done.stderr


def test_a_directory_that_cannot_be_written_is_named(quick: Servers, place: Place) -> None:
    """Exit code 74: the guest is well, this machine is not; so where the output is full."""
    plan = quick.plan(place.directory, targets=1)
    process = place.start("run", plan, "--yes", "--json", "--hold", "1h")
    until_held(place, process)
    (target,) = json.loads(place.call("list", "last", "--json").stdout)
    blocked, loop = Path(place.directory / "file"), Path(place.directory / "loop")
    blocked.write_text("x")
    loop.symlink_to(loop)
    get = ("browse", "last", target["key"], "--get", "C:/x", "--to")
    done, looping = place.call(*get, blocked / "below"), place.call(*get, loop)
    full = ["sh", "-c", 'exec "$@" > /dev/full', "sh"]
    unseen = ended(place.start("browse", "last", target["key"], through=full))
    twice = place.call(*get, place.directory / "to", "--get", "D:/X")
    process.terminate()

    assert ended(process)[0] == 143
    assert (done.returncode, "is not a directory" in done.stderr) == (74, True), done.stderr
    assert (looping.returncode, "symbolic link" in looping.stderr) == (74, True)
    assert (unseen[0], "No space left on device" in unseen[2]) == (74, True), unseen
    assert (twice.returncode, "have the same name" in twice.stderr) == (2, True), twice.stderr
    assert not (place.directory / "to").exists()


def test_a_process_that_stops_while_it_reads_is_not_waited_for(
    quick: Servers, place: Place
) -> None:
    """Exit code 6, as for one that never took the request; the run goes on once it moves again."""
    process = place.start(
        "run", quick.plan(place.directory, targets=1), "--yes", "--json", "--hold", "1h"
    )
    until_held(place, process)
    (target,) = json.loads(place.call("list", "last", "--json").stdout)
    path = "C:/Windows/System32/config/SOFTWARE"
    browse = place.start("browse", "last", target["key"], "--get", path, "--to", place.report)
    deadline = time.monotonic() + 60
    while not list((place.directory / "state").glob("ctl-*/*.content.part")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with standing_still(process, place):
        code, _, err = ended(browse)
    process.terminate()

    assert (code, "does not move any more" in err) == (6, True), err
    assert ended(process)[0] == 143
    assert not list((place.directory / "state").glob("ctl-*"))
