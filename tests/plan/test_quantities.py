"""Durations, sizes, times, percentages and counts need their units."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.file import quantities


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("3h", 10800), ("1d", 86400), ("500ms", 0.5), ("1.5h", 5400)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    """Every unit has its length."""
    assert quantities.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "20", "22:00", "20 m", "20M", "m", "-5s", "1h30m", "٢m", "1e3s", "inf s", "99999d"]
)
def test_no_duration_is_guessed(text: str) -> None:
    """A missing or unknown unit is refused, never read as seconds or sexagesimal."""
    with pytest.raises(ValueError, match=r"duration|too long"):
        quantities.duration(text)


def test_a_bare_number_is_told_how_to_become_a_duration() -> None:
    """The message shows the number with a unit."""
    with pytest.raises(ValueError, match="such as 45m"):
        quantities.duration("45")


@pytest.mark.parametrize(
    ("text", "count"),
    [("512KiB", 524288), ("5GiB", 5 * 2**30), ("500MB", 500_000_000), ("1.5kB", 1500), ("0B", 0)],
)
def test_a_size_is_bytes(text: str, count: int) -> None:
    """Binary and decimal units differ."""
    assert quantities.size(text) == count


@pytest.mark.parametrize("text", ["5", "5G", "GiB", "-1MB", "5 GiB", "9" * 30 + "TiB"])
def test_no_size_is_guessed(text: str) -> None:
    """A size without a unit is refused."""
    with pytest.raises(ValueError, match=r"not a size|too large"):
        quantities.size(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20T02:00:00Z", datetime(2026, 11, 20, 2, tzinfo=UTC)),
        ("2026-11-20t02:00:00.5z", datetime(2026, 11, 20, 2, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-20 03:00:00+01:00", datetime(2026, 11, 20, 2, tzinfo=UTC)),
    ],
)
def test_a_time_knows_its_offset(text: str, moment: datetime) -> None:
    """RFC 3339 with any offset means one moment."""
    read = quantities.instant(text)

    assert read == moment
    assert read.utcoffset() is not None


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T02:00:00",
        "2026-11-20",
        "02:00",
        "2026-13-20T02:00:00Z",
        "2026-02-30T02:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "2026-11-20T02:00:00+25:00",
        "yesterday",
    ],
)
def test_a_time_without_offset_or_calendar_is_refused(text: str) -> None:
    """A local time would mean something else on every machine."""
    with pytest.raises(ValueError, match="is not a time"):
        quantities.instant(text)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001 - hypothesis wants naive bounds
def test_what_python_writes_is_read_back(naive: datetime) -> None:
    """Any aware time in ISO form is the same moment again."""
    moment = naive.replace(tzinfo=UTC)

    assert abs(quantities.instant(moment.isoformat()) - moment) < timedelta(microseconds=1)


@pytest.mark.parametrize(("text", "value"), [("20%", 0.2), ("0%", 0.0), ("12.5%", 0.125)])
def test_a_percentage_is_a_fraction(text: str, value: float) -> None:
    """Twenty percent is 0.2."""
    assert quantities.fraction(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["20", "101%", "-1%", "%", "20 %"])
def test_a_percentage_needs_its_sign_and_a_limit(text: str) -> None:
    """A number without % is no percentage."""
    with pytest.raises(ValueError, match=r"percentage|at most 100"):
        quantities.fraction(text)


@pytest.mark.parametrize(("text", "value"), [("50%", 0.5), ("0%", 0.0), ("250%", 2.5)])
def test_an_increase_may_be_more_than_everything(text: str, value: float) -> None:
    """Twice as long is 100 % longer."""
    assert quantities.increase(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["50", "10001%", "-1%", "1.5x", "50 %"])
def test_an_increase_is_a_percentage(text: str) -> None:
    """A factor or a time is none."""
    with pytest.raises(ValueError, match=r"write a number and %, such as 50%|at most 10000%"):
        quantities.increase(text)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1_000", "٣", "0x10", "99999999999"])
def test_a_count_is_plain_digits(text: str) -> None:
    """What Python's own int() would take is not taken here."""
    with pytest.raises(ValueError, match=r"not a whole number|too large|too small"):
        quantities.count(text)


def test_a_negative_count_is_told_what_is_the_least() -> None:
    """It is a whole number, and the message does not deny it."""
    with pytest.raises(ValueError, match=r"'-1' is too small: at least 1"):
        quantities.count("-1", least=1)


@pytest.mark.parametrize("text", ["yes", "no", "on", "True", "1", ""])
def test_only_true_and_false_are_true_and_false(text: str) -> None:
    """YAML's other words for true and false are refused."""
    with pytest.raises(ValueError, match="neither true nor false"):
        quantities.truth(text)


@given(st.text(max_size=40))
def test_every_reader_answers_or_refuses_any_text(text: str) -> None:
    """No text makes a reader raise anything but ValueError."""
    readers = (quantities.duration, quantities.size, quantities.instant, quantities.fraction)
    for read in (*readers, quantities.count, quantities.truth):
        message = ""
        try:
            read(text)
        except ValueError as exc:
            message = str(exc)
        assert "\n" not in message
