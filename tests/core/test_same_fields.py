"""A target's fields go from one value to the next by their names."""

from __future__ import annotations

from typing import get_type_hints

import pytest
from msgspec.structs import fields

from orchestrator.core.events import TargetPlanned
from orchestrator.core.model import MountRequest, UnresolvedTarget, same_fields
from orchestrator.plan.file.settings import Entry


class _Later(UnresolvedTarget, frozen=True, kw_only=True):
    """A target of a later version, with one field more, which has a default."""

    added: int = 0


def test_a_field_that_the_origin_lacks_is_an_error_although_it_has_a_default() -> None:
    """Whoever adds a field to one value is told of every place that does not fill it."""
    target = same_fields(UnresolvedTarget, _target(), label="b")

    assert (target.label, target.wave) == ("b", "w")
    with pytest.raises(AttributeError, match="added"):
        same_fields(_Later, target)
    assert same_fields(_Later, target, unset=("added",)).added == 0


@pytest.mark.parametrize(
    ("origin", "kind", "own"),
    [
        (MountRequest, TargetPlanned, set()),
        (UnresolvedTarget, TargetPlanned, set()),
        (TargetPlanned, MountRequest, {"point"}),
        (Entry, MountRequest, {"point", "label"}),
        (Entry, UnresolvedTarget, {"label"}),
    ],
)
def test_fields_of_one_name_have_one_type(origin: type, kind: type, own: set[str]) -> None:
    """What is copied by its name fits: mypy does not see it."""
    has, takes = get_type_hints(origin), get_type_hints(kind)

    for name in {each.name for each in fields(kind)} & {each.name for each in fields(origin)} - own:
        assert has[name] == takes[name] or has[name] | None == takes[name], name


def _target() -> UnresolvedTarget:
    return UnresolvedTarget(key="k", wave="w", server="s", label="a", reason="none")  # type: ignore[arg-type]
