"""The command line, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from orchestrator.cli import COMMANDS, command
from tests.documents.markdown import code, table

PREFIX = "BULK_RESTORE"


def every_command() -> str:
    """Return a section per command: what it does, its options and their variables."""
    context = click.Context(command, info_name="bulk-restore")
    return "\n\n".join(part for name in COMMANDS for part in _sections(context, name))


def _sections(context: click.Context, name: str) -> Iterator[str]:
    """Yield the section of a command, and one for each command of a group."""
    found = command.get_command(context, name)
    assert found is not None
    if not isinstance(found, click.Group):
        yield _section(found, name)
        return
    yield f"## bulk-restore {name}\n\n{_about(found)}"
    for each in found.commands.values():
        yield "#" + _section(each, f"{name} {each.name}")


def _section(found: click.Command, name: str) -> str:
    arguments = " ".join(
        each.make_metavar(click.Context(found)) for each in found.params if _is_argument(each)
    )
    rows = [
        (_spelled(each), each.help or "", _default(each), code(_variable(name, each)))
        for each in found.params
        if isinstance(each, click.Option)
    ]
    return "\n\n".join(
        (
            f"## bulk-restore {name}",
            f"```text\nbulk-restore {name} [OPTIONS] {arguments}".rstrip() + "\n```",
            _about(found),
            table(("option", "meaning", "default", "variable"), rows),
        )
    )


def _about(found: click.Command) -> str:
    return inspect.cleandoc(found.help or "").replace("\f", "")


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _spelled(option: click.Option) -> str:
    context = click.Context(command)
    value = "" if option.is_flag or option.count else f" {option.make_metavar(context)}"
    if option.is_flag or option.count:
        return ", ".join(map(code, option.opts))
    return ", ".join(code(f"{name}{value}") for name in option.opts)


def _default(option: click.Option) -> str:
    return (
        code(str(option.default))
        if isinstance(option.default, (int, float, str)) and not (option.is_flag or option.count)
        else ""
    )


def _variable(name: str, option: click.Option) -> str:
    return f"{PREFIX}_{name}_{option.name}".upper().replace(" ", "_").replace("-", "_")
