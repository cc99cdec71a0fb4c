"""The judge of strikes sees what must not be while the database is away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.strikes.sites.account import Account
from tests.strikes.sites.blows import Blow
from tests.strikes.sites.judge import of_the_database
from tests.strikes.sites.witness import Request

AWAY = (1000.0, 1060.0)


def account(**other: Any) -> Account:
    """Return an account of a minute without a database, in which nothing went wrong."""
    values: dict[str, Any] = {
        "blow": Blow(999.0, 1061.0, AWAY),
        "requests": [
            Request(1004.0, "hq", "DELETE", "/mount", 7),  # the lease is still sure
            Request(1030.0, "hq", "GET", "/tasks", 7),
            Request(1060.5, "hq", "POST", "/mount", 7),
        ],
        "ended_early": [],
        "code": 0,
        "truth": SimpleNamespace(mounts=[SimpleNamespace(server="hq")], logons=1),
    }
    return cast("Account", SimpleNamespace(**{**values, **other}))


def test_reading_on_is_right() -> None:
    """So is what was sent before and after."""
    assert list(of_the_database(account())) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"requests": [Request(1007.0, "hq", "POST", "/mount", 7)]}, "after the database was gone"),
        ({"requests": [Request(1059.0, "hq", "DELETE", "/mount", 7)]}, "after the database"),
        ({"ended_early": [7]}, "ended by themselves"),
        ({"code": 3}, "exit code 3"),
        ({"truth": SimpleNamespace(mounts=[SimpleNamespace(server="hq")], logons=2)}, "given up"),
    ],
)
def test_what_is_wrong_is_said(other: dict[str, Any], words: str) -> None:
    """Each by itself."""
    (said,) = of_the_database(account(**other))
    assert words in said
