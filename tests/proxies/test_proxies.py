"""Behind a real proxy that loses answers, the report still says what the servers did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.app.demo import settings_for
from orchestrator.app.planned_limits import limits_of
from orchestrator.plan.file.loading import load_plan
from orchestrator.simulator.inventory import AGENTS, REPLICAS
from tests.invariants import assert_invariants
from tests.processes import PASSWORD, Place, Servers, served
from tests.proxies.fronts import FRONTS, missing

pytestmark = pytest.mark.process


@pytest.fixture(params=sorted(FRONTS))
def proxy(request: pytest.FixtureRequest) -> str:
    """Return the name of a proxy that is installed here."""
    name = str(request.param)
    lacking = missing(name)
    if lacking is not None:
        pytest.skip(f"{lacking} is not installed")
    return name


@contextmanager
def behind(
    proxy: str,
    place: Place,
    faults: Sequence[Mapping[str, Any]],
    *,
    targets: int = 12,
    family: str = REPLICAS,
) -> Iterator[tuple[Servers, Path]]:
    """Serve one server behind a proxy; yield it, and a plan that asks the proxy."""
    chosen = settings_for(1, machines=40, password=PASSWORD, duration_range=(0.1, 0.5))
    settings = [replace(each, faults=faults, families=(family,)) for each in chosen]
    with served(settings) as running:
        plan = running.plan(place.directory, targets=targets)
        (url,) = running.simulation.urls.values()
        front = FRONTS[proxy](
            int(url.rpartition(":")[2]), running.simulation.certificate, place.directory
        )
        with front as port:
            plan.write_text(plan.read_text().replace(url, f"https://127.0.0.1:{port}"))
            yield running, plan


def check(running: Servers, place: Place, plan: Path) -> dict[str, Any]:
    """Compare the written report with what the server says; return the report."""
    report = place.values()
    assert_invariants(running.truth(), report, limits_of(load_plan(plan).plan, None))
    return report


def test_a_run_behind_a_proxy_is_as_good_as_without(proxy: str, tmp_path: Path) -> None:
    """Everything is mounted once, proven and removed; the proxy's connections are reused."""
    place = Place(tmp_path)

    with behind(proxy, place, ()) as (running, plan):
        done = place.call("run", plan, "--yes", within=600)

        assert done.returncode == 0, done.stderr
        report = check(running, place, plan)
        assert report["totals"]["targets"] == len(running.truth().mounts) == 12
        assert not running.truth().still_open()


def test_files_of_linux_guests_are_read_through_a_proxy(proxy: str, tmp_path: Path) -> None:
    """Apache refuses `%2F` in a path, nginx may decode it: the server's own address is asked."""
    place = Place(tmp_path)

    with behind(proxy, place, ()) as (running, plan):
        (settings,) = running.simulation.settings
        linux = [each for each in settings.inventory().machines if each.os == "Linux"][:3]
        lines = plan.read_text().partition("waves:")[0].splitlines()
        lines += ["defaults: {os: linux, checks: [config]}"]
        lines += ["checks: {config: [{path: /etc/nginx/nginx.conf, min_size: 1KiB}]}", "targets:"]
        lines += [f"  - {{vm: {each.name}}}" for each in linux]
        plan.write_text("\n".join(lines))
        done = place.call("run", plan, "--yes", within=600)

        assert done.returncode == 0, done.stdout + done.stderr
        assert place.values()["totals"]["verified"] == len(linux) == 3


def test_mount_requests_whose_answer_the_proxy_lost_are_never_sent_again(
    proxy: str, tmp_path: Path
) -> None:
    """The server took each POST and closed; whatever the proxy says then, nothing is doubled."""
    place = Place(tmp_path)
    faults = [
        {"kind": "drop_after", "method": "POST", "path": "/mounts$", "skip": 2, "count": 1},
        {"kind": "drop_after", "method": "POST", "path": "/mounts$", "skip": 6, "count": 2},
    ]

    with behind(proxy, place, faults) as (running, plan):
        done = place.call("run", plan, "--yes", within=600)

        report = check(running, place, plan)
        assert done.returncode == 0, done.stderr
        assert report["totals"]["left"] == 0
        assert len(running.truth().mounts) == 12
        assert not running.truth().still_open()


def test_unmounts_whose_answer_the_proxy_lost_are_seen_to_be_done(
    proxy: str, tmp_path: Path
) -> None:
    """The server unmounted and closed; the point's own list says that it is gone."""
    place = Place(tmp_path)
    faults = [{"kind": "drop_after", "method": "DELETE", "path": "/mounts/", "count": 4}]

    with behind(proxy, place, faults) as (running, plan):
        done = place.call("run", plan, "--yes", within=600)

        report = check(running, place, plan)
        assert done.returncode == 0, done.stderr
        assert {target["mount"] for target in report["targets"]} == {"released"}
        assert not running.truth().still_open()


def test_a_stopped_service_behind_the_proxy_is_waited_for(proxy: str, tmp_path: Path) -> None:
    """The proxy's own pages are no answer of the service: nothing fails, nothing is gone."""
    place = Place(tmp_path)
    faults = [{"kind": "drop_before", "from_s": 2, "until_s": 6}]

    with behind(proxy, place, faults) as (running, plan):
        done = place.call("run", plan, "--yes", within=600)

        report = check(running, place, plan)
        assert done.returncode == 0, done.stderr
        assert report["totals"]["failed"] == 0
        assert not running.truth().still_open()


def test_a_mount_request_that_the_proxy_sent_twice_leaves_nothing_open(tmp_path: Path) -> None:
    """Varnish repeats a POST without a body on a kept connection: the second mount is removed.

    The bodies of agents' mount requests are not documented, so they are empty. Who made the
    request is told of one task only; the other shows in the session's list of tasks.
    """
    lacking = missing("varnish")
    if lacking is not None:
        pytest.skip(f"{lacking} is not installed")
    place = Place(tmp_path)
    faults = [
        {"kind": "drop_after", "method": "POST", "path": "/mounts$", "skip": 2, "count": 1},
        {"kind": "drop_after", "method": "POST", "path": "/mounts$", "skip": 7, "count": 1},
    ]

    with behind("varnish", place, faults, family=AGENTS) as (running, plan):
        text = plan.read_text()
        (settings,) = running.simulation.settings
        for machine in settings.inventory().machines:  # the role may not list agents by name
            newest = max(machine.points, key=lambda point: point.created_at)
            named = f"id: {newest.id}, label: {machine.name}, source: agent"
            text = text.replace(f'vm: "{machine.name}"', named)
        plan.write_text(text)
        done = place.call("run", plan, "--yes", within=600)

        truth = running.truth()
        assert len(truth.mounts) == 14, "the proxy has sent nothing twice"
        assert not truth.still_open()
        assert done.returncode == 0, done.stderr
        report = place.values()
        assert report["totals"]["left"] == 0
        assert {target["mount"] for target in report["targets"]} == {"released"}
