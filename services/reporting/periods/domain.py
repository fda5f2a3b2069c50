"""The reporting calendar of Decree 09/2019/ND-CP, article 12: a month runs from the 15th of the month before to its 14th.

Source: Decree 09/2019/NĐ-CP, article 12. All days are Viet Nam calendar days, both ends inclusive; a period ends at 24:00 of its last day.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from services.reporting.figures.domain import WIDTH

VIET_NAM_OFFSET = timedelta(hours=7)
"""Viet Nam time against UTC, the whole year."""

REPORTS = uuid.UUID("6f0c1b52-6c0e-5b7e-9d0e-6d2f4a1f8a35")
"""Namespace of report ids."""

MOVEMENT_BEGAN = date(2025, 3, 26)
"""The day the movement began (docs/indicators.md); a period that was over before has nothing to report."""

FIRST_DAY = date(1999, 12, 15)
"""First day of the first period that has a code."""

_CODE = re.compile(r"(?P<year>20[0-9]{2})(?:M(?P<month>0[1-9]|1[0-2])|Q(?P<quarter>[1-4])|H(?P<half>1)|N(?P<nine>9))?")


@dataclass(frozen=True, slots=True)
class Period:
    """A period of the calendar.

    Attributes:
        code: `2026M09`, `2026Q3`, `2026H1` (first half), `2026N9` (nine months), `2026`.
        first_day: inclusive.
        last_day: inclusive.
    """

    code: str
    first_day: date
    last_day: date

    @property
    def ends_at(self) -> datetime:
        """The cut-off, 24:00 Viet Nam time of the last day, as an instant."""
        return datetime.combine(self.last_day + timedelta(days=1), time(), UTC) - VIET_NAM_OFFSET


class UnknownPeriod(ValueError):
    """No period of the calendar has this code; write 2026M09, 2026Q3, 2026H1, 2026N9 or 2026."""


def period(code: str) -> Period:
    """The period of a code.

    Raises:
        UnknownPeriod: the code is none of this calendar.
    """
    found = _CODE.fullmatch(code)
    if found is None:
        raise UnknownPeriod(UnknownPeriod.__doc__)
    year = int(found["year"])
    if found["month"]:
        first = last = int(found["month"])
    elif found["quarter"]:
        last = 3 * int(found["quarter"])
        first = last - 2
    else:
        first, last = 1, 6 if found["half"] else 9 if found["nine"] else 12
    return Period(code, _opens(year, first), date(year, last, 14))


def _opens(year: int, month: int) -> date:
    return date(year - 1, 12, 15) if month == 1 else date(year, month - 1, 15)


def quarter_of(day: date) -> Period:
    """The quarter a day belongs to: 14 September is still the third, 15 September the fourth, 15 December the next year's first."""
    shifted = day if day.day < 15 else (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return period(f"{shifted.year}Q{(shifted.month - 1) // 3 + 1}")


def quarters(first: date, last: date) -> list[Period]:
    """The quarters from the one of `first` to the one of `last`; the calendar begins with 2000."""
    found = [quarter_of(max(first, FIRST_DAY))]
    while found[-1].last_day < last:
        found.append(quarter_of(found[-1].last_day + timedelta(days=1)))
    return found


def report_id(definition: str, scope: str, code: str) -> uuid.UUID:
    """The id of a report: the same definition, scope and period always give the same."""
    return uuid.uuid5(REPORTS, f"{definition}\0{scope}\0{code}")


FigureRow = tuple[str, str, str, int, int, int, int, int, int]
"""indicator, course set, node and the six counters."""


def canonical(rows: Sequence[FigureRow]) -> bytes:
    """Figures as bytes that are the same for the same figures: one line each, sorted, rows of zeros left out."""
    lines = sorted("|".join(str(part) for part in row) for row in rows if any(row[-WIDTH:]))
    return "\n".join(lines).encode()
