"""What CI systems read in the output of a job, by their own rules: one parser for each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Command:
    """What a CI system obeys: a name, properties, and what follows them."""

    name: str
    properties: dict[str, str] = field(default_factory=dict)
    data: str = ""


def github(output: str) -> list[Command]:
    """Return what GitHub's runner obeys. Source: actions/runner, ActionCommand and its manager.

    The second form stands at the start of a line after any space, the first anywhere in it; a
    stop token silences everything up to itself.
    """
    found, stopped = [], None
    for line in re.split(r"\r\n|\r|\n", output):
        command = _github_second(line) or _github_first(line)
        if stopped is not None:
            if command and command.name == stopped:
                stopped = None
            continue
        if command and command.name == "stop-commands":
            stopped = command.data
        elif command:
            found.append(command)
    assert stopped is None, "the runner was never told to listen again"
    return found


def _github_second(line: str) -> Command | None:
    line = line.lstrip()
    end = line.find("::", 2)
    if not line.startswith("::") or end < 0:
        return None
    name, _, rest = line[2:end].strip().partition(" ")
    properties = dict(each.strip().split("=", 1) for each in rest.split(",") if "=" in each)
    return Command(
        name,
        {key: _decoded(value, "%0D %0A %3A %2C %25") for key, value in properties.items()},
        _decoded(line[end + 2 :], "%0D %0A %25"),
    )


def _github_first(line: str) -> Command | None:
    found = re.search(r"##\[([^\]]*)\](.*)", line)
    return Command(found[1].split(" ")[0], {}, found[2]) if found else None


def azure(output: str) -> list[Command]:
    """Return what Azure's agent obeys. Source: azure-pipelines-agent, Command.TryParse."""
    found = []
    for line in re.split(r"\r\n|\r|\n", output):
        match = re.search(r"##vso\[([^\]]*)\](.*)", line)
        if match is None:
            continue
        name, _, rest = match[1].strip().partition(" ")
        codes = "%3B %0D %0A %5D"
        properties = dict(each.strip().split("=", 1) for each in rest.split(";") if "=" in each)
        found.append(
            Command(
                name,
                {k: _decoded(v, codes).replace("%AZP25", "%") for k, v in properties.items()},
                _decoded(match[2], codes).replace("%AZP25", "%"),
            )
        )
    return found


def gitlab(output: str) -> list[Command]:
    """Return the sections GitLab folds. Source: GitLab, custom collapsible sections."""
    pattern = r"\x1b\[0Ksection_(start|end):(\d+):([\w.-]+)(\[[^\]]*\])?\r\x1b\[0K"
    found = [Command(kind, {"at": at}, name) for kind, at, name, _ in re.findall(pattern, output)]
    assert output.count("\x1b") == 2 * len(found), "an escape sequence that is no section"
    return found


def _decoded(text: str, codes: str) -> str:
    for code in codes.split():
        text = text.replace(code, chr(int(code[1:], 16)))
    return text
