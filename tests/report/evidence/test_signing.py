"""The signature: made with the user's key, checked with its public half, and nothing shown."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from orchestrator.core.errors import KeyUnusable
from orchestrator.report.evidence.signing import load_public_key, load_signer
from orchestrator.report.evidence.verifying import verify
from tests.report.evidence.sample import EVENTS, key_files, made


def test_the_owner_s_signature_is_verified(tmp_path: Path) -> None:
    """Signed with the private key, good for the public one."""
    private, public = key_files(tmp_path)
    directory = made(tmp_path / "report", sign=load_signer(private))

    verdict = verify(directory, load_public_key(public))

    assert verdict.is_good
    assert any("signature" in line for line in verdict.verified)
    assert (directory / "evidence.sig").stat().st_mode & 0o777 == 0o600


def test_signing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """Ed25519 leaves nothing to chance: a rebuilt report has the very same signature."""
    sign = load_signer(key_files(tmp_path)[0])
    first, second = (made(tmp_path / name, sign=sign) for name in ("a", "b"))

    names = sorted(path.name for path in first.iterdir())
    assert "evidence.sig" in names
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_another_key_is_refused(tmp_path: Path) -> None:
    """A good signature of somebody else is not the owner's."""
    directory = made(tmp_path / "report", sign=load_signer(key_files(tmp_path)[0]))
    stranger = load_public_key(key_files(tmp_path, name="other")[1])

    assert any("not this key's" in line for line in verify(directory, stranger).refuted)


def test_a_missing_signature_is_refused_where_a_key_is_given(tmp_path: Path) -> None:
    """Taking the signature away does not turn a forgery into an unsigned report."""
    private, public = key_files(tmp_path)
    directory = made(tmp_path / "report", sign=load_signer(private))
    (directory / "evidence.sig").unlink()

    verdict = verify(directory, load_public_key(public))

    assert any("not signed" in line for line in verdict.refuted)


def test_a_report_made_anew_has_no_good_signature(tmp_path: Path) -> None:
    """Whoever changes everything consistently still lacks the key."""
    private, public = key_files(tmp_path)
    directory = made(tmp_path / "report", sign=load_signer(private))
    forged = made(tmp_path / "forged", [*EVENTS[:-2], EVENTS[-1]])
    shutil.copy(directory / "evidence.sig", forged)

    assert verify(forged).is_good  # without the key nobody can tell
    assert not verify(forged, load_public_key(public)).is_good


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 64, b"\x00" * 100_000])
def test_rubbish_is_no_signature(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in the file, the answer is a sentence."""
    private, public = key_files(tmp_path)
    directory = made(tmp_path / "report", sign=load_signer(private))
    (directory / "evidence.sig").write_bytes(content)

    assert not verify(directory, load_public_key(public)).is_good


def test_an_outdated_signature_does_not_stay(tmp_path: Path) -> None:
    """Rebuilding other evidence without a key removes the signature; the same evidence keeps it."""
    private, public = key_files(tmp_path)
    directory = made(tmp_path / "report", EVENTS[:-1], sign=load_signer(private))

    made(directory, EVENTS[:-1])
    assert verify(directory, load_public_key(public)).is_good

    made(directory)
    assert not (directory / "evidence.sig").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="not run: no openssl")
def test_other_programs_can_check_it(tmp_path: Path) -> None:
    """Nobody needs this program to check the signature."""
    private, public = key_files(tmp_path)
    directory = made(tmp_path / "report", sign=load_signer(private))
    argv: list[str | Path] = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin",
            "-in", directory / "evidence.json", "-sigfile", directory / "evidence.sig"]  # fmt: skip

    assert subprocess.run(argv, check=False, capture_output=True).returncode == 0
    with (directory / "evidence.json").open("ab") as file:
        file.write(b" ")
    assert subprocess.run(argv, check=False, capture_output=True).returncode != 0


# --- keys that are none ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """As with every secret file; the message says what to do."""
    private, _ = key_files(tmp_path)
    private.chmod(mode)

    with pytest.raises(KeyUnusable, match="chmod 600"):
        load_signer(private)


def test_a_passphrase_is_not_supported_and_said_so(tmp_path: Path) -> None:
    """Nobody is asked for one, and nothing guesses."""
    private, _ = key_files(tmp_path, passphrase=b"very-secret")

    with pytest.raises(KeyUnusable, match="passphrase, which is not supported"):
        load_signer(private)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ],
)
def test_a_key_of_another_kind_is_refused(tmp_path: Path, key: object) -> None:
    """Only Ed25519 signs here."""
    private, public = key_files(tmp_path, key=key)

    with pytest.raises(KeyUnusable, match="another kind than Ed25519"):
        load_signer(private)
    with pytest.raises(KeyUnusable, match="another kind than Ed25519"):
        load_public_key(public)


def test_the_halves_cannot_be_mixed_up(tmp_path: Path) -> None:
    """A private key given as the public one, or the reverse, is named as what it is."""
    private, public = key_files(tmp_path)
    public.chmod(0o600)

    with pytest.raises(KeyUnusable, match="no private key"):
        load_signer(public)
    with pytest.raises(KeyUnusable, match="is a private key; give the public one"):
        load_public_key(private)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A missing file, a directory and a pipe that nobody writes to are sentences, at once."""
    import os

    os.mkfifo(tmp_path / "pipe", 0o600)

    for name in ("missing", "pipe", "."):
        for load in (load_signer, load_public_key):
            with pytest.raises(KeyUnusable):
                load(tmp_path / name)


def test_the_private_key_is_never_shown(tmp_path: Path) -> None:
    """Neither text nor pickle of a signer holds anything of the key."""
    private, _ = key_files(tmp_path)
    signer = load_signer(private)

    assert repr(signer) == str(signer) == "Signer(…)"
    with pytest.raises(TypeError):
        pickle.dumps(signer)
