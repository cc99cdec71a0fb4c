"""Many stories of several workers, each from a seed: dead, frozen or cut off, they tell the truth.

A seed that fails names the command that plays it again.
"""

from __future__ import annotations

import pytest

from tests.simulation.sites.play import Violation, played

LONG, BRIEF = 100, 1900
"""Stories of every run of the tests; `make simulate-sites` plays as many more as one likes. In a
brief one the mounts take seconds, and nothing that strikes lasts longer than twenty."""
IN_ONE_TEST = 10

FOUND = (
    *(32, 66, 74, 92, 147, 383, 446, 614, 329, 471, 1016, 1216, 1236, 1658, 1709, 2335),
    *(2466, 4406, 4779, 5176, 6487, 7377, 8153, 8826, 9346, 11087, 12097, 13568, 15126, 15241),
    *(17226, 8057, 17948, 18976, 18526),
)
"""Seeds whose stories once broke an invariant: a wait for a token that never came, a failed-over
database that had lost intents that were acted on, slots that an unserved shard held, a token
dropped before the end of its session was recorded, a new conductor that waited for a first server
that had long been planned, a lossy link that kept everybody from taking over, a take-over of the
living right after the database was back, a logon counted before it was sent, tokens that outlived
their shard, a logoff without a record of the session's end, a limit shared anew before the living
had written again what a failover had lost, a worker that a failover had made unknown, workers
without room for a conductor, a seventh logon within ten minutes after one whose answer was lost,
and slots that were never free again because each worker believed that the one before it had used a
session that nobody could, a pin of records that a failover had lost, a conductor that read on where
a failover had put others in their place, waits for a logon that counted as logons, a worker that
forked its own chain after a failover had lost its taking, second late mounts of requests that had
arrived twice, soon and late, slots of forgotten sessions that each worker took anew, a chain that
a failover had replaced by a shorter one, a late request that kept its session alive, a mount whose
intent a failover had lost, in a session that was asked for others, a pin that was sent after a
failover had lost what it covers, a logon whose time a slow line had put too early, a session that
was left open and that each turn took for used just now, a death between the record of a logoff
and the logoff, a request that acted between the two, a wait for what rounding had left of a time,
a part of a limit that a failover had given back to whom it was taken from, and records from before
an outage that nobody knew any more after it."""


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_stays_mended(seed: int) -> None:
    """No strike breaks an invariant in stories where one did before."""
    played(seed)


def test_the_same_seed_tells_the_same_story() -> None:
    """A failing seed can be played again: nothing depends on the machine or on its speed."""
    one, other = played(12), played(12)

    assert one.hits == other.hits
    assert one.took_s == other.took_s
    assert one.report["targets"] == other.report["targets"]


@pytest.mark.parametrize("first", range(1, LONG + 1, IN_ONE_TEST))
def test_no_story_makes_the_workers_lie(first: int) -> None:
    """Faults until calm returns, then everything ends by itself; the servers are the witness."""
    require_none_lies(first, briefly=False)


@pytest.mark.parametrize("first", range(LONG + 1, LONG + BRIEF + 1, IN_ONE_TEST))
def test_no_brief_story_makes_the_workers_lie(first: int) -> None:
    """The same with mounts of seconds."""
    require_none_lies(first, briefly=True)


def test_brief_stories_give_up_connections() -> None:
    """What is given up may be done all the same, which long stories are needed for otherwise."""
    assert sum(played(seed, briefly=True).hits["answer_given_up"] for seed in range(1, 41)) > 0


def require_none_lies(first: int, *, briefly: bool) -> None:
    """Play the stories of one test, all of them."""
    wrong: list[str] = []
    for seed in range(first, first + IN_ONE_TEST):
        try:
            played(seed, briefly=briefly)
        except Violation as exc:
            wrong.append(str(exc))
    assert not wrong, "\n".join(wrong)
