"""A run over several machines, from `submit` to its report, whatever happens to its workers."""

from __future__ import annotations

import json
import re
import signal
import subprocess

import pytest

from tests.cli.sites.site import MOST, Site, require_clean, until, until_running
from tests.database.owner import Owner
from tests.processes import Servers, ended, kill, until_said

pytestmark = pytest.mark.process


def test_a_worker_that_is_killed_is_succeeded_by_another(stalled: Servers, site: Site) -> None:
    """Its mounts go on in the same sessions: nothing is asked for twice, and nothing is left."""
    plan = site.plan(stalled)
    waiting = site.start("submit", plan, "--wait")
    until(lambda: site.call("status", "last").returncode == 0)
    first = site.work()
    until_running(site, MOST)
    second = site.work("--until-idle")

    kill(first)
    until(lambda: all(each["taken_over"] for each in site.shards().values()))
    stalled.go_on()

    code, out, err = ended(waiting)
    assert (code, ended(second)[0]) == (0, 0), (out, err)
    require_clean(stalled, 12)
    assert site.values()["run"]["exit_code"] == 0
    assert out.splitlines()[0] == site.values()["run"]["id"]
    assert stalled.truth().logons <= 4  # two servers, two workers
    verified = site.call("report", "--verify", site.report)
    assert verified.returncode == 0, verified.stderr
    served = {each["server"]: each for each in site.values()["run"]["shards"]}
    assert all(len(each["workers"]) == 2 for each in served.values())


def test_a_worker_that_is_stopped_hands_over(stalled: Servers, site: Site) -> None:
    """Ctrl-C ends it with code 0 while its mounts are open; another one finishes them."""
    run = site.submit(site.plan(stalled))
    first = site.work(stderr=subprocess.PIPE)
    until_running(site, MOST)

    first.send_signal(signal.SIGINT)
    code, _, said = ended(first)
    left_open = [each for each in stalled.truth().mounts if each.closed_at is None]
    status = site.call("status", run)
    stalled.go_on()
    second = site.work("--until-idle", "--quiet", stderr=subprocess.PIPE)

    assert code == 0
    begins, *taken, one, other, third, ends = said.splitlines()
    assert begins.startswith("serving default in ")
    assert sorted(taken) == [f"run {run}: {each} taken" for each in ("conductor", "dr", "hq")]
    assert {one, other, third} > {f"run {run}: conductor left to the next worker"}
    opened = re.findall(r"left to the next worker, (\d+) mounts? left open for the", said)
    assert sum(map(int, opened)) == MOST
    assert ends == f"handed over: {MOST} mounts left open for the next worker"
    assert len(left_open) == MOST
    assert status.returncode == 3  # something is mounted, and nobody works on it
    assert "no worker serves site default" in status.stdout
    assert ended(second)[::2] == (0, "")
    assert site.status(run)["run"]["exit_code"] == 0
    assert all(each["taken_over"] == 0 for each in site.shards(run).values())  # given back
    require_clean(stalled, 12)


def test_a_worker_says_what_it_has_finished_and_that_nothing_is_left(
    quick: Servers, site: Site
) -> None:
    """For the person who has started it in a terminal."""
    run = site.submit(site.plan(quick, targets=4))
    worker = site.work(stderr=subprocess.PIPE)
    until(lambda: site.status(run)["state"] == "finished")

    worker.send_signal(signal.SIGTERM)
    code, _, said = ended(worker)

    assert code == 0
    finished = [line for line in said.splitlines() if line.endswith(" finished")]
    assert sorted(finished) == [f"run {run}: {each} finished" for each in ("conductor", "dr", "hq")]
    assert said.endswith("\nhanded over: nothing is known to be mounted here\n")


def test_a_worker_without_a_key_warns_and_is_not_survivable(stalled: Servers, site: Site) -> None:
    """Whoever looks sees that no other worker could go on."""
    run = site.submit(site.plan(stalled, targets=2))
    worker = site.start("work", "--site", "default", "--until-idle")
    said = until_said(worker, "should it die")
    until_running(site, 2)

    text = site.call("status", run).stdout
    stalled.go_on()

    assert "WARNING: without --token-key" in said
    assert text.count("not survivable, its worker keeps no tokens") == 2
    assert ended(worker)[0] == 0


def test_a_second_signal_ends_a_worker_at_once(stalled: Servers, site: Site) -> None:
    """Even while the database keeps it from saying goodbye; others find what it had."""
    run = site.submit(site.plan(stalled))
    worker = site.work()
    until_running(site, MOST)

    for _ in range(2):
        worker.send_signal(signal.SIGTERM)

    assert ended(worker)[0] in {0, 143}  # it may have handed over between the two
    stalled.go_on()
    assert ended(site.work("--until-idle"))[0] == 0
    assert site.status(run)["run"]["exit_code"] == 0
    require_clean(stalled, 12)


def test_a_worker_that_is_stopped_is_seen_to_stall(stalled: Servers, site: Site) -> None:
    """Once its leases have expired and nobody else takes them; it may go on."""
    run = site.submit(site.plan(stalled, targets=4))
    worker = site.work("--until-idle")
    until_running(site, 4)

    worker.send_signal(signal.SIGSTOP)
    until(lambda: site.status(run)["state"] != "running")
    values, shown, listed = site.status(run), site.call("status", run), site.call("status")
    watched = site.call("watch", run)
    worker.send_signal(signal.SIGCONT)
    stalled.go_on()

    assert (values["state"], values["stalled_since"][:2]) == ("stalled", "20")
    assert {each["state"] for each in values["shards"]} == {"stalled"}
    assert (shown.returncode, watched.returncode) == (3, 3)
    assert f"process {worker.pid} on" in shown.stdout
    assert "has not renewed its lease; the next worker goes on with it" in shown.stdout
    assert f"(process {worker.pid}) has not renewed its lease for" in shown.stdout
    assert "stalled since 20" in listed.stdout
    assert "stalled since 20" in watched.stderr
    assert ended(worker)[0] == 0
    assert site.status(run)["state"] == "finished"
    require_clean(stalled, 4)


def test_each_server_is_served_at_its_site(quick: Servers, site: Site) -> None:
    """By no worker of another one; who looks is told what nobody does."""
    run = site.submit(site.plan(quick, dr="moon"))
    here = site.work("--until-idle")
    until(lambda: site.shards(run)["hq"]["state"] in {"served", "done"})

    text = site.call("status", run).stdout
    shard = site.shards(run)["dr"]
    there = site.work("--until-idle", site="moon")

    assert "1 shard waits: no worker serves site moon" in text
    assert (shard["state"], shard["worker"]) == ("waiting", None)
    assert (ended(here)[0], ended(there)[0]) == (0, 0)
    require_clean(quick, 12)


def test_a_run_is_stopped_from_anywhere(stalled: Servers, site: Site) -> None:
    """Running mounts finish and are unmounted; no other one begins; it can be resumed."""
    run = site.submit(site.plan(stalled))
    worker = site.work("--until-idle")
    until_running(site, MOST)

    stopped = site.call("stop", run)
    again = site.call("stop", run)
    stalled.go_on()

    assert (stopped.returncode, again.returncode) == (0, 0)
    assert f"{run}: asked to stop" in stopped.stdout
    assert ended(worker)[0] == 0
    assert site.status(run)["run"]["exit_code"] == 130
    mounts = len(stalled.truth().mounts)
    require_clean(stalled, mounts)
    assert mounts < 12
    assert site.call("stop", run).stdout == f"{run}: it has ended already\n"

    resumed = site.call("resume", run)

    assert resumed.returncode == 0
    assert ended(site.work("--until-idle"))[0] == 0
    assert site.status(run)["run"]["exit_code"] == 0
    require_clean(stalled, 12)


@pytest.mark.parametrize("keeping", [("--token-key",), ("--no-session-file",)])
def test_one_process_runs_all_of_it(quick: Servers, site: Site, keeping: tuple[str, ...]) -> None:
    """`run` over a database has the events, the reports and the exit code of any run."""
    options = ("--yes", "--json", *keeping)
    key = [site.key] if keeping == ("--token-key",) else []
    done = site.call("run", site.plan(quick), *options, *key)

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert events[0]["state"] == "started"
    assert (events[-1]["type"], events[-1]["exit_code"]) == ("summary", 0)
    concluded = [each for each in events if each.get("phase") == "done"]
    assert len({each["key"] for each in concluded}) == 12
    assert site.values()["run"]["exit_code"] == 0
    require_clean(quick, 12)


def test_ctrl_c_stops_a_run_over_a_database(stalled: Servers, site: Site, owner: Owner) -> None:
    """As it stops any run."""
    process = site.start("run", site.plan(stalled), "--yes", "--token-key", site.key)
    until_running(site, MOST)

    process.send_signal(signal.SIGINT)
    until(lambda: owner.rows("SELECT ask FROM request") == [("stop",)])
    stalled.go_on()

    assert ended(process)[0] == 130
    require_clean(stalled, len(stalled.truth().mounts))


def test_what_failed_is_retried_only_when_it_is_asked_for(quick: Servers, site: Site) -> None:
    """By the workers, once for each time that somebody asks."""
    plan = site.plan(quick, targets=2)
    checks = "checks: {none: [{path: 'C:\\none'}]}\ndefaults: {checks: [none]}\n"
    plan.write_text(plan.read_text() + checks)
    run = site.submit(plan)
    assert ended(site.work("--until-idle"))[0] == 0
    first = len(quick.truth().mounts)

    plain = site.call("resume", run)
    again = site.call("resume", run, "--retry-failed")
    assert ended(site.work("--until-idle"))[0] == 0

    assert (first, plain.returncode, again.returncode) == (2, 1, 0)
    assert "nothing is left to do" in plain.stdout
    assert [len(each["attempts"]) for each in site.status(run)["targets"]] == [2, 2]
    assert len(quick.truth().mounts) == 4


def test_what_dead_workers_left_is_unmounted_from_anywhere(stalled: Servers, site: Site) -> None:
    """With the key; without it, and without a worker, it is refused and nothing is changed."""
    run = site.submit(site.plan(stalled))
    worker = site.work()
    until_running(site, MOST)
    alive = site.call("unmount", run)
    kill(worker)
    until(lambda: "no worker serves" in site.call("status", run).stdout)
    stalled.go_on()

    without_key = site.call("unmount", run)
    done = site.call("unmount", run, "--token-key", site.key)

    assert alive.returncode == 6
    assert "bulk-restore stop" in alive.stderr
    assert without_key.returncode == 2
    assert "no worker serves default" in without_key.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "released: " in done.stdout
    mounts = stalled.truth().mounts
    require_clean(stalled, len(mounts))
    assert len(mounts) < 12
    assert site.call("unmount", run).stdout.startswith(f"{run}: nothing is left mounted")


def test_a_stopped_run_is_unmounted_where_its_site_has_no_worker(
    stalled: Servers, site: Site
) -> None:
    """Although a worker of another site lives, and conducts it."""
    run = site.submit(site.plan(stalled))
    worker = site.work()
    until_running(site, MOST)
    elsewhere = site.work(site="elsewhere")
    kill(worker)
    until(lambda: "no worker serves site default" in site.call("status", run).stdout)
    until(lambda: site.status(run)["conductor"]["worker"] is not None)
    stalled.go_on()

    before = site.call("unmount", run, "--token-key", site.key)
    stopped = site.call("stop", run)
    done = site.call("unmount", run, "--token-key", site.key)

    assert before.returncode == 6
    assert "no worker serves default" in before.stderr
    assert stopped.returncode == 0
    assert done.returncode == 0, done.stdout + done.stderr
    assert "released: " in done.stdout
    require_clean(stalled, len(stalled.truth().mounts))
    kill(elsewhere)


def test_what_a_run_may_still_hold_is_said_when_its_holds_end(quick: Servers, site: Site) -> None:
    """It goes on, and holds what comes next as well."""
    plan = site.plan(quick, targets=4)
    plan.write_text(re.sub(r"mounts: \d+", "mounts: 1", plan.read_text()))
    run = site.submit(plan, "--hold", "1h")
    worker = site.work("--until-idle")
    until(lambda: "kept" in [each["mount"] for each in site.status(run)["targets"]])

    done = site.call("unmount", run)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "released: " in done.stdout
    assert f"bulk-restore stop {run}" in done.stdout
    while site.call("unmount", run).returncode != 0:
        pass
    assert ended(worker)[0] == 0
    require_clean(quick, 4)


def test_held_mounts_are_released_by_their_workers(quick: Servers, site: Site) -> None:
    """Who unmounts waits for them; the run goes on to its end."""
    run = site.submit(site.plan(quick, targets=4), "--hold", "1h")
    worker = site.work("--until-idle")
    until(lambda: [each["mount"] for each in site.status(run)["targets"]] == ["kept"] * 4)

    done = site.call("unmount", run)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("released: ") == 4
    assert ended(worker)[0] == 0
    require_clean(quick, 4)


def test_a_second_signal_ends_a_worker_and_lists_what_is_mounted(
    stalled: Servers, site: Site
) -> None:
    """Nobody else says it, should no other worker come."""
    site.submit(site.plan(stalled))
    worker = site.work(stderr=subprocess.PIPE)
    until_running(site, MOST)

    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        worker.send_signal(number)  # it meets both at once
    _, said = worker.communicate(timeout=60)

    lines = [line for line in said.splitlines() if ", task " in line]
    assert worker.returncode in {128 + signal.SIGINT, 128 + signal.SIGTERM}
    assert "ended at once; known to be mounted, or asked for:" in said
    assert len(lines) == MOST
