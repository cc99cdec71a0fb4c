"""One section of the tree; what is wrong there becomes problems with positions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar, get_args

from orchestrator.plan.file import scalars
from orchestrator.plan.file.document import Block, Items, Text
from orchestrator.plan.file.problems import Position, Problems, closest, did_you_mean
from orchestrator.plan.file.quantities import shown
from orchestrator.plan.file.section import (
    Mistake,
    NotUsable,
    Place,
    Section,
    Shape,
)

S = TypeVar("S", bound=Section)

_KNOWN_ELSEWHERE = {
    "parallel": "limits: {mounts: N}",
    "concurrency": "limits: {mounts: N}",
    "user": "username",
    "host": "url",
    "timeout": "timeouts: {mount: 20m}",
    "depends_on": "after",
    "needs": "after",
    "vms": "targets: one '- vm: NAME' each",
}


def read_section(model: type[S], node: object, problems: Problems, *, noun: str) -> S | None:
    """Return `node` read as `model`; what is wrong with it goes to `problems`.

    Keys with problems are left out, so that what depends on the others can still be checked.
    None if nothing useful is left. `noun` is what messages call the section: `a server`.
    """
    if not isinstance(node, Block):
        if isinstance(node, Text | Items):
            kind = "a list" if isinstance(node, Items) else "a single value"
            problems.add_new(node.position, f"{noun} is a mapping (key: value), not {kind}")
        return None
    try:
        return model.read(node)
    except NotUsable as exc:
        found = [(mistake, *_found(node, mistake)) for mistake in exc.mistakes]
        # What an earlier stage reported needs no second message at the same place.
        for mistake, position, value in [each for each in found if not problems.known_at(each[1])]:
            is_secret = mistake.shape is Shape.WRONG_SECRET
            words = mistake.words or _words(model, mistake, value, noun)
            problems.add(position, words, secret_from=position.column if is_secret else None)
        rest: S | None = exc.rest
        return rest


def items_of(node: object, problems: Problems, message: str) -> Items:
    """Return the list that `node` is; `message` says what else or an empty one should be."""
    if isinstance(node, Items) and node:
        return node
    if isinstance(node, Text | Block | Items):
        problems.add_new(node.position, message)
    return Items()


def check_name(name: Text, problems: Problems) -> None:
    """See that a key of the plan can be the name of something."""
    try:
        scalars.name(name)
    except ValueError as exc:
        problems.add_new(name.position, str(exc))


def quiet_section(model: type[S], node: object, problems: Problems) -> S | None:
    """Return `node` read as `model`; what is wrong with it was reported already."""
    if not isinstance(node, Block):
        return None
    rest = Block({key: value for key, value in node.items() if key in model.keys})
    rest.line, rest.column = node.position
    return read_section(model, rest, Problems(problems.source), noun="this")


def unread_keys(section: Section | None, node: object) -> set[str]:
    """Return the keys that stand there and have a value that cannot be used."""
    if section is None or not isinstance(node, Block):
        return set()
    return {key for key in node if key not in section.given}


def _words(model: type[S], mistake: Mistake, value: object, noun: str) -> str:
    place = mistake.place
    if mistake.shape is Shape.UNKNOWN_KEY:
        return _unknown_key(model, place)
    if mistake.shape is Shape.MISSING_KEY:
        inner = f"{place[-2]!r}" if len(place) > 1 else noun
        return f"{inner} needs the key {shown(str(place[-1]))}"
    key = next((part for part in reversed(place) if isinstance(part, str)), "this")
    return f"{key}: {_wrong_shape(mistake.shape, value)}"


def _wrong_shape(shape: Shape, value: object) -> str:
    a_list = "a list ([a, b], or one '- item' a line)"
    wanted = a_list if shape is Shape.NO_LIST else "a mapping (key: value)"
    given = "a single value"
    if not isinstance(value, str):
        given = "a list" if isinstance(value, list) else "a mapping"
    return f"write {wanted} here, not {given}"


def meant(word: str, keys: Iterable[str]) -> str | None:
    """Return which of the `keys` an unknown one was probably to be."""
    if word in _KNOWN_ELSEWHERE:
        return _KNOWN_ELSEWHERE[word].partition(":")[0]
    return closest(word, tuple(keys))


def _unknown_key(model: type[Section], place: Place) -> str:
    word = str(place[-1])
    if word in _KNOWN_ELSEWHERE:
        return f"unknown key {shown(word)}: write {_KNOWN_ELSEWHERE[word]!r}"
    keys = _model_at(model, place[:-1]).keys
    if "defaults" in keys and len(place) == 1 and word in _model_at(model, ["defaults"]).keys:
        return f"unknown key {shown(word)}: it belongs under 'defaults', a wave or a target"
    advice = did_you_mean(word, keys, noun="keys here")
    return f"unknown key {shown(word)}: {advice}"


def keys_among(
    names: Collection[str], node: Block, problems: Problems, advice: str
) -> Sequence[Text]:
    """Return the keys of `node` that are among `names`; more than one is a problem."""
    keys = [key for key, _ in node.fields() if key in names]
    if len(keys) > 1:
        problems.add(keys[1].position, f"{' and '.join(keys)} exclude each other: {advice}")
    return keys


def _model_at(model: type[Section], place: Iterable[str | int]) -> type[Section]:
    """Return the model of the section that `place` leads to."""
    for part in place:
        if isinstance(part, str) and part in model.keys:
            model = _section_in(model.kinds()[part]) or model
    return model


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = (_section_in(part) for part in get_args(annotation))
    return next((section for section in inner if section is not None), None)


def _found(node: Block, mistake: Mistake) -> tuple[Position, object]:
    """Return where a mistake is to be shown, and the node there."""
    current: Any = node
    key: Text | None = None
    for part in mistake.place:
        if isinstance(current, Block) and isinstance(part, str) and part in current:
            key, current = current.key(part), current[part]
        elif isinstance(current, Items) and isinstance(part, int):
            key, current = None, current[part]
    if mistake.shape is Shape.UNKNOWN_KEY and key is not None:
        return key.position, current
    return current.position, current
