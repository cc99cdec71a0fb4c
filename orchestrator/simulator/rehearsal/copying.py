"""A copy of a plan that leads to the simulated servers of its rehearsal, and to nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.plan.file.document import Block, Items, read_document
from orchestrator.plan.file.loading import LoadedPlan
from orchestrator.plan.file.problems import Problems, SourceText
from orchestrator.plan.file.scalars import absolute_path
from orchestrator.plan.file.variables import substitute
from orchestrator.simulator.process import ACCOUNT, PASSWORD_VARIABLE
from orchestrator.simulator.rehearsal.contents import placed, stand_in_hash

MARK = " (rehearsal)"
SHORT = "100ms"
FIRST_WORDS = "# Made by 'bulk-restore simulate --plan' "
_HEAD = """\
{first_words}for the simulated servers that run now; their ports change
# with every start. It is the plan {name} with its variables filled in and these changes:
# the name, addresses, accounts and certificates of the servers; no notifications; relative paths of
# programs and inventory files start at that plan's directory; copied files stay below this
# one{more}.
"""


def rehearsal_copy(
    data: bytes,
    loaded: LoadedPlan,
    urls: Mapping[str, str],
    *,
    fingerprint: str,
    overrides: Mapping[str, str],
    short_waits: bool,
) -> str:
    """Return the text of the copy. `data` are the bytes of the plan, which is valid.

    With `short_waits`, pauses between attempts and `cleanup.keep_failed` take a tenth of a second.
    """
    problems = Problems(SourceText(str(loaded.path), data))
    tree = read_document(data, problems)
    substitute(tree, overrides, problems)
    base = loaded.path.parent.absolute()
    for block in _blocks(tree):
        _lead_files(block, base, loaded)
    copy = {str(key): _plain(value) for key, value in tree.items()}
    copy["name"] = f"{copy['name']}{MARK}"
    for unwanted in ("variables", "notifications"):
        copy.pop(unwanted, None)
    for name, server in copy["servers"].items():
        server["url"], server["username"] = urls[name], ACCOUNT
        server["password"] = {"env": PASSWORD_VARIABLE}
        server["tls"] = {"fingerprint_sha256": [fingerprint]}
    more = ""
    if any("sha256" in block for block in _blocks(tree.get("checks"))):
        more += ";\n# every sha256 is that of the file which the simulated guests have"
    if short_waits:
        _shorten(copy)
        more += ";\n# pauses between attempts and keep_failed are short"
    body = yaml.safe_dump(copy, sort_keys=False, allow_unicode=True, width=100)
    return _HEAD.format(first_words=FIRST_WORDS, name=ascii(loaded.path.name), more=more) + body


def _blocks(node: object) -> Iterator[Block]:
    """Yield every mapping of a tree."""
    stack = [node]
    while stack:
        each = stack.pop()
        if isinstance(each, Block):
            yield each
            stack.extend(each.values())
        elif isinstance(each, Items):
            stack.extend(each)


def _lead_files(block: Block, base: Path, loaded: LoadedPlan) -> None:
    """Change what one mapping says of files: read from where they are, written below the copy."""
    if isinstance(block.get("from_file"), str):
        block["from_file"] = absolute_path(block["from_file"], base)
    program = block.get("exec")
    if isinstance(program, list) and "/" in program[0]:
        program[0] = absolute_path(program[0], base)
    if isinstance(block.get("to"), str) and "path" in block:
        block["to"] = _below(block["to"])
    if "sha256" in block and "path" in block:
        block["sha256"] = stand_in_hash(loaded.plan.checks, placed(block["path"]))


def _below(path: str) -> str:
    """Return a path for copied files that stays below the directory of the plan."""
    parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
    return "/".join(["files", *parts]) + ("/" if path.endswith("/") or not parts else "")


def _plain(node: object) -> Any:
    """Return a tree without its positions; a `${` in a text stays one when it is read again."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(each) for each in node]
    return str(node).replace("${", "$${")


def _shorten(copy: dict[str, Any]) -> None:
    if "keep_failed" in copy.get("cleanup", {}):
        copy["cleanup"]["keep_failed"] = SHORT
    copy.setdefault("defaults", {}).setdefault("retries", {})
    stack: list[Any] = [copy]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            if isinstance(each.get("retries"), dict):
                each["retries"] |= {"delay": SHORT, "max_delay": SHORT}
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)
