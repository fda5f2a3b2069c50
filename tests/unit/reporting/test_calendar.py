"""The calendar of Decree 09: from the 15th to the 14th."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from services.reporting.figures.domain import calendar_day, day_of, microseconds
from services.reporting.periods.domain import UnknownPeriod, period, quarter_of, quarters
from shared.contracts.reporting import period_title_vi


@pytest.mark.parametrize(
    ("code", "first", "last", "title"),
    [
        ("2026M01", date(2025, 12, 15), date(2026, 1, 14), "Tháng 01/2026"),
        ("2026M09", date(2026, 8, 15), date(2026, 9, 14), "Tháng 09/2026"),
        ("2026Q1", date(2025, 12, 15), date(2026, 3, 14), "Quý I/2026"),
        ("2026Q2", date(2026, 3, 15), date(2026, 6, 14), "Quý II/2026"),
        ("2026Q3", date(2026, 6, 15), date(2026, 9, 14), "Quý III/2026"),
        ("2026Q4", date(2026, 9, 15), date(2026, 12, 14), "Quý IV/2026"),
        ("2026H1", date(2025, 12, 15), date(2026, 6, 14), "6 tháng đầu năm 2026"),
        ("2026N9", date(2025, 12, 15), date(2026, 9, 14), "9 tháng năm 2026"),
        ("2026", date(2025, 12, 15), date(2026, 12, 14), "Năm 2026"),
    ],
)
def test_periods_run_from_the_15th_to_the_14th(code: str, first: date, last: date, title: str) -> None:
    found = period(code)
    assert (found.first_day, found.last_day, period_title_vi(found.code)) == (first, last, title)


@pytest.mark.parametrize("code", ["", "2026Q5", "2026M13", "2026H2", "26Q1", "2026Q3 ", "2026q3", "1999"])
def test_a_code_of_no_period_is_refused(code: str) -> None:
    with pytest.raises(UnknownPeriod):
        period(code)


def test_every_day_belongs_to_exactly_one_quarter() -> None:
    day = date(2025, 1, 1)
    while day < date(2028, 1, 1):
        found = quarter_of(day)
        assert found.first_day <= day <= found.last_day
        day += timedelta(days=1)


def test_quarters_follow_each_other_without_gap() -> None:
    found = quarters(date(2025, 4, 1), date(2026, 9, 14))
    assert [one.code for one in found] == ["2025Q2", "2025Q3", "2025Q4", "2026Q1", "2026Q2", "2026Q3"]
    assert all(b.first_day - a.last_day == timedelta(days=1) for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("instant", "quarter"),
    [
        (datetime(2026, 9, 14, 16, 59, 59, 999_999, tzinfo=UTC), "2026Q3"),
        (datetime(2026, 9, 14, 17, tzinfo=UTC), "2026Q4"),
        (datetime(2026, 12, 14, 17, tzinfo=UTC), "2027Q1"),
    ],
)
def test_the_border_of_a_quarter_is_midnight_in_viet_nam(instant: datetime, quarter: str) -> None:
    assert quarter_of(calendar_day(day_of(microseconds(instant)))).code == quarter


def test_a_period_ends_at_24_00_of_its_last_day() -> None:
    assert period("2026Q3").ends_at == datetime(2026, 9, 14, 17, tzinfo=UTC)
