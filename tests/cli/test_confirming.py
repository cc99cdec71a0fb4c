"""A run that waits for its answer is called that everywhere, and not a running one."""

from __future__ import annotations

import json
import os
import pty

import pytest

from orchestrator.app.held_up import CONFIRMING
from tests.processes import Place, ended, servers, until_said

pytestmark = pytest.mark.process


def test_a_run_that_waits_for_its_answer_says_so_in_status_and_to_a_second_run(
    place: Place,
) -> None:
    """The same words as in `watch`; the second run learns why the first one does not go on."""
    with servers(count=1) as quick:
        plan = quick.plan(place.directory, targets=2)
        ours, theirs = pty.openpty()
        asking = place.start("run", plan, stdin=theirs)
        until_said(asking, "Mount them now?")

        one = place.call("status", "last").stdout
        while CONFIRMING not in one:  # the journal is a moment behind
            assert asking.poll() is None
            one = place.call("status", "last").stdout
        listed = place.call("status").stdout
        values = json.loads(place.call("status", "last", "--json").stdout)
        targets = place.call("list", "last").stdout
        second = place.call("run", plan, "--yes")
        os.write(ours, b"n\n")
        ended(asking)
        after = place.call("status", "last").stdout

    assert one.splitlines()[0].endswith(": waiting for confirmation")
    assert "mounts nothing before somebody answers in its terminal" in one
    assert "waiting for confirmation" in listed
    assert (values["state"], values["awaits_confirmation"]) == ("running", True)
    assert "\nwaiting for confirmation: " in targets
    assert second.returncode == 6
    assert "that run: waiting for confirmation: it mounts nothing before" in second.stderr
    assert "waiting for confirmation" not in after
