"""The `notifications` section: who is told of a run, and of what."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan.document import Block, Items, Text
from orchestrator.plan.problems import Problems
from orchestrator.plan.reading import read_section
from orchestrator.plan.schema import NotificationFile
from orchestrator.plan.servers import rooted, rooted_reference
from orchestrator.plan.settings import HookKind, Notification, NotifyOn


def resolve_notifications(node: object, problems: Problems, base: Path) -> tuple[Notification, ...]:
    """Return what `node` lists; relative paths start at `base`."""
    if node is None:
        return ()
    if not isinstance(node, Items):
        if isinstance(node, Text | Block) and not problems.known_at(node.position):
            problems.add(node.position, "'notifications' is a list of '- webhook: {...}'")
        return ()
    found = (_notification(item, problems, base) for item in node)
    return tuple(each for each in found if each is not None)


def _notification(node: object, problems: Problems, base: Path) -> Notification | None:
    file = read_section(NotificationFile, node, problems, noun="a notification")
    if file is None or not isinstance(node, Block):
        return None
    if file.on is not None and not file.on:
        problems.add(
            node["on"].position, "nothing would ever be told: name an event, or leave out 'on'"
        )
    hook = file.webhook
    return Notification(
        url=rooted_reference(hook.url, base),
        kind=hook.kind or HookKind.GENERIC,
        on=tuple(dict.fromkeys(file.on)) if file.on is not None else tuple(NotifyOn),
        ca_file=rooted(hook.ca_file, base) if hook.ca_file else None,
    )
