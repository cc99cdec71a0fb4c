"""Sealed tokens: only the key opens them, and only where they belong."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.core.errors import KeyUnusable, TokenUnusable
from orchestrator.core.model import RunId, ServerName, SessionId
from orchestrator.database.sealing import Binding, Sealer, load_sealer
from orchestrator.database.token_key import KEY_BYTES, make_key

TOKEN = b"MmE1ODk4ODctZTBiMS00YmZmLWI1YjYtNDVhYjg0ZDhmNmVm"
HERE = Binding(
    run=RunId("20261123T060000Z-0001"),
    server=ServerName("hq"),
    session=SessionId("a3d81f04"),
    epoch=3,
)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A new key."""
    make_key(tmp_path / "token.key")
    return tmp_path / "token.key"


@pytest.fixture
def sealer(key: Path) -> Sealer:
    """What seals with it."""
    return load_sealer(key)


def test_a_token_opens_where_it_belongs(sealer: Sealer, key: Path) -> None:
    """With the same key in another process, too."""
    sealed = sealer.seal(TOKEN, HERE)

    assert sealer.open(sealed, HERE) == load_sealer(key).open(sealed, HERE) == TOKEN
    assert TOKEN not in sealed


def test_the_same_token_is_never_sealed_alike(sealer: Sealer) -> None:
    """Each has a nonce of its own: two of one nonce would give both away."""
    sealed = [sealer.seal(TOKEN, HERE) for _ in range(500)]

    assert len({each[1:13] for each in sealed}) == len(set(sealed)) == 500


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(HERE, run=RunId("20261123T060000Z-0002")),
        replace(HERE, server=ServerName("dr")),
        replace(HERE, session=SessionId("a3d81f05")),
        replace(HERE, epoch=4),
        replace(HERE, run=RunId(f'{HERE.run}","hq'), server=ServerName("hq")),
    ],
    ids=["run", "server", "session", "epoch", "pretending"],
)
def test_a_token_that_was_moved_does_not_open(sealer: Sealer, elsewhere: Binding) -> None:
    """Who can write the table cannot make one session's token another's."""
    sealed = sealer.seal(TOKEN, HERE)

    with pytest.raises(TokenUnusable):
        sealer.open(sealed, elsewhere)


def test_a_token_that_was_changed_does_not_open(sealer: Sealer) -> None:
    """At any byte, shortened or lengthened; nothing of it is in the message."""
    sealed = sealer.seal(TOKEN, HERE)
    changed = [
        sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))
    ]

    for each in (*changed, *(sealed[:size] for size in range(len(sealed))), sealed + b"\0"):
        with pytest.raises(TokenUnusable) as failure:
            sealer.open(each, HERE)
        assert str(failure.value) == (
            "the token of session a3d81f04 on hq does not open: another key sealed it, or it was "
            "changed"
        )
        assert failure.value.__cause__ is None


def test_another_key_opens_nothing(sealer: Sealer, tmp_path: Path) -> None:
    """It is the same error as for a changed token: nobody can tell them apart."""
    make_key(tmp_path / "other.key")

    with pytest.raises(TokenUnusable, match="another key"):
        load_sealer(tmp_path / "other.key").open(sealer.seal(TOKEN, HERE), HERE)


def test_what_seals_shows_nothing(sealer: Sealer, key: Path) -> None:
    """Not in a log, and not in a pickle."""
    assert repr(sealer) == "Sealer(…)"
    assert key.read_bytes().hex() not in repr(vars(type(sealer)))
    with pytest.raises(TypeError, match="not written anywhere"):
        pickle.dumps(sealer)


# --- the file of the key ---------------------------------------------------------------------


def test_a_new_key_is_its_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask; two are never alike."""
    before = os.umask(0)
    try:
        for name in ("one", "two"):
            make_key(tmp_path / name)
    finally:
        os.umask(before)

    made = [tmp_path / "one", tmp_path / "two"]
    assert [each.stat().st_mode & 0o777 for each in made] == [0o600] * 2
    assert [len(each.read_bytes()) for each in made] == [KEY_BYTES] * 2
    assert made[0].read_bytes() != made[1].read_bytes()


def test_a_key_is_never_overwritten(key: Path, tmp_path: Path) -> None:
    """All tokens that it sealed would be lost; nor is a link followed to somewhere else."""
    before = key.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for path in (key, tmp_path / "link"):
        with pytest.raises(KeyUnusable, match="is there already and was not changed"):
            make_key(path)

    assert key.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


def test_a_key_that_cannot_be_written_is_said_to_be_so(tmp_path: Path) -> None:
    """The system's own error goes to the command, which ends with 74."""
    with pytest.raises(FileNotFoundError):
        make_key(tmp_path / "nowhere" / "token.key")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_half_a_key_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves no file that looks like a key."""
    path = tmp_path / "token.key"
    real = os.open

    def on_a_full_disk(name: Path, flags: int, mode: int = 0o777) -> int:
        os.close(real(name, flags, mode))
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", on_a_full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        make_key(path)

    assert not path.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644])
def test_a_key_that_others_can_reach_is_refused(key: Path, mode: int) -> None:
    """In words, with the remedy."""
    key.chmod(mode)

    with pytest.raises(KeyUnusable, match=r"can be read by others than its owner; run: chmod 600"):
        load_sealer(key)


@pytest.mark.parametrize("size", [0, 16, KEY_BYTES - 1, KEY_BYTES + 1, 4096])
def test_a_key_has_exactly_32_bytes(tmp_path: Path, size: int) -> None:
    """A text file with a final newline is none; nothing of it is in the message."""
    path = tmp_path / "token.key"
    path.touch(0o600)
    path.write_bytes(b"s" * size)

    with pytest.raises(KeyUnusable, match="exactly 32 bytes") as failure:
        load_sealer(path)

    assert "ss" not in str(failure.value)


def test_what_is_no_file_is_no_key(tmp_path: Path) -> None:
    """A missing one, a directory, and a pipe that would be waited for."""
    os.mkfifo(tmp_path / "pipe", 0o600)

    for name, words in (("missing", "No such file"), (".", "directory"), ("pipe", "regular")):
        with pytest.raises(KeyUnusable, match=words):
            load_sealer(tmp_path / name)


def test_who_seals_nothing_does_not_load_the_cipher() -> None:
    """It costs every start."""
    code = "import sys, orchestrator.database.sealing; sys.exit('cryptography' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
