"""`servers.NAME.api`: how the REST API is spoken."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan.file.api_format import ApiFormat
from orchestrator.plan.file.loading import load_plan_text

HEAD = (
    "version: 1\nname: p\nservers:\n  hq:\n    url: https://em:9398\n    username: u\n"
    "    password: {env: P}\n"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ApiFormat.AUTO),
        ("    api: {}\n", ApiFormat.AUTO),
        ("    api: {format: auto}\n", ApiFormat.AUTO),
        ("    api: {format: xml}\n", ApiFormat.XML),
        ("    api: {format: json}\n", ApiFormat.JSON),
        ("    api: {format: '${form:-json}'}\n", ApiFormat.JSON),
    ],
)
def test_the_form_is_found_out_unless_the_plan_names_it(line: str, expected: ApiFormat) -> None:
    """By server; `auto` is the default."""
    plan = load_plan_text(f"{HEAD}{line}targets: [{{vm: a}}]\n".encode(), Path("plan.yaml")).plan

    (server,) = plan.servers.values()
    assert server.api_format is expected
