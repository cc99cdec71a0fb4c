"""What several plays say: the range of the end, and whether objectives will be met."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from orchestrator.core.model import (
    MountKey,
    MountRequest,
    Objectives,
    ServerName,
    UnresolvedTarget,
    WaveFacts,
    WaveName,
)
from orchestrator.engine.forecast.outlook import Forecast, Job, Met, Range, forecast
from orchestrator.engine.limits import Limits
from tests.bench.schedule import request
from tests.engine.forecast.past import Past

W = WaveName("w")
ONE_AT_A_TIME = Limits(backup_server_default=1)


def machine(name: str, rto: float | None = None) -> MountRequest:
    """Return a target of a machine of this name."""
    one = request(0, "a", "b", vm=name)
    return replace(one, key=MountKey(f"w/a/{name}"), objectives=Objectives(rto=rto))


def job(*requests: MountRequest, rto: float | None = None, wave_rto: float | None = None) -> Job:
    """Return a job of one wave, one mount at a time."""
    return Job(
        requests=requests,
        waves=[WaveFacts(name=W, objectives=Objectives(rto=wave_rto))],
        limits=ONE_AT_A_TIME,
        objectives=Objectives(rto=rto),
    )


def seconds(each: Range | None) -> tuple[float, ...]:
    """Return low, about and high."""
    return () if each is None else (each.low_s, each.about_s, each.high_s)


def statuses(found: Forecast) -> dict[str, Met]:
    """Return the status of each objective."""
    return {each.scope: each.status for each in found.objectives}


def test_each_earlier_run_is_played_as_it_was() -> None:
    """Slow days were slow for both machines: 20, 60 and 100 s, not a mixture."""
    past = Past({"x": (10.0, 30.0, 50.0), "y": (10.0, 30.0, 50.0)})

    found = forecast(job(machine("x"), machine("y")), past)

    assert seconds(found.makespan) == (20.0, 60.0, 100.0)
    assert (found.plays, found.without_history) == (3, 0)


def test_a_range_is_never_narrower_than_what_can_be_known() -> None:
    """Three mounts of the same length do not promise a fourth one; a single one even less."""
    often = forecast(job(machine("x")), Past({"x": (100.0, 100.0, 100.0)}))
    once = forecast(job(machine("x")), Past({"x": (100.0,)}))

    assert seconds(often.makespan) == pytest.approx((90.0, 100.0, 110.0))
    assert seconds(once.makespan) == pytest.approx((75.0, 100.0, 125.0))


def test_without_history_a_mount_takes_120_s_or_half_or_twice_as_long() -> None:
    """And it says for how many targets that is so."""
    found = forecast(job(machine("new"), machine("x")), Past({"x": (100.0, 100.0, 100.0)}))

    assert seconds(found.makespan) == (160.0, 220.0, 340.0)
    assert found.without_history == 1


def test_what_a_run_takes_beside_its_mounts_is_added() -> None:
    """Logon and listing once, a submission for each mount."""
    past = Past({"x": (100.0,) * 3, "y": (100.0,) * 3})

    found = forecast(replace(job(machine("x"), machine("y")), begins=7.0, per_mount=2.0), past)

    assert found.makespan.about_s == 211.0
    assert found.waves[0].start.about_s == 7.0


@pytest.mark.parametrize(
    ("rto", "status"),
    [(111.0, Met.MET), (109.0, Met.UNKNOWN), (91.0, Met.UNKNOWN), (89.0, Met.MISSED)],
)
def test_an_rto_is_met_or_missed_outside_the_range_and_unknown_in_it(
    rto: float, status: Met
) -> None:
    """100 s, from 90 to 110: of the run, its wave and its one target."""
    found = forecast(job(machine("x", rto), rto=rto, wave_rto=rto), Past({"x": (100.0,) * 3}))

    assert statuses(found) == {"run": status, "wave w": status, "w/a/x": status}
    assert [each.is_of_target for each in found.objectives] == [False, False, True]


def test_the_objective_of_a_target_is_measured_at_its_own_end() -> None:
    """One at a time: the first is in time, the second is not; a hold changes nothing for it."""
    past = Past({"x": (100.0,) * 3, "y": (50.0,) * 3})

    found = forecast(replace(job(machine("x", 120.0), machine("y", 120.0)), hold=5.0), past)

    assert statuses(found) == {"w/a/x": Met.MET, "w/a/y": Met.MISSED}


def test_a_guess_meets_no_objective() -> None:
    """Of most targets nothing is known; a miss of twice the time is still said."""
    new = [machine(f"new{n}") for n in range(3)]
    found = forecast(job(machine("x"), *new, rto=3600.0), Past({"x": (1.0,) * 3}))
    hopeless = forecast(job(machine("x"), *new, rto=10.0), Past({"x": (1.0,) * 3}))

    assert statuses(found) == {"run": Met.UNKNOWN}
    assert found.objectives[0].why == "no history for 3 of 4"
    assert statuses(hopeless) == {"run": Met.MISSED}


def test_what_has_no_restore_point_meets_no_objective() -> None:
    """And of a server that was not asked nobody knows."""
    lost = UnresolvedTarget(
        key=MountKey("w/a/lost"), wave=W, server=ServerName("a"), label="lost", reason="none"
    )
    past, whole = Past({"x": (1.0,) * 3}), job(machine("x"), rto=3600.0)

    missed = forecast(replace(whole, without_point=[lost]), past)
    unasked = forecast(replace(whole, unasked=[ServerName("z")]), past)

    assert statuses(missed) == {"run": Met.MISSED}
    assert missed.objectives[0].why == "1 of its targets has no restore point"
    assert (statuses(unasked), unasked.objectives[0].why) == ({"run": Met.UNKNOWN}, "not asked: z")


def test_without_a_target_there_is_no_time() -> None:
    """An empty plan is forecast, and takes nothing."""
    found = forecast(job(), Past({}))

    assert seconds(found.makespan) == (0.0, 0.0, 0.0)
    assert (found.targets, found.limits) == (0, ())


def test_open_mounts_are_counted_over_time() -> None:
    """One at a time: up, and down at the end."""
    found = forecast(job(machine("x"), machine("y")), Past({"x": (10.0,) * 3, "y": (10.0,) * 3}))

    assert found.open_mounts == ((0.0, 1), (10.0, 1), (20.0, 0))
