"""What `reporting` announces: figures for those who subscribe, and the life of reports."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from shared.contracts.decoding import decoder
from shared.contracts.envelope import Contract, Day, EventType, Word
from shared.contracts.topics import FIGURES, REPORT_EVENTS

Indicator = Literal["I-01", "I-02", "I-04", "I-05"]
"""I-01 persons who took part (stock), I-02 enrollments (flow), I-04 persons with a completion (stock), I-05 completions (flow)."""

Scope = Annotated[str, StringConstraints(min_length=2, max_length=20, pattern=r"^VN(/([?]|[0-9]{2}(/([?]|[0-9]{5}))?))?$")]
"""A node of the territory: `VN`, `VN/51`, `VN/51/23377`; `?` for what could not be placed deeper: `VN/?`, `VN/51/?`."""

Sha256 = Annotated[str, StringConstraints(min_length=64, max_length=64, pattern=r"^[0-9a-f]*$")]
"""A SHA-256 digest, 64 hexadecimal digits."""


_NUMERALS = {"1": "I", "2": "II", "3": "III", "4": "IV"}


def period_title_vi(code: str) -> str:
    """What officials call a period of the Decree 09 calendar: `Quý III/2026` for `2026Q3`. Whoever reads its code may say it."""
    year, rest = code[:4], code[4:]
    match rest[:1]:
        case "M":
            return f"Tháng {int(rest[1:]):02d}/{year}"
        case "Q":
            return f"Quý {_NUMERALS[rest[1]]}/{year}"
        case "H":
            return f"6 tháng đầu năm {year}"
        case "N":
            return f"9 tháng năm {year}"
        case _:
            return f"Năm {year}"


class Counts(Contract):
    """One figure by audience group. A person with two groups stands in both, so the groups need not add up to `all`."""

    all: int = Field(description="Everybody")
    cit: int = Field(description="Citizens")
    stu: int = Field(description="Pupils and students")
    pub: int = Field(description="Public sector")
    ent: int = Field(description="Enterprise workers")
    ungrouped: int = Field(description="No audience group known on the day that counts")


class Figure(Contract):
    """The value of one cell, absolute: a reader keeps the highest version and never adds."""

    cell: Word = Field(description="indicator/course set/scope/period, also the record key")
    indicator: Indicator = Field(description="Indicator, as defined in docs/indicators.md")
    course_set: Word = Field(description="ALL or a set of the course register")
    scope: Scope = Field(description="Node of the territory")
    period: Word = Field(description="Period of the Decree 09 calendar, for example 2026Q3")
    period_from: Day = Field(description="First day, Viet Nam calendar")
    period_to: Day = Field(description="Last day, inclusive")
    counts: Counts = Field(description="Persons (stock: at the end of period_to) or events in the period (flow)")
    as_of: AwareDatetime = Field(description="When it was computed")
    provisional: bool = Field(description="False once a report on the period is frozen")
    version: int = Field(ge=1, description="Hybrid logical clock, microseconds; rises with every change")


class Report(Contract):
    """A frozen report: what was signed never moves."""

    report_id: UUID = Field(description="The same definition, scope and period always give the same id")
    definition: Literal["REP-QUARTER"] = Field(description="Which report")
    scope: Scope = Field(description="Root of the report")
    period: Word = Field(description="Period of the Decree 09 calendar, for example 2026Q3")
    period_from: Day = Field(description="First day, Viet Nam calendar")
    period_to: Day = Field(description="Last day, inclusive")
    frozen_at: AwareDatetime = Field(description="When the figures were copied")
    rows: int = Field(ge=0, description="Figures copied")
    sha256: Sha256 = Field(description="Digest of the copied figures in canonical form")
    version: int = Field(ge=1, description="1 for the first; a restatement counts on")


FIGURE_PUBLISHED = EventType("vn.hocvu.reporting.figure.published.v1", Figure, FIGURES.name, "The value of a cell is this now.", decoder(Figure))
REPORT_FROZEN = EventType(
    "vn.hocvu.reporting.report.frozen.v1", Report, REPORT_EVENTS.name, "The figures of a report were copied and will not move.", decoder(Report)
)

EVENTS: tuple[EventType[object], ...] = (FIGURE_PUBLISHED, REPORT_FROZEN)
"""Everything reporting announces today."""
