"""Which restore point a section means: the keys of `point`, and what does not go together."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from orchestrator.plan.file.document import Block
from orchestrator.plan.file.problems import Problems
from orchestrator.plan.file.reading import unread_keys
from orchestrator.plan.file.schema import FallbackFile, PointFile
from orchestrator.plan.file.settings import Fallback, PointPolicy, PolicyName

_BELONGS = {
    "time": (PolicyName.BEFORE, "'time' belongs to 'policy: before'"),
    "id": (PolicyName.ID, "'id' belongs to 'policy: id'"),
    "search": (PolicyName.NEWEST_PASSING, "'search' belongs to 'policy: newest_passing'"),
    "count": (PolicyName.EVERY, "'count' belongs to 'policy: every'"),
    "seed": (PolicyName.RANDOM, "'seed' belongs to 'policy: random'"),
}
_NO_FALLBACK = {
    PolicyName.NEWEST_PASSING: "it tries every older point that fits",
    PolicyName.EVERY: "every point is a target of its own",
    PolicyName.ID: "it names a single restore point",
}


def point_policy(
    file: PointFile, node: Block, problems: Problems, *, one_point: bool
) -> PointPolicy | None:
    """Return the policy that `file` describes, or None after noting why it is none.

    `one_point` says that a policy may name a single restore point here.
    """
    policy = file.policy or PolicyName.LATEST
    unread = unread_keys(file, node)
    wrong = list(_misfits(file, policy, unread, one_point=one_point))
    for key, message in wrong:
        problems.add(node.key(key).position if key else node.position, message)
    if wrong or unread:
        return None
    values = file.values() | {"policy": policy, "fallback": _fallback(file.fallback)}
    values["point"] = values.pop("id", None)
    values["exclude_points"] = tuple(file.exclude_points or ())
    return PointPolicy(**values)


def _misfits(
    file: PointFile, policy: PolicyName, unread: Collection[str], *, one_point: bool
) -> Iterator[tuple[str | None, str]]:
    """Yield all that does not go together, as the key it is shown at and the message.

    The values of `unread` keys are not known: nothing is said that depends on them.
    """
    if "policy" not in unread:
        yield from _misfits_of_policy(file, policy, unread, one_point=one_point)
    if file.fallback is not None and file.fallback.on == []:
        yield "fallback", "a fallback on nothing is never taken: write mount_failed, check_failed"
    longest = file.fallback.max_age if file.fallback is not None else None
    if longest is not None and file.max_age is not None and longest < file.max_age:
        words = "the fallback's max_age is shorter than the point's own: older points need a longer"
        yield "fallback", f"{words} one"


def _misfits_of_policy(
    file: PointFile, policy: PolicyName, unread: Collection[str], *, one_point: bool
) -> Iterator[tuple[str | None, str]]:
    """Yield what does not go with the policy."""
    if policy is PolicyName.BEFORE and file.time is None and "time" not in unread:
        yield None, "policy 'before' needs a 'time', such as 2026-11-20T02:00:00Z"
    if policy is PolicyName.ID and file.id is None and "id" not in unread:
        yield None, "policy 'id' needs an 'id', the restore point's GUID"
    for key, (owner, message) in _BELONGS.items():
        if getattr(file, key) is not None and policy is not owner:
            # These two are shown at the section, as in earlier versions; the others at their key.
            yield (None if key in {"time", "id"} else key), message
    if policy is PolicyName.ID and not one_point:
        yield None, "policy 'id' names a single restore point: write it on one 'vm' target"
    if file.fallback is not None and policy in _NO_FALLBACK:
        words = f"'fallback' does not go with policy '{policy}': {_NO_FALLBACK[policy]}"
        yield "fallback", words


def _fallback(file: FallbackFile | None) -> Fallback | None:
    if file is None:
        return None
    values = file.values()
    if file.on:
        values["on"] = tuple(dict.fromkeys(file.on))
    return Fallback(**values)
