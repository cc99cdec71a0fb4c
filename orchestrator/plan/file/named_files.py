"""The files that a plan names: read where they are, or carried to another machine with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import asdict, replace

from orchestrator.core.text import size
from orchestrator.plan.file.access import CaFileTrust, CarriedCaFileTrust
from orchestrator.plan.file.document import MAX_BYTES
from orchestrator.plan.file.settings import (
    CarriedNotification,
    Notification,
    RestorePlan,
    ServerSettings,
)


def read_bytes(path: Path, *, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises:
        ValueError: there is none; the text says why.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    except IsADirectoryError:
        raise ValueError("this is a directory, not a file") from None
    except OSError as exc:
        raise ValueError(f"it cannot be read: {exc.strerror or type(exc).__name__}") from None
    except ValueError:
        raise ValueError("this is no file name") from None
    if len(data) > limit:
        raise ValueError(f"it is larger than {size(limit)}")
    return data


class NamedFiles:
    """The files that a plan names, each read where it is."""

    plan_leaves = False
    """Whether the plan is carried out on other machines, so that no path may be relative there."""

    def read(self, path: Path) -> bytes:
        """Return the content of a file.

        Raises:
            ValueError: there is none; the text says why.
        """
        return read_bytes(path)


ON_DISK = NamedFiles()


class CollectedFiles(NamedFiles):
    """The files of a plan that leaves this machine: what is read is kept for it."""

    plan_leaves = True

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.contents: dict[str, bytes] = {}
        """By their absolute paths."""

    def read(self, path: Path) -> bytes:
        """Return the content of a file, and keep it."""
        content = read_bytes(path)
        self.contents[_name(path)] = content
        return content


class CarriedFiles(NamedFiles):
    """The files that came with a plan from another machine: nothing is read from this one."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        """`contents` are those of `CollectedFiles`."""
        self._contents = contents

    def read(self, path: Path) -> bytes:
        """Return the content that came with the plan."""
        try:
            return self._contents[_name(path)]
        except KeyError:
            raise ValueError("it did not come with the plan") from None


def _name(path: Path) -> str:
    """Return what a file is called in a database, whose text holds no other bytes than UTF-8."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - links are followed when it is read
    return os.fsencode(absolute).decode("utf-8", errors="backslashreplace")


def with_authorities(plan: RestorePlan, files: NamedFiles) -> RestorePlan:
    """Return the plan with the content of each `ca_file` in it.

    Raises:
        ValueError: one cannot be read; the text names it and says why.
    """

    def content(path: str) -> bytes:
        try:
            return files.read(Path(path))
        except ValueError as exc:
            raise ValueError(f"ca_file {path}: {exc}") from None

    def server(settings: ServerSettings) -> ServerSettings:
        if not isinstance(settings.trust, CaFileTrust):
            return settings
        path = settings.trust.path
        return replace(settings, trust=CarriedCaFileTrust(path=path, content=content(path)))

    def hook(each: Notification) -> Notification:
        if each.ca_file is None:
            return each
        return CarriedNotification(**asdict(each), content=content(each.ca_file))

    return replace(
        plan,
        servers={name: server(settings) for name, settings in plan.servers.items()},
        notifications=tuple(map(hook, plan.notifications)),
    )
