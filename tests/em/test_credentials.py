"""Every kind of secret reference: its value, its errors, and a value that is in no message."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.core.errors import CredentialError
from orchestrator.em import credentials
from orchestrator.em.credentials import resolve
from orchestrator.plan.file.access import (
    CommandSecret,
    CredentialSecret,
    EnvironmentSecret,
    FileSecret,
    KeyringSecret,
    SecretReference,
)

pytestmark = pytest.mark.anyio

SECRET = "pä55 wörd: with = signs"


@pytest.fixture
def anyio_backend() -> str:
    """Real programs need real time."""
    return "asyncio"


def python(code: str) -> CommandSecret:
    """Return a reference to what a line of Python prints."""
    return CommandSecret(argv=(sys.executable, "-c", code))


def secret_file(path: Path, content: bytes = SECRET.encode(), mode: int = 0o600) -> Path:
    """Write a file with exactly this mode."""
    path.write_bytes(content)
    path.chmod(mode)
    return path


async def refused(reference: SecretReference) -> str:
    """Return why the reference cannot be resolved; the secret is nowhere in the error."""
    with pytest.raises(CredentialError) as refusal:
        await resolve(reference)
    error: BaseException | None = refusal.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert str(reference) in str(refusal.value) or isinstance(reference, EnvironmentSecret)
    return str(refusal.value)


async def test_a_plain_text_is_its_own_value() -> None:
    """User names may stand in the plan."""
    assert await resolve("LAB\\svc-drill") == "LAB\\svc-drill"


async def test_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """{env: NAME} is the variable's value, and must not be empty."""
    reference = EnvironmentSecret(name="EM_TEST_SECRET")
    monkeypatch.setenv("EM_TEST_SECRET", SECRET)
    assert await resolve(reference) == SECRET

    monkeypatch.setenv("EM_TEST_SECRET", "")
    assert "EM_TEST_SECRET is not set, or empty" in await refused(reference)
    monkeypatch.delenv("EM_TEST_SECRET")
    assert "EM_TEST_SECRET" in await refused(reference)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
async def test_a_file_without_its_line_end(tmp_path: Path, end: str) -> None:
    """{file: PATH} is the file's one line."""
    path = secret_file(tmp_path / "secret", (SECRET + end).encode())

    assert await resolve(FileSecret(path=str(path))) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o601])
async def test_a_file_for_more_than_its_owner_is_refused(tmp_path: Path, mode: int) -> None:
    """The message says how to put it right."""
    path = secret_file(tmp_path / "secret", mode=mode)

    assert f"chmod 600 {path}" in await refused(FileSecret(path=str(path)))


CONTENTS = {
    "empty": b"",
    "only a line end": b"\n",
    "two lines": SECRET.encode() + b"\n" + SECRET.encode() + b"\n",
    "a null byte": SECRET.encode() + b"\x00",
    "not UTF-8": SECRET.encode() + b"\xff\xfe",
    "too large": SECRET.encode() * 10_000,
}


@pytest.mark.parametrize("what", CONTENTS)
async def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, what: str) -> None:
    """One line of text, not empty, not absurdly long; the content is never quoted."""
    path = secret_file(tmp_path / "secret", CONTENTS[what])

    assert "wörd" not in await refused(FileSecret(path=str(path)))


async def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """Missing files and directories are named."""
    assert "No such file" in await refused(FileSecret(path=str(tmp_path / "nowhere")))
    assert str(tmp_path) in await refused(FileSecret(path=str(tmp_path)))


async def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """A named pipe that nobody writes to would stop the run."""
    os.mkfifo(tmp_path / "pipe", 0o600)

    assert "regular file" in await refused(FileSecret(path=str(tmp_path / "pipe")))


async def test_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """{credential: NAME} lies in the directory systemd made, whose files have its own modes."""
    reference = CredentialSecret(name="em-password")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret_file(tmp_path / "em-password", mode=0o440)
    assert await resolve(reference) == SECRET

    (tmp_path / "em-password").unlink()
    assert "No such file" in await refused(reference)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "was given no credentials" in await refused(reference)


async def test_a_program_prints_the_secret() -> None:
    """{command: [...]} is what it prints, without a shell: arguments arrive as they are."""
    code = "import sys; print(sys.argv[1])"
    argv = (sys.executable, "-X", "utf8", "-c", code, f"{SECRET} $HOME; echo *")

    assert await resolve(CommandSecret(argv=argv)) == f"{SECRET} $HOME; echo *"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (f"print({SECRET!r}); raise SystemExit(3)", "exit code 3"),
        (f"import sys; sys.exit({SECRET!r})", "exit code 1"),
        ("pass", "empty"),
        ("print('a'); print('b')", "more than one line"),
        ("print('x' * 100_000)", "larger than any secret"),
        ("import sys; print(len(sys.stdin.read()), file=sys.stderr)", "empty"),
    ],
)
async def test_a_program_that_gives_no_secret_is_refused(
    code: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither its output nor its arguments are quoted; it gets no input and its errors go away."""
    message = await refused(python(code))

    assert why in message
    assert "print" not in message
    assert capfd.readouterr() == ("", "")


async def test_a_program_that_does_not_exist_or_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is named, an endless one is stopped."""
    assert "cannot be started" in await refused(CommandSecret(argv=("/nonexistent/program",)))

    monkeypatch.setattr(credentials, "COMMAND_TIMEOUT", 0.2)
    assert "did not end within 0.2 s" in await refused(python("import time; time.sleep(60)"))


def keyring(monkeypatch: pytest.MonkeyPatch, **found: object) -> None:
    """Put a keyring with these entries in the optional package's place, or none at all."""
    module = ModuleType("keyring")
    module.get_password = lambda service, user: found.get(f"{service}_{user}")  # type: ignore[attr-defined]  # its one function that is used
    monkeypatch.setitem(sys.modules, "keyring", module)


async def test_a_keyring_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """{keyring: SERVICE/USER} asks the optional package."""
    keyring(monkeypatch, em_drill=SECRET)

    assert await resolve(KeyringSecret(service="em", user="drill")) == SECRET
    assert "is not in the keyring" in await refused(KeyringSecret(service="em", user="nobody"))


async def test_without_the_keyring_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert "[keyring]" in await refused(KeyringSecret(service="em", user="drill"))


async def test_a_keyring_that_cannot_be_opened_is_a_credential_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A locked keyring raises errors of its own; they never stop the program as a bug."""
    keyring(monkeypatch)

    def locked(service: str, user: str) -> str:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(sys.modules["keyring"], "get_password", locked)

    assert "keyring" in await refused(KeyringSecret(service="em", user="drill"))


SOURCES = ("env", "file", "credential", "command", "keyring")


async def told(
    source: str, value: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> SecretReference:
    """Return a reference to `value` as this source tells it."""
    path = secret_file(directory / "secret", value.encode())
    match source:
        case "env":
            monkeypatch.setenv("EM_TEST_SECRET", value)
            return EnvironmentSecret(name="EM_TEST_SECRET")
        case "credential":
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
            return CredentialSecret(name="secret")
        case "command":
            return CommandSecret(argv=("cat", str(path)))
        case "keyring":
            keyring(monkeypatch, em_drill=value)
            return KeyringSecret(service="em", user="drill")
    return FileSecret(path=str(path))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("source", SOURCES)
async def test_one_line_end_is_stripped_from_every_source(
    source: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`$(cat file)` strips it, an editor adds it, a vault's export may: it is no part of any."""
    reference = await told(source, SECRET + end, tmp_path, monkeypatch)

    assert await resolve(reference) == SECRET


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (f"\ufeff{SECRET}", "byte-order mark"),
        (f"{SECRET}\x07", "control character"),
        (f"{SECRET}\tx", "control character"),
        (f"{SECRET}\x85", "control character"),
        (f"{SECRET}\n\n", "more than one line"),
        (f"{SECRET}\rx", "more than one line"),
    ],
)
@pytest.mark.parametrize("source", SOURCES)
async def test_what_nobody_sees_is_refused_before_the_logon(
    source: str, value: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A logon with it would fail, and accounts lock."""
    reference = await told(source, value, tmp_path, monkeypatch)

    message = await refused(reference)

    assert why in message
    assert "wörd" not in message


async def test_a_variable_of_other_bytes_than_utf_8_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python hands them over as half surrogates, which no request can carry."""
    monkeypatch.setenv("EM_TEST_SECRET", "w\udcf6rd")

    assert "not UTF-8" in await refused(EnvironmentSecret(name="EM_TEST_SECRET"))
